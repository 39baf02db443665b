//! Whether this machine can run local clusters.
//!
//! Asked by doing: a sandbox with two hosts is made, and a packet is sent from one to the other. Each step that fails
//! names its remedy.
use super::channel::{Order, Setup};
use super::control::Sandbox;
use splitbrain_core::{Link, Name};
use std::fs::File;

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was tried, in a few words.
    pub name: String,
    /// Whether it worked.
    pub ok: bool,
    /// What was seen.
    pub detail: String,
    /// What to do; empty if it worked.
    pub remedy: String,
}

/// Tries what a local cluster needs. `program` is our own, with the arguments that lead to [`super::sandbox::main`].
/// After a check that failed, those that depend on it are left out.
pub fn doctor(program: &[String]) -> Vec<Check> {
    let mut checks = Vec::new();
    let sandbox = File::options()
        .write(true)
        .open("/dev/null")
        .map_err(anyhow::Error::from);
    let sandbox = match sandbox.and_then(|log| Sandbox::start(program, log)) {
        Ok(sandbox) => sandbox,
        Err(error) => {
            checks.push(failed(
                "user namespaces",
                &format!("{error:#}"),
                "user, network, mount and pid namespaces must be allowed here",
            ));
            return checks;
        }
    };
    checks.push(worked(
        "user namespaces",
        "a user, network, mount and pid namespace was made",
    ));
    let [a, b]: [Name; 2] = ["a", "b"].map(|name| name.parse().expect("a letter is a name"));
    let setup = Setup {
        hosts: vec![a, b],
        seed: 0,
        pcap: false,
        sabotage: None,
    };
    let network = "veth pairs and packet sockets";
    match sandbox.call(&Order::Setup(setup), &[]) {
        Ok(_) => checks.push(worked(network, "two hosts were joined by the switch")),
        Err(why) => {
            let remedy = "a kernel with CONFIG_VETH and CONFIG_PACKET (`modprobe veth af_packet` as root)";
            checks.push(failed(network, &why, remedy));
            return checks;
        }
    }
    let links = vec![Link { src: a, dst: b }, Link { src: b, dst: a }];
    let faults = "faults are carried out and proven";
    let tried = sandbox
        .call(&Order::Block(links.clone()), &[])
        .and_then(|_| sandbox.call(&Order::Unblock(links), &[]));
    checks.push(match tried {
        Ok(_) => worked(faults, "a link was blocked and opened again"),
        Err(why) => failed(faults, &why, "see the message"),
    });
    checks
}

fn worked(name: &str, detail: &str) -> Check {
    Check {
        name: name.into(),
        ok: true,
        detail: detail.into(),
        remedy: String::new(),
    }
}

fn failed(name: &str, detail: &str, remedy: &str) -> Check {
    Check {
        name: name.into(),
        ok: false,
        detail: detail.into(),
        remedy: remedy.into(),
    }
}
