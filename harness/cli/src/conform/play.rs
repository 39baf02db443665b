//! Talking to a candidate, and remembering whether what it says holds together.
use splitbrain_core::op::{Answer, Outcome, Role, Status};
use splitbrain_core::wire::{Line, Request};
use splitbrain_core::{Epoch, Op, Reign, Token, Unasked};
use splitbrain_environments::conform::{Candidate, Heard};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How long a candidate may take to end once its input has ended.
const END: Duration = Duration::from_secs(5);

/// The leadership that a candidate named last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reigning {
    pub epoch: Option<Epoch>,
    pub token: Option<Token>,
    pub reign: Reign,
}

/// A candidate under examination.
pub(super) struct Player {
    candidate: Candidate,
    patience: Duration,
    election: Duration,
    next_id: u64,
    /// Said ready, as its first word.
    pub ready: bool,
    /// It leads, as its events say.
    pub reigning: Option<Reigning>,
    /// The highest reign of an `elected`.
    newest: Reign,
    asked: BTreeSet<u64>,
    answers: BTreeMap<u64, Outcome>,
    /// What is wrong with its lines, its ids and its reigns.
    pub lines: Vec<String>,
    pub ids: Vec<String>,
    pub reigns: Vec<String>,
    /// Its output ended.
    ended: bool,
}

impl Player {
    pub fn new(candidate: Candidate, patience: Duration, election: Duration) -> Player {
        Player {
            candidate,
            patience,
            election,
            next_id: 1,
            ready: false,
            reigning: None,
            newest: Reign(0),
            asked: BTreeSet::new(),
            answers: BTreeMap::new(),
            lines: Vec::new(),
            ids: Vec::new(),
            reigns: Vec::new(),
            ended: false,
        }
    }

    pub fn patience(&self) -> Duration {
        self.patience
    }

    pub fn election(&self) -> Duration {
        self.election
    }

    /// Takes what comes until `enough`, or for as long as `within`; whether it was enough.
    pub fn listen(&mut self, within: Duration, enough: impl Fn(&Player) -> bool) -> bool {
        let until = Instant::now() + within;
        while !enough(self) {
            match self.candidate.hear(until) {
                Heard::Line(Ok(line)) => match Line::parse(&line) {
                    Ok(line) => self.take(line),
                    Err(garbage) => self.lines.push(garbage.to_string()),
                },
                Heard::Line(Err(why)) => self.lines.push(why),
                Heard::End(unfinished) => {
                    if unfinished > 0 {
                        self.lines
                            .push(format!("its last {unfinished} bytes end without a newline"));
                    }
                    self.ended = true;
                    return false;
                }
                Heard::Nothing => return false,
            }
        }
        true
    }

    fn take(&mut self, line: Line) {
        if !self.ready && line != Line::Event(Unasked::Ready) {
            self.lines.push(format!("before ready it said {}", line.to_json()));
        }
        match line {
            Line::Event(event) => self.event(event),
            Line::Answer { id, outcome } => {
                if let Outcome::Ok(answer) = &outcome {
                    self.believe(*answer);
                }
                if !self.asked.remove(&id) {
                    let why = match self.answers.contains_key(&id) {
                        true => "a second time",
                        false => "which was never asked",
                    };
                    self.ids.push(format!("it answered request {id}, {why}"));
                }
                self.answers.entry(id).or_insert(outcome);
            }
        }
    }

    fn event(&mut self, event: Unasked) {
        match event {
            Unasked::Ready if self.ready => self.lines.push("it said ready twice".to_string()),
            Unasked::Ready => self.ready = true,
            Unasked::Elected { epoch, token, reign } => {
                if reign <= self.newest {
                    let before = self.newest;
                    self.reigns
                        .push(format!("elected in reign {reign} after reign {before}"));
                }
                self.newest = self.newest.max(reign);
                let epoch = epoch.known();
                self.reigning = Some(Reigning { epoch, token, reign });
            }
            Unasked::Deposed { reign, .. } => match self.reigning.take() {
                Some(reigning) if reigning.reign == reign => {}
                Some(Reigning { reign: present, .. }) => {
                    self.reigns
                        .push(format!("deposed of reign {reign} while in reign {present}"));
                }
                None => self.reigns.push(format!("deposed of reign {reign} while in none")),
            },
            other => self
                .lines
                .push(format!("no candidate has to say {}", Line::Event(other).to_json())),
        }
    }

    /// An answer must agree with the events before it.
    fn believe(&mut self, answer: Answer) {
        let said = match answer {
            Answer::Status(Status {
                role: Role::Leader,
                epoch,
                token,
                reign: Some(reign),
                ..
            }) => Some(Reigning { epoch, token, reign }),
            Answer::Status(_) => None,
            _ => return,
        };
        if said != self.reigning {
            let show = |reigning: Option<Reigning>| match reigning {
                None => "no leadership".to_string(),
                Some(Reigning { epoch, token, reign }) => {
                    let number = |n: Option<u64>| n.map_or("none".to_string(), |n| n.to_string());
                    let (epoch, token) = (number(epoch.map(|e| e.0)), number(token.map(|t| t.0)));
                    format!("reign {reign} with epoch {epoch} and token {token}")
                }
            };
            self.reigns.push(format!(
                "observe was answered with {}, but its last event told of {}",
                show(said),
                show(self.reigning)
            ));
        }
    }

    /// A request in JSON, with an id of its own.
    pub fn request(&mut self, op: &str) -> (u64, String) {
        let id = self.next_id;
        self.next_id += 1;
        self.asked.insert(id);
        (id, format!("{{\"id\":{id},\"op\":{op}}}\n"))
    }

    /// Writes `text` as it is; whether it could be.
    pub fn tell(&mut self, text: &str) -> bool {
        self.candidate.tell(text)
    }

    /// The answer to request `id`, if it comes.
    pub fn answer(&mut self, id: u64) -> Option<Outcome> {
        self.listen(self.patience, |player| player.answers.contains_key(&id));
        self.answers.get(&id).cloned()
    }

    /// Asks `op`, and awaits the answer.
    pub fn ask(&mut self, op: Op) -> Option<Outcome> {
        let id = self.next_id;
        self.next_id += 1;
        self.asked.insert(id);
        let request = serde_json::to_string(&Request { id, op }).expect("plain data always becomes JSON");
        self.tell(&format!("{request}\n"));
        self.answer(id)
    }

    /// Ends its input; how it ended.
    pub fn end(&mut self) -> Option<String> {
        self.candidate.hang_up();
        let until = Instant::now() + END;
        while !self.ended && Instant::now() < until {
            self.listen(until.saturating_duration_since(Instant::now()), |_| false);
        }
        self.candidate.ended(until).map(|status| status.to_string())
    }

    /// Why nothing more can be expected of it, if that is so.
    pub fn gone(&self) -> bool {
        self.ended
    }
}
