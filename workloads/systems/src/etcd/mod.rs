//! etcd's own Raft, observed at every member.
//!
//! Each host runs two processes: `etcd` as it is installed, and our `observer`, which answers for it. The observer is
//! the member's mouth and no more: it takes part in nothing.
//!
//! **How an observer knows.** A claim "this member leads term 5" counts only from a source that binds both. That is the
//! member's log ([`log`]), which the observer hears through a pipe as it is written ([`crate::log_pipe`]); see [`observer`]
//! for why a claim is sound.
pub mod log;
pub mod observer;
mod register;
pub(crate) mod server;

use crate::options::{self, count};
use crate::raft::{ours, promise, recovery};
use observer::Settings;
use splitbrain_core::{
    Guarantee, Holds, HostRole, HostSpec, Layer, Name, Nanos, Need, Plan, ProcessSpec, Promise, Site, System,
};

/// The agent beside each member.
pub const OBSERVER: &str = "etcd-observer";
/// Members unless the plan says otherwise: one may fail.
const MEMBERS: usize = 3;
const OPTIONS: &[(&str, &str)] = &[server::BINARY_OPTION];

/// The system `etcd`.
#[derive(Clone, Copy, Debug, Default)]
pub struct EtcdSystem;

impl System for EtcdSystem {
    fn name(&self) -> &'static str {
        "etcd"
    }

    fn describe(&self) -> &'static str {
        "an etcd cluster's own Raft, observed at every member: who leads, in which term"
    }

    fn layer(&self) -> Layer {
        Layer::Server
    }

    fn token(&self) -> &'static str {
        "none: nobody writes with the term"
    }

    fn beliefs(&self) -> &'static str {
        "each member's own log line 'became ROLE at term N', confirmed by its status"
    }

    fn needs(&self) -> &'static [Need] {
        server::NEEDS
    }

    fn hosts(&self, plan: &Plan) -> Vec<HostSpec> {
        options::hosts("n", count(plan.nodes, MEMBERS), HostRole::Server, true)
    }

    fn operations(&self) -> &'static [&'static str] {
        &["observe", "get", "set", "cas"]
    }

    fn promises(&self, _plan: &Plan) -> Vec<Promise> {
        promises()
    }

    fn options(&self) -> &'static [(&'static str, &'static str)] {
        OPTIONS
    }

    fn check(&self, plan: &Plan) -> Result<(), String> {
        options::refuse_unknown(plan, OPTIONS)?;
        server::check(plan)
    }

    fn deploy(&self, plan: &Plan, _seed: u64, site: &Site) -> Vec<ProcessSpec> {
        let members: Vec<Name> = self.hosts(plan).iter().map(|h| h.name).collect();
        let observe = |name: Name| {
            let settings = Settings {
                host: name,
                log: server::log_path(site, name),
                member: server::client_url(site, name),
                peers: members
                    .iter()
                    .map(|&peer| (peer, server::peer_url(site, peer)))
                    .collect(),
            };
            ours(site, name, "observer", ["agent", OBSERVER], &settings)
        };
        let both = |&name: &Name| [server::process_with_log_pipe(plan, site, &members, name), observe(name)];
        members.iter().flat_map(both).collect()
    }
}

fn promises() -> Vec<Promise> {
    use Guarantee::*;
    use Holds::{Always, Never};
    vec![
        promise(
            LeaderPerEpoch,
            Always,
            "etcd elects by Raft: at most one leader in a given term (Raft paper, 5.2)",
        ),
        promise(
            EpochsPerObserver,
            Always,
            "a server's current term only increases while it lives (Raft paper, figure 2)",
        ),
        promise(
            EpochsInRealTime,
            Never,
            "votes may reach a candidate of term 5 after term 6 was won elsewhere: it learns late that it won",
        ),
        promise(
            Exclusion,
            Never,
            "a leader that was cut off or paused believes until it hears of a higher term, or until check-quorum",
        ),
        promise(
            Linearizable,
            Always,
            "all operations but watches are linearizable, reads by default (etcd documentation, KV API guarantees)",
        ),
        promise(
            FinalAgreement,
            Always,
            "followers adopt the leader and term of its heartbeats (Raft paper, 5.1)",
        ),
        recovery(
            Nanos::secs(15),
            "a follower that misses heartbeats for 1 to 2 s (default election timeout 1000 ms) campaigns; restarted \
             members replay their log first (etcd documentation, Tuning)",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::test_site;
    use splitbrain_core::system::Stdio;

    fn plan() -> Plan {
        let mut plan = Plan::new("etcd", "local");
        plan.options.insert("etcd-bin".into(), "/opt/etcd".into());
        plan
    }

    #[test]
    fn each_host_runs_a_member_and_its_observer() {
        let plan = Plan { nodes: 2, ..plan() };
        let processes = EtcdSystem.deploy(&plan, 7, &test_site(&EtcdSystem.hosts(&plan)));
        let shape: Vec<_> = processes.iter().map(|p| format!("{} {}", p.host, p.name)).collect();
        assert_eq!(shape, ["n1 etcd", "n1 observer", "n2 etcd", "n2 observer"]);
        let [etcd, observer] = &processes[..2] else {
            panic!("{processes:?}")
        };
        assert_eq!((etcd.stdio, observer.stdio), (Stdio::Log, Stdio::Protocol));
        let script = r#"[ -p "$0" ] || mkfifo "$0"; exec "$@""#;
        assert_eq!(etcd.argv[..3], ["/bin/sh", "-c", script]);
        assert_eq!(
            etcd.argv[3..].join(" "),
            "/data/n1/etcd-log /opt/etcd --name n1 --data-dir /data/n1/etcd \
             --listen-client-urls http://10.0.0.1:2379 --advertise-client-urls http://10.0.0.1:2379 \
             --listen-peer-urls http://10.0.0.1:2380 --initial-advertise-peer-urls http://10.0.0.1:2380 \
             --initial-cluster n1=http://10.0.0.1:2380,n2=http://10.0.0.2:2380 \
             --initial-cluster-token splitbrain --initial-cluster-state new \
             --heartbeat-interval 100 --election-timeout 1000 --logger zap --log-outputs /data/n1/etcd-log"
        );
        assert_eq!(observer.argv[..3], ["/opt/splitbrain", "agent", "etcd-observer"]);
        assert_eq!(
            observer.argv[3],
            r#"{"host":"n1","log":"/data/n1/etcd-log","member":"http://10.0.0.1:2379","peers":{"n1":"http://10.0.0.1:2380","n2":"http://10.0.0.2:2380"}}"#
        );
    }

    fn check(change: impl FnOnce(&mut Plan), expect: &str) {
        let mut plan = plan();
        change(&mut plan);
        let error = EtcdSystem.check(&plan).unwrap_err();
        assert!(error.contains(expect), "{error}");
    }

    #[test]
    fn a_bad_plan_is_refused_with_the_way_out() {
        check(|_| (), "apt-get install etcd-server");
        check(|plan| plan.environment = "sim".into(), "local");
        check(|plan| plan.mutant = Some("forget-vote".into()), "no mutant");
        check(|plan| drop(plan.options.insert("ttl".into(), "5s".into())), "etcd-bin");
    }
}
