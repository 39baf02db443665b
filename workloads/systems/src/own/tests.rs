//! What a plan's `[deploy]` becomes.
use super::*;
use crate::options::test_site;
use splitbrain_core::plan::Workload;

fn plan(deploy: &str) -> Plan {
    let mut plan = Plan::new(NAME, "local");
    plan.deploy = serde_json::from_str(deploy).unwrap();
    plan
}

fn deploy(plan: &Plan) -> Vec<ProcessSpec> {
    OwnSystem.deploy(plan, 7, &test_site(&OwnSystem.hosts(plan)))
}

fn shape(processes: &[ProcessSpec]) -> String {
    let of = |p: &ProcessSpec| format!("{} {}", p.host, p.name);
    processes.iter().map(of).collect::<Vec<_>>().join(", ")
}

#[test]
fn without_servers_a_program_is_simply_started() {
    let plan = plan(r#"{"candidate":{"command":"./mine --loud","env":{"COLOUR":"red"}}}"#);
    let processes = deploy(&plan);
    assert_eq!(
        shape(&processes),
        "storage storage, c1 candidate, c2 candidate, c3 candidate"
    );
    let mine = &processes[2];
    assert_eq!(mine.argv, ["/bin/sh", "-c", "exec ./mine --loud"]);
    assert_eq!(mine.stdio, Stdio::Protocol);
    let env: Vec<_> = mine.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(
        env,
        [
            "SPLITBRAIN_HOST=c2",
            "SPLITBRAIN_IP=10.0.0.2",
            "SPLITBRAIN_DIR=/data/c2",
            "SPLITBRAIN_STORAGE=10.0.0.4:7100",
            "SPLITBRAIN_SERVERS=",
            "SPLITBRAIN_CANDIDATES=c1=10.0.0.1,c2=10.0.0.2,c3=10.0.0.3",
            "SPLITBRAIN_WORKLOAD=leadership",
            "COLOUR=red"
        ]
    );
}

#[test]
fn candidates_wait_for_servers_of_the_users_own_and_know_them() {
    let mut plan = plan(
        r#"{"candidate":{"command":"./c","lists":{"ALL":"http://{ip}:99/{name}"},"logs":["log/c.log"]},
            "server":{"command":"./s","ports":[99,98]}}"#,
    );
    plan.nodes = 2;
    plan.candidates = 1;
    plan.workload = Workload::Lock;
    let processes = deploy(&plan);
    assert_eq!(
        shape(&processes),
        "storage storage, s1 server, s2 server, c1 candidate, c1 log-c-log"
    );
    assert_eq!(processes[1].argv, ["/bin/sh", "-c", "exec ./s"]);
    assert_eq!(processes[1].stdio, Stdio::Log);
    let candidate = &processes[3];
    assert_eq!(
        candidate.argv,
        [
            "/bin/sh",
            "-c",
            r#""$0" agent await "$1" </dev/null || exit; exec ./c"#,
            "/opt/splitbrain",
            r#"{"ports":["10.0.0.1:99","10.0.0.1:98","10.0.0.2:99","10.0.0.2:98"]}"#
        ]
    );
    let has = |key: &str, value: &str| candidate.env.contains(&(key.to_string(), value.to_string()));
    assert!(has("ALL", "http://10.0.0.1:99/s1,http://10.0.0.2:99/s2"));
    assert!(has("SPLITBRAIN_SERVERS", "s1=10.0.0.1,s2=10.0.0.2"));
    assert!(has("SPLITBRAIN_WORKLOAD", "lock"));
    assert_eq!(processes[4].argv, ["tail", "-n", "+1", "-F", "--", "log/c.log"]);
}

#[test]
fn built_in_servers_are_brought_up_and_awaited() {
    let mut plan = plan(r#"{"candidate":{"command":"./c"},"servers":"etcd"}"#);
    plan.options.insert("etcd-bin".into(), "/bin/sh".into());
    assert_eq!(OwnSystem.check(&plan), Ok(()));
    let processes = deploy(&plan);
    assert_eq!(
        shape(&processes),
        "storage storage, s1 etcd, s2 etcd, s3 etcd, c1 candidate, c2 candidate, c3 candidate"
    );
    assert!(
        processes[4].argv[4].contains("10.0.0.3:2379"),
        "{:?}",
        processes[4].argv
    );
}

fn check(deploy: &str, expect: &str) {
    let error = OwnSystem.check(&plan(deploy)).unwrap_err();
    assert!(error.contains(expect), "{error}");
}

#[test]
fn a_bad_plan_is_refused_with_the_way_out() {
    check("{}", "--candidate 'CMD'");
    check(r#"{"candidate":{"command":" "}}"#, "--candidate 'CMD'");
    check(r#"{"candidate":{"command":"x"},"server":{}}"#, "[deploy.server]");
    check(
        r#"{"candidate":{"command":"x"},"servers":"zab"}"#,
        "there is etcd, zookeeper",
    );
    check(
        r#"{"candidate":{"command":"x"},"servers":"etcd","server":{"command":"y"}}"#,
        "built-in servers, or some of your own",
    );
    check(r#"{"candidate":{"command":"x","ports":[1]}}"#, "[deploy.server]");
    check(r#"{"candidate":{"command":"x","env":{"A B":""}}}"#, "'A B'");
    check(
        r#"{"candidate":{"command":"x","env":{"SPLITBRAIN_IP":""}}}"#,
        "SPLITBRAIN_IP",
    );
    check(
        r#"{"candidate":{"command":"x","env":{"A":""},"lists":{"A":""}}}"#,
        "both env and lists",
    );
    check(r#"{"candidate":{"command":"x","logs":["a/l","b/l"]}}"#, "same name");
    let mut nodes = plan(r#"{"candidate":{"command":"x"}}"#);
    nodes.nodes = 3;
    assert!(OwnSystem.check(&nodes).unwrap_err().contains("--servers"));
    let mut soon = plan(r#"{"candidate":{"command":"x"}}"#);
    soon.options.insert("recovery".into(), "soon".into());
    assert!(OwnSystem.check(&soon).unwrap_err().contains("recovery = 'soon'"));
}

#[test]
fn the_plan_says_what_is_promised() {
    let holds = |plan: &Plan, guarantee| {
        let promises = OwnSystem.promises(plan);
        let of: Vec<_> = promises.iter().filter(|p| p.guarantee == guarantee).collect();
        assert_eq!(of.len(), 1, "{guarantee:?}");
        of[0].clone()
    };
    let usual = plan("{}");
    assert_eq!(holds(&usual, Guarantee::LeaderPerEpoch).holds, Holds::Always);
    assert_eq!(holds(&usual, Guarantee::Exclusion).holds, Holds::Never);
    assert_eq!(holds(&usual, Guarantee::NoDamage).holds, Holds::Always);
    assert_eq!(holds(&usual, Guarantee::Recovery).within, Some(Nanos::secs(15)));
    let mut own =
        plan(r#"{"tokens":false,"promises":{"exclusion":"unless pause","recovery":"never","linearizable":"always"}}"#);
    own.options.insert("recovery".into(), "20s".into());
    let exclusion = holds(&own, Guarantee::Exclusion);
    assert_eq!(
        exclusion.holds,
        Holds::Unless(vec![splitbrain_core::plan::FaultKind::Pause])
    );
    let recovery = holds(&own, Guarantee::Recovery);
    assert_eq!((recovery.holds, recovery.within), (Holds::Never, Some(Nanos::secs(20))));
    assert_eq!(holds(&own, Guarantee::Linearizable).holds, Holds::Always);
    assert_eq!(holds(&own, Guarantee::NoDamage).holds, Holds::Never);
    assert_eq!(holds(&own, Guarantee::TokenPerReign).holds, Holds::Never);
}
