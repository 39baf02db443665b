//! What is skewed: programs of our own.
use std::io::{BufRead, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicU64, Ordering};

/// What a clock reads through the vDSO, in nanoseconds.
pub fn read(id: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec, to a place of ours.
    assert_eq!(unsafe { libc::clock_gettime(id, &raw mut time) }, 0);
    assert!((0..1_000_000_000).contains(&time.tv_nsec));
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// Tells both clocks, once for each line that it is given. `fork` makes a copy of itself that goes on in its place, `exec`
/// becomes the same program anew.
pub fn clocks() -> ExitCode {
    for line in std::io::stdin().lock().lines() {
        match line.expect("a line").as_str() {
            // SAFETY: there is one thread, so the copy may do anything.
            "fork" if unsafe { libc::fork() } > 0 => {
                // The copy has the pipes; this one waits to be ended.
                loop {
                    std::thread::park();
                }
            }
            "exec" => {
                println!("0 0");
                let error = Command::new(std::env::current_exe().expect("our own path"))
                    .arg("clocks")
                    .exec();
                panic!("exec: {error}");
            }
            _ => {}
        }
        println!(
            "{} {} {}",
            read(libc::CLOCK_REALTIME),
            read(libc::CLOCK_MONOTONIC),
            std::process::id()
        );
        std::io::stdout().flush().expect("a reader");
    }
    ExitCode::SUCCESS
}

/// Starts itself again and again, by `exec`.
pub fn again() -> ExitCode {
    let error = Command::new(std::env::current_exe().expect("our own path"))
        .arg("again")
        .exec();
    panic!("exec: {error}");
}

static SIGNALS: AtomicU64 = AtomicU64::new(0);

extern "C" fn on_signal(_: libc::c_int) {
    read(libc::CLOCK_MONOTONIC);
    SIGNALS.fetch_add(1, Ordering::Relaxed);
}

/// Reads clocks in many threads as fast as it can, interrupted by signals whose handler reads one too. The monotonic clock
/// must never go back, and the others never be anywhere but where they may be. Tells how often it has read, for each line that it
/// is given.
pub fn busy(threads: usize) -> ExitCode {
    static READ: AtomicU64 = AtomicU64::new(0);
    // SAFETY: the handler reads a clock and counts, which is safe in a handler.
    unsafe {
        libc::signal(libc::SIGALRM, on_signal as *const () as libc::sighandler_t);
        let every = libc::timeval {
            tv_sec: 0,
            tv_usec: 500,
        };
        let timer = libc::itimerval {
            it_interval: every,
            it_value: every,
        };
        libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut());
    }
    for _ in 0..threads {
        std::thread::spawn(|| {
            let mut last = 0;
            loop {
                for _ in 0..100 {
                    let now = read(libc::CLOCK_MONOTONIC);
                    if now < last {
                        eprintln!("the monotonic clock went back from {last} to {now}");
                        std::process::abort();
                    }
                    last = now;
                    let mut time = libc::timeval { tv_sec: 0, tv_usec: 0 };
                    // SAFETY: both write to places of ours.
                    unsafe {
                        libc::gettimeofday(&raw mut time, std::ptr::null_mut());
                        libc::time(std::ptr::null_mut());
                    }
                    if !(0..1_000_000).contains(&time.tv_usec) {
                        eprintln!("{} microseconds", time.tv_usec);
                        std::process::abort();
                    }
                }
                READ.fetch_add(300, Ordering::Relaxed);
            }
        });
    }
    for line in std::io::stdin().lock().lines() {
        line.expect("a line");
        println!("{} {}", READ.load(Ordering::Relaxed), SIGNALS.load(Ordering::Relaxed));
    }
    ExitCode::SUCCESS
}
