//! `[USER@]HOST[:PORT]`, as command lines and plans name a host.
use anyhow::{Result, bail, ensure};
use nix::unistd::{Uid, User};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// Where a host is, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// As whom.
    pub user: String,
    /// A name or an address, without brackets.
    pub host: String,
    /// Of its sshd.
    pub port: u16,
}

impl Target {
    /// Reads `[USER@]HOST[:PORT]`; an IPv6 address with a port stands in brackets.
    pub fn parse(text: &str) -> Result<Target> {
        let (user, place) = match text.rsplit_once('@') {
            Some((user, place)) => (user.to_string(), place),
            None => (caller()?, text),
        };
        let (host, port) = if let Some(rest) = place.strip_prefix('[') {
            let Some((host, port)) = rest.split_once(']') else {
                bail!("'{text}' is no host: its '[' is never closed");
            };
            ensure!(
                host.parse::<Ipv6Addr>().is_ok(),
                "'{text}' is no host: what stands in brackets is an IPv6 address"
            );
            match port.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if port.is_empty() => (host, None),
                None => bail!("'{text}' is no host: after the brackets comes :PORT or nothing"),
            }
        } else if place.parse::<Ipv6Addr>().is_ok() {
            (place, None)
        } else {
            match place.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            }
        };
        let port = match port.map(str::parse::<u16>) {
            None => 22,
            Some(Ok(port)) if port > 0 => port,
            _ => bail!("'{text}' is no host: its port is no number from 1 to 65535"),
        };
        let plain = |word: &str| !word.is_empty() && !word.starts_with('-') && !word.contains(char::is_whitespace);
        ensure!(
            plain(&user) && plain(host) && !host.contains(['/', '[', ']', ',']),
            "'{text}' is no host: it is [USER@]HOST[:PORT]"
        );
        Ok(Target {
            user,
            host: host.to_ascii_lowercase(),
            port,
        })
    }

    /// The address, if it is one rather than a name.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// As command lines of OpenSSH want it: `-p 2222 root@10.0.0.1`.
    pub fn for_ssh(&self) -> String {
        match self.port {
            22 => format!("{}@{}", self.user, self.host),
            port => format!("-p {port} {}@{}", self.user, self.host),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "{}@[{}]:{}", self.user, self.host, self.port),
            false => write!(f, "{}@{}:{}", self.user, self.host, self.port),
        }
    }
}

fn caller() -> Result<String> {
    match User::from_uid(Uid::current())? {
        Some(user) => Ok(user.name),
        None => bail!("this machine has no user {}: name one, as USER@HOST", Uid::current()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn read(text: &str, want: &str) {
        assert_eq!(Target::parse(text).unwrap().to_string(), want);
    }

    #[test]
    fn hosts_are_read_with_and_without_user_and_port() {
        let me = caller().unwrap();
        read("10.0.0.1", &format!("{me}@10.0.0.1:22"));
        read("root@Node-1.example:2222", "root@node-1.example:2222");
        read("root@::1", "root@[::1]:22");
        read("root@[fd00::7]:2200", "root@[fd00::7]:2200");
        read("root@[fd00::7]", "root@[fd00::7]:22");
        read("a@corp@host", "a@corp@host:22");
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for bad in [
            "",
            "@",
            "root@",
            "@host",
            "h:",
            "h:0",
            "h:70000",
            "h:ssh",
            "[::1",
            "[h]:22",
            "[::1]22",
            "-oProxy=x",
            "a b",
            "h/22",
            "a,b",
        ] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
    }
}
