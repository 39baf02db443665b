//! What works.
use crate::Case;
use crate::rig::{BASE, Run, await_that, docker};
use splitbrain_environments::docker;
use splitbrain_environments::remote::Remote;
use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Instant;

pub const ALL: &[Case] = &[
    (
        "streams_go_both_ways_and_errors_to_the_log",
        streams_go_both_ways_and_errors_to_the_log,
    ),
    (
        "a_stream_that_nobody_reads_holds_up_only_itself",
        a_stream_that_nobody_reads_holds_up_only_itself,
    ),
    (
        "the_end_of_its_input_ends_a_container_and_it_is_removed",
        the_end_of_its_input_ends_a_container_and_it_is_removed,
    ),
    (
        "a_host_is_as_faults_need_it_and_no_more",
        a_host_is_as_faults_need_it_and_no_more,
    ),
    (
        "hosts_are_addressed_apart_and_alone",
        hosts_are_addressed_apart_and_alone,
    ),
    ("mounts_are_seen_and_read_only", mounts_are_seen_and_read_only),
    ("release_leaves_nothing", release_leaves_nothing),
    ("dropping_all_leaves_nothing", dropping_all_leaves_nothing),
    ("five_agents_run_soon", five_agents_run_soon),
    (
        "an_image_is_built_once_and_without_a_name",
        an_image_is_built_once_and_without_a_name,
    ),
];

fn streams_go_both_ways_and_errors_to_the_log() {
    let run = Run::new();
    let hosts = run.create(1);
    let stream = run.start(&*hosts[0], &["echo"]).unwrap();
    // Not a multiple of anybody's buffer.
    let bytes: Vec<u8> = (0..50_000_003_u64)
        .map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8)
        .collect();
    let mut back = Vec::new();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (&stream).write_all(&bytes).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        (&stream).read_to_end(&mut back).unwrap();
    });
    println!("  50 MB there and back in {} ms", begun.elapsed().as_millis());
    assert!(back == bytes, "{} bytes came back, or others", back.len());
    assert_eq!(fs::read_to_string(run.log()).unwrap(), "echoing\n");
}

fn a_stream_that_nobody_reads_holds_up_only_itself() {
    let run = Run::new();
    let hosts = run.create(2);
    let flooding = run.start(&*hosts[0], &["run", "yes"]).unwrap();
    let mut stream = run.start(&*hosts[1], &["echo"]).unwrap();
    for round in 0..100_u32 {
        stream.write_all(&round.to_le_bytes()).unwrap();
        let mut back = [0; 4];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(u32::from_le_bytes(back), round);
    }
    let mut start = [0; 4];
    (&flooding).read_exact(&mut start).unwrap();
    assert_eq!(&start, b"y\ny\n");
}

fn the_end_of_its_input_ends_a_container_and_it_is_removed() {
    let run = Run::new();
    let hosts = run.create(2);
    let mut half = run
        .start(&*hosts[0], &["run", "cat >/dev/null; echo last words"])
        .unwrap();
    let whole = run.start(&*hosts[1], &["echo"]).unwrap();
    let running = run.things().iter().filter(|thing| thing.ends_with("running")).count();
    assert_eq!(running, 2);
    half.shutdown(Shutdown::Write).unwrap();
    drop(whole);
    let mut words = String::new();
    half.read_to_string(&mut words).unwrap();
    assert_eq!(words, "last words\n");
    await_that("only the network is left", || run.things(), |things| things.len() == 1);
    // The host may be used again.
    assert_eq!(run.shell(&*hosts[0], "echo again"), "again");
    assert_eq!(run.shell(&*hosts[0], "echo and again"), "and again");
}

fn a_host_is_as_faults_need_it_and_no_more() {
    let run = Run::new();
    let hosts = run.create(1);
    let seen = |command: &str| run.shell(&*hosts[0], command);
    assert_eq!(seen("hostname"), "n1");
    assert_eq!(seen("id -u"), "0");
    assert_eq!(seen("ls -A /var/lib/splitbrain; stat -c %a /var/lib/splitbrain"), "755");
    assert_eq!(seen("iptables -N OURS && iptables -w -S OURS"), "-N OURS");
    assert_eq!(seen("for it in tc etcd; do command -v $it; done | wc -l"), "2");
    // Compared and not tried out: who may set the clock here sets the machine's.
    let rights = "grep CapEff /proc/self/status";
    let shell = ["run", "--rm", "--cap-add", "NET_ADMIN", BASE, "sh", "-c", rights];
    assert_eq!(seen(rights), docker(&shell));
    assert!(seen("tr '\\0' ' ' </proc/1/cmdline").contains("docker-init"));
}

fn hosts_are_addressed_apart_and_alone() {
    let run = Run::new();
    let hosts = run.create(2);
    assert!(hosts.iter().all(|host| host.address().is_none()), "not before they run");
    let first = run.start(&*hosts[0], &["echo"]).unwrap();
    let own = run.shell(&*hosts[1], "ip -4 -o addr show dev eth0");
    let addresses: Vec<String> = hosts.iter().map(|host| host.address().unwrap().to_string()).collect();
    assert_ne!(addresses[0], addresses[1]);
    assert!(own.contains(&format!(" {}/", addresses[1])), "{own}");
    let network = format!("splitbrain-{}", run.name);
    let internal = docker(&["network", "inspect", "--format", "{{.Internal}}", &network]);
    assert_eq!(internal, "true", "no way out");
    // Perl is in every Debian: a port without a listener refuses, which only a host that is reached can do.
    let knock = format!(
        "perl -MIO::Socket::INET -e 'IO::Socket::INET->new(PeerAddr=>\"{}:9\",Timeout=>5); print $!'",
        addresses[0]
    );
    assert_eq!(run.shell(&*hosts[1], &knock), "Connection refused");
    drop(first);
}

fn mounts_are_seen_and_read_only() {
    let mut run = Run::new();
    let folder = run.dir.path().join("folder");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("file"), "content").unwrap();
    run.settings.mounts = vec![format!("{}:/opt/seen", folder.display())];
    let hosts = run.create(1);
    let seen = run.shell(&*hosts[0], "cat /opt/seen/file; touch /opt/seen/new 2>&1");
    assert!(
        seen.starts_with("content") && seen.contains("Read-only file system"),
        "{seen}"
    );
}

fn release_leaves_nothing() {
    let run = Run::new();
    let hosts = run.create(2);
    let streams: Vec<_> = hosts
        .iter()
        .map(|host| run.start(&**host, &["deaf"]).unwrap())
        .collect();
    hosts[0].release().unwrap();
    assert_eq!(
        run.things().len(),
        2,
        "the other one and the network: {:?}",
        run.things()
    );
    let mut end = Vec::new();
    (&streams[0]).read_to_end(&mut end).unwrap();
    hosts[1].release().unwrap();
    assert_eq!(run.things(), [""; 0]);
    hosts[1].release().unwrap();
    assert!(hosts[0].describe() == format!("container splitbrain-{}-n1", run.name));
}

fn dropping_all_leaves_nothing() {
    let run = Run::new();
    let hosts = run.create(2);
    let stream = run.start(&*hosts[0], &["deaf"]).unwrap();
    drop(hosts);
    assert_eq!(run.things(), [""; 0]);
    drop(stream);
}

fn five_agents_run_soon() {
    let run = Run::new();
    let begun = Instant::now();
    let hosts = run.create(5);
    let created = begun.elapsed();
    std::thread::scope(|scope| {
        for host in &hosts {
            scope.spawn(|| {
                let log = fs::File::create(run.dir.path().join(host.describe())).unwrap();
                let mut stream = host.start_agent(&run.program, &["echo".to_string()], log).unwrap();
                stream.write_all(b"?").unwrap();
                stream.read_exact(&mut [0]).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
            });
        }
    });
    println!(
        "  network in {} ms, five answer after {} ms",
        created.as_millis(),
        begun.elapsed().as_millis()
    );
}

fn an_image_is_built_once_and_without_a_name() {
    // A base of its own, so that its image is new.
    let base = format!("splitbrain-test-base-{}", std::process::id());
    let id = docker(&["create", "--label", "splitbrain-test", BASE, "true"]);
    docker(&["commit", "--change", &format!("LABEL test={base}"), &id, &base]);
    docker(&["rm", &id]);
    let images = || docker(&["images", "-q", "--no-trunc", "--filter", "label=splitbrain.image"]);
    let before = images();
    let mut run = Run::new();
    run.settings.base_image = Some(base.clone());
    run.create(1);
    let with_it = images();
    let new: Vec<&str> = with_it.lines().filter(|id| !before.contains(id)).collect();
    assert_eq!(new.len(), 1, "{new:?}");
    assert_eq!(docker(&["inspect", "--format", "{{.RepoTags}}", new[0]]), "[]");
    run.create(1);
    assert_eq!(images(), with_it, "found again");
    // What carries a name is somebody's, though it was made from ours.
    let name = format!("{base}-kept");
    docker(&["tag", new[0], &name]);
    let removed = docker::heal(true).unwrap();
    let digits = &new[0]["sha256:".len()..][..12];
    assert!(!removed.iter().any(|image| image.contains(digits)), "{removed:?}");
    docker(&["rmi", "--no-prune", &name]);
    // Docker removes an image with its last name, so it is made anew.
    let kept = run.create(1);
    let removed = docker::heal(true).unwrap();
    assert!(!removed.is_empty());
    assert!(!images().lines().any(|id| !before.contains(id)));
    drop::<Vec<std::sync::Arc<dyn Remote>>>(kept);
    docker(&["rmi", &base]);
}
