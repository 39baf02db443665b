//! The end of a fleet: hosts are healed and let go.
use super::heal::{Healed, heal};
use super::{Fleet, Host, meet};
use crate::agent::proto;
use crate::logs;
use crate::remote::Remote;
use anyhow::Result;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// How long healing may take.
const HEAL: Duration = Duration::from_secs(20);

impl Fleet {
    /// Heals all hosts and lets go of them. What could not be.
    pub(super) fn heal_all(&self) -> Vec<String> {
        self.endings.close();
        let mut left = Vec::new();
        let under_way: Vec<_> = self
            .hosts
            .values()
            .map(|host| (host, host.line.ask(proto::Order::Heal)))
            .collect();
        let mut unhealed = Vec::new();
        for (host, pending) in under_way {
            let lost = host.line.lock().lost.is_some();
            match pending.wait(HEAL) {
                Ok(_) => {}
                // The host could be reached, and says what is left.
                Err(why) if !lost && host.line.lock().lost.is_none() => left.push(why),
                Err(why) => unhealed.push((host, why)),
            }
        }
        for host in self.hosts.values() {
            host.line.cut();
        }
        left.extend(self.heal_lost(&unhealed));
        let remotes: Vec<Arc<dyn Remote>> = self.hosts.values().map(|host| host.remote.clone()).collect();
        left.extend(release(&remotes));
        for why in &left {
            eprintln!("splitbrain: {why}");
        }
        left
    }

    /// Tries hosts again that did not heal when they were told to.
    fn heal_lost(&self, hosts: &[(&Host, String)]) -> Vec<String> {
        let again = |host: &Host, why: &str| -> Result<Option<String>> {
            let log = logs::file(&self.dir, &meet::log_name(host.line.host))?;
            let dead_man = splitbrain_core::time::words(self.order.settings.dead_man);
            Ok(match heal(&*host.remote, &self.order.program, log) {
                Ok(Healed { left, .. }) if left.is_empty() => None,
                Ok(Healed { left, .. }) => {
                    Some(format!("{}: this is left there: {}", host.line.label, left.join(", ")))
                }
                Err(error) => Some(format!(
                    "{why}; it heals itself within {dead_man} if it still runs, and `splitbrain heal` finishes what is left \
                     ({error:#})"
                )),
            })
        };
        thread::scope(|scope| {
            let threads: Vec<_> = hosts
                .iter()
                .map(|(host, why)| scope.spawn(move || again(host, why)))
                .collect();
            let results = threads.into_iter().filter_map(|thread| match thread.join() {
                Ok(Ok(left)) => left,
                Ok(Err(error)) => Some(format!("{error:#}")),
                Err(_) => Some("a thread panicked".to_string()),
            });
            results.collect()
        })
    }
}

/// Lets go of machines, all at once; what went wrong.
pub(super) fn release(remotes: &[Arc<dyn Remote>]) -> Vec<String> {
    thread::scope(|scope| {
        let threads: Vec<_> = remotes.iter().map(|remote| scope.spawn(|| remote.release())).collect();
        let results = threads
            .into_iter()
            .zip(remotes)
            .filter_map(|(thread, remote)| match thread.join() {
                Ok(Ok(())) => None,
                Ok(Err(why)) => Some(format!("{why:#}")),
                Err(_) => Some(format!("{}: a thread panicked", remote.describe())),
            });
        results.collect()
    })
}
