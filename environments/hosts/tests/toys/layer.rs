//! A process with a disk layer and no disk, for tests of what orders layers.
use splitbrain_core::disk::{self, ORDER, PROOF, READY};
use splitbrain_core::{DiskOrder, DiskProof, Unsynced};
use std::fs;
use std::path::Path;
use std::process::ExitCode;

fn put(name: &str, content: &[u8]) {
    let draft = disk::file(Path::new("."), "draft");
    fs::write(&draft, content).unwrap();
    fs::rename(&draft, disk::file(Path::new("."), name)).unwrap();
}

/// A process with a layer and no disk: it believes every order it reads (`honest`), or nothing (`blind`), or ends instead
/// of an answer (`mortal`), or does not die of a cut (`deathless`).
pub fn main(kind: &str) -> ExitCode {
    fs::create_dir_all(disk::FOLDER).unwrap();
    let mut adopted = 0;
    let mut first = true;
    loop {
        let order: DiskOrder = fs::read(disk::file(Path::new("."), ORDER))
            .ok()
            .map(|bytes| serde_json::from_slice(&bytes).unwrap())
            .unwrap_or_default();
        if order.generation > adopted {
            adopted = order.generation;
            let saw = match kind {
                "mortal" => return ExitCode::from(9),
                "blind" => Err("nothing to see".to_string()),
                _ => Ok(format!("{}, {:?}", order.disk, order.cut)),
            };
            let generation = order.generation;
            put(PROOF, &serde_json::to_vec(&DiskProof { generation, saw }).unwrap());
            // A cut is for the life that was given it.
            if order.cut != Unsynced::Kept && !first && kind != "deathless" {
                nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).unwrap();
            }
        }
        if std::mem::take(&mut first) {
            put(READY, b"a toy\n");
            println!(r#"{{"event":"ready"}}"#);
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}
