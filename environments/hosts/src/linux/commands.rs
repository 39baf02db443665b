//! What is set with `iptables`, as pure functions from states to commands.
//!
//! A block of a peer is one rule per address of that peer in a chain of our own, [`BLOCK`], which `INPUT` of the table
//! `filter` jumps to before anything else. A shape at the receiver is one rule per address in [`SHAPE`], reached from
//! `INPUT` of `mangle`, which hands packets to our queue; a packet that comes out of it goes on to `filter`, and so past
//! the host's own rules and our blocks. Chains and jumps are made with their first rule and go with their last.
//!
//! Every change is the difference between two states, carried out by one `iptables-restore --noflush` per family: atomic
//! per table, a few milliseconds however many rules, and without touching a rule or a counter of anybody else. Rules that
//! stay are not rewritten, so their counters go on.
//!
//! The search for neighbours' Ethernet addresses goes on under IPv6 as it does under IPv4, where no such rule can stop it:
//! how soon a healed link carries again must not depend on the kernel's patience with a neighbour that was silent.
//!
//! Caveats: rules match a peer's addresses and nothing else. Where control reaches the host from a peer's address, a block
//! of that peer cuts control off, and the host heals itself. An empty `filter` or `mangle` table, which the kernel shows
//! once it has been used, is left behind.
use splitbrain_core::Name;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::net::IpAddr;

/// What all our chains start with.
pub const MARK: &str = "SPLITBRAIN-";
/// Of the table `filter`: drops what comes from blocked peers.
pub const BLOCK: &str = "SPLITBRAIN-IN";
/// Of the table `mangle`: queues what comes from shaped peers.
pub const SHAPE: &str = "SPLITBRAIN-SHAPE";
/// Of either, without a jump to it: whether a rule can be had at all.
const TRY: &str = "SPLITBRAIN-TRY";
/// Seconds for which another user of the tables is waited for.
const LOCK_WAIT: &str = "5";

/// A program to run, and what it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Its standard input.
    pub stdin: String,
}

impl Command {
    /// Without input.
    pub fn new(argv: &[&str]) -> Command {
        Command {
            argv: argv.iter().map(ToString::to_string).collect(),
            stdin: String::new(),
        }
    }
}

/// As it is written in a shell.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.argv.join(" "))
    }
}

/// IPv4 or IPv6: each has tables of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// `iptables`
    V4,
    /// `ip6tables`
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// An address's.
    pub fn of(ip: &IpAddr) -> Family {
        if ip.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// The program.
    pub fn tool(self) -> &'static str {
        match self {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        }
    }

    fn restore(self, stdin: String) -> Command {
        let program = format!("{}-restore", self.tool());
        Command {
            argv: [&program, "--noflush", "-w", LOCK_WAIT]
                .map(ToString::to_string)
                .to_vec(),
            stdin,
        }
    }

    fn bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }
}

/// Our rules of one family: whose packets are dropped, and whose are queued. By address, the peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// In [`BLOCK`].
    pub drop: BTreeMap<IpAddr, Name>,
    /// In [`SHAPE`].
    pub queue: BTreeMap<IpAddr, Name>,
}

/// The command that makes `after` of `before`; `None` where there is nothing to do. Queued packets go to queue `number`.
pub fn change(family: Family, before: &Rules, after: &Rules, number: u16) -> Option<Command> {
    let filter = table(family, "filter", BLOCK, &before.drop, &after.drop, |ip, peer| {
        format!("-s {ip}/{} {} -j DROP", family.bits(), comment(peer))
    });
    // What we put in a second time ourselves comes from lo, and is not to be queued again.
    let mangle = table(family, "mangle", SHAPE, &before.queue, &after.queue, |ip, peer| {
        let bits = family.bits();
        format!(
            "-s {ip}/{bits} ! -i lo {} -j NFQUEUE --queue-num {number}",
            comment(peer)
        )
    });
    // Tables change one after the other. A packet in between may meet both rules, never neither.
    let blocks = after.drop.keys().any(|ip| !before.drop.contains_key(ip));
    let text = if blocks { filter + &mangle } else { mangle + &filter };
    (!text.is_empty()).then(|| family.restore(text))
}

fn comment(peer: &Name) -> String {
    format!("-m comment --comment \"splitbrain {peer}\"")
}

fn table(
    family: Family,
    table: &str,
    chain: &str,
    before: &BTreeMap<IpAddr, Name>,
    after: &BTreeMap<IpAddr, Name>,
    rule: impl Fn(&IpAddr, &Name) -> String,
) -> String {
    if before == after {
        return String::new();
    }
    let mut text = format!("*{table}\n");
    let mut line = |words: String| text.push_str(&(words + "\n"));
    if before.is_empty() {
        line(format!(":{chain} - [0:0]"));
        // Who has which Ethernet address is asked and answered as ever, as it is by ARP, which has no rules here.
        let neighbours = [135, 136].iter().filter(|_| family == Family::V6);
        neighbours.for_each(|kind| {
            line(format!(
                "-A {chain} -p ipv6-icmp -m icmp6 --icmpv6-type {kind} -j RETURN"
            ))
        });
    }
    for (ip, peer) in after.iter().filter(|(ip, peer)| before.get(ip) != Some(peer)) {
        line(format!("-A {chain} {}", rule(ip, peer)));
    }
    if before.is_empty() {
        line(format!("-I INPUT 1 -j {chain}"));
    }
    if after.is_empty() {
        line(format!("-D INPUT -j {chain}"));
        line(format!("-F {chain}"));
        line(format!("-X {chain}"));
    } else {
        for (ip, peer) in before.iter().filter(|(ip, peer)| after.get(ip) != Some(peer)) {
            line(format!("-D {chain} {}", rule(ip, peer)));
        }
    }
    line("COMMIT".to_string());
    text
}

/// Lists [`BLOCK`] with its counters.
pub fn count(family: Family) -> Command {
    Command::new(&[family.tool(), "-w", LOCK_WAIT, "-v", "-S", BLOCK])
}

/// What [`count`] printed: packets that each address's rule has dropped.
pub fn counted(text: &str) -> BTreeMap<IpAddr, u64> {
    let mut counts = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |flag: &str| words.iter().skip_while(|w| **w != flag).nth(1);
        let ip = after("-s").and_then(|net| net.split('/').next()?.parse::<IpAddr>().ok());
        if let (Some(ip), Some(packets)) = (ip, after("-c").and_then(|n| n.parse::<u64>().ok())) {
            *counts.entry(ip).or_default() += packets;
        }
    }
    counts
}

/// Makes a rule of each kind that `kind` needs, in a chain that nothing jumps to.
pub fn attempt(family: Family, kind: Attempt) -> Command {
    let (table, rule) = kind.words();
    let rule = rule.replace(
        "ADDRESS",
        if family == Family::V4 {
            "192.0.2.1"
        } else {
            "2001:db8::1"
        },
    );
    family.restore(format!("*{table}\n:{TRY} - [0:0]\n-A {TRY} {rule}\nCOMMIT\n"))
}

/// Removes what [`attempt`] made.
pub fn attempted(family: Family, kind: Attempt) -> Command {
    let (table, _) = kind.words();
    family.restore(format!("*{table}\n-F {TRY}\n-X {TRY}\nCOMMIT\n"))
}

/// What is tried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// A block's rule.
    Drop,
    /// A shape's.
    Queue,
}

impl Attempt {
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Attempt::Drop => ("filter", "-s ADDRESS -m comment --comment \"splitbrain\" -j DROP"),
            Attempt::Queue => (
                "mangle",
                "-s ADDRESS ! -i lo -m comment --comment \"splitbrain\" -j NFQUEUE --queue-num 1",
            ),
        }
    }
}

/// Lists all tables that are in use.
pub fn save(family: Family) -> Command {
    Command::new(&[&format!("{}-save", family.tool())])
}

/// What of a listing by [`save`] carries our mark, in words; and the command that removes it.
pub fn marked(family: Family, listing: &str) -> (Vec<String>, Option<Command>) {
    let (mut found, mut text) = (Vec::new(), String::new());
    for section in listing.split("\n*").map(|s| s.trim_start_matches('*')) {
        let table = section.lines().next().unwrap_or_default();
        let names = section
            .lines()
            .filter_map(|line| line.strip_prefix(':')?.split(' ').next());
        let chains: Vec<&str> = names.filter(|name| name.starts_with(MARK)).collect();
        if chains.is_empty() || section.starts_with('#') {
            continue;
        }
        let rules = section.lines().filter_map(|line| line.strip_prefix("-A "));
        let (ours, others): (Vec<&str>, Vec<&str>) =
            rules.partition(|rule| chains.iter().any(|chain| rule.split(' ').next() == Some(*chain)));
        let jumps = others.iter().filter(|rule| {
            let rule = unquoted(rule);
            let words: Vec<&str> = rule.split(' ').collect();
            words
                .windows(2)
                .any(|w| matches!(w[0], "-j" | "-g") && chains.contains(&w[1]))
        });
        writeln!(text, "*{table}").expect("a string takes everything");
        for jump in jumps {
            found.push(format!("{} {table}: rule {jump}", family.tool()));
            writeln!(text, "-D {jump}").expect("a string takes everything");
        }
        for chain in &chains {
            let count = ours
                .iter()
                .filter(|rule| rule.split(' ').next() == Some(*chain))
                .count();
            found.push(format!("{} {table}: chain {chain} with {count} rules", family.tool()));
            writeln!(text, "-F {chain}").expect("a string takes everything");
        }
        for chain in &chains {
            writeln!(text, "-X {chain}").expect("a string takes everything");
        }
        text.push_str("COMMIT\n");
    }
    let command = (!text.is_empty()).then(|| family.restore(text));
    (found, command)
}

/// A rule without what somebody has put in quotation marks.
fn unquoted(rule: &str) -> String {
    let (mut text, mut quoted, mut escaped) = (String::new(), false, false);
    for c in rule.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            c => text.push(c),
        }
    }
    text
}
