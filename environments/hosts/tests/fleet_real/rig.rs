//! Machines: network namespaces on a bridge, each with a folder for its agent's state; and worlds over them.
use crate::world::{Rig, own_program, specs, toys};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use splitbrain_core::plan::Hosts;
use splitbrain_environments::Sabotage;
use splitbrain_environments::fleet::Fleet;
use splitbrain_environments::ground::Order;
use splitbrain_environments::live::LiveWorld;
use splitbrain_environments::remote::Remote;
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

pub fn enter() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "agents need root, and so does their test"
    );
    // What outlives its parent is ours to bury.
    nix::sys::prctl::set_child_subreaper(true).expect("become a reaper");
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).expect("enter namespaces of our own");
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("make mounts private");
}

/// Reaps what was left to us.
pub fn bury() {
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|status| status != WaitStatus::StillAlive) {}
}

/// A machine of somebody else's, reached by starting our own program inside it.
pub struct Machine {
    n: usize,
    netns: OwnedFd,
    state: PathBuf,
    /// The guards of agents that were started.
    pub guards: Mutex<Vec<Child>>,
    pub released: Mutex<bool>,
}

/// Machines on one bridge.
pub struct Net {
    pub machines: Vec<Arc<Machine>>,
    dir: tempfile::TempDir,
}

impl Net {
    pub fn new(count: usize) -> Net {
        // An empty namespace for the bridge each time; the old one goes with its last user.
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        sh("ip link add br0 type bridge forward_delay 0 && ip link set br0 up");
        let dir = tempfile::tempdir().expect("a temporary directory");
        let machines = (1..=count).map(|n| Arc::new(Machine::new(n, dir.path())));
        Net {
            machines: machines.collect(),
            dir,
        }
    }

    pub fn remotes(&self) -> Vec<Arc<dyn Remote>> {
        self.machines.iter().map(|machine| machine.clone() as _).collect()
    }

    pub fn order(&self, hosts: usize, sabotage: Option<Sabotage>) -> Order {
        Order {
            run: "test".into(),
            program: own_program().into(),
            dir: self.dir.path().join("run"),
            hosts: specs(hosts),
            seed: 7,
            settings: Hosts::default(),
            layered_disks: false,
            sabotage,
        }
    }

    /// A fleet of all machines.
    pub fn fleet(&self, sabotage: Option<Sabotage>) -> Arc<Fleet> {
        let order = self.order(self.machines.len(), sabotage);
        Arc::new(Fleet::start(order, self.remotes(), None).unwrap_or_else(|why| panic!("{why:#}")))
    }

    /// A world of toys on all machines.
    pub fn world(&self, sabotage: Option<Sabotage>) -> (Arc<Fleet>, Rig) {
        let fleet = self.fleet(sabotage);
        let world = LiveWorld::start(fleet.clone(), toys(&*fleet)).expect("start the toys");
        (
            fleet,
            Rig::of(world, tempfile::tempdir().expect("a temporary directory")),
        )
    }

    /// The last lines of what the agents printed.
    pub fn log(&self, what: &str) -> String {
        std::fs::read_to_string(self.dir.path().join("run/logs").join(format!("{what}.log"))).unwrap_or_default()
    }

    /// What is left on the machines of what is ours, in words.
    pub fn left(&self) -> Vec<String> {
        let each = |machine: &Arc<Machine>| {
            let mut check = machine.command(&["steward", "check"]);
            let output = check.output().expect("run it");
            let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect("what is left");
            let left: Vec<String> = serde_json::from_value(said["left"].clone()).expect("a list");
            left.into_iter()
                .map(|what| format!("n{}: {what}", machine.n))
                .collect::<Vec<_>>()
        };
        self.machines.iter().flat_map(each).collect()
    }
}

impl Machine {
    fn new(n: usize, dir: &Path) -> Machine {
        let netns: OwnedFd = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            File::open("/proc/thread-self/ns/net").expect("a namespace").into()
        })
        .join()
        .expect("a machine");
        let there = format!("/proc/{}/fd/{}", std::process::id(), netns.as_raw_fd());
        sh(&format!(
            "ip link add port{n} type veth peer name eth0 netns {there} && ip link set port{n} master br0 up"
        ));
        let machine = Machine {
            n,
            netns,
            state: dir.join(format!("machine{n}")),
            guards: Mutex::default(),
            released: Mutex::new(false),
        };
        machine.sh(&format!(
            "ip link set lo up; ip addr add 10.9.0.{n}/24 dev eth0; ip addr add fd09::{n}/64 dev eth0 nodad; \
             ip link set eth0 up"
        ));
        machine
    }

    /// Our own program on this machine.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(own_program());
        command.args(args).env("SPLITBRAIN_STATE", &self.state);
        let netns = self.netns.as_raw_fd();
        let enter = move || {
            // SAFETY: the descriptor is open as long as the machine.
            setns(unsafe { BorrowedFd::borrow_raw(netns) }, CloneFlags::CLONE_NEWNET)?;
            Ok(())
        };
        // SAFETY: one system call.
        unsafe { command.pre_exec(enter) };
        command
    }

    /// What a shell on this machine prints; it must succeed.
    pub fn sh(&self, script: &str) -> String {
        let enter = || {
            setns(self.netns.as_fd(), CloneFlags::CLONE_NEWNET).expect("a machine's network");
            sh(script)
        };
        thread::scope(|scope| scope.spawn(enter).join()).expect("it succeeds")
    }

    /// The newest agent's two processes: its guard and itself.
    pub fn pids(&self) -> [i32; 2] {
        let guards = self.guards.lock().unwrap();
        let guard = guards.last().expect("an agent was started").id();
        let children = format!("/proc/{guard}/task/{guard}/children");
        let children = std::fs::read_to_string(children).expect("the guard lives");
        [
            guard.cast_signed(),
            children.trim().parse().expect("the guard has one child"),
        ]
    }

    /// Sends a signal to the newest agent and its guard.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        // The agent first, stopped, so that neither sees the other end.
        for (pid, signal) in self
            .pids()
            .into_iter()
            .map(|pid| (pid, nix::sys::signal::Signal::SIGSTOP))
            .chain(self.pids().into_iter().map(|pid| (pid, signal)))
        {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).expect("it lives");
        }
    }
}

impl Remote for Machine {
    fn describe(&self) -> String {
        format!("machine {}", self.n)
    }

    fn start_agent(&self, _: &Path, args: &[String], log: File) -> anyhow::Result<UnixStream> {
        let (own, other) = UnixStream::pair()?;
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut command = self.command(&[&["steward"], &args[..]].concat());
        let [stdin, stdout] = [other.try_clone()?, other].map(|end| Stdio::from(OwnedFd::from(end)));
        let guard = command.stdin(stdin).stdout(stdout).stderr(log).spawn()?;
        self.guards.lock().unwrap().push(guard);
        Ok(own)
    }

    fn address(&self) -> Option<IpAddr> {
        None
    }

    fn release(&self) -> anyhow::Result<()> {
        *self.released.lock().unwrap() = true;
        for mut guard in self.guards.lock().unwrap().drain(..) {
            guard.wait()?;
        }
        Ok(())
    }
}

/// What a shell prints; it must succeed.
#[track_caller]
pub fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().expect("a shell");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {err}{text}");
    text
}
