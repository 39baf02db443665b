//! Golden scripts: the commands that changes come down to.
//!
//! A file in `tests/linux_scripts/` is named after its scenario. It has commands, a line `----` and the exact output, up to
//! an empty line; lines that start with `#` say what to look at, lines that start with `> ` are what a tool of the host
//! printed. `UPDATE=1 cargo test` writes the output anew; the diff is the review.
use super::commands::{self, Attempt, Command, Family, Rules};
use super::netem::{self, Device};
use splitbrain_core::{Name, Shape};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

#[derive(Default)]
struct Host {
    peers: BTreeMap<Name, Vec<IpAddr>>,
    blocked: BTreeSet<Name>,
    queued: BTreeSet<Name>,
    shaped: BTreeMap<Name, Shape>,
    rules: BTreeMap<Family, Rules>,
    device: Device,
    listing: String,
    output: String,
}

impl Host {
    fn command(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let names: BTreeSet<Name> = words[1..].iter().filter_map(|word| word.parse().ok()).collect();
        match words[0] {
            ">" => self.listing += &(line.strip_prefix("> ").unwrap_or_default().to_string() + "\n"),
            "peers" => self.peers = words[1..].iter().map(|word| peer(word)).collect(),
            "block" => self.blocked.extend(names),
            "unblock" => self.blocked.retain(|name| !names.contains(name)),
            "queue" => self.queued.extend(names),
            "unqueue" => self.queued.retain(|name| !names.contains(name)),
            "shape" => {
                let shape = shape(&words[2..]);
                let names = words[1].split(',').map(|name| name.parse().expect("a name"));
                self.shaped.extend(names.map(|name| (name, shape)));
            }
            "clean" => self.shaped.retain(|name, _| !names.contains(name)),
            "marked-v4" => self.marked(|listing| commands::marked(Family::V4, listing)),
            "marked-v6" => self.marked(|listing| commands::marked(Family::V6, listing)),
            "marked-tc" => self.marked(netem::marked),
            "marked-ip" => self.marked(netem::marked_interfaces),
            "counted" => {
                let counts = commands::counted(&std::mem::take(&mut self.listing));
                writeln!(self.output, "{counts:?}").expect("a string takes everything");
            }
            "chosen" => {
                let chosen = netem::chosen(&std::mem::take(&mut self.listing));
                writeln!(self.output, "{chosen:?}").expect("a string takes everything");
            }
            "devices" => {
                let devices = netem::devices(&std::mem::take(&mut self.listing));
                writeln!(self.output, "{devices:?}").expect("a string takes everything");
            }
            "attempts" => {
                for kind in [Attempt::Drop, Attempt::Queue] {
                    self.print(&commands::attempt(Family::V6, kind));
                    self.print(&commands::attempted(Family::V6, kind));
                }
                for command in netem::attempt().expect("a shape that netem has") {
                    self.print(&command);
                }
                self.print(&netem::attempted());
            }
            other => panic!("no command '{other}'"),
        }
        self.apply();
    }

    fn apply(&mut self) {
        for family in Family::ALL {
            let mut after = Rules::default();
            for (name, ips) in &self.peers {
                for ip in ips.iter().filter(|ip| Family::of(ip) == family) {
                    if self.blocked.contains(name) {
                        after.drop.insert(*ip, *name);
                    } else if self.queued.contains(name) {
                        after.queue.insert(*ip, *name);
                    }
                }
            }
            let before = self.rules.insert(family, after.clone()).unwrap_or_default();
            if let Some(command) = commands::change(family, &before, &after, 23325) {
                self.print(&command);
            }
        }
        let with_ips = |(name, shape): (&Name, &Shape)| (*name, (self.peers[name].clone(), *shape));
        let wanted = self.shaped.iter().map(with_ips).collect();
        match netem::change("eth0", &self.device, &wanted) {
            Ok((after, command)) => {
                self.device = after;
                command.iter().for_each(|command| self.print(command));
            }
            Err(why) => writeln!(self.output, "error: {why}").expect("a string takes everything"),
        }
    }

    fn marked(&mut self, find: impl Fn(&str) -> (Vec<String>, Option<Command>)) {
        let (found, command) = find(&std::mem::take(&mut self.listing));
        for what in found {
            writeln!(self.output, "found {what}").expect("a string takes everything");
        }
        command.iter().for_each(|command| self.print(command));
    }

    fn print(&mut self, command: &Command) {
        writeln!(self.output, "{command}").expect("a string takes everything");
        for line in command.stdin.lines() {
            writeln!(self.output, "  {line}").expect("a string takes everything");
        }
    }
}

fn peer(word: &str) -> (Name, Vec<IpAddr>) {
    let (name, ips) = word.split_once('=').expect("NAME=IP,IP");
    let ips = ips.split(',').map(|ip| ip.parse().expect("an address"));
    (name.parse().expect("a name"), ips.collect())
}

/// As plans write it.
fn shape(words: &[&str]) -> Shape {
    let mut shape = Shape::default();
    for word in words {
        let (key, value) = word.split_once('=').expect("KEY=VALUE");
        let number = || value.parse().expect("a number");
        match key {
            "delay" => shape.delay = value.parse().expect("a time"),
            "jitter" => shape.jitter = value.parse().expect("a time"),
            "loss" => shape.loss_ppm = number(),
            "duplicate" => shape.duplicate_ppm = number(),
            "reorder" => shape.reorder_ppm = number(),
            "corrupt" => shape.corrupt_ppm = number(),
            "rate" => shape.rate = u64::from(number()),
            other => panic!("no '{other}' in a shape"),
        }
    }
    shape
}

/// The script with the output that it really has.
fn replay(text: &str) -> String {
    let (mut host, mut result, mut lines) = (Host::default(), String::new(), text.lines());
    while let Some(line) = lines.next() {
        writeln!(result, "{line}").expect("a string takes everything");
        if line == "----" {
            result.push_str(&std::mem::take(&mut host.output));
            if lines.by_ref().any(str::is_empty) {
                result.push('\n');
            }
        } else if !line.is_empty() && !line.starts_with('#') {
            host.command(line);
        }
    }
    assert_eq!(host.output, "", "commands without a ---- after them");
    result
}

#[test]
fn scripts_come_out_as_written() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/linux_scripts");
    let entries = std::fs::read_dir(dir).expect("the scripts");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
    paths.sort();
    let mut failures = String::new();
    for path in &paths {
        let name = path.file_stem().expect("a name").to_string_lossy();
        let want = std::fs::read_to_string(path).expect("a script");
        let got = replay(&want);
        if std::env::var("UPDATE").is_ok() {
            std::fs::write(path, &got).expect("a script");
        } else if want != got {
            let same = want.lines().zip(got.lines()).take_while(|(a, b)| a == b).count();
            let (want, got) = (want.lines().nth(same), got.lines().nth(same));
            writeln!(failures, "{name}, line {}:\n- {want:?}\n+ {got:?}", same + 1).expect("a string takes everything");
        }
    }
    assert!(paths.len() >= 8, "scripts are missing: {paths:?}");
    assert!(failures.is_empty(), "{failures}");
}
