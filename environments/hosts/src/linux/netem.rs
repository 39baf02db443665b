//! What is set with `tc`, as pure functions from states to commands.
use super::commands::Command;

/// The handle of our root qdisc, and so our mark.
pub const HANDLE: &str = "5b1d:";
/// An interface that is made only to see whether a qdisc can be had on it.
pub const TRY: &str = "splitbrain-try0";

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
    let ours = names.filter(|name| name.split(['@', ':']).next() == Some(TRY)).count();
    let found = (0..ours).map(|_| format!("ip: interface {TRY}")).collect();
    (found, (ours > 0).then(|| Command::new(&["ip", "link", "del", TRY])))
}

/// `tc` with these lines as its commands.
fn batch(text: String) -> Option<Command> {
    let mut command = Command::new(&["tc", "-batch", "-"]);
    command.stdin = text;
    (!command.stdin.is_empty()).then_some(command)
}
