//! What a redis and a sentinel say, and what it amounts to.
//!
//! A sentinel's reply to `SENTINEL MASTER` names the master's address and the configuration's epoch in one statement, but for
//! one stretch: the sentinel that carries a failover out raises the epoch when it has seen the promotion, and keeps the
//! old master's address until the other replicas are told. It shows the flag `failover_in_progress` meanwhile; such a
//! reply binds nothing, and is none.
//!
//! A redis's reply to `INFO` names its role, its `run_id` and its `master_replid` in one statement. A redis draws a new
//! replication id each time it becomes a master, so a master with the same two numbers was a master all the time in between.
//! It draws one too when its first replica makes it keep a backlog; that is no new mastership, and can be told by the old
//! id (`master_replid2`), which it keeps at a promotion and forgets then.
use redis::Value;
use splitbrain_core::{Epoch, Reign, Unasked};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// One redis's being a master without a break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mastership {
    run: String,
    replication: String,
    /// Whether it knows the id under which it was a replica or a master before.
    promoted: bool,
    backlog: bool,
}

impl Mastership {
    /// Whether this is what `before` became, without a break.
    fn continues(&self, before: &Mastership) -> bool {
        let first_replica = !before.backlog && self.backlog && !self.promoted;
        self.run == before.run && (self.replication == before.replication || first_replica)
    }
}

/// What a redis says of itself: its mastership, or that it is a replica.
pub(super) fn mastership(info: &Value) -> Option<Option<Mastership>> {
    let text = text(info)?;
    let field = |name: &str| {
        let mut lines = text.lines().map(str::trim_end);
        lines.find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.to_string()))
    };
    match field("role")?.as_str() {
        "master" => Some(Some(Mastership {
            run: field("run_id")?,
            replication: field("master_replid")?,
            promoted: field("master_replid2")?.bytes().any(|digit| digit != b'0'),
            backlog: field("repl_backlog_active")? == "1",
        })),
        "slave" => Some(None),
        _ => None,
    }
}

/// Whom a sentinel names, in which epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    pub master: SocketAddr,
    pub epoch: Epoch,
}

/// What a sentinel says of the master, if its reply binds anything.
pub(super) fn statement(reply: &Value) -> Option<Statement> {
    let fields: BTreeMap<String, String> = match reply {
        Value::Array(words) => words
            .chunks_exact(2)
            .map(|pair| Some((text(&pair[0])?, text(&pair[1])?)))
            .collect::<Option<_>>()?,
        _ => return None,
    };
    if fields
        .get("flags")?
        .split(',')
        .any(|flag| flag == "failover_in_progress")
    {
        return None;
    }
    let (ip, port) = (fields.get("ip")?.parse().ok()?, fields.get("port")?.parse().ok()?);
    Some(Statement {
        master: SocketAddr::new(ip, port),
        epoch: Epoch(fields.get("config-epoch")?.parse().ok()?),
    })
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text.clone()),
        _ => None,
    }
}

/// What one look at a host showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Its redis is a master, and its sentinel names it.
    Leads(Mastership, Epoch),
    /// Its redis is a replica.
    Follows(Statement),
    /// Its redis is a master, and its sentinel names another.
    Overruled(Statement),
}

impl Look {
    /// What `before` and `after` the sentinel's statement say together with it, about the redis at `own`. `None`: the redis
    /// changed meanwhile.
    pub(super) fn at(
        own: SocketAddr,
        before: Option<Mastership>,
        statement: Statement,
        after: Option<Mastership>,
    ) -> Option<Look> {
        match (before, after) {
            (Some(before), Some(after)) if before == after && statement.master == own => {
                Some(Look::Leads(after, statement.epoch))
            }
            (Some(before), Some(after)) if before == after => Some(Look::Overruled(statement)),
            (None, None) => Some(Look::Follows(statement)),
            _ => None,
        }
    }
}

/// One host's reigns, as the looks at it told so far.
#[derive(Debug, Default)]
pub(super) struct Reigns {
    now: Option<(Mastership, Epoch)>,
    count: u64,
}

impl Reigns {
    /// Takes the next look; what is to be told, in order.
    pub(super) fn take(&mut self, look: &Look) -> Vec<Unasked> {
        let mut told = Vec::new();
        let (now, why) = match look {
            Look::Leads(mastership, epoch) => {
                let now = Some((mastership.clone(), *epoch));
                (now, "became a master anew".to_string())
            }
            Look::Follows(_) => (None, "became a replica".to_string()),
            Look::Overruled(Statement { master, epoch }) => {
                (None, format!("its sentinel names {master} in epoch {epoch}"))
            }
        };
        let lasts = match (&self.now, &now) {
            (Some((before, old)), Some((now, new))) => old == new && now.continues(before),
            (before, now) => before == now,
        };
        if lasts {
            self.now = now;
            return told;
        }
        if let Some(reign) = self.reign() {
            told.push(Unasked::Deposed { reign, why });
        }
        self.now = now;
        if let Some((_, epoch)) = self.now {
            self.count += 1;
            told.push(Unasked::Elected {
                epoch,
                token: None,
                reign: Reign(self.count),
            });
        }
        told
    }

    /// The present reign, while it lasts.
    pub(super) fn reign(&self) -> Option<Reign> {
        self.now.as_ref().map(|_| Reign(self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn reply(flags: &str, port: &str) -> Value {
        let words = [
            "name",
            "leader",
            "ip",
            "10.0.0.2",
            "port",
            port,
            "flags",
            flags,
            "config-epoch",
            "7",
        ];
        Value::Array(words.into_iter().map(bulk).collect())
    }

    #[test]
    fn a_sentinels_reply_binds_address_and_epoch_unless_it_is_failing_over() {
        let named = Some(Statement {
            master: "10.0.0.2:6379".parse().unwrap(),
            epoch: Epoch(7),
        });
        assert_eq!(statement(&reply("master", "6379")), named);
        assert_eq!(statement(&reply("s_down,o_down,master,disconnected", "6379")), named);
        // It names the new epoch and still the old address.
        assert_eq!(
            statement(&reply("master,failover_in_progress,i_am_the_leader", "6379")),
            None
        );
        assert_eq!(statement(&reply("master", "many")), None);
        assert_eq!(statement(&Value::Array(vec![bulk("ip"), bulk("10.0.0.2")])), None);
        assert_eq!(statement(&Value::Okay), None);
    }

    fn info(role: &str, run: &str, id: &str) -> Value {
        let server = format!("# Server\r\nredis_version:7.0.15\r\nrun_id:{run}\r\n\r\n");
        let replication = format!("# Replication\r\nrole:{role}\r\nmaster_replid:{id}\r\nmaster_replid2:c1\r\n");
        bulk(&format!("{server}{replication}repl_backlog_active:1\r\n"))
    }

    fn master(run: &str, id: &str) -> Mastership {
        Mastership {
            run: run.into(),
            replication: id.into(),
            promoted: true,
            backlog: true,
        }
    }

    #[test]
    fn a_redis_is_known_by_its_run_and_its_replication_id() {
        assert_eq!(mastership(&info("master", "a", "b")), Some(Some(master("a", "b"))));
        assert_eq!(mastership(&info("slave", "a", "b")), Some(None));
        assert_eq!(mastership(&bulk("role:master\r\n")), None);
        assert_eq!(mastership(&bulk("")), None);
        assert_eq!(mastership(&Value::Nil), None);
    }

    #[test]
    fn the_first_replica_of_a_master_is_no_break() {
        let (mut alone, mut served) = (master("a", "b"), master("a", "c"));
        (alone.backlog, alone.promoted, served.promoted) = (false, false, false);
        assert!(served.continues(&alone) && served.continues(&served));
        assert!(!alone.continues(&served));
        // Who was promoted in between knows the id that it had before, and who was restarted is another.
        assert!(!master("a", "c").continues(&alone));
        served.run = "z".into();
        assert!(!served.continues(&alone));
    }

    fn told(reigns: &mut Reigns, look: &Look) -> String {
        let words = reigns.take(look).into_iter().map(|event| match event {
            Unasked::Elected { epoch, reign, .. } => format!("elected {epoch} {reign}"),
            Unasked::Deposed { reign, why } => format!("deposed {reign}: {why}"),
            other => panic!("{other:?}"),
        });
        words.collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn a_reign_is_one_mastership_in_one_epoch() {
        let mut reigns = Reigns::default();
        let other = Statement {
            master: "10.0.0.2:6379".parse().unwrap(),
            epoch: Epoch(3),
        };
        let leads = |run, id, epoch| Look::Leads(master(run, id), Epoch(epoch));
        assert_eq!(told(&mut reigns, &leads("a", "b", 0)), "elected none 1");
        assert_eq!(told(&mut reigns, &leads("a", "b", 0)), "");
        assert_eq!(reigns.reign(), Some(Reign(1)));
        assert_eq!(
            told(&mut reigns, &Look::Overruled(other)),
            "deposed 1: its sentinel names 10.0.0.2:6379 in epoch 3"
        );
        assert_eq!(
            (told(&mut reigns, &Look::Follows(other)), reigns.reign()),
            (String::new(), None)
        );
        assert_eq!(told(&mut reigns, &leads("a", "c", 4)), "elected 4 2");
        // Demoted and promoted again, or restarted, between two looks.
        let anew = "deposed 2: became a master anew; elected 4 3";
        assert_eq!(told(&mut reigns, &leads("a", "d", 4)), anew);
        assert_eq!(
            told(&mut reigns, &leads("e", "d", 4)),
            "deposed 3: became a master anew; elected 4 4"
        );
        assert_eq!(told(&mut reigns, &Look::Follows(other)), "deposed 4: became a replica");
    }

    #[test]
    fn a_look_counts_only_if_the_redis_was_the_same_before_and_after() {
        let own: SocketAddr = "10.0.0.1:6379".parse().unwrap();
        let says = |ip: &str| Statement {
            master: format!("{ip}:6379").parse().unwrap(),
            epoch: Epoch(3),
        };
        let (a, b) = (Some(master("a", "b")), Some(master("a", "c")));
        let look = |before: &Option<_>, ip, after: &Option<_>| Look::at(own, before.clone(), says(ip), after.clone());
        assert_eq!(look(&a, "10.0.0.1", &a), Some(Look::Leads(master("a", "b"), Epoch(3))));
        assert_eq!(look(&a, "10.0.0.2", &a), Some(Look::Overruled(says("10.0.0.2"))));
        assert_eq!(look(&None, "10.0.0.2", &None), Some(Look::Follows(says("10.0.0.2"))));
        for (before, after) in [(&a, &b), (&a, &None), (&None, &a)] {
            assert_eq!(look(before, "10.0.0.1", after), None);
            assert_eq!(look(before, "10.0.0.2", after), None);
        }
    }
}
