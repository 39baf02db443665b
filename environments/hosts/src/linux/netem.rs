//! What is set with `tc`, as pure functions from states to commands.
//!
//! On the interface that leads to a shaped peer, the root qdisc becomes a `prio` of ours, [`HANDLE`]. Its first three bands
//! take all traffic as the kernel's default does, by the packets' own priority; each further band has a `netem` with one
//! shape, and u32 filters by destination lead to it. Control and everything else never meets a shape. Undoing deletes our
//! root, and the kernel puts its default back. An interface whose root qdisc somebody has chosen is refused: to put ours in
//! its place would be to lose it.
//!
//! A peer has a band for itself, so that links share neither chance nor rate. Only shapes that duplicate share a band with
//! their likes: newer kernels (6.1.192 is one) allow one duplicating netem, and none beside it, on an interface. Links with
//! other shapes beside such a one are then refused, in the kernel's words.
//!
//! A new shape takes a new `netem`, and what the old one held is lost: the alternative is packets that come late, for as
//! long as the old delay, after the fault has ended.
//!
//! Caveats: at most [`BANDS`] shapes on one interface. A flipped bit may lie anywhere in the frame; most of those in
//! headers lose the packet instead of failing its checksum. With a delay below its jitter, netem sends what would have
//! a negative delay at once. A peer's addresses are shaped on the interface that leads to the first of them.
use super::commands::Command;
use crate::shape::MAX_QUEUED_FRAMES;
use splitbrain_core::{Name, Nanos, Shape};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The handle of our root qdisc, and so our mark.
pub const HANDLE: &str = "5b1d:";
/// An interface that is made only to see whether a qdisc can be had on it, and its other end.
pub const TRY: [&str; 2] = ["splitbrain-try0", "splitbrain-try1"];
/// Most shapes on one interface: `prio` has 16 bands, and three are everybody's.
pub const BANDS: u8 = 13;
const FIRST_BAND: u8 = 4;
/// What the kernel's own default does with a packet's priority.
const PRIOMAP: &str = "1 2 2 2 1 2 0 0 1 1 1 1 1 1 1 1";
/// A longer delay does not fit into `tc`'s 32 bits of 64 ns.
const MAX_DELAY: Nanos = Nanos::secs(274);
/// Longer jitter wraps around in the kernel.
const MAX_JITTER: Nanos = Nanos(i32::MAX as u64);
/// Bytes of a full frame, by which a rate's buffer is counted.
const FRAME: u128 = 1_514;

/// Our qdiscs on one interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    peers: BTreeMap<Name, Peer>,
    bands: BTreeMap<u8, Band>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Peer {
    band: u8,
    /// Tells its filters from others'.
    slot: u16,
    families: BTreeSet<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Band {
    shape: Shape,
    /// Which of its two handles its netem has: the next one takes the other.
    second: bool,
}

impl Device {
    /// Whether we have changed nothing.
    pub fn is_untouched(&self) -> bool {
        self.bands.is_empty()
    }

    fn members(&self, band: u8) -> usize {
        self.peers.values().filter(|peer| peer.band == band).count()
    }

    /// The band for a peer's new shape: one that has it already and may be shared, the peer's own, or a free one.
    fn band_for(&self, name: Name, shape: &Shape) -> Result<u8, String> {
        let shared = shape.duplicate_ppm > 0 && shape.rate == 0;
        let like = self.bands.iter().find(|(_, band)| shared && band.shape == *shape);
        let own = self
            .peers
            .get(&name)
            .map(|peer| peer.band)
            .filter(|band| self.members(*band) == 1);
        let free = || (FIRST_BAND..FIRST_BAND + BANDS).find(|band| !self.bands.contains_key(band));
        let band = like.map(|(band, _)| *band).or(own).or_else(free);
        band.ok_or_else(|| format!("one interface takes at most {BANDS} shapes at a time"))
    }

    fn free_slot(&self) -> u16 {
        let used: BTreeSet<u16> = self.peers.values().map(|peer| peer.slot).collect();
        (0..).find(|slot| !used.contains(slot)).expect("peers are few")
    }
}

/// The state and the command that give what goes from `device` to these peers the wanted shapes, and all others none.
pub fn change(
    device: &str,
    before: &Device,
    wanted: &BTreeMap<Name, (Vec<IpAddr>, Shape)>,
) -> Result<(Device, Option<Command>), String> {
    let (mut after, mut text) = (before.clone(), String::new());
    if wanted.is_empty() {
        if !before.is_untouched() {
            text = format!("qdisc del dev {device} root handle {HANDLE}\n");
        }
        return Ok((Device::default(), batch(text)));
    }
    if before.is_untouched() {
        text += &format!("qdisc add dev {device} root handle {HANDLE} prio bands 16 priomap {PRIOMAP}\n");
    }
    for name in before.peers.keys().filter(|name| !wanted.contains_key(name)) {
        leave(device, &mut after, *name, &mut text);
    }
    let shape_of = |device: &Device, name: &Name| Some(device.bands[&device.peers.get(name)?.band].shape);
    let changed = wanted
        .iter()
        .filter(|(name, (_, shape))| shape_of(before, name) != Some(*shape));
    let changed: Vec<_> = changed.collect();
    // Where one duplicates, the old ones have to go before any new one comes, or the kernel takes them for a mixture.
    let mut shapes = before
        .bands
        .values()
        .map(|band| band.shape)
        .chain(wanted.values().map(|(_, shape)| *shape));
    if shapes.any(|shape| shape.duplicate_ppm > 0) {
        changed
            .iter()
            .for_each(|(name, _)| leave(device, &mut after, **name, &mut text));
    }
    for (name, (addresses, shape)) in changed {
        enter(device, &mut after, *name, addresses, shape, &mut text)?;
    }
    Ok((after, batch(text)))
}

fn enter(
    device: &str,
    after: &mut Device,
    name: Name,
    addresses: &[IpAddr],
    shape: &Shape,
    text: &mut String,
) -> Result<(), String> {
    let number = after.band_for(name, shape)?;
    if after.bands.get(&number).is_none_or(|band| band.shape != *shape) {
        let second = after.bands.get(&number).is_some_and(|band| !band.second);
        let (handle, arguments) = (handle(number, second), arguments(shape)?);
        *text += &format!("qdisc replace dev {device} parent {HANDLE}{number:x} handle {handle} netem {arguments}\n");
        after.bands.insert(number, Band { shape: *shape, second });
    }
    if after.peers.get(&name).is_some_and(|peer| peer.band == number) {
        return Ok(());
    }
    leave(device, after, name, text);
    let slot = after.free_slot();
    for ip in addresses {
        let (protocol, word, bits) = if ip.is_ipv6() {
            ("ipv6", "ip6", 128)
        } else {
            ("ip", "ip", 32)
        };
        let preference = preference(slot, ip.is_ipv6());
        *text += &format!(
            "filter add dev {device} parent {HANDLE} protocol {protocol} pref {preference} u32 match {word} dst {ip}/{bits} \
             flowid {HANDLE}{number:x}\n"
        );
    }
    let families = addresses.iter().map(IpAddr::is_ipv6).collect();
    after.peers.insert(
        name,
        Peer {
            band: number,
            slot,
            families,
        },
    );
    Ok(())
}

/// Leads a peer's packets back to everybody's bands, and removes its band if it was the last one there.
fn leave(device: &str, after: &mut Device, name: Name, text: &mut String) {
    let Some(peer) = after.peers.remove(&name) else {
        return;
    };
    for v6 in peer.families {
        let (protocol, preference) = (if v6 { "ipv6" } else { "ip" }, preference(peer.slot, v6));
        *text += &format!("filter del dev {device} parent {HANDLE} protocol {protocol} pref {preference}\n");
    }
    if after.members(peer.band) == 0 {
        let band = after.bands.remove(&peer.band).expect("a peer's band is there");
        let handle = handle(peer.band, band.second);
        *text += &format!(
            "qdisc del dev {device} parent {HANDLE}{:x} handle {handle}\n",
            peer.band
        );
    }
}

fn handle(band: u8, second: bool) -> String {
    format!("{:x}:", 0x5b20 + u16::from(band) + if second { 0x20 } else { 0 })
}

/// A filter's, by which it is deleted: one for each peer and family.
fn preference(slot: u16, v6: bool) -> u16 {
    1 + 2 * slot + u16::from(v6)
}

/// A shape in netem's words.
pub fn arguments(shape: &Shape) -> Result<String, String> {
    if shape.delay > MAX_DELAY {
        return Err(format!(
            "netem's delay ends at {MAX_DELAY}, and {} was asked for",
            shape.delay
        ));
    }
    if shape.jitter > MAX_JITTER {
        return Err(format!(
            "netem's jitter ends at {MAX_JITTER}, and {} was asked for",
            shape.jitter
        ));
    }
    let mut words = vec![format!("limit {}", limit(shape))];
    if shape.delay > Nanos::ZERO || shape.jitter > Nanos::ZERO {
        words.push(format!("delay {}", micros(shape.delay)));
    }
    if shape.jitter > Nanos::ZERO {
        words.push(micros(shape.jitter));
    }
    let mut share = |word: &str, ppm: u32| {
        if ppm > 0 {
            words.push(format!("{word} {}%", f64::from(ppm) / 1e4));
        }
    };
    share("loss", shape.loss_ppm);
    share("duplicate", shape.duplicate_ppm);
    // Without a delay there is nothing to overtake, and tc refuses.
    share(
        "reorder",
        if shape.delay > Nanos::ZERO {
            shape.reorder_ppm
        } else {
            0
        },
    );
    share("corrupt", shape.corrupt_ppm);
    if shape.rate > 0 {
        // In tc's words "bps" are bytes per second.
        words.push(format!("rate {}bps", shape.rate));
    }
    Ok(words.join(" "))
}

/// Packets that may wait: what a slow wire sends in a second and in the delay, else what a local link takes.
fn limit(shape: &Shape) -> u64 {
    let span = u128::from((Nanos::secs(1) + shape.delay + shape.jitter).0);
    match u128::from(shape.rate) * span / 1_000_000_000 / FRAME {
        _ if shape.rate == 0 => MAX_QUEUED_FRAMES,
        frames => u64::try_from(frames).unwrap_or(u64::MAX).clamp(16, MAX_QUEUED_FRAMES),
    }
}

fn micros(time: Nanos) -> String {
    match (time.0 / 1_000, time.0 % 1_000) {
        (micros, 0) => format!("{micros}us"),
        (micros, nanos) => format!("{micros}.{nanos:03}us"),
    }
}

/// Asks for the ways to these addresses.
pub fn routes(addresses: &[IpAddr]) -> Command {
    let mut command = Command::new(&["ip", "-batch", "-"]);
    command.stdin = addresses.iter().map(|ip| format!("route get {ip}\n")).collect();
    command
}

/// What [`routes`] printed: for each address, in order, the interface that leads there.
pub fn devices(listing: &str) -> Vec<String> {
    let ways = listing
        .lines()
        .filter(|line| !line.starts_with(char::is_whitespace) && !line.is_empty());
    let device = |line: &str| {
        line.split_whitespace()
            .skip_while(|word| *word != "dev")
            .nth(1)
            .map(str::to_string)
    };
    ways.map(|line| device(line).unwrap_or_default()).collect()
}

/// Lists the qdiscs of an interface.
pub fn list_of(device: &str) -> Command {
    Command::new(&["tc", "qdisc", "show", "dev", device])
}

/// The root qdisc in a listing by [`list_of`] if somebody has chosen it: `htb 1:`. The kernel's own has the handle `0:`.
pub fn chosen(listing: &str) -> Option<String> {
    listing
        .lines()
        .find_map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["qdisc", kind, handle, ref rest @ ..] if rest.contains(&"root") && handle != "0:" => {
                Some(format!("{kind} {handle}"))
            }
            _ => None,
        })
}

/// Makes an interface with all that a shape needs: on it, and on nothing else.
pub fn attempt() -> Result<[Command; 2], String> {
    let [name, other] = TRY;
    let make = Command::new(&["ip", "link", "add", name, "type", "veth", "peer", "name", other]);
    let shape = Shape {
        delay: Nanos::millis(2),
        jitter: Nanos::millis(1),
        loss_ppm: 1,
        reorder_ppm: 1,
        corrupt_ppm: 1,
        rate: 1 << 20,
        ..Shape::default()
    };
    let addresses = ["192.0.2.1", "2001:db8::1"].map(|ip| ip.parse().expect("an address"));
    let wanted = [(Name::numbered("n", 1), (addresses.to_vec(), shape))].into();
    let (_, set) = change(name, &Device::default(), &wanted)?;
    Ok([make, set.expect("a first shape is a change")])
}

/// Removes what [`attempt`] made.
pub fn attempted() -> Command {
    Command::new(&["ip", "link", "del", TRY[0]])
}

/// Lists every qdisc.
pub fn list() -> Command {
    Command::new(&["tc", "qdisc", "show"])
}

/// What of a listing by [`list`] is ours, in words, and the command that removes it.
pub fn marked(listing: &str) -> (Vec<String>, Option<Command>) {
    let (mut found, mut text) = (Vec::new(), String::new());
    for line in listing.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let device = words.iter().skip_while(|word| **word != "dev").nth(1);
        if let (true, Some(device)) = (words.get(2) == Some(&HANDLE) && words.contains(&"root"), device) {
            found.push(format!("tc: qdisc {HANDLE} of {device}"));
            // The kernel refuses if the root has another handle by now.
            text += &format!("qdisc del dev {device} root handle {HANDLE}\n");
        }
    }
    (found, batch(text))
}

/// Lists every interface.
pub fn list_interfaces() -> Command {
    Command::new(&["ip", "-o", "link", "show"])
}

/// What of a listing by [`list_interfaces`] is ours, in words, and the command that removes it.
pub fn marked_interfaces(listing: &str) -> (Vec<String>, Option<Command>) {
    let names = listing.lines().filter_map(|line| line.split_whitespace().nth(1));
    let ours = names
        .filter(|name| name.split(['@', ':']).next() == Some(TRY[0]))
        .count();
    let found = (0..ours).map(|_| format!("ip: interface {}", TRY[0])).collect();
    (found, (ours > 0).then(attempted))
}

/// `tc` with these lines as its commands.
fn batch(text: String) -> Option<Command> {
    let mut command = Command::new(&["tc", "-batch", "-"]);
    command.stdin = text;
    (!command.stdin.is_empty()).then_some(command)
}
