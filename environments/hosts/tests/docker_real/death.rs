//! Control dies; its containers go, and the next who looks removes the rest.
use crate::Case;
use crate::rig::{BASE, Run, await_that, docker, order, things_of};
use splitbrain_core::plan::Docker;
use splitbrain_core::seed::stream;
use splitbrain_environments::docker;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

pub const ALL: &[Case] = &[
    (
        "a_killed_control_leaves_what_heal_removes",
        a_killed_control_leaves_what_heal_removes,
    ),
    (
        "control_killed_at_any_moment_leaves_nothing",
        control_killed_at_any_moment_leaves_nothing,
    ),
    (
        "the_next_run_removes_what_a_dead_one_left",
        the_next_run_removes_what_a_dead_one_left,
    ),
    ("heal_leaves_others_alone", heal_leaves_others_alone),
];

/// A control with three hosts, until it is killed. `args`: run, directory, program.
pub fn control(args: &[String]) -> ExitCode {
    let (run, dir, program) = (&args[0], Path::new(&args[1]), Path::new(&args[2]));
    let settings = Docker {
        base_image: Some(BASE.to_string()),
        ..Docker::default()
    };
    let hosts = docker::create(&order(run, dir, program, 3), &settings).unwrap();
    let streams: Vec<_> = std::thread::scope(|scope| {
        let starting: Vec<_> = hosts
            .iter()
            .map(|host| {
                let log = File::create(dir.join(host.describe())).unwrap();
                scope.spawn(|| host.start_agent(program, &["echo".to_string()], log).unwrap())
            })
            .collect();
        starting.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    println!("up");
    drop(std::io::stdin().lines().next());
    drop(streams);
    ExitCode::SUCCESS
}

fn spawn(run: &Run) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let dir = run.dir.path().to_str().unwrap();
    command.args(["control", &run.name, dir, run.program.to_str().unwrap()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

fn until_up(control: &mut Child) {
    use std::io::Read;
    control
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut [0; 3])
        .expect("it says that it is up");
}

fn kill(mut control: Child) {
    control.kill().unwrap();
    control.wait().unwrap();
}

fn containers(run: &Run) -> Vec<String> {
    let things = run.things().into_iter();
    things.filter(|thing| thing.starts_with("container")).collect()
}

fn a_killed_control_leaves_what_heal_removes() {
    let run = Run::new();
    let mut control = spawn(&run);
    until_up(&mut control);
    assert_eq!(run.things().len(), 4);
    let network = format!("network splitbrain-{}", run.name);
    assert!(!docker::leftovers().unwrap().contains(&network), "control lives");
    assert!(!docker::heal(false).unwrap().contains(&network), "control lives");
    assert_eq!(run.things().len(), 4);
    kill(control);
    await_that("its containers go by themselves", || containers(&run), Vec::is_empty);
    assert_eq!(run.things(), std::slice::from_ref(&network));
    assert!(docker::leftovers().unwrap().contains(&network));
    assert!(docker::heal(false).unwrap().contains(&network));
    assert_eq!(run.things(), [""; 0]);
    assert!(!docker::leftovers().unwrap().contains(&network));
}

fn control_killed_at_any_moment_leaves_nothing() {
    use rand::Rng as _;
    let seed = u64::from(std::process::id());
    println!("  seed {seed}");
    let mut random = stream(seed, "docker death");
    for _ in 0..10 {
        let run = Run::new();
        let control = spawn(&run);
        std::thread::sleep(Duration::from_millis(random.next_u64() % 2_500));
        kill(control);
        // What was under way in the engine when control died goes on for a moment; what runs must end by itself.
        let runs = || {
            let containers = containers(&run).into_iter();
            containers
                .filter(|thing| !thing.ends_with(" created"))
                .collect::<Vec<_>>()
        };
        await_that("nothing goes on", runs, Vec::is_empty);
        let healed = || {
            docker::heal(false).unwrap();
            run.things()
        };
        await_that("heal removes the rest", healed, Vec::is_empty);
    }
}

fn the_next_run_removes_what_a_dead_one_left() {
    let dead = Run::new();
    let mut control = spawn(&dead);
    until_up(&mut control);
    kill(control);
    await_that("its containers go by themselves", || containers(&dead), Vec::is_empty);
    assert_eq!(dead.things().len(), 1);
    let next = Run::new();
    let hosts = next.create(1);
    assert_eq!(dead.things(), [""; 0]);
    drop(hosts);
}

fn heal_leaves_others_alone() {
    let name = format!("splitbrain-test-other-{}", std::process::id());
    // Alike in name and with labels that are not the one.
    let label = "splitbrain.running=1";
    docker(&["network", "create", "--internal", "--label", label, &name]);
    docker(&[
        "create",
        "--name",
        &name,
        "--label",
        label,
        "--network",
        &name,
        BASE,
        "true",
    ]);
    // Ours by its label, of a control on another machine, and in use.
    let far = format!("{name}-far");
    let (ours, control) = (format!("splitbrain.run={far}"), "splitbrain.control=1:1:another:1");
    docker(&[
        "network",
        "create",
        "--internal",
        "--label",
        &ours,
        "--label",
        control,
        &far,
    ]);
    let labels = ["--label", &ours, "--label", control];
    let head = ["run", "-d", "--rm", "--name", &far, "--network", &far];
    docker(&[&head[..], &labels, &[BASE, "sleep", "1000"]].concat());
    let healed = docker::heal(false).unwrap();
    assert!(!healed.iter().any(|thing| thing.contains(&name)), "{healed:?}");
    assert_eq!(things_of(&far).len(), 2);
    // Once it is in use no more, it is left over.
    docker(&["kill", &far]);
    await_that("it goes", || things_of(&far), |things| things.len() == 1);
    assert!(docker::heal(false).unwrap().contains(&format!("network {far}")));
    docker(&["rm", &name]);
    docker(&["network", "rm", &name]);
}
