//! A disk that can be broken, for programs that are judged as they are installed: a file system in user space.
//!
//! **Problem.** etcd writes to the host's disk directly; a full volume, a slow sync or a power cut cannot be had there without
//! breaking the machine for everybody. **Mechanism.** A host's directory is a mount of ours. Every operation is passed on to
//! a *backing* directory ([`files`]); writes and syncs pass a [`volume`] first, which refuses, delays or fails them as ordered,
//! and remembers what each write overwrote until it is synced, so that a power cut can take it back. Orders and proofs are
//! the files of [`splitbrain_core::disk`], and a thread here obeys them ([`orders`]) by going through the mount itself, like
//! the process under test.
//!
//! **Power cut.** At the process's next write everything unsynced is taken back, of all files; `Torn` then lets a part of
//! that write through; then the writer is ended by SIGKILL, before its write returns.
//!
//! Where it can be had: a kernel with FUSE and a `/dev/fuse` that we may open, and the right to mount (root, or a user
//! namespace of our own). Elsewhere it is refused with the reason ([`missing`]).
//!
//! Caveats. (1) Names are durable at once: only contents of files are taken back. (2) Beyond [`volume::MOST`] bytes of
//! unsynced writes the oldest count as written, as a kernel's own flusher would have done it. (3) One thread serves all but
//! syncs; it costs about 20 us an operation. (4) A write through a shared mapping is seen when the kernel writes it back.
mod backing;
mod files;
mod orders;
mod volume;

use crate::sabotage::Sabotage;
use files::Files;
use fuser::{BackgroundSession, MountOption};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use volume::Volume;

/// A mounted disk. Dropping it unmounts; who still uses it gets errors.
pub struct Mounted {
    /// Before the session: its thread uses the mount.
    orders: Option<orders::Watcher>,
    session: Option<BackgroundSession>,
    /// Where it is mounted.
    pub at: PathBuf,
}

/// The disks of an agent or a sandbox, by the directories that stand on them.
pub(crate) struct Disks {
    mounted: Vec<Mounted>,
    seed: u64,
    sabotage: bool,
}

impl Disks {
    /// None yet.
    pub fn new(seed: u64, sabotage: Option<Sabotage>) -> Disks {
        Disks {
            mounted: Vec::new(),
            seed,
            sabotage: sabotage == Some(Sabotage::DiskDoesNothing),
        }
    }

    /// Mounts a disk at `dir` unless one is; its files are in the folder beside it that ends in `.disk`.
    pub fn stand_on(&mut self, dir: &Path) -> Result<(), String> {
        if self.mounted.iter().any(|disk| disk.at == dir) {
            return Ok(());
        }
        self.mounted
            .push(mount(&files_of(dir, true), dir, self.seed, self.sabotage)?);
        Ok(())
    }

    /// Unmounts all. The files stay in their folders.
    pub fn unmount(&mut self) {
        self.mounted.clear();
    }
}

/// Where the files of `dir` are before anything is mounted there, if it is to be mounted (`layered`) or not.
pub(crate) fn files_of(dir: &Path, layered: bool) -> PathBuf {
    let mut files = dir.as_os_str().to_os_string();
    if layered {
        files.push(".disk");
    }
    files.into()
}

/// Why there can be no such disk here, with the remedy; `None` if there can.
pub fn missing() -> Option<String> {
    match fs::File::options().read(true).write(true).open("/dev/fuse") {
        Ok(_) => None,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Some("there is no /dev/fuse here: modprobe fuse, or give the container that device".into())
        }
        Err(e) => Some(format!(
            "/dev/fuse cannot be opened ({e}): be root, or chmod 666 /dev/fuse"
        )),
    }
}

/// Mounts a disk at `at` that keeps its files in `backing`; both are made if need be. `seed` decides which syncs fail. With
/// `sabotage` orders are noted and do nothing. Fails with the remedy where it cannot be had.
pub fn mount(backing: &Path, at: &Path, seed: u64, sabotage: bool) -> Result<Mounted, String> {
    if let Some(why) = missing() {
        return Err(format!("mount a disk at {}: {why}", at.display()));
    }
    let failed = |e: std::io::Error| format!("mount a disk at {}: {e}", at.display());
    fs::create_dir_all(backing).map_err(failed)?;
    fs::create_dir_all(at).map_err(failed)?;
    let volume = Arc::new(Volume::new(seed, sabotage));
    let files = Files::new(backing, volume.clone()).map_err(failed)?;
    let options = [
        MountOption::FSName("splitbrain".into()),
        MountOption::DefaultPermissions,
        MountOption::NoAtime,
    ];
    let session = fuser::spawn_mount2(files, at, &options)
        .map_err(|e| format!("{}: mounting takes root or a user namespace of one's own", failed(e)))?;
    let mut mounted = Mounted {
        orders: None,
        session: Some(session),
        at: at.to_path_buf(),
    };
    mounted.orders = Some(orders::watch(backing, at, volume)?);
    Ok(mounted)
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(self.orders.take());
        // Lazily: a process that is about to die may still have files open.
        let at = std::ffi::CString::new(self.at.as_os_str().as_encoded_bytes()).expect("a path has no zero byte");
        // SAFETY: a system call with a string that outlives it.
        unsafe { libc::umount2(at.as_ptr(), libc::MNT_DETACH) };
        drop(self.session.take());
    }
}
