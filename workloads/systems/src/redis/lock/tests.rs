use super::*;
use crate::options::test_site;

fn plan(system: &str, options: &[(&str, &str)]) -> Plan {
    let mut plan = Plan::new(system, "local");
    plan.options.insert("redis-bin".into(), "/bin/sh".into());
    for (name, value) in options {
        plan.options.insert(name.to_string(), value.to_string());
    }
    plan
}

fn names(hosts: &[HostSpec]) -> String {
    let names: Vec<_> = hosts.iter().map(|h| h.name.to_string()).collect();
    names.join(" ")
}

#[test]
fn one_instance_or_five_and_candidates_on_hosts_of_their_own() {
    assert_eq!(
        names(&RedisLockSystem.hosts(&plan("redis-lock", &[]))),
        "s1 c1 c2 c3 storage"
    );
    let redlock = plan("redlock", &[]);
    assert_eq!(names(&RedlockSystem.hosts(&redlock)), "s1 s2 s3 s4 s5 c1 c2 c3 storage");
}

#[test]
fn a_candidate_is_told_where_everything_is() {
    let plan = plan("redis-lock", &[("ttl", "2s")]);
    let processes = RedisLockSystem.deploy(&plan, 7, &test_site(&RedisLockSystem.hosts(&plan)));
    let shape: Vec<_> = processes.iter().map(|p| format!("{} {}", p.host, p.name)).collect();
    assert_eq!(
        shape,
        [
            "storage storage",
            "s1 redis",
            "c1 candidate",
            "c2 candidate",
            "c3 candidate"
        ]
    );
    assert_eq!(
        processes[1].argv.join(" "),
        "/bin/sh --port 6379 --bind 10.0.0.1 --protected-mode no --dir /data/s1"
    );
    assert_eq!(processes[3].argv[..3], ["/opt/splitbrain", "agent", "redis-candidate"]);
    assert_eq!(
        processes[3].argv[3],
        r#"{"common":{"host":"c2","work":20000000,"on_demand":false},"instances":["10.0.0.1:6379"],"storage":"10.0.0.5:7100","ttl":2000000000,"timeout":500000000,"extensions":60}"#
    );
}

#[test]
fn an_instance_that_crashed_may_wait_for_its_locks_to_expire() {
    let plan = plan("redlock", &[("delayed-restarts", "true"), ("ttl", "2500ms")]);
    let processes = RedlockSystem.deploy(&plan, 7, &test_site(&RedlockSystem.hosts(&plan)));
    let argv = &processes[2].argv;
    assert_eq!(argv[3..7], ["/data/s2/lived", "2.850", "/bin/sh", "--port"]);
    assert!(argv[2].starts_with(r#"[ -e "$0" ] && sleep "$1""#), "{argv:?}");
}

#[test]
fn what_is_promised_depends_on_what_instances_do_after_a_crash() {
    use FaultKind::*;
    let lifted = |promises: Vec<Promise>| {
        let exclusion = promises.into_iter().find(|p| p.guarantee == Guarantee::Exclusion);
        exclusion.unwrap().holds
    };
    let forgets = Holds::Unless(vec![Kill, Pause, Clock, Disk]);
    assert_eq!(lifted(RedisLockSystem.promises(&plan("redis-lock", &[]))), forgets);
    assert_eq!(lifted(RedlockSystem.promises(&plan("redlock", &[]))), forgets);
    let waits = plan("redlock", &[("delayed-restarts", "on")]);
    assert_eq!(
        lifted(RedlockSystem.promises(&waits)),
        Holds::Unless(vec![Pause, Clock])
    );
}

#[track_caller]
fn check(system: &dyn System, options: &[(&str, &str)], expect: &str) {
    let error = system.check(&plan(system.name(), options)).unwrap_err();
    assert!(error.contains(expect), "{error}");
}

#[test]
fn a_bad_plan_is_refused_with_the_way_out() {
    assert_eq!(RedisLockSystem.check(&plan("redis-lock", &[])), Ok(()));
    assert_eq!(RedlockSystem.check(&plan("redlock", &[])), Ok(()));
    check(&RedisLockSystem, &[("ttl", "soon")], "5s or 300ms");
    check(&RedisLockSystem, &[("ttl", "10ms")], "at least 100ms");
    check(&RedisLockSystem, &[("timeout", "4s")], "shorter than ttl");
    check(&RedisLockSystem, &[("extensions", "many")], "no number");
    check(&RedisLockSystem, &[("delayed-restarts", "on")], "it knows ttl");
    check(
        &RedlockSystem,
        &[("delayed-restarts", "maybe")],
        "neither true nor false",
    );
    check(
        &RedlockSystem,
        &[("redis-bin", "/nonexistent")],
        "apt-get install redis-server",
    );
    let three = Plan {
        nodes: 3,
        ..plan("redis-lock", &[])
    };
    assert!(RedisLockSystem.check(&three).unwrap_err().contains("redlock"));
}
