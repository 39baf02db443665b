//! A world of toys, on any ground, and questions to it.
pub mod toy;

use splitbrain_core::system::Stdio;
use splitbrain_core::{
    Action, Answer, Happening, HostRole, HostSpec, Link, Name, Nanos, Op, Outcome, ProcessSpec, Proof, Unasked, World,
};
use splitbrain_environments::ground::Ground;
use splitbrain_environments::live::LiveWorld;

/// Longer than anything takes that works.
const LONG: Nanos = Nanos::secs(30);

pub struct Rig {
    pub world: LiveWorld,
    /// Removed after the world has ended.
    _dir: tempfile::TempDir,
    /// What happened and was not awaited.
    pub seen: Vec<Happening>,
    next: u64,
}

pub fn host(n: usize) -> Name {
    Name::numbered("n", n)
}

pub fn link(src: usize, dst: usize) -> Link {
    Link {
        src: host(src),
        dst: host(dst),
    }
}

pub fn own_program() -> String {
    std::env::current_exe()
        .expect("our own path")
        .to_str()
        .expect("a path in UTF-8")
        .to_string()
}

/// n1, n2, ...
pub fn specs(hosts: usize) -> Vec<HostSpec> {
    let spec = |n| HostSpec {
        name: host(n),
        role: HostRole::Member,
        asked: true,
    };
    (1..=hosts).map(spec).collect()
}

/// One on each host, and our own program is where the site says.
pub fn toys(ground: &dyn Ground) -> Vec<ProcessSpec> {
    let site = ground.site();
    let all: Vec<String> = site.places.values().map(|place| place.ip.to_string()).collect();
    let toy = |(name, place): (&Name, &splitbrain_core::system::Place)| {
        let mut argv = vec![
            site.program.display().to_string(),
            "toy".to_string(),
            place.ip.to_string(),
        ];
        argv.extend(all.clone());
        ProcessSpec {
            host: *name,
            name: "toy".into(),
            argv,
            env: Vec::new(),
            stdio: Stdio::Protocol,
        }
    };
    site.places.iter().map(toy).collect()
}

impl Rig {
    /// Over a world with a toy on each host.
    pub fn of(world: LiveWorld, dir: tempfile::TempDir) -> Rig {
        let hosts = world.site().places.len();
        let mut rig = Rig::bare(world, dir);
        for n in 1..=hosts {
            rig.ready(n);
        }
        rig
    }

    /// Over any world.
    pub fn bare(world: LiveWorld, dir: tempfile::TempDir) -> Rig {
        Rig {
            world,
            _dir: dir,
            seen: Vec::new(),
            next: 0,
        }
    }

    /// Polls until `wanted` says yes; the rest is kept.
    pub fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(&Happening) -> Option<T>) -> T {
        if let Some(at) = self.seen.iter().position(|happening| wanted(happening).is_some()) {
            return wanted(&self.seen.remove(at)).expect("wanted a moment ago");
        }
        let deadline = self.world.now() + LONG;
        let mut last = Nanos::ZERO;
        while let Some((time, happening)) = self.world.poll(deadline) {
            assert!(time >= last, "time fell from {last} to {time}");
            last = time;
            if let Some(found) = wanted(&happening) {
                return found;
            }
            self.seen.push(happening);
        }
        panic!("never seen: {what}; seen: {:?}", self.seen);
    }

    pub fn ready(&mut self, n: usize) {
        self.until(&format!("ready of {}", host(n)), |happening| match happening {
            Happening::Said {
                host: at,
                what: Unasked::Ready,
            } => (*at == host(n)).then_some(()),
            _ => None,
        });
    }

    pub fn started(&mut self, n: usize, life: u32) {
        self.until(&format!("life {life} of {}", host(n)), |happening| match happening {
            Happening::Started { host: at, incarnation } => (*at == host(n) && *incarnation == life).then_some(()),
            _ => None,
        });
    }

    pub fn exited(&mut self, n: usize) -> String {
        self.until(&format!("an exit on {}", host(n)), |happening| match happening {
            Happening::Exited { host: at, how } => (*at == host(n)).then(|| how.clone()),
            _ => None,
        })
    }

    pub fn submit(&mut self, n: usize, op: Op) -> u64 {
        self.next += 1;
        self.world.submit(self.next, host(n), op);
        self.next
    }

    pub fn ask(&mut self, n: usize, op: Op) -> Answer {
        let wanted = self.submit(n, op);
        let outcome = self.until(&format!("answer {wanted}"), |happening| match happening {
            Happening::Completed { id, outcome } => (*id == wanted).then(|| outcome.clone()),
            _ => None,
        });
        match outcome {
            Outcome::Ok(answer) => answer,
            other => panic!("toys answer ok, not {other:?}"),
        }
    }

    pub fn act(&mut self, action: Action) -> Result<Vec<Proof>, String> {
        self.next += 1;
        let wanted = self.next;
        self.world.act(wanted, &action);
        self.until(&format!("end of {action:?}"), |happening| match happening {
            Happening::Acted { id, result } => (*id == wanted).then(|| result.clone()),
            _ => None,
        })
    }

    /// Acts, and expects it to be proven.
    pub fn done(&mut self, action: Action) -> Vec<Proof> {
        let words = format!("{action:?}");
        self.act(action).unwrap_or_else(|why| panic!("{words}: {why}"))
    }

    /// How many hellos of host `from` host `at` has heard.
    pub fn heard(&mut self, at: usize, from: usize) -> u64 {
        match self.ask(at, Op::Write { value: from as u64 - 1 }) {
            Answer::Written { seq, .. } => seq,
            other => panic!("not a count: {other:?}"),
        }
    }

    /// Waits until host `at` hears host `from`.
    pub fn hears(&mut self, at: usize, from: usize) {
        let before = self.heard(at, from);
        let deadline = self.world.now() + LONG;
        while self.heard(at, from) == before {
            assert!(self.world.now() < deadline, "{} never hears {}", host(at), host(from));
        }
    }

    /// Whether host `at` hears nothing of host `from` while it hears host `other`. What `from` had said before may still
    /// lie in the socket; it is read before what `other` says later.
    pub fn deaf(&mut self, at: usize, from: usize, other: usize) {
        for _ in 0..3 {
            self.hears(at, other);
        }
        let before = self.heard(at, from);
        for _ in 0..5 {
            self.hears(at, other);
        }
        assert_eq!(self.heard(at, from), before, "{} hears {}", host(at), host(from));
    }
}
