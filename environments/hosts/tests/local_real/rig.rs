//! What the cases share: a cluster of three toys in a sandbox.
pub use crate::world::*;
use splitbrain_core::plan::ClockOf;
use splitbrain_environments::Sabotage;
use splitbrain_environments::live::LiveWorld;
use splitbrain_environments::local::{LocalConfig, LocalSite};
use std::path::Path;
use std::sync::Arc;

pub fn config(dir: &Path, hosts: usize) -> LocalConfig {
    LocalConfig {
        program: vec![own_program(), "sandbox".into()],
        dir: dir.to_path_buf(),
        hosts: specs(hosts),
        seed: 7,
        pcap: false,
        clock: ClockOf::Auto,
        layered_disks: false,
        sabotage: None,
    }
}

impl Rig {
    pub fn new(sabotage: Option<Sabotage>) -> Rig {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = LocalConfig {
            layered_disks: false,
            sabotage,
            ..config(dir.path(), 3)
        };
        let site = LocalSite::create(config).expect("make the hosts");
        let toys = toys(&site);
        let world = LiveWorld::start(Arc::new(site), toys).expect("start the toys");
        Rig::of(world, dir)
    }
}
