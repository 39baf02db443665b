//! What processes read and write.
use crate::Case;
use crate::rig::{Agent, FULL, Place, gone};
use splitbrain_core::Unsynced;
use splitbrain_environments::agent::proto::{FromHost, Order, SpawnStdio, ToHost, WINDOW};

pub const ALL: &[Case] = &[
    ("what_is_written_comes_back", what_is_written_comes_back),
    ("both_outputs_of_a_log_are_one", both_outputs_of_a_log_are_one),
    ("a_flood_stops_at_the_grant", a_flood_stops_at_the_grant),
    ("who_reads_nothing_holds_up_nobody", who_reads_nothing_holds_up_nobody),
    (
        "bytes_for_the_dead_are_granted_anew",
        bytes_for_the_dead_are_granted_anew,
    ),
    ("who_sends_too_much_is_cut_off", who_sends_too_much_is_cut_off),
];

fn closed(agent: &mut Agent, wanted: u32) {
    agent.until("the end of a stream", |message| {
        matches!(message, FromHost::Closed { stream } if *stream == wanted).then_some(())
    });
}

fn granted(agent: &mut Agent, wanted: u32, least: usize) {
    let mut sum = 0;
    while sum < least {
        sum += agent.until("a grant", |message| match message {
            FromHost::Credit { stream, bytes } => (*stream == wanted).then_some(*bytes as usize),
            _ => None,
        });
    }
    assert_eq!(sum, least);
}

fn what_is_written_comes_back() {
    let place = Place::new();
    let mut agent = Agent::new(&place);
    let (_, stream) = agent.start(&place, &["cat"]);
    let text: Vec<u8> = (0..3 * FULL).map(|n| (n / 7) as u8).collect();
    for part in text.chunks(FULL / 2) {
        agent.write(stream, part);
        granted(&mut agent, stream, part.len());
        agent.credit(stream + 1, u32::try_from(part.len()).unwrap());
    }
    assert_eq!(agent.until_said(stream + 1, text.len()), text);
    agent.say(&ToHost::Close { stream });
    closed(&mut agent, stream + 1);
    closed(&mut agent, stream + 2);
    agent.until("the end", |message| {
        matches!(message, FromHost::Exited { how, .. } if how == "exit status 0").then_some(())
    });
}

fn both_outputs_of_a_log_are_one() {
    let place = Place::new();
    let mut agent = Agent::new(&place);
    let dir = place.state().join("hosts/n1");
    let spawn = agent.spawn_order(&["sh", "-c", "cat; echo out; echo err >&2"], SpawnStdio::Log, dir);
    let stream = spawn.stream;
    agent.done(Order::Spawn(spawn));
    closed(&mut agent, stream + 2);
    assert_eq!(agent.data[&(stream + 2)], b"out\nerr\n");
    assert_eq!(agent.data.get(&(stream + 1)), None);
}

fn a_flood_stops_at_the_grant() {
    let place = Place::new();
    let mut agent = Agent::new(&place);
    let (flooder, stream) = agent.start(&place, &["yes"]);
    let (_, other) = agent.start(&place, &["cat"]);
    for round in 1..=4 {
        let want = FULL + (round - 1) * 1000;
        agent.until_said(stream + 1, want);
        // Beats, orders and other processes are served all the same, and not a byte more comes.
        agent.rounds(5);
        agent.write(other, b"hi\n");
        assert_eq!(agent.line(other + 1), "hi");
        agent.done(Order::Resume);
        assert_eq!(agent.data[&(stream + 1)].len(), want);
        agent.credit(stream + 1, 1000);
    }
    let saw = agent.done(Order::Kill(Unsynced::Kept));
    assert!(saw.contains(&format!("(pid {flooder}) ended by signal 9")), "{saw}");
    // What lay in its pipe still comes, as it is granted.
    agent.credit(stream + 1, WINDOW);
    closed(&mut agent, stream + 1);
}

fn who_reads_nothing_holds_up_nobody() {
    let place = Place::new();
    let mut agent = Agent::new(&place);
    let (_, stream) = agent.start(&place, &["cat"]);
    agent.done(Order::Pause);
    let text = vec![b'x'; FULL];
    agent.write(stream, &text);
    agent.rounds(5);
    agent.done(Order::Pause);
    assert_eq!(agent.data.get(&(stream + 1)), None);
    agent.done(Order::Resume);
    assert_eq!(agent.until_said(stream + 1, FULL), text);
    // A paused process with a full pipe is killed like any other.
    agent.done(Order::Pause);
    granted(&mut agent, stream, FULL);
    agent.write(stream, &text);
    agent.done(Order::Kill(Unsynced::Kept));
    granted(&mut agent, stream, FULL);
}

fn bytes_for_the_dead_are_granted_anew() {
    let place = Place::new();
    let mut agent = Agent::new(&place);
    let (pid, stream) = agent.start(&place, &["true"]);
    gone(&[pid]);
    for _ in 0..3 {
        agent.write(stream, &vec![b'x'; FULL]);
        granted(&mut agent, stream, FULL);
    }
    agent.write(9999, b"xyz");
    granted(&mut agent, 9999, 3);
    agent.credit(9999, 7);
    agent.say(&ToHost::Close { stream: 9999 });
    agent.rounds(1);
}

fn who_sends_too_much_is_cut_off() {
    let place = Place::new();
    let mut agent = Agent::new(&place);
    let (pid, stream) = agent.start(&place, &["sleep", "1000"]);
    // What lies in the pipe, and what its thread holds, is not counted.
    let _ = agent.try_write(stream, &vec![b'x'; 2 * FULL]);
    gone(&[pid]);
    assert!(agent.ended(), "the guard has healed the host");
    assert!(place.log().contains("without a grant"), "{}", place.log());
    assert_eq!(place.left(), Vec::<String>::new());
}
