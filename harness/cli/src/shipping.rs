//! The files that a plan's service needs, on their way from the user's machine to the hosts.
//!
//! They are read once, before anything starts. A copy stays in the run's folder, and the plan that is kept there names the
//! copies: so a run can be repeated from its folder alone, however the originals change.
use crate::exit::Failure;
use splitbrain_core::plan::Deploy;
use splitbrain_core::{HostRole, HostSpec, Plan};
use splitbrain_environments::ground::{Ground, HostFile};
use splitbrain_runner::store::RunDir;
use std::collections::BTreeSet;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Where copies stay, in the run's folder.
const FOLDER: &str = "files";

/// The files of a run, read.
#[derive(Debug, Default)]
pub struct Cargo(Vec<(HostRole, HostFile)>);

/// The paths in `deploy`, seen from `folder` instead of from the folder's plan.
pub fn resolve(deploy: &mut Deploy, folder: &Path) {
    for (_, part) in deploy.parts_mut() {
        for file in &mut part.files {
            *file = folder.join(&file).display().to_string();
        }
    }
}

/// Reads the files that `plan` names, and has it name the copies that [`Cargo::keep`] makes.
pub fn gather(plan: &mut Plan) -> Result<Cargo, Failure> {
    let mut cargo = Cargo::default();
    refuse_forgotten(plan)?;
    for (kind, part) in plan.deploy.parts_mut() {
        let role = kind.parse().expect("parts are called as their hosts' role");
        let mut names = BTreeSet::new();
        for path in &mut part.files {
            let file = read(path).map_err(|why| {
                Failure::usage(format!("failed to read the file {path} for the {kind}s' hosts: {why}"))
            })?;
            if !names.insert(file.name.clone()) {
                return Err(Failure::usage(format!(
                    "two files for the {kind}s' hosts are called {}: hosts get files without folders",
                    file.name
                )));
            }
            *path = format!("{FOLDER}/{kind}/{}", file.name);
            cargo.0.push((role, file));
        }
    }
    Ok(cargo)
}

/// A command's word that names a file here, in a folder or not, will name nothing where the command runs.
fn refuse_forgotten(plan: &Plan) -> Result<(), Failure> {
    let part = &plan.deploy.candidate;
    let shipped = |word: &str| {
        part.files
            .iter()
            .any(|file| Path::new(file).file_name() == Some(word.as_ref()))
    };
    let is_here = |word: &&str| Path::new(word).is_relative() && Path::new(word).is_file();
    let mut words = part.command.split_whitespace();
    match words.find(|word| is_here(word) && !shipped(word.strip_prefix("./").unwrap_or(word))) {
        None => Ok(()),
        Some(word) => {
            let name = Path::new(word).file_name().unwrap_or_default().display();
            Err(Failure::usage(format!(
                "{word} is a file here, but not where '{}' will run: add --file {word}, and call it {name} there",
                part.command
            )))
        }
    }
}

fn read(path: &str) -> Result<HostFile, String> {
    let path = Path::new(path);
    let meta = path.metadata().map_err(|e| e.to_string())?;
    if !meta.is_file() {
        return Err("it is no file; folders go as an archive that the command unpacks".to_string());
    }
    let name = path.file_name().and_then(|name| name.to_str());
    Ok(HostFile {
        name: name.ok_or("its name is not UTF-8")?.to_string(),
        content: std::fs::read(path).map_err(|e| e.to_string())?,
        executable: meta.permissions().mode() & 0o111 != 0,
    })
}

impl Cargo {
    /// Copies all into the run's folder.
    pub fn keep(&self, dir: &RunDir) -> Result<(), String> {
        for (role, file) in &self.0 {
            let folder = dir.file(FOLDER).join(role.name());
            let mode = if file.executable { 0o755 } else { 0o644 };
            let path = folder.join(&file.name);
            let write = || {
                std::fs::create_dir_all(&folder)?;
                let mut copy = std::fs::File::options()
                    .create_new(true)
                    .write(true)
                    .mode(mode)
                    .open(&path)?;
                std::io::Write::write_all(&mut copy, &file.content)
            };
            write().map_err(|e| format!("failed to write {}: {e}", path.display()))?;
        }
        Ok(())
    }

    /// Copies each to all hosts of its role.
    pub fn ship(&self, hosts: &[HostSpec], ground: &dyn Ground) -> Result<(), Failure> {
        for (role, file) in &self.0 {
            for host in hosts.iter().filter(|host| host.role == *role) {
                ground.put(host.name, file).map_err(Failure::harness)?;
            }
        }
        Ok(())
    }
}
