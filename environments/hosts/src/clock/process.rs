//! One process, and its clocks: patching it, giving it new words, restoring it, and asking it for the time.
//!
//! What has to be known of the process is found while it runs; it stands still only while bytes are written and while one of
//! its threads is made to read both clocks through the very entries that the program uses. Those readings are the proof.
//!
//! A child made by `fork` has its parent's patch, words included, and is recognised by the mark in its vDSO; a program
//! started by `exec` has a new vDSO. Both are seen as a new [`Identity`] by who looks often enough.
//!
//! Caveat: a compiler that lets a loop of the old function begin within its first eight bytes would send a thread that was
//! in that loop into the jump. None does: they begin with saving registers.
use super::stub::{self, Block, JUMP};
use super::trace::{Still, Trouble};
use super::vdso::{self, Layout};
use super::words::{self, ALL, MONOTONIC, REALTIME, Words};
use nix::unistd::Pid;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// How long a process is tried to be caught at a moment at which it can be patched.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a program may take to get its vDSO.
const BIRTH: Duration = Duration::from_millis(300);
/// How long its own code is kept from being removed by a signal's handler that will return there.
const LINGER: Duration = Duration::from_secs(3);

/// Which program a process is: another one after each `exec`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity([u64; 4]);

impl Identity {
    /// `None` if it has ended.
    pub fn of(pid: Pid) -> Option<Identity> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Identity::parse(&stat)
    }

    /// By when it began and where its code, stack and arguments begin (fields 22, 26, 28 and 48 of `proc(5)`), which the
    /// kernel draws anew at each `exec`.
    fn parse(stat: &str) -> Option<Identity> {
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        if matches!(*fields.first()?, "Z" | "X") {
            return None;
        }
        let field = |number: usize| fields.get(number - 3)?.parse().ok();
        Some(Identity([field(22)?, field(26)?, field(28)?, field(48)?]))
    }
}

/// A process that is patched.
pub(super) struct Target {
    pid: Pid,
    pub identity: Identity,
    place: Range<u64>,
    layout: Layout,
    /// As it was before, if we know it.
    original: Option<Vec<u8>>,
}

/// How a process is to be patched.
struct Plan {
    block: Block,
    writes: Vec<(u64, Vec<u8>)>,
    /// Where nobody may stand meanwhile.
    leave: Vec<Range<u64>>,
}

/// What one of its threads read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// By the process.
    pub read: i64,
    /// The truth before and after.
    pub from: i64,
    pub to: i64,
}

impl Reading {
    /// Between what was read and the truth, in words; `true` if there is none.
    pub fn difference(&self) -> String {
        if (self.from..=self.to).contains(&self.read) {
            "true".to_string()
        } else {
            words::words(self.read - (self.from + self.to) / 2, self.to - self.from)
        }
    }
}

impl Reading {
    /// Whether the clock went at another rate than the true one from this reading to a later one, beyond doubt.
    pub fn drifted_until(&self, later: &Reading) -> bool {
        let passed = later.read - self.read;
        !(later.from - self.to..=later.to - self.from).contains(&passed)
    }
}

/// What was seen of a process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// Of the time of day, and of the monotonic clock.
    pub readings: [Reading; 2],
    /// How long it stood still.
    pub held: Duration,
}

impl Target {
    /// A process as it is, patched or not.
    pub fn of(pid: Pid) -> Result<Target, Trouble> {
        let begin = Instant::now();
        loop {
            let identity = Identity::of(pid).ok_or(Trouble::Gone)?;
            match vdso::place(pid.as_raw()) {
                // In the middle of `exec` a process has no vDSO yet.
                Ok(None) if begin.elapsed() < BIRTH => std::thread::sleep(Duration::from_millis(1)),
                _ => return Target::find(pid, identity),
            }
        }
    }

    /// Whether it carries our mark, whoever has patched it.
    pub fn is_patched(&self) -> Result<bool, Trouble> {
        Ok(self.block(&self.memory()?)?.is_some())
    }

    fn find(pid: Pid, identity: Identity) -> Result<Target, Trouble> {
        let odd = |what: &dyn std::fmt::Display| Trouble::Other(format!("skew the clocks of pid {pid}: {what}"));
        let place = vdso::place(pid.as_raw()).map_err(|e| gone_or(pid, &identity, odd(&e)))?;
        let Some(place) = place else {
            let why = "it has no vDSO (booted with vdso=0, or not a usual program): its clocks cannot be moved";
            return Err(gone_or(pid, &identity, odd(&why)));
        };
        let mut image = vec![0; usize::try_from(place.end - place.start).unwrap_or(0)];
        let mut target = Target {
            pid,
            identity,
            place,
            layout: Layout::default(),
            original: None,
        };
        let memory = target.memory()?;
        memory
            .read_exact_at(&mut image, target.place.start)
            .map_err(|e| gone_or(pid, &target.identity, odd(&e)))?;
        target.layout = vdso::layout(&image).map_err(|e| odd(&e))?;
        let room = &image[target.layout.room.clone()];
        if room.iter().all(|byte| *byte == 0) {
            target.original = Some(image);
        } else if Block::of(room.to_vec()).is_none() {
            return Err(odd(&"the end of its vDSO is in use"));
        }
        Ok(target)
    }

    fn memory(&self) -> Result<File, Trouble> {
        let path = format!("/proc/{}/mem", self.pid);
        OpenOptions::new().read(true).write(true).open(&path).map_err(|e| {
            let why = format!("open {path}: {e}: it needs the same user, or root with CAP_SYS_PTRACE");
            gone_or(self.pid, &self.identity, Trouble::Other(why))
        })
    }

    fn at(&self, offset: usize) -> u64 {
        self.place.start + offset as u64
    }

    fn block_at(&self) -> u64 {
        self.at(self.layout.room.start)
    }

    /// The block that is in the process, if there is one.
    fn block(&self, memory: &File) -> io::Result<Option<Block>> {
        let mut bytes = vec![0; self.layout.room.len()];
        memory.read_exact_at(&mut bytes, self.block_at())?;
        let block = Block::of(bytes);
        Ok(block.filter(|block| (stub::HEADER..=block.0.len()).contains(&block.length())))
    }

    fn hold(&self, bytes: &[Range<u64>]) -> Result<Still, Trouble> {
        let still = Still::hold(self.pid.as_raw(), self.memory()?, bytes)?;
        if Identity::of(self.pid).as_ref() == Some(&self.identity) {
            Ok(still)
        } else {
            Err(Trouble::Gone)
        }
    }

    /// Behind the first byte of each entry nobody may stand; on the first one everybody may.
    fn jump_bytes(&self) -> Vec<Range<u64>> {
        let entries = self.layout.entries.iter().flatten();
        entries.map(|at| self.at(at + 1)..self.at(at + JUMP)).collect()
    }

    /// What has to be written for the process to be patched with these words: places and bytes, jumps last. Nothing of it
    /// is there yet, but for the block of a patch that was inherited.
    fn plan(&self, memory: &File, words: &Words) -> Result<Plan, Trouble> {
        let (mut block, fresh) = match self.block(memory)? {
            Some(there) => (there, false),
            None => (self.new_block(memory)?, true),
        };
        let mut writes = Vec::new();
        if fresh {
            block.set(words);
            writes.push((self.block_at(), block.0.clone()));
        } else {
            // The slot that is not read, then the number that makes it the one that is.
            let next = block.sequence().wrapping_add(1);
            writes.push((self.block_at() + block.slot(next) as u64, words.bytes().to_vec()));
            writes.push((self.block_at() + stub::SEQUENCE as u64, next.to_ne_bytes().to_vec()));
        }
        let far = || Trouble::Other(format!("pid {}: its vDSO is too large for a jump", self.pid));
        let mut jumps = false;
        for (at, _, new) in block.entries() {
            let jump = stub::jump(self.at(at), self.block_at() + new as u64).ok_or_else(far)?;
            let mut now = [0; JUMP];
            memory.read_exact_at(&mut now, self.at(at))?;
            if now != jump {
                jumps = true;
                writes.push((self.at(at), jump.to_vec()));
            }
        }
        let leave = if jumps { self.jump_bytes() } else { Vec::new() };
        Ok(Plan { block, writes, leave })
    }

    fn new_block(&self, memory: &File) -> Result<Block, Trouble> {
        let mut block = stub::fresh().map_err(Trouble::Other)?;
        if block.0.len() > self.layout.room.len() {
            return Err(Trouble::Other(format!(
                "skew the clocks of pid {}: its vDSO has {} bytes to spare, and {} are needed",
                self.pid,
                self.layout.room.len(),
                block.0.len()
            )));
        }
        for (n, at) in self.layout.entries.iter().enumerate() {
            if let Some(at) = at {
                let mut old = [0; JUMP];
                memory.read_exact_at(&mut old, self.at(*at))?;
                block.keep(n, *at, old);
            }
        }
        Ok(block)
    }

    fn write(&self, memory: &File, at: u64, bytes: &[u8]) -> Result<(), Trouble> {
        memory.write_all_at(bytes, at).map_err(|e| {
            let why = "(the kernel's option proc_mem.force_override forbids it?)";
            Trouble::Other(format!("write to the vDSO of pid {}: {e} {why}", self.pid))
        })
    }

    /// Patches it unless it is, gives it these words (or those of true clocks, for `sabotage`), and asks it for the time.
    /// An error also if its clocks do not read as the words have it.
    pub fn give(&self, words: &Words, sabotage: bool) -> Result<Seen, Trouble> {
        let given = if sabotage { Words::default() } else { *words };
        let attempt = || -> Result<Seen, Trouble> {
            let plan = self.plan(&self.memory()?, &given)?;
            let still = self.hold(&plan.leave)?;
            for (at, bytes) in &plan.writes {
                self.write(still.memory(), *at, bytes)?;
            }
            let readings = self.readings(&still, &plan.block);
            let held = still.release();
            let readings = readings?;
            self.compare(words, &readings)?;
            Ok(Seen { readings, held })
        };
        retry(PATIENCE, || {
            attempt().map_err(|why| gone_or(self.pid, &self.identity, why))
        })
    }

    fn readings(&self, still: &Still, block: &Block) -> Result<[Reading; 2], Trouble> {
        let mut last = Trouble::Busy;
        for tid in still.standing().take(3) {
            match self.ask(still, block, tid, REALTIME).and_then(|realtime| {
                let monotonic = self.ask(still, block, tid, MONOTONIC)?;
                Ok([realtime, monotonic])
            }) {
                Ok(readings) => return Ok(readings),
                Err(trouble) => last = trouble,
            }
        }
        Err(last)
    }

    /// What a clock reads when the process reads it.
    fn ask(&self, still: &Still, block: &Block, tid: i32, clock: usize) -> Result<Reading, Trouble> {
        let entry = self.layout.entries[0].expect("found, or there was no target");
        let (trampoline, id) = (self.block_at() + block.trampoline() as u64, ALL[clock].id);
        let from = words::read(id);
        let (returned, bytes) = still.call(tid, trampoline, self.at(entry), id as u64)?;
        let to = words::read(id);
        if returned != 0 {
            let pid = self.pid;
            return Err(Trouble::Other(format!(
                "pid {pid} cannot read its clock: {}",
                returned.cast_signed()
            )));
        }
        let (seconds, nanos) = bytes.split_at(8);
        let number = |bytes: &[u8]| i64::from_ne_bytes(bytes.try_into().expect("eight bytes"));
        Ok(Reading {
            read: number(seconds) * 1_000_000_000 + number(nanos),
            from,
            to,
        })
    }

    fn compare(&self, words: &Words, readings: &[Reading; 2]) -> Result<(), Trouble> {
        for (reading, clock) in readings.iter().zip([REALTIME, MONOTONIC]) {
            let (least, most) = words.0[clock].between(reading.from, reading.to);
            if !(least..=most).contains(&reading.read) {
                let (name, pid) = (ALL[clock].name, self.pid);
                let (is, want) = (reading.difference(), words::words(least - reading.from, 0));
                return Err(Trouble::Other(format!(
                    "{name} of pid {pid} reads {is}, and ought to read {want}"
                )));
            }
        }
        Ok(())
    }

    /// Makes its clocks true and its vDSO what it was, byte for byte.
    pub fn restore(&self) -> Result<Restored, Trouble> {
        let begin = Instant::now();
        retry(PATIENCE, || match self.take_back(true) {
            // Some handler takes its time. True clocks first; our code waits for better days, and does no harm.
            Err(Trouble::Busy) if begin.elapsed() > LINGER => self.take_back(false),
            other => other.map_err(|why| gone_or(self.pid, &self.identity, why)),
        })
    }

    fn take_back(&self, whole: bool) -> Result<Restored, Trouble> {
        let Some(block) = self.block(&self.memory()?)? else {
            return Err(Trouble::Gone);
        };
        let mut bytes = self.jump_bytes();
        if whole {
            bytes.push(self.block_at()..self.block_at() + block.length() as u64);
        }
        let still = self.hold(&bytes)?;
        for (at, old, _) in block.entries() {
            self.write(still.memory(), self.at(at), &old)?;
        }
        if whole {
            self.write(still.memory(), self.block_at(), &vec![0; block.length()])?;
            self.compare_bytes(still.memory())?;
        }
        Ok(Restored {
            held: still.release(),
            whole,
        })
    }

    fn compare_bytes(&self, memory: &File) -> Result<(), Trouble> {
        let Some(original) = &self.original else {
            return Ok(());
        };
        let mut image = vec![0; original.len()];
        memory.read_exact_at(&mut image, self.place.start)?;
        match image.iter().zip(original).position(|(is, was)| is != was) {
            None => Ok(()),
            Some(at) => Err(Trouble::Other(format!(
                "restore the vDSO of pid {}: byte {at:#x} differs from what it was",
                self.pid
            ))),
        }
    }
}

/// A process whose clocks are true again.
pub(super) struct Restored {
    /// How long it stood still.
    pub held: Duration,
    /// Whether no byte of ours is left.
    pub whole: bool,
}

/// Tries again while the process is at no good moment.
fn retry<T>(patience: Duration, attempt: impl Fn() -> Result<T, Trouble>) -> Result<T, Trouble> {
    let begin = Instant::now();
    loop {
        match attempt() {
            Err(Trouble::Busy) if begin.elapsed() < patience => std::thread::sleep(Duration::from_millis(1)),
            Err(Trouble::Busy) => {
                let why = "it waits for its disk, or a signal's handler stands over the code that is to be replaced";
                return Err(Trouble::Other(format!("no good moment in {patience:?}: {why}")));
            }
            other => return other,
        }
    }
}

/// An error about a process that has ended meanwhile is none.
fn gone_or(pid: Pid, identity: &Identity, trouble: Trouble) -> Trouble {
    if Identity::of(pid).as_ref() == Some(identity) {
        trouble
    } else {
        Trouble::Gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_of_one_program() {
        let rest = |state, began, stack| {
            format!(
                "{state} 7 12 12 0 -1 4 1 0 0 0 0 0 0 0 20 0 1 0 {began} 1 1 9 100 200 {stack} 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 1 2 3 44 45 46 47 0"
            )
        };
        let parse = |name: &str, rest: String| Identity::parse(&format!("12 ({name}) {rest}"));
        let one = parse("sh", rest("S", 5, 300)).unwrap();
        assert_eq!(one, Identity([5, 100, 300, 44]));
        assert_eq!(parse("x) Z 1 (", rest("R", 5, 300)), Some(one.clone()));
        assert_ne!(parse("sh", rest("S", 5, 301)), Some(one));
        assert_eq!(parse("sh", rest("Z", 5, 300)), None);
        assert!(Identity::of(Pid::this()).is_some());
    }
}
