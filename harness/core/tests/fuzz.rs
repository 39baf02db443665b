//! Every reader against input that was damaged on purpose: no panic, no overflow of the stack, and memory bounded.
//!
//! The damage is random from a printed seed: bytes lost, doubled and replaced, parts moved, ends cut off, brackets piled
//! up. `SPLITBRAIN_FUZZ=jsonl:600` gives one format (or `all`) so many seconds, and one more sign of trouble than a panic:
//! the most memory that one input took.
mod common;

use common::{Dice, seed};
use splitbrain_core::formats::{Format, Output, Reader, Writer, detect};
use splitbrain_core::{Event, Header, HostRole, HostSpec, Plan, history};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Counts what is held, and the most that ever was.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Relaxed) + layout.size();
        MOST.fetch_max(held, Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// A good file.
fn sample(dice: &mut Dice, format: Format) -> Vec<u8> {
    let events = dice.below(12);
    match format {
        Format::Edn | Format::JsonLines => {
            let output = if format == Format::Edn {
                Output::Edn
            } else {
                Output::JsonLines
            };
            let mut writer = Writer::new(Vec::new(), output);
            for line in 1..=events {
                writer.event(&dice.op_event(line)).unwrap();
            }
            writer.finish().unwrap()
        }
        Format::JepsenLog => log(dice, events),
        Format::Own => own(dice, events),
    }
}

fn log(dice: &mut Dice, events: u64) -> Vec<u8> {
    let mut text = String::new();
    for _ in 0..events {
        text += dice.of(&[
            "INFO  jepsen.util - ",
            "2026-01-31 12:00\tINFO\t[jepsen worker 3] jepsen.util: ",
            "",
            "at x\t:y - ",
        ]);
        text += dice.of(&["0", "17", ":nemesis", "-1", "99999999999999999999"]);
        text += dice.of(&[
            "\t:invoke\t",
            "\t:ok\t",
            "\t:fail\t",
            "\t:info\t",
            "  :ok  ",
            " :invoke ",
        ]);
        text += dice.of(&[":read", ":write", ":cas", ":enqueue"]);
        text += dice.of(&[
            "\tnil",
            "\t3",
            "\t[1 2]",
            "\t:timed-out",
            "\t4\t:timed-out",
            "",
            "\t\"a\\u00e9\"",
            "\t{:a #{1}}",
        ]);
        text += dice.of(&["\n", "\n", "\r\n", "\nException in thread\n\tat x.y(z.clj:3)\n"]);
    }
    text.into_bytes()
}

fn host(name: &str) -> HostSpec {
    HostSpec {
        name: name.parse().unwrap(),
        role: HostRole::Member,
        asked: true,
    }
}

fn own(dice: &mut Dice, events: u64) -> Vec<u8> {
    let header = Header {
        splitbrain: history::SCHEMA,
        seed: 7,
        plan: Plan::new("raft", "sim"),
        hosts: Dice::NAMES.into_iter().map(host).collect(),
        promises: vec![],
        beliefs: String::new(),
        versions: Default::default(),
    };
    let mut text = serde_json::to_vec(&header).unwrap();
    text.push(b'\n');
    for index in 0..events {
        let mut event = dice.event();
        event.index = index;
        event.time = splitbrain_core::Nanos(index);
        event.write_line(&mut text);
        text.push(b'\n');
    }
    text
}

/// Many brackets, or other beginnings without an end.
fn pile(dice: &mut Dice, text: &mut Vec<u8>) {
    let piece = dice.of::<&[u8]>(&[
        b"[", b"(", b"{", b"#{", b"#_", b"#a ", b"^", b"[[", b"{\"a\":", b"{:a ", b"\"", b"\\", b"\t:ok", b" :ok",
        b"0", b"9", b"-", b"\xc3",
    ]);
    let at = dice.below(text.len() as u64 + 1) as usize;
    let times = 1 << dice.below(13);
    text.splice(at..at, piece.repeat(times));
}

/// Reads all that can be read, in parts of any size; the number of events.
fn read(format: Format, text: &[u8], part: usize) -> u64 {
    let input = std::io::BufReader::with_capacity(part, text);
    let Ok(mut reader) = Reader::new(input, format) else {
        return 0;
    };
    let mut events = 0;
    while let Ok(Some(event)) = reader.next_event() {
        assert!(event.line as usize <= text.len() + 1);
        events += 1;
    }
    events
}

/// One input; what it took of memory beyond what was there.
fn round(dice: &mut Dice, format: Format, events: &mut u64) -> usize {
    let mut text = sample(dice, format);
    for _ in 0..dice.below(6) {
        dice.damage(&mut text);
    }
    if dice.below(8) == 0 {
        pile(dice, &mut text);
    }
    let before = HELD.load(Relaxed);
    MOST.store(before, Relaxed);
    let whole = read(format, &text, 64 << 10);
    let most = MOST.load(Relaxed) - before;
    let bound = (64 << 10) + 4096 + 96 * text.len();
    assert!(
        most <= bound,
        "{most} bytes for {}: {}",
        text.len(),
        String::from_utf8_lossy(&text)
    );
    let part = 1 + dice.below(40) as usize;
    assert_eq!(
        read(format, &text, part),
        whole,
        "in parts of {part}: {}",
        String::from_utf8_lossy(&text)
    );
    if format != Format::Own {
        let another = dice.of(&Format::ALL);
        read(another, &text, 4096);
    }
    detect(&text);
    for line in text.split(|&byte| byte == b'\n').take(3) {
        let _ = Event::read_line(line);
    }
    *events += whole;
    most
}

fn fuzz(format: Format, rounds: impl Fn(u64) -> bool) {
    let mut dice = Dice::new(seed(&format!("fuzz {format}")));
    let (mut n, mut events, mut most) = (0, 0, 0);
    while rounds(n) {
        most = most.max(round(&mut dice, format, &mut events));
        n += 1;
    }
    println!("{format}: {n} inputs, {events} events read, at most {most} bytes held");
    assert!(events > 0, "nothing was read: the damage is too great to find anything");
}

/// One test, because memory is counted for the whole process.
#[test]
fn no_reader_panics_or_takes_more_memory_than_the_input_is_worth() {
    let Ok(long) = std::env::var("SPLITBRAIN_FUZZ") else {
        return Format::ALL.into_iter().for_each(|format| fuzz(format, |n| n < 4_000));
    };
    let (name, seconds) = long.split_once(':').expect("SPLITBRAIN_FUZZ is format:seconds");
    let seconds = std::time::Duration::from_secs(seconds.parse().expect("seconds are a number"));
    for format in Format::ALL
        .into_iter()
        .filter(|format| name == "all" || name == format.name())
    {
        let begin = std::time::Instant::now();
        fuzz(format, |_| begin.elapsed() < seconds);
    }
}
