//! The commands of the golden scripts: a few Raft cores, a network that waits to be told, a clock that stands still.
//!
//! ```text
//! cluster n1 n2 n3 [pre-vote=no] [check-quorum=no] [snapshot-every=N] [mutant=NAME]
//! disk n1 term=7 [vote=n2] log=1*2,4   what n1 starts from; it starts anew
//! campaign n1 | transfer n1 | read n1 | propose n1 set 5 | propose n1 cas - 5
//! elect n1                       campaign and deliver everything
//! deliver [n1>n2 ...]            messages, and those they cause, on these links or on all
//! drop [n1>n2 ...]               lose them
//! forge n2>n1 stored 3           a reply in n1's term that n2 never gave
//! cut n1 n2 | n3                 no messages between the groups, until the next cut or heal
//! tick 50ms n1 ...               time passes; the timers of these fire
//! pass 400ms                     time passes, no timer fires
//! run 2s                         time passes, timers fire, messages are delivered at once
//! kill n1 | start n1 | restart n1
//! status [n1 ...]
//! quiet COMMAND                  without output
//! calm COMMAND                   without messages and writes in the output
//! ```
mod show;

use splitbrain_core::{Name, Nanos, seed};
use splitbrain_protocols::raft::log::{Command, Entry};
use splitbrain_protocols::raft::message::{Body, Durable, Message, Record, Stored};
use splitbrain_protocols::raft::{Config, Effect, Event, Raft, Tuning};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// One member.
#[derive(Default)]
struct Host {
    raft: Option<Raft>,
    disk: Vec<Record>,
    lives: u32,
}

/// Everything a script acts on.
#[derive(Default)]
pub struct Cluster {
    hosts: BTreeMap<Name, Host>,
    config: Option<Config>,
    flying: VecDeque<(Name, Name, Message)>,
    cut: BTreeSet<(Name, Name)>,
    now: Nanos,
    asked: u64,
    output: Vec<String>,
    /// Messages and writes are not shown.
    calm: bool,
}

impl Cluster {
    pub fn take_output(&mut self) -> Vec<String> {
        std::mem::take(&mut self.output)
    }

    pub fn command(&mut self, line: &str) {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let words: Vec<&str> = rest.split_whitespace().collect();
        let first = || name(words.first().expect("a name"));
        match verb {
            "quiet" => {
                let shown = self.output.len();
                self.command(rest);
                self.output.truncate(shown);
            }
            "calm" => {
                let before = std::mem::replace(&mut self.calm, true);
                self.command(rest);
                self.calm = before;
            }
            "cluster" => self.cluster(&words),
            "disk" => self.disk(first(), &words[1..]),
            "campaign" => self.step(first(), Event::Campaign),
            "elect" => {
                self.step(first(), Event::Campaign);
                self.deliver(&[]);
            }
            "transfer" | "read" | "propose" => self.ask(verb, first(), &words[1..]),
            "deliver" => self.deliver(&links(&words)),
            "drop" => {
                let links = links(&words);
                self.flying.retain(|(from, to, _)| !on(&links, *from, *to));
            }
            "forge" => self.forge(links(&words)[0], words[2]),
            "cut" => self.cut(rest),
            "heal" => self.cut.clear(),
            "pass" => self.now += words[0].parse().expect("a duration"),
            "tick" => self.tick(words[0], &words[1..]),
            "run" => self.run(words[0]),
            "kill" => self.host(first()).raft = None,
            "start" => self.start(first()),
            "restart" => {
                self.host(first()).raft = None;
                self.start(first());
            }
            "status" => self.status(&words),
            _ => panic!("no command: {line}"),
        }
    }

    fn cluster(&mut self, words: &[&str]) {
        let mut tuning = Tuning::default();
        let mut mutant = None;
        let (options, names): (Vec<&str>, Vec<&str>) = words.iter().partition(|w| w.contains('='));
        for option in options {
            match option.split_once('=').expect("an option") {
                ("pre-vote", value) => tuning.pre_vote = value != "no",
                ("check-quorum", value) => tuning.check_quorum = value != "no",
                ("snapshot-every", value) => tuning.snapshot_every = value.parse().expect("a number"),
                ("mutant", value) => mutant = Some(value.parse().expect("a mutant")),
                _ => panic!("no option: {option}"),
            }
        }
        let members: Vec<Name> = names.into_iter().map(name).collect();
        self.config = Some(Config {
            name: members[0],
            members: members.clone(),
            tuning,
            mutant,
        });
        self.hosts.clear();
        self.flying.clear();
        self.cut.clear();
        for member in members {
            self.hosts.insert(member, Host::default());
            self.start(member);
        }
    }

    fn disk(&mut self, host: Name, words: &[&str]) {
        let (mut records, mut last_term) = (Vec::new(), 0);
        for word in words {
            match word.split_once('=').expect("term=N, vote=NAME or log=N,N*COUNT") {
                ("term", text) => {
                    let (term, vote) = (text.parse().expect("a term"), None);
                    records.push(Record::Ballot { term, vote });
                    last_term = term;
                }
                ("vote", candidate) => records.push(Record::Ballot {
                    term: last_term,
                    vote: Some(name(candidate)),
                }),
                ("log", terms) => {
                    let run = |run: &str| {
                        let (term, count) = run.split_once('*').unwrap_or((run, "1"));
                        vec![term.parse::<u64>().expect("a term"); count.parse().expect("a count")]
                    };
                    let entry = |(term, index): (u64, u64)| Entry {
                        term,
                        // Entries of one term and index are the same in all logs.
                        command: Command::Set(index * 100 + term),
                    };
                    let entries = terms.split(',').flat_map(run).zip(1..).map(entry).collect();
                    records.push(Record::Append { prev: 0, entries });
                }
                _ => panic!("no disk: {word}"),
            }
        }
        self.host(host).disk = records;
        self.host(host).raft = None;
        self.start(host);
    }

    fn ask(&mut self, verb: &str, host: Name, words: &[&str]) {
        self.asked += 1;
        let id = self.asked;
        let event = match (verb, words) {
            ("transfer", _) => Event::Transfer { id },
            ("read", _) => Event::Read { id },
            (_, ["set", value]) => {
                let command = Command::Set(value.parse().expect("a value"));
                Event::Propose { id, command }
            }
            (_, ["cas", from, to]) => {
                let (from, to) = (from.parse().ok(), to.parse().expect("a value"));
                let command = Command::Cas { from, to };
                Event::Propose { id, command }
            }
            _ => panic!("propose what? {words:?}"),
        };
        self.step(host, event);
    }

    fn deliver(&mut self, links: &[(Name, Name)]) {
        for _ in 0..2000 {
            let next = self.flying.iter().position(|(from, to, _)| on(links, *from, *to));
            let Some((from, to, message)) = next.and_then(|at| self.flying.remove(at)) else {
                return;
            };
            self.step(to, Event::Message { from, message });
        }
        panic!("messages without end");
    }

    fn forge(&mut self, (from, to): (Name, Name), upto: &str) {
        let term = self.host(to).raft.as_ref().expect("it lives").term();
        let result = Stored::Upto(upto.parse().expect("an index"));
        let body = Body::AppendReply { round: 0, result };
        let message = Message { term, body };
        self.step(to, Event::Message { from, message });
    }

    fn cut(&mut self, groups: &str) {
        self.cut.clear();
        let groups: Vec<Vec<Name>> = groups
            .split('|')
            .map(|g| g.split_whitespace().map(name).collect())
            .collect();
        for (i, a) in groups.iter().enumerate() {
            for (_, b) in groups.iter().enumerate().filter(|(j, _)| *j != i) {
                self.cut.extend(a.iter().flat_map(|x| b.iter().map(|y| (*x, *y))));
            }
        }
        let cut = &self.cut;
        self.flying.retain(|(from, to, _)| !cut.contains(&(*from, *to)));
    }

    fn tick(&mut self, span: &str, words: &[&str]) {
        self.now += span.parse().expect("a duration");
        for host in words.iter().map(|w| name(w)) {
            self.step(host, Event::Tick);
        }
    }

    fn run(&mut self, span: &str) {
        let end = self.now + span.parse().expect("a duration");
        for _ in 0..20_000 {
            self.deliver(&[]);
            let due = |(name, host): (&Name, &Host)| Some((host.raft.as_ref()?.deadline(), *name));
            match self.hosts.iter().filter_map(due).min() {
                Some((due, host)) if due <= end => {
                    self.now = self.now.max(due);
                    self.step(host, Event::Tick);
                }
                _ => {
                    self.now = end;
                    return;
                }
            }
        }
        panic!("timers without end");
    }

    fn host(&mut self, host: Name) -> &mut Host {
        self.hosts.get_mut(&host).expect("a member of the cluster")
    }

    fn start(&mut self, member: Name) {
        let mut config = self.config.clone().expect("a cluster");
        config.name = member;
        let host = self.host(member);
        host.lives += 1;
        let durable = Durable::recover(host.disk.clone()).expect("a sound disk");
        let rng = seed::stream(1, &format!("{member}/{}", host.lives));
        host.raft = Some(Raft::new(config, durable, rng));
        self.step(member, Event::Start);
    }

    fn step(&mut self, at: Name, event: Event) {
        let now = self.now;
        let Some(raft) = &mut self.host(at).raft else { return };
        for effect in raft.step(now, event) {
            self.carry_out(at, effect);
        }
    }

    fn carry_out(&mut self, at: Name, effect: Effect) {
        let is_detail = matches!(effect, Effect::Send { .. } | Effect::Persist(_));
        if !(self.calm && is_detail) {
            self.output.push(show::effect(at, &effect));
        }
        match effect {
            Effect::Persist(record) => self.host(at).disk.push(record),
            Effect::Compact(records) => self.host(at).disk = records,
            Effect::Send { to, message } if !self.cut.contains(&(at, to)) => self.flying.push_back((at, to, message)),
            _ => {}
        }
    }

    fn status(&mut self, words: &[&str]) {
        for (member, host) in &self.hosts {
            if words.is_empty() || words.contains(&member.as_str()) {
                let line = host.raft.as_ref().map_or("dead".into(), show::status);
                self.output.push(format!("{member} {line}"));
            }
        }
    }
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn links(words: &[&str]) -> Vec<(Name, Name)> {
    let links = words.iter().filter_map(|w| w.split_once('>'));
    links.map(|(from, to)| (name(from), name(to))).collect()
}

/// Whether a link is meant; no links mean all.
fn on(links: &[(Name, Name)], from: Name, to: Name) -> bool {
    links.is_empty() || links.contains(&(from, to))
}
