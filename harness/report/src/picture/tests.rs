use super::service::{believers, failovers, leaderless, serving};
use super::*;
use crate::synthetic::{self, host, name};
use splitbrain_core::event::FaultStep;
use splitbrain_core::plan::FaultKind;
use splitbrain_core::{Disk, Plan, Reign, Role, Status};

fn ms(t: u64) -> Nanos {
    Nanos::millis(t)
}

/// Events for one host, in milliseconds.
#[derive(Default)]
struct Lines(Vec<Event>);

impl Lines {
    fn push(&mut self, t: u64, process: Process, kind: Kind, body: Body) -> &mut Lines {
        let index = self.0.len() as u64;
        self.0.push(Event {
            index,
            time: ms(t),
            process,
            kind,
            body,
            error: None,
        });
        self
    }

    fn elected(&mut self, t: u64, epoch: u64, reign: u64) -> &mut Lines {
        let body = Body::Elected {
            host: host(1),
            epoch: Epoch(epoch),
            token: None,
            reign: Reign(reign),
        };
        self.push(t, Process::Host(host(1)), Kind::Info, body)
    }

    fn deposed(&mut self, t: u64, reign: u64) -> &mut Lines {
        let body = Body::Deposed {
            host: host(1),
            reign: Reign(reign),
            why: "w".into(),
        };
        self.push(t, Process::Host(host(1)), Kind::Info, body)
    }

    /// An observation; `led` is the epoch and reign of the answer.
    fn observed(&mut self, from: u64, to: u64, led: Option<(u64, u64)>) -> &mut Lines {
        let body = |answer| Body::Observe { host: host(1), answer };
        let status = Status {
            role: if led.is_some() { Role::Leader } else { Role::Follower },
            epoch: led.map(|l| Epoch(l.0)),
            token: None,
            reign: led.map(|l| Reign(l.1)),
            leader: None,
        };
        self.push(from, Process::Client(0), Kind::Invoke, body(None));
        self.push(to, Process::Client(0), Kind::Ok, body(Some(status)))
    }

    fn act(&mut self, t: u64, kind: Kind, action: Action) -> &mut Lines {
        let step = FaultStep {
            fault: 1,
            kind: FaultKind::Kill,
            what: "w".into(),
            targets: vec![host(1)],
            action,
            proofs: vec![],
        };
        self.push(t, Process::Nemesis, kind, Body::Fault(step))
    }

    fn started(&mut self, t: u64, incarnation: u32) -> &mut Lines {
        let body = Body::Started {
            host: host(1),
            incarnation,
        };
        self.push(t, Process::Host(host(1)), Kind::Info, body)
    }

    fn picture(&self) -> Picture {
        let header = Header {
            splitbrain: 1,
            seed: 1,
            plan: Plan::new("raft", "sim"),
            hosts: vec![],
            promises: vec![],
            beliefs: String::new(),
            versions: Default::default(),
        };
        Picture::of(&header, &self.0)
    }

    /// The reigns as `epoch from-definite-to`, and the states as `state from-to`, in milliseconds.
    fn check(&self, expected: &[&str]) {
        let picture = self.picture();
        let t = |n: Nanos| n.0 / 1_000_000;
        let lane = &picture.lanes[0];
        let reigns = lane.reigns.iter();
        let mut all: Vec<String> = reigns
            .map(|r| format!("{} {}-{}-{}", r.epoch, t(r.from), t(r.definite), t(r.to)))
            .collect();
        all.extend(
            lane.states
                .iter()
                .map(|s| format!("{} {}-{}", s.state.name(), t(s.from), t(s.to))),
        );
        assert_eq!(all, expected);
    }
}

fn kill() -> Action {
    Action::Kill {
        hosts: vec![host(1)],
        unsynced: Default::default(),
    }
}

#[test]
fn belief_is_definite_up_to_the_last_question_answered_within_the_reign() {
    let mut lines = Lines::default();
    lines
        .elected(10, 5, 1)
        .observed(20, 30, Some((5, 1)))
        .observed(40, 60, Some((5, 1)))
        .deposed(100, 1);
    lines.check(&["5 10-40-100"]);
}

#[test]
fn a_question_older_than_the_reign_proves_nothing_before_it() {
    let mut lines = Lines::default();
    lines
        .observed(5, 30, Some((5, 1)))
        .observed(31, 32, Some((5, 1)))
        .observed(33, 40, None);
    lines.check(&["5 30-31-40"]);
}

#[test]
fn another_reign_or_epoch_ends_the_one_before() {
    let mut lines = Lines::default();
    lines.elected(10, 5, 1).elected(20, 6, 2).deposed(25, 1).deposed(30, 2);
    lines.check(&["5 10-10-20", "6 20-20-30"]);
}

#[test]
fn death_ends_a_reign_and_a_pause_does_not() {
    let hosts = vec![host(1)];
    let mut lines = Lines::default();
    lines
        .started(1, 1)
        .elected(10, 5, 1)
        .act(20, Kind::Ok, Action::Pause { hosts: hosts.clone() });
    lines
        .act(30, Kind::Ok, Action::Resume { hosts })
        .act(40, Kind::Invoke, kill())
        .act(41, Kind::Ok, kill());
    lines.started(60, 2);
    lines.check(&["5 10-10-41", "paused 20-30", "killed 41-60"]);
}

#[test]
fn a_kill_that_failed_changes_nothing() {
    let mut lines = Lines::default();
    lines
        .elected(10, 5, 1)
        .act(20, Kind::Fail, kill())
        .observed(30, 40, Some((5, 1)));
    lines.check(&["5 10-30-40"]);
}

#[test]
fn an_exit_that_nobody_asked_for_is_a_stretch_of_its_own() {
    let mut lines = Lines::default();
    let body = Body::Exited {
        host: host(1),
        how: "member: exit status 1".into(),
    };
    lines
        .elected(10, 5, 1)
        .push(20, Process::Host(host(1)), Kind::Info, body)
        .started(35, 2);
    lines.check(&["5 10-10-20", "exited 20-35"]);
}

#[test]
fn an_exit_on_a_bad_disk_is_no_trouble_of_the_harness() {
    let exited = Body::Exited {
        host: host(1),
        how: "member: fdatasync: input/output error".into(),
    };
    let troubles = |disk| {
        let (mut lines, hosts) = (Lines::default(), vec![host(1)]);
        lines
            .act(10, Kind::Invoke, Action::Disk { hosts, disk })
            .push(20, Process::Host(host(1)), Kind::Info, exited.clone())
            .started(35, 2)
            .check(&["exited 20-35"]);
        Picture::of(&synthetic::header(), &lines.0).all_troubles
    };
    let sync_fail_ppm = 50_000;
    assert_eq!(
        troubles(Disk {
            sync_fail_ppm,
            ..Disk::default()
        }),
        0
    );
    assert_eq!(troubles(Disk::default()), 1);
}

#[test]
fn without_epochs_reigns_are_told_apart_by_their_order() {
    let mut lines = Lines::default();
    lines.elected(10, 0, 1).deposed(30, 1).elected(40, 0, 2);
    let leads = Status {
        role: Role::Leader,
        epoch: None,
        token: None,
        reign: Some(Reign(2)),
        leader: None,
    };
    let body = |answer| Body::Observe { host: host(1), answer };
    lines.push(50, Process::Client(0), Kind::Invoke, body(None));
    lines.push(60, Process::Client(0), Kind::Ok, body(Some(leads)));
    let stored = |seq| Body::Stored {
        seq,
        token: Token::NONE,
        value: seq,
        base: 0,
        by: host(1),
    };
    lines.push(20, Process::Host(host(2)), Kind::Info, stored(1));
    lines.push(70, Process::Host(host(2)), Kind::Info, stored(2));
    lines.check(&["none 10-10-30", "none 40-50-70"]);
    let p = lines.picture();
    let ranks: Vec<_> = p.lanes[0].reigns.iter().map(|bar| (bar.rank, bar.name())).collect();
    assert_eq!(ranks, [(0, "reign 1".into()), (1, "reign 2".into())]);
    assert!(p.epochs.is_empty() && p.tokens.is_empty());
    let writes: Vec<_> = p.stores.iter().map(|row| p.rank_of(row)).collect();
    assert_eq!(
        writes,
        [Some(0), Some(1)],
        "a write without a token is coloured by its writer's reign"
    );
}

#[test]
fn the_synthetic_run_gives_the_picture_of_its_script() {
    let made = synthetic::run(ms(60));
    let p = Picture::of(&made.header, &made.events);
    assert_eq!(
        (p.elections(), p.epochs.len(), p.whole, p.end),
        (8, 8, true, ms(47_000))
    );
    let five = p.lanes.iter().flat_map(|l| &l.reigns).find(|bar| bar.epoch == Epoch(5));
    assert_eq!(five.unwrap().rank, 3, "epoch 4 had no leader, and takes no colour");
    assert_eq!(p.faults.len(), 9);
    assert_eq!(p.faults.iter().filter(|f| f.from.is_some()).count(), 7);
    let failed = &p.faults[4];
    assert_eq!((failed.number, failed.from, failed.errors.len()), (5, None, 1));
    let missed = &p.faults[7];
    assert_eq!((missed.number, missed.kind, missed.from), (8, None, None));
    let storage = p.storage().unwrap();
    assert_eq!(p.lanes[storage].host.name, name("storage"));
    assert!(p.stores.windows(2).all(|w| w[0].seq < w[1].seq));
    assert!(
        p.ops
            .windows(2)
            .all(|w| w[0].start <= w[1].start && w[0].index < w[1].index)
    );
}

#[test]
fn leaderless_time_and_failovers_follow_from_the_reigns() {
    let made = synthetic::run(ms(60));
    let p = Picture::of(&made.header, &made.events);
    let led = believers(&p, ms(5_000), ms(7_000));
    let counts: Vec<(u64, usize)> = led.iter().map(|b| (b.to.0 / 1_000_000, b.count)).collect();
    assert_eq!(counts, [(6_100, 1), (6_900, 2), (7_000, 1)]);
    assert_eq!(leaderless(&p, ms(16_000), ms(20_000)), [(ms(18_004), ms(19_600))]);
    let (over, unmeasured) = failovers(&p);
    let over: Vec<(u64, u64)> = over.iter().map(|f| (f.old.0, f.new.0)).collect();
    assert_eq!((over, unmeasured), (vec![(2, 3), (3, 5), (6, 7), (8, 9)], 3));
    let served = serving(&p);
    assert!(served.windows(2).all(|w| w[0].to <= w[1].from));
}

/// A leader elected at 10 ms and paused from 20 to 40 ms, then what `after` says.
fn paused(after: impl Fn(&mut Lines)) -> Picture {
    let hosts = vec![host(1)];
    let mut lines = Lines::default();
    lines
        .elected(10, 5, 1)
        .act(20, Kind::Ok, Action::Pause { hosts: hosts.clone() });
    lines.act(40, Kind::Ok, Action::Resume { hosts });
    after(&mut lines);
    lines.push(70, Process::Control, Kind::Info, Body::Phase { phase: Phase::End });
    lines.picture()
}

fn served(picture: &Picture) -> Vec<(u64, u64)> {
    let stretches = serving(picture).into_iter();
    stretches.map(|s| (s.from.0 / 1_000_000, s.to.0 / 1_000_000)).collect()
}

fn took(picture: &Picture) -> Vec<u64> {
    let over = failovers(picture).0.into_iter();
    over.map(|f| f.next.since(f.stopped).0 / 1_000_000).collect()
}

#[test]
fn a_paused_leader_does_not_serve_and_an_unbroken_one_serves_again() {
    let p = paused(|lines| {
        lines.deposed(50, 1).elected(65, 6, 2);
    });
    assert_eq!(served(&p), [(10, 20), (40, 50), (65, 70)]);
    assert_eq!(took(&p), [15]);
    assert_eq!(leaderless(&p, ms(10), ms(65)), [(ms(20), ms(40)), (ms(50), ms(65))]);
}

#[test]
fn a_successor_takes_over_and_a_leader_that_wakes_up_after_it_serves_no_more() {
    let p = paused(|lines| {
        // Of two hosts, the other is elected in mid-pause.
        let body = Body::Elected {
            host: host(2),
            epoch: Epoch(6),
            token: None,
            reign: Reign(1),
        };
        lines.push(30, Process::Host(host(2)), Kind::Info, body);
        lines.deposed(50, 1);
    });
    assert_eq!(served(&p), [(10, 20), (30, 70)]);
    assert_eq!(took(&p), [10]);
    assert_eq!(believers(&p, ms(30), ms(50))[0].count, 2, "both may have believed");
}

#[test]
fn who_learns_late_of_a_lower_epoch_serves_not_and_ends_no_service() {
    let mut lines = Lines::default();
    let of = |n, epoch| Body::Elected {
        host: host(n),
        epoch: Epoch(epoch),
        token: None,
        reign: Reign(1),
    };
    for (t, n, epoch) in [(10, 1, 6), (20, 2, 5), (30, 3, 7)] {
        lines.push(t, Process::Host(host(n)), Kind::Info, of(n, epoch));
    }
    lines.push(40, Process::Control, Kind::Info, Body::Phase { phase: Phase::End });
    let p = lines.picture();
    assert_eq!(served(&p), [(10, 30), (30, 40)]);
    assert_eq!(
        failovers(&p),
        (vec![], 1),
        "nobody saw epoch 6 stop before epoch 7 began"
    );
}

#[test]
fn a_successor_that_serves_only_after_its_pause_leaves_the_failover_unmeasured() {
    let hosts = vec![host(2)];
    let mut lines = Lines::default();
    lines.elected(10, 5, 1);
    lines.act(15, Kind::Ok, Action::Pause { hosts: hosts.clone() });
    let body = Body::Elected {
        host: host(2),
        epoch: Epoch(6),
        token: None,
        reign: Reign(1),
    };
    lines.push(20, Process::Host(host(2)), Kind::Info, body);
    lines.act(40, Kind::Ok, Action::Resume { hosts });
    lines.push(70, Process::Control, Kind::Info, Body::Phase { phase: Phase::End });
    let p = lines.picture();
    assert_eq!(served(&p), [(10, 20), (40, 70)]);
    assert_eq!(failovers(&p), (vec![], 1), "nobody saw epoch 5 stop");
}

#[test]
fn a_leader_that_is_deposed_while_it_is_paused_stopped_at_the_pause() {
    let p = paused(|lines| {
        lines.0.insert(2, lines.0[0].clone());
        lines.0[2].time = ms(35);
        lines.0[2].body = Body::Deposed {
            host: host(1),
            reign: Reign(1),
            why: "w".into(),
        };
        lines.elected(55, 6, 2);
    });
    assert_eq!(served(&p), [(10, 20), (55, 70)]);
    assert_eq!(took(&p), [35]);
}

#[test]
fn only_the_lane_of_a_server_to_which_nothing_happens_is_low() {
    let server = HostSpec {
        name: host(1),
        role: HostRole::Server,
        asked: false,
    };
    let low = |host: HostSpec, lines: &Lines| {
        let mut header = synthetic::run(ms(60)).header;
        header.hosts = vec![host];
        Picture::of(&header, &lines.0).lanes[0].low
    };
    let mut started = Lines::default();
    started.started(1, 1);
    assert!(low(server, &started));
    assert!(!low(HostSpec { asked: true, ..server }, &started));
    let [mut asked, mut killed, mut missed] = [Lines::default(), Lines::default(), Lines::default()];
    asked.observed(5, 6, None);
    killed.act(5, Kind::Ok, kill());
    missed.act(5, Kind::Fail, kill());
    assert!(!low(server, &asked) && !low(server, &killed) && low(server, &missed));
}

#[test]
fn a_history_without_an_end_says_so() {
    let made = synthetic::run(ms(60));
    let cut = &made.events[..made.events.len() / 2];
    let p = Picture::of(&made.header, cut);
    assert!(!p.whole);
    assert_eq!(p.end, cut.last().unwrap().time);
    assert_eq!(p.phases.last().unwrap().to, p.end);
}
