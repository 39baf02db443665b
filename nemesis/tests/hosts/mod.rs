//! Hosts to strike.
use splitbrain_core::{HostRole, HostSpec, Name};

pub fn name(s: &str) -> Name {
    s.parse().unwrap()
}

pub fn host(s: &str, role: HostRole) -> HostSpec {
    HostSpec {
        name: name(s),
        role,
        asked: matches!(role, HostRole::Member | HostRole::Candidate),
    }
}

pub fn members(n: usize) -> Vec<HostSpec> {
    let mut hosts: Vec<HostSpec> = (1..=n).map(|n| host(&format!("n{n}"), HostRole::Member)).collect();
    hosts.push(host("storage", HostRole::Storage));
    hosts
}

pub fn clients(servers: usize, candidates: usize) -> Vec<HostSpec> {
    let mut hosts: Vec<HostSpec> = (1..=servers)
        .map(|n| host(&format!("s{n}"), HostRole::Server))
        .collect();
    hosts.extend((1..=candidates).map(|n| host(&format!("c{n}"), HostRole::Candidate)));
    hosts.push(host("storage", HostRole::Storage));
    hosts
}
