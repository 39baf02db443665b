//! Figures: how fast the switch is on this machine. They are printed; only what would be absurd fails.
use super::*;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

pub const ALL: &[Case] = &[
    ("figures: ping", ping),
    ("figures: packets per second", packets),
    ("figures: TCP", tcp),
    ("figures: orders under load", orders_under_load),
];

/// Round trips from n1 to n2 and back, ascending.
pub fn round_trips(net: &Net, n: usize) -> Vec<Duration> {
    let mut all = std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..n {
                let ping = net.receive(2);
                net.send(2, 1, &ping);
            }
        });
        let trip = |i: usize| {
            let start = Instant::now();
            net.send(1, 2, &i.to_le_bytes());
            assert_eq!(net.receive(1), i.to_le_bytes());
            start.elapsed()
        };
        (0..n).map(trip).collect::<Vec<_>>()
    });
    all.sort_unstable();
    all
}

/// CPU time of this process.
pub fn cpu() -> Duration {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).expect("own usage");
    let span = |t: nix::sys::time::TimeVal| Duration::from_micros(t.tv_sec() as u64 * 1_000_000 + t.tv_usec() as u64);
    span(usage.user_time()) + span(usage.system_time())
}

fn ping(net: &mut Net) {
    let all = round_trips(net, 3_000);
    println!(
        "   RTT: median {:?}, 99 % {:?}, most {:?}",
        all[1_500], all[2_970], all[2_999]
    );
    assert!(all[1_500] < Duration::from_millis(20));
}

/// Floods n2 from n1 while `work` runs.
fn flood(net: &Net, work: impl FnOnce()) -> Duration {
    let stop = AtomicBool::new(false);
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                net.send(1, 2, &[0; 58]);
            }
        });
        work();
        stop.store(true, Ordering::Relaxed);
    });
    start.elapsed()
}

fn packets(net: &mut Net) {
    let second = || std::thread::sleep(Duration::from_secs(1));
    let c = net.change(1, 2, || {
        let took = flood(net, second).as_secs_f64();
        let c = net.counters(1, 2);
        let lost: u64 = net.switch.health().unwrap().overruns.iter().map(|(_, n)| n).sum();
        println!(
            "   100-byte frames: {:.0}/s carried, {:.0}/s beyond",
            c.carried as f64 / took,
            lost as f64 / took
        );
    });
    assert!(c.carried > 1_000);
}

fn tcp(net: &mut Net) {
    let size = 128 << 20;
    let took = cases::transfer(net, size);
    let health = net.switch.health().unwrap();
    println!(
        "   TCP: {:.2} Gbit/s, {:?}",
        size as f64 * 8e-9 / took.as_secs_f64(),
        health.overruns
    );
}

fn orders_under_load(net: &mut Net) {
    let mut spans = Vec::new();
    flood(net, || {
        for i in 0..200 {
            let start = Instant::now();
            if i % 2 == 0 {
                net.switch.block(&[link(1, 2)]).unwrap();
            } else {
                net.switch.unblock(&[link(1, 2)]).unwrap();
            }
            spans.push(start.elapsed());
        }
    });
    spans.sort_unstable();
    println!(
        "   block or unblock during a flood: median {:?}, most {:?}",
        spans[100], spans[199]
    );
    assert!(spans[100] < Duration::from_secs(1));
}
