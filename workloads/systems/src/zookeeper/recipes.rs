//! Leader election by clients of a ZooKeeper ensemble: `zk-sequential` and `zk-ephemeral`.
//!
//! The leader is a *client* whose node is there as long as its session. Candidates therefore live on hosts of their own, where
//! they can be paused, killed and cut off like the servers. See [`super::candidate`] for when a leader stops believing.
//!
//! **What is promised.** Numbers are unique and rise, since all writes are in one order. Exclusion depends on what a leader
//! does when it is disconnected:
//!
//! - `stay`: never. The servers give the lead away when a session's timeout is over; a client that is cut off cannot hear it.
//! - `step-down`: as long as nothing but partitions and kills happens. With a timeout T the servers end a session no sooner
//!   than T after they last heard of it, and its client, which hears an answer to each of its pings, leads no more 9/20 T after
//!   the last one at the latest. A server that is cut off from the rest goes on answering its clients, but for no longer than
//!   `syncLimit` ticks; then it drops them, and they are disconnected at once. So it is promised only where T is at least
//!   twice that, and where nothing stops the client's timers (pause), bends them (clock), or holds an answer back until it is
//!   older than it seems (packet): "if you are disconnected, you may not be the leader any more" is told to one who can
//!   listen. What no argument from clocks covers is what fencing tokens are for.
//!
//! **Disks** are broken at the servers, which sync before they answer; candidates keep nothing.
use crate::client;
use crate::contender::Common;
use crate::options;
use crate::raft::{ours, promise, recovery, storage_address, storage_process, storage_promises};
use crate::zookeeper::candidate::{OnDisconnect, Recipe, Settings};
use crate::zookeeper::{SERVERS, recovery_bound, server};
use splitbrain_core::plan::FaultKind;
use splitbrain_core::{Guarantee, Holds, HostSpec, Layer, Nanos, Need, Plan, ProcessSpec, Promise, Site, System};

/// The agent that takes part.
pub const CANDIDATE: &str = "zookeeper-candidate";
/// Short, so that a run of a minute sees many elections.
const SESSION_TIMEOUT: Nanos = Nanos::secs(3);
const SESSION_OPTION: &str = "session-timeout";
const DISCONNECT_OPTION: &str = "on-disconnect";
const OPTIONS: &[(&str, &str)] = &[
    (
        SESSION_OPTION,
        "timeout of a candidate's session, from 2 to 20 ticks (3s); what is longer or shorter the servers change",
    ),
    (
        DISCONNECT_OPTION,
        "what a leader does when its connection is lost: step-down, or stay until its session is over (step-down)",
    ),
    client::WORK_OPTION,
    server::TICK_OPTION,
    server::JAVA_OPTION,
    server::CLASSPATH_OPTION,
];

/// The systems `zk-sequential` and `zk-ephemeral`.
#[derive(Clone, Copy, Debug)]
pub struct ZookeeperRecipe(pub Recipe);

impl System for ZookeeperRecipe {
    fn name(&self) -> &'static str {
        match self.0 {
            Recipe::Sequential => "zk-sequential",
            Recipe::Ephemeral => "zk-ephemeral",
        }
    }

    fn describe(&self) -> &'static str {
        match self.0 {
            Recipe::Sequential => {
                "clients of a ZooKeeper ensemble queue up with sequential nodes, each watching the one before it"
            }
            Recipe::Ephemeral => "clients of a ZooKeeper ensemble race to create one ephemeral node",
        }
    }

    fn layer(&self) -> Layer {
        Layer::Client
    }

    fn token(&self) -> &'static str {
        match self.0 {
            Recipe::Sequential => "the sequence number of the leader's node, plus one",
            Recipe::Ephemeral => "the czxid of the leader's node",
        }
    }

    fn beliefs(&self) -> &'static str {
        "each candidate's own answer: the recipe and its session's state are what it goes by itself"
    }

    fn needs(&self) -> &'static [Need] {
        server::NEEDS
    }

    fn hosts(&self, plan: &Plan) -> Vec<HostSpec> {
        client::hosts(plan, SERVERS)
    }

    fn operations(&self) -> &'static [&'static str] {
        client::OPERATIONS
    }

    fn promises(&self, plan: &Plan) -> Vec<Promise> {
        promises(self.0, plan)
    }

    fn options(&self) -> &'static [(&'static str, &'static str)] {
        OPTIONS
    }

    fn check(&self, plan: &Plan) -> Result<(), String> {
        options::refuse_unknown(plan, OPTIONS)?;
        client::check(plan)?;
        on_disconnect(plan)?;
        server::check(plan)?;
        session_timeout(plan).map(drop)
    }

    /// Panics if [`System::check`] refuses the plan.
    fn deploy(&self, plan: &Plan, _seed: u64, site: &Site) -> Vec<ProcessSpec> {
        let checked = "a plan is checked before it is deployed";
        let servers = client::servers(plan, SERVERS);
        let candidate = |_, common: Common| {
            let host = common.host;
            let settings = Settings {
                common,
                servers: servers.iter().map(|&s| server::client_address(site, s)).collect(),
                storage: storage_address(site),
                session_timeout: session_timeout(plan).expect(checked),
                recipe: self.0,
                on_disconnect: on_disconnect(plan).expect(checked),
            };
            ours(site, host, "candidate", ["agent", CANDIDATE], &settings)
        };
        let mut processes = vec![storage_process(plan, site)];
        processes.extend(servers.iter().map(|&name| server::process(plan, site, &servers, name)));
        processes.extend(client::candidates(plan, candidate));
        processes
    }
}

/// What the servers would not change (`minSessionTimeout` and `maxSessionTimeout`, as they are without configuration).
fn session_timeout(plan: &Plan) -> Result<Nanos, String> {
    let timeout = options::time(plan, SESSION_OPTION, SESSION_TIMEOUT)?;
    let tick = server::tick(plan)?;
    let (least, most) = (Nanos(tick.0 * 2), Nanos(tick.0 * 20));
    if timeout < least || timeout > most {
        return Err(format!(
            "option {SESSION_OPTION} = {timeout} must be from 2 to 20 ticks, {least} to {most}: set {} too",
            server::TICK_OPTION.0
        ));
    }
    Ok(timeout)
}

fn on_disconnect(plan: &Plan) -> Result<OnDisconnect, String> {
    match plan.options.get(DISCONNECT_OPTION).map(String::as_str) {
        None | Some("step-down") => Ok(OnDisconnect::StepDown),
        Some("stay") => Ok(OnDisconnect::Stay),
        Some(text) => Err(format!(
            "option {DISCONNECT_OPTION} = '{text}' is neither step-down nor stay"
        )),
    }
}

fn exclusion(plan: &Plan) -> Promise {
    use Guarantee::Exclusion;
    let timeout = session_timeout(plan).unwrap_or(SESSION_TIMEOUT);
    let limit = server::tick(plan).map_or(Nanos::ZERO, |tick| Nanos(tick.0 * server::SYNC_LIMIT));
    match on_disconnect(plan) {
        Ok(OnDisconnect::StepDown) if timeout.0 >= 2 * limit.0 => promise(
            Exclusion,
            Holds::Unless(vec![FaultKind::Pause, FaultKind::Packet, FaultKind::Clock]),
            "a leader steps down 9/20 of its session's timeout after the last answer, and the servers end the session no \
             sooner than all of it after the last request (Programmer's Guide, Sessions; Curator, Error Handling)",
        ),
        Ok(OnDisconnect::StepDown) => promise(
            Exclusion,
            Holds::Never,
            "a server that is cut off answers its clients for syncLimit ticks, and the session's timeout is less than twice \
             that",
        ),
        _ => promise(
            Exclusion,
            Holds::Never,
            "the servers end a session by their own clock, and a client that is cut off hears of it when it is connected again \
             (Programmer's Guide, Sessions)",
        ),
    }
}

fn promises(recipe: Recipe, plan: &Plan) -> Vec<Promise> {
    use Guarantee::*;
    use Holds::{Always, Never};
    let (unique, rising) = match recipe {
        Recipe::Sequential => (
            "the epoch is the sequence number of the leader's node, a count of the parent's that no two nodes share \
             (Programmer's Guide, Sequence Nodes)",
            "the parent's count only rises (Programmer's Guide, Sequence Nodes)",
        ),
        Recipe::Ephemeral => (
            "the epoch is the czxid of the leader's node, and each change has a unique zxid (Programmer's Guide, Time in \
             ZooKeeper)",
            "if zxid1 is smaller than zxid2 then zxid1 happened before zxid2 (Programmer's Guide, Time in ZooKeeper)",
        ),
    };
    let mut promises = vec![
        promise(LeaderPerEpoch, Always, unique),
        promise(EpochsPerObserver, Always, rising),
        promise(
            EpochsInRealTime,
            Never,
            "a candidate may learn late that it was elected, when its session is over and another leads",
        ),
        promise(
            TokenPerReign,
            Always,
            "each reign has a node of its own: who stepped down or resigned deletes his and makes another",
        ),
        promise(TokensInRealTime, Never, "as the epochs: a reign may begin late"),
        exclusion(plan),
        promise(
            FinalAgreement,
            Always,
            "of all nodes of the election one is the first, and its owner leads",
        ),
        recovery(
            recovery_bound(plan) + session_timeout(plan).unwrap_or(SESSION_TIMEOUT),
            "once the servers have a leader, the session of a candidate that is gone ends after its timeout, counted anew; then \
             the next one leads",
        ),
    ];
    promises.extend(storage_promises(plan, true));
    promises
}
