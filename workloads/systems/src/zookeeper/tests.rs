//! Deployments, plans and promises of the three systems.
use super::candidate::{OnDisconnect, Recipe};
use super::recipes::ZookeeperRecipe;
use super::*;
use crate::options::test_site;
use splitbrain_core::plan::FaultKind;
use splitbrain_core::system::Stdio;

const SEQUENTIAL: ZookeeperRecipe = ZookeeperRecipe(Recipe::Sequential);
const EPHEMERAL: ZookeeperRecipe = ZookeeperRecipe(Recipe::Ephemeral);

fn plan(options: &[(&str, &str)]) -> Plan {
    let mut plan = Plan::new("zookeeper", "local");
    // What is there on every machine: nothing of it is run here.
    for (name, value) in [("java-bin", "/bin/sh"), ("zookeeper-classpath", "/bin:/etc")] {
        plan.options.insert(name.into(), value.into());
    }
    for (name, value) in options {
        plan.options.insert(name.to_string(), value.to_string());
    }
    plan
}

#[test]
fn each_host_runs_a_server_and_its_observer() {
    let plan = Plan { nodes: 2, ..plan(&[]) };
    let processes = ZookeeperSystem.deploy(&plan, 7, &test_site(&ZookeeperSystem.hosts(&plan)));
    let shape: Vec<_> = processes.iter().map(|p| format!("{} {}", p.host, p.name)).collect();
    assert_eq!(shape, ["n1 zookeeper", "n1 observer", "n2 zookeeper", "n2 observer"]);
    assert_eq!((processes[2].stdio, processes[3].stdio), (Stdio::Log, Stdio::Protocol));
    let argv = &processes[2].argv;
    assert_eq!(
        (argv[0].as_str(), argv[3].as_str()),
        ("/bin/sh", "/data/n2/zookeeper-log")
    );
    let [shell, _, _, dir, config, id] = &argv[4..10] else {
        panic!("{argv:?}")
    };
    assert_eq!([shell, dir, id], ["/bin/sh", "/data/n2/zookeeper", "2"]);
    assert_eq!(
        config,
        "tickTime=200\ninitLimit=10\nsyncLimit=5\ndataDir=/data/n2/zookeeper\nclientPort=2181\n\
         clientPortAddress=10.0.0.2\nmaxClientCnxns=0\nadmin.enableServer=false\n\
         server.1=10.0.0.1:2888:3888\nserver.2=10.0.0.2:2888:3888\n"
    );
    assert_eq!(
        argv[10..].join(" "),
        "/bin/sh -Xmx64m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData -Dzookeeper.cnxTimeout=500 \
         -Dzookeeper.fastleader.maxNotificationInterval=6000 -Dorg.slf4j.simpleLogger.logFile=/data/n2/zookeeper-log \
         -Dorg.slf4j.simpleLogger.showThreadName=false -cp /bin:/etc \
         org.apache.zookeeper.server.quorum.QuorumPeerMain /data/n2/zookeeper/zoo.cfg"
    );
    assert_eq!(
        processes[3].argv[..3],
        ["/opt/splitbrain", "agent", "zookeeper-observer"]
    );
    assert_eq!(
        processes[3].argv[3],
        r#"{"host":"n2","log":"/data/n2/zookeeper-log","server":"10.0.0.2:2181","peers":{"n1":"10.0.0.1","n2":"10.0.0.2"}}"#
    );
}

#[test]
fn a_candidate_is_told_where_everything_is() {
    let plan = Plan {
        nodes: 2,
        candidates: 1,
        ..plan(&[("on-disconnect", "stay"), ("session-timeout", "2s")])
    };
    let processes = EPHEMERAL.deploy(&plan, 7, &test_site(&EPHEMERAL.hosts(&plan)));
    let shape: Vec<_> = processes.iter().map(|p| format!("{} {}", p.host, p.name)).collect();
    assert_eq!(
        shape,
        ["storage storage", "s1 zookeeper", "s2 zookeeper", "c1 candidate"]
    );
    let server = processes[1].argv.join(" ");
    assert!(server.contains("simpleLogger.logFile=System.err "), "{server}");
    assert_eq!(
        processes[3].argv[3],
        r#"{"common":{"host":"c1","work":20000000,"on_demand":false},"servers":["10.0.0.1:2181","10.0.0.2:2181"],"storage":"10.0.0.4:7100","session_timeout":2000000000,"recipe":"ephemeral","on_disconnect":"stay"}"#
    );
    let settings: candidate::Settings = serde_json::from_str(&processes[3].argv[3]).unwrap();
    assert_eq!(settings.on_disconnect, OnDisconnect::Stay);
}

fn refuses(system: &dyn System, plan: &Plan, expect: &str) {
    let error = system.check(plan).unwrap_err();
    assert!(error.contains(expect), "{error}");
}

#[test]
fn a_bad_plan_is_refused_with_the_way_out() {
    for system in [&ZookeeperSystem as &dyn System, &SEQUENTIAL, &EPHEMERAL] {
        assert_eq!(system.check(&plan(&[])), Ok(()));
        refuses(system, &plan(&[("tick-time", "100us")]), "whole milliseconds");
        refuses(system, &plan(&[("ttl", "5s")]), "tick-time");
        refuses(system, &plan(&[("java-bin", "/nonexistent")]), "default-jre-headless");
        let jar = plan(&[("zookeeper-classpath", "/nonexistent/zookeeper.jar")]);
        refuses(system, &jar, "apt-get install zookeeper");
    }
    refuses(&ZookeeperSystem, &Plan { nodes: 1, ..plan(&[]) }, "2 or more");
    refuses(&SEQUENTIAL, &plan(&[("on-disconnect", "panic")]), "step-down nor stay");
    refuses(&SEQUENTIAL, &plan(&[("session-timeout", "5s")]), "400.000ms to 4.000s");
    refuses(&EPHEMERAL, &plan(&[("session-timeout", "soon")]), "session-timeout");
    assert_eq!(
        EPHEMERAL.check(&plan(&[("session-timeout", "5s"), ("tick-time", "500ms")])),
        Ok(())
    );
}

fn exclusion(options: &[(&str, &str)]) -> Holds {
    let promises = SEQUENTIAL.promises(&plan(options));
    let exclusion = promises.iter().find(|p| p.guarantee == Guarantee::Exclusion);
    exclusion.unwrap().holds.clone()
}

#[test]
fn exclusion_is_promised_only_to_who_steps_down_in_time() {
    let timed = Holds::Unless(vec![FaultKind::Pause, FaultKind::Packet, FaultKind::Clock]);
    assert_eq!(exclusion(&[]), timed);
    assert_eq!(exclusion(&[("session-timeout", "2s")]), timed);
    assert_eq!(exclusion(&[("session-timeout", "1900ms")]), Holds::Never);
    assert_eq!(exclusion(&[("tick-time", "500ms")]), Holds::Never);
    assert_eq!(exclusion(&[("on-disconnect", "stay")]), Holds::Never);
}

#[test]
fn recovery_counts_in_ticks_and_waits_for_the_session() {
    let within = |system: &dyn System, options: &[(&str, &str)]| {
        let promises = system.promises(&plan(options));
        let recovery = promises.into_iter().find(|p| p.guarantee == Guarantee::Recovery);
        recovery.unwrap().within.unwrap()
    };
    assert_eq!(within(&ZookeeperSystem, &[]), Nanos::secs(26));
    assert_eq!(within(&EPHEMERAL, &[("session-timeout", "4s")]), Nanos::secs(30));
    assert_eq!(within(&ZookeeperSystem, &[("tick-time", "2s")]), Nanos::secs(170));
}
