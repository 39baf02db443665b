//! The code and data that are written into a skewed process, and their layout.
//!
//! A *block* goes into the unused end of the vDSO's pages. It begins with a header of fixed layout, which is also our mark:
//! whoever finds it (the same agent, its guard, the next run's `heal`) can restore the process by it alone, since the bytes
//! that were overwritten elsewhere are kept in it.
//!
//! ```text
//!  0  magic "SBCLOCK1"
//!  8  bytes of the whole block       12  sequence number: its lowest bit names the slot that is valid
//! 16  the entries' own first bytes (clock_gettime, gettimeofday, time), 8 of each
//! 40  where the entries are, from the vDSO's first byte; 0: the vDSO has none
//! 52  where in the block what replaces them is
//! 64  the trampoline for calls from outside      68  the arithmetic alone, for tests      72  the two slots of words
//! ```
//!
//! The code is in one assembly file per architecture. Each entry is overwritten by a jump, eight bytes at a time.
use super::words::{BYTES, Words};

#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(include_str!("stub_x86_64.s"), options(att_syntax));
#[cfg(target_arch = "aarch64")]
std::arch::global_asm!(include_str!("stub_aarch64.s"));

/// What a block begins with.
pub(super) const MAGIC: [u8; 8] = *b"SBCLOCK1";
/// How many functions are replaced at most.
pub(super) const ENTRIES: usize = 3;
/// Bytes that are overwritten of each.
pub(super) const JUMP: usize = 8;
/// Where the sequence number is.
pub(super) const SEQUENCE: usize = 12;
/// Bytes of the header.
pub(super) const HEADER: usize = 80;

/// What the functions are called; `None` where the architecture's vDSO has none.
#[cfg(target_arch = "x86_64")]
pub(super) const NAMES: [Option<&str>; ENTRIES] = [
    Some("__vdso_clock_gettime"),
    Some("__vdso_gettimeofday"),
    Some("__vdso_time"),
];
/// What the functions are called; `None` where the architecture's vDSO has none.
#[cfg(not(target_arch = "x86_64"))]
pub(super) const NAMES: [Option<&str>; ENTRIES] = [Some("__kernel_clock_gettime"), Some("__kernel_gettimeofday"), None];

/// A block as it is before it is written anywhere; the error says what is not supported.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) fn fresh() -> Result<Block, String> {
    unsafe extern "C" {
        static splitbrain_clock_stub_begin: u8;
        static splitbrain_clock_stub_end: u8;
    }
    let begin = &raw const splitbrain_clock_stub_begin;
    let length = (&raw const splitbrain_clock_stub_end).addr() - begin.addr();
    // SAFETY: the assembly puts the two symbols around bytes that nothing changes.
    let bytes = unsafe { std::slice::from_raw_parts(begin, length) };
    Block::of(bytes.to_vec()).ok_or_else(|| "our own code for clocks has no header".to_string())
}

/// A block as it is before it is written anywhere; the error says what is not supported.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) fn fresh() -> Result<Block, String> {
    Err(
        "the clocks of processes can be skewed on x86-64 and aarch64 only; a virtual machine has a clock of its own"
            .to_string(),
    )
}

/// A block, or its first bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block(pub Vec<u8>);

impl Block {
    /// The bytes as a block; `None` if they are none.
    pub fn of(bytes: Vec<u8>) -> Option<Block> {
        (bytes.len() >= HEADER && bytes[..8] == MAGIC).then_some(Block(bytes))
    }

    fn word(&self, at: usize) -> usize {
        let bytes: [u8; 4] = self.0[at..at + 4].try_into().expect("four bytes");
        u32::from_ne_bytes(bytes) as usize
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Bytes of the whole.
    pub fn length(&self) -> usize {
        self.word(8)
    }

    /// The sequence number.
    pub fn sequence(&self) -> u32 {
        self.word(SEQUENCE) as u32
    }

    /// The entries that were overwritten: where each is in the vDSO, what stood there, and where in the block what
    /// replaces it is.
    pub fn entries(&self) -> impl Iterator<Item = (usize, [u8; JUMP], usize)> + '_ {
        let all = (0..ENTRIES).map(|n| {
            let old = self.0[16 + 8 * n..24 + 8 * n].try_into().expect("eight bytes");
            (self.word(40 + 4 * n), old, self.word(52 + 4 * n))
        });
        all.filter(|(at, _, new)| *at != 0 && *new != 0)
    }

    /// Notes an entry.
    pub fn keep(&mut self, n: usize, at: usize, old: [u8; JUMP]) {
        self.put(16 + 8 * n, &old);
        let at = u32::try_from(at).expect("a vDSO has a few pages");
        self.put(40 + 4 * n, &at.to_ne_bytes());
    }

    /// Where calls from outside begin.
    pub fn trampoline(&self) -> usize {
        self.word(64)
    }

    /// Where the arithmetic is.
    #[cfg(test)]
    pub fn apply(&self) -> usize {
        self.word(68)
    }

    /// Where the words for that sequence number are.
    pub fn slot(&self, sequence: u32) -> usize {
        self.word(72) + (sequence & 1) as usize * BYTES
    }

    /// Puts the words where they are read first.
    pub fn set(&mut self, words: &Words) {
        let at = self.slot(self.sequence());
        self.put(at, &words.bytes());
    }
}

/// What is written over an entry at address `from`, so that `to` runs in its place; `None` if that is too far.
#[cfg(target_arch = "x86_64")]
pub(super) fn jump(from: u64, to: u64) -> Option<[u8; JUMP]> {
    let distance = to.wrapping_sub(from.wrapping_add(5)).cast_signed();
    let mut bytes = [0xe9, 0, 0, 0, 0, 0xcc, 0xcc, 0xcc];
    bytes[1..5].copy_from_slice(&i32::try_from(distance).ok()?.to_le_bytes());
    Some(bytes)
}

/// What is written over an entry at address `from`, so that `to` runs in its place; `None` if that is too far. The entry
/// keeps a landing pad for indirect calls (`bti c`, which older processors ignore).
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn jump(from: u64, to: u64) -> Option<[u8; JUMP]> {
    let distance = to.wrapping_sub(from.wrapping_add(4)).cast_signed() / 4;
    if !(-(1 << 25)..1 << 25).contains(&distance) {
        return None;
    }
    let branch = 0x1400_0000 | (distance as u32 & 0x03ff_ffff);
    let mut bytes = [0; JUMP];
    bytes[..4].copy_from_slice(&0xd503_245f_u32.to_le_bytes());
    bytes[4..].copy_from_slice(&branch.to_le_bytes());
    Some(bytes)
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::super::words::{ALL, CLOCKS, Entry, Truth, read};
    use super::*;
    use rand::RngExt;
    use splitbrain_core::{Clocks, Offset, Skew};

    /// A block in memory that can run.
    struct Running(*mut u8, Block);

    impl Running {
        fn with(words: &Words) -> Running {
            let mut block = fresh().unwrap();
            block.set(words);
            let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            // SAFETY: new memory, large enough for the block.
            let place = unsafe {
                let place = libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0);
                assert_ne!(place, libc::MAP_FAILED);
                std::ptr::copy_nonoverlapping(block.0.as_ptr(), place.cast(), block.0.len());
                place.cast()
            };
            Running(place, block)
        }

        fn function(&self, at: usize) -> *mut u8 {
            // SAFETY: within the block.
            unsafe { self.0.add(at) }
        }

        fn apply(&self, t: i64, index: usize) -> i64 {
            // SAFETY: the block has this function there, with these arguments.
            let apply: extern "C" fn(i64, usize) -> i64 = unsafe { std::mem::transmute(self.function(self.1.apply())) };
            apply(t, index)
        }

        fn replacement(&self, n: usize) -> *mut u8 {
            self.function(self.1.word(52 + 4 * n))
        }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            // SAFETY: made by `with`, and nobody runs in it any more.
            unsafe { libc::munmap(self.0.cast(), 4096) };
        }
    }

    fn skew() -> Skew {
        Skew {
            clocks: Clocks::Realtime,
            offset: Offset(-3_600_000_000_000),
            ..Skew::default()
        }
    }

    #[test]
    fn the_code_computes_what_the_reference_does() {
        let mut rng = splitbrain_core::seed::stream(7, "clock");
        for round in 0..300 {
            let entry = |n: usize| {
                let scale = rng_scale(&mut rng, n + round);
                Entry::raw([
                    rng.random_range(-scale..=scale),
                    rng.random_range(0..=2_000_000_000_000_000_000),
                    rng.random_range(-3_865_470_566..=38_654_705_664),
                    rng.random_range(-315_360_000_000_000_000..=315_360_000_000_000_000),
                    if round % 3 == 0 { rng.random_range(1..=scale) } else { 0 },
                ])
            };
            let words = Words(std::array::from_fn(entry));
            let running = Running::with(&words);
            for index in 0..CLOCKS {
                for _ in 0..50 {
                    let t = words.0[index].base() + rng.random_range(-1_000_000_000_000..=1_000_000_000_000_000);
                    assert_eq!(running.apply(t, index), words.0[index].at(t), "{words:?} {index} {t}");
                }
            }
        }
    }

    fn rng_scale(rng: &mut impl rand::Rng, n: usize) -> i64 {
        10_i64.pow(1 + n as u32 % 14) + i64::from(rng.random::<u8>())
    }

    #[test]
    fn a_clock_is_read_as_its_words_have_it_and_others_are_true() {
        let words = Words::default().next(&skew(), &Truth::now());
        let running = Running::with(&words);
        type Gettime = extern "C" fn(libc::clockid_t, *mut libc::timespec) -> i64;
        // SAFETY: the block has this function there.
        let gettime: Gettime = unsafe { std::mem::transmute(running.replacement(0)) };
        let index = |id| match id {
            libc::CLOCK_REALTIME_COARSE => Some(0),
            libc::CLOCK_MONOTONIC_COARSE => Some(1),
            id => ALL.iter().position(|clock| clock.id == id),
        };
        for id in 0..=11 {
            let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            // SAFETY: the kernel writes one timespec, to a place of ours.
            let there = unsafe { libc::clock_gettime(id, &raw mut time) } == 0;
            if !there {
                // There is no clock 10, and no alarm clock on a machine without one that runs when it is off.
                assert!((8..=10).contains(&id), "{id}");
                assert_eq!(gettime(id, &raw mut time), -i64::from(libc::EINVAL), "{id}");
                continue;
            }
            let before = read(id);
            assert_eq!(gettime(id, &raw mut time), 0);
            let after = read(id);
            assert!((0..1_000_000_000).contains(&time.tv_nsec), "{id}");
            let is = time.tv_sec * 1_000_000_000 + time.tv_nsec;
            let words = index(id).map_or(Entry::default(), |n| words.0[n]);
            assert!((words.at(before)..=words.at(after)).contains(&is), "{id}");
        }
        for id in [-1, 12, 4711, i32::MIN] {
            let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            assert_eq!(gettime(id, &raw mut time), -i64::from(libc::EINVAL), "{id}");
        }
    }

    #[test]
    fn the_older_functions_read_the_same_clock() {
        let words = Words::default().next(&skew(), &Truth::now());
        let running = Running::with(&words);
        type Gettimeofday = extern "C" fn(*mut libc::timeval, *mut [i32; 2]) -> i64;
        type Time = extern "C" fn(*mut i64) -> i64;
        // SAFETY: the block has this function there.
        let gettimeofday: Gettimeofday = unsafe { std::mem::transmute(running.replacement(1)) };
        // SAFETY: the block has this function there.
        let time: Time = unsafe { std::mem::transmute(running.replacement(2)) };
        let mut micros = libc::timeval { tv_sec: 0, tv_usec: 0 };
        let mut zone = [7; 2];
        let before = words.0[0].at(read(libc::CLOCK_REALTIME));
        assert_eq!(gettimeofday(&raw mut micros, &raw mut zone), 0);
        let after = words.0[0].at(read(libc::CLOCK_REALTIME));
        let is = micros.tv_sec * 1_000_000 + micros.tv_usec;
        assert!((before / 1_000..=after / 1_000).contains(&is));
        assert_eq!(zone, [0; 2]);
        assert_eq!(gettimeofday(std::ptr::null_mut(), &raw mut zone), 0);
        let before = words.0[0].at(read(libc::CLOCK_REALTIME_COARSE));
        let mut there = 0;
        let seconds = time(&raw mut there);
        let after = words.0[0].at(read(libc::CLOCK_REALTIME_COARSE));
        assert!((before / 1_000_000_000..=after / 1_000_000_000).contains(&seconds));
        assert_eq!(there, seconds);
        assert!(time(std::ptr::null_mut()) >= seconds);
    }

    #[test]
    fn time_before_its_beginning_is_split_downwards() {
        // As a monotonic clock reads that was moved back by more than the machine is up.
        let mut words = Words::default();
        let now = Truth::now();
        let back = Skew {
            clocks: Clocks::Monotonic,
            offset: Offset(-now.0[1] - 10_500_000_000),
            ..Skew::default()
        };
        words = words.next(&back, &now);
        let running = Running::with(&words);
        type Gettime = extern "C" fn(libc::clockid_t, *mut libc::timespec) -> i64;
        // SAFETY: the block has this function there.
        let gettime: Gettime = unsafe { std::mem::transmute(running.replacement(0)) };
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let before = read(libc::CLOCK_MONOTONIC);
        assert_eq!(gettime(libc::CLOCK_MONOTONIC, &raw mut time), 0);
        let after = read(libc::CLOCK_MONOTONIC);
        assert!((0..1_000_000_000).contains(&time.tv_nsec));
        let is = time.tv_sec * 1_000_000_000 + time.tv_nsec;
        assert!((words.0[1].at(before)..=words.0[1].at(after)).contains(&is));
        assert!(words.0[1].at(now.0[1]) < 0);
    }

    #[test]
    fn words_change_under_readers_and_are_never_mixed() {
        // Each pair of words belongs together: base and swing, both of one change.
        let words = |n: i64| {
            let entry = Entry::raw([-n, 0, 0, n, 0]);
            Words([entry; CLOCKS])
        };
        let running = Running::with(&words(0));
        let (base, slots) = (running.0.expose_provenance(), [running.1.slot(0), running.1.slot(1)]);
        let apply = running.1.apply();
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    // SAFETY: as in `Running::apply`.
                    let apply: extern "C" fn(i64, usize) -> i64 =
                        unsafe { std::mem::transmute(std::ptr::with_exposed_provenance::<u8>(base + apply)) };
                    while !over.load(std::sync::atomic::Ordering::Relaxed) {
                        assert_eq!(apply(1_000, 0), 1_000);
                    }
                });
            }
            let memory = std::fs::OpenOptions::new().write(true).open("/proc/self/mem").unwrap();
            use std::os::unix::fs::FileExt;
            for n in 1..100_000_u32 {
                let slot = base + slots[(n & 1) as usize];
                memory
                    .write_all_at(&words(i64::from(n) * 1_000_003).bytes(), slot as u64)
                    .unwrap();
                memory.write_all_at(&n.to_ne_bytes(), (base + SEQUENCE) as u64).unwrap();
            }
            over.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }

    #[test]
    fn jumps_reach_where_they_ought_to() {
        assert_eq!(jump(0x1000, 0x1005), Some([0xe9, 0, 0, 0, 0, 0xcc, 0xcc, 0xcc]));
        assert_eq!(
            jump(0x1005, 0x1000).map(|bytes| bytes[1..5].to_vec()),
            Some(vec![0xf6, 0xff, 0xff, 0xff])
        );
        assert_eq!(jump(0, 1 << 32), None);
    }
}
