//! Which of a host's addresses is the cluster's, and which stand for it in its peers' rules.
use crate::agent::proto::Address;
use splitbrain_core::Name;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;

/// `10.0.0.0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network {
    base: IpAddr,
    prefix: u8,
}

impl Network {
    fn holds(&self, ip: IpAddr) -> bool {
        let bits = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => (u128::from(ip.to_bits()) << 96, 32),
            IpAddr::V6(ip) => (ip.to_bits(), 128),
        };
        let ((base, longest), (ip, of)) = (bits(self.base), bits(ip));
        let shift = 128 - u32::from(self.prefix);
        longest == of && (shift == 128 || base >> shift == ip >> shift)
    }
}

impl FromStr for Network {
    type Err = String;
    fn from_str(s: &str) -> Result<Network, String> {
        let bad = || format!("'{s}' is no network such as 10.0.0.0/24");
        let (base, prefix) = s.split_once('/').ok_or_else(bad)?;
        let base: IpAddr = base.parse().map_err(|_| bad())?;
        let prefix = prefix.parse().map_err(|_| bad())?;
        let longest = if base.is_ipv4() { 32 } else { 128 };
        if prefix > longest {
            return Err(bad());
        }
        Ok(Network { base, prefix })
    }
}

/// A host's address in the cluster's network: the one that its backend knows; else the only one in `network`; else the only
/// one that leads anywhere, of the older kind if it has both.
pub(super) fn choose(known: Option<IpAddr>, addresses: &[Address], network: Option<Network>) -> Result<IpAddr, String> {
    if let Some(ip) = known {
        return Ok(ip);
    }
    let all: Vec<IpAddr> = addresses.iter().map(|address| address.ip).filter(leads).collect();
    let listed = || {
        let listed: Vec<String> = addresses
            .iter()
            .map(|Address { interface, ip, prefix }| format!("{ip}/{prefix} ({interface})"))
            .collect();
        if listed.is_empty() {
            "none".to_string()
        } else {
            listed.join(", ")
        }
    };
    let fitting: Vec<IpAddr> = match network {
        Some(network) => all.into_iter().filter(|ip| network.holds(*ip)).collect(),
        None if all.iter().filter(|ip| ip.is_ipv4()).count() == 1 => all.into_iter().filter(IpAddr::is_ipv4).collect(),
        None => all,
    };
    match (fitting.as_slice(), network) {
        ([ip], _) => Ok(*ip),
        ([], Some(_)) => Err(format!("has no address in that network: it has {}", listed())),
        ([], None) => Err(format!("has no address that others could reach: it has {}", listed())),
        (_, Some(_)) => Err(format!(
            "has several addresses in that network: name a smaller one with --network; it has {}",
            listed()
        )),
        (_, None) => Err(format!(
            "has several addresses: name the cluster's network with --network; it has {}",
            listed()
        )),
    }
}

/// Whether an address means the same host to everybody.
fn leads(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local() && !ip.is_unspecified(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local() && !ip.is_unspecified(),
    }
}

/// What stands for each host in the rules of the others: its address in the cluster and all others of it that are nobody
/// else's. (Many machines have one that each of them has: that of a bridge, of a hypervisor's user network.)
pub(super) fn peers(hosts: &BTreeMap<Name, (IpAddr, Vec<Address>)>) -> BTreeMap<Name, Vec<IpAddr>> {
    let mut owners: BTreeMap<IpAddr, Vec<Name>> = BTreeMap::new();
    for (name, (ip, addresses)) in hosts {
        for ip in addresses.iter().map(|address| &address.ip).chain([ip]) {
            let owners = owners.entry(*ip).or_default();
            if !owners.contains(name) {
                owners.push(*name);
            }
        }
    }
    let own = |(name, (ip, addresses)): (&Name, &(IpAddr, Vec<Address>))| {
        let mut own = vec![*ip];
        for Address { ip, .. } in addresses {
            if leads(ip) && owners[ip].len() == 1 && !own.contains(ip) {
                own.push(*ip);
            }
        }
        (*name, own)
    };
    hosts.iter().map(own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        let (ip, prefix) = text.split_once('/').unwrap();
        Address {
            interface: "eth0".into(),
            ip: ip.parse().unwrap(),
            prefix: prefix.parse().unwrap(),
        }
    }

    fn check(addresses: &[&str], network: Option<&str>, want: &str) {
        let addresses: Vec<Address> = addresses.iter().copied().map(address).collect();
        let got = choose(None, &addresses, network.map(|text| text.parse().unwrap()));
        let got = got.map_or_else(|why| why, |ip| ip.to_string());
        assert!(got.starts_with(want), "{got}");
    }

    #[test]
    fn the_only_address_is_the_clusters() {
        check(&["10.0.0.1/24", "fe80::1/64"], None, "10.0.0.1");
        check(&["10.0.0.1/24", "fd00::1/64"], None, "10.0.0.1");
        check(&["fd00::1/64"], None, "fd00::1");
        check(&["10.0.0.1/24", "10.0.2.15/24"], Some("10.0.0.0/24"), "10.0.0.1");
        check(&["10.0.0.1/24", "fd00::1/64"], Some("fd00::/16"), "fd00::1");
        check(&["10.0.0.1/24"], Some("0.0.0.0/0"), "10.0.0.1");
        let both =
            "has several addresses: name the cluster's network with --network; it has 10.0.0.1/24 (eth0), 10.0.2.15/24";
        check(&["10.0.0.1/24", "10.0.2.15/24"], None, both);
        check(
            &["10.0.0.1/24"],
            Some("10.1.0.0/16"),
            "has no address in that network: it has 10.0.0.1/24",
        );
        check(
            &["10.0.0.1/8", "10.0.0.2/8"],
            Some("10.0.0.0/8"),
            "has several addresses in that network",
        );
        check(
            &["169.254.0.1/16"],
            None,
            "has no address that others could reach: it has 169.254.0.1/16",
        );
        for bad in ["10.0.0.0", "10.0.0.0/33", "ten/8", "::/129", "/"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_several_hosts_have_stands_for_none() {
        let [n1, n2]: [Name; 2] = ["n1", "n2"].map(|name| name.parse().unwrap());
        let host = |ip: &str, all: &[&str]| (ip.parse().unwrap(), all.iter().copied().map(address).collect());
        let hosts = BTreeMap::from([
            (
                n1,
                host("10.0.0.1", &["10.0.0.1/24", "10.0.2.15/24", "fd00::1/64", "fe80::1/64"]),
            ),
            (n2, host("10.0.0.2", &["10.0.2.15/24", "10.0.0.2/24"])),
        ]);
        let peers = peers(&hosts);
        let words = |name| peers[&name].iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" ");
        assert_eq!(
            (words(n1).as_str(), words(n2).as_str()),
            ("10.0.0.1 fd00::1", "10.0.0.2")
        );
    }
}
