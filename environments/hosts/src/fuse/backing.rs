//! The backing directory's files, as the protocol of FUSE wants to know them.
use fuser::{FileAttr, FileType};
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

pub(super) fn number(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

/// Opens what `path` names, be it a link, without following or reading it.
pub(super) fn stand_for(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: a system call with a string that outlives it; what it returns is a new descriptor of nobody else's.
    unsafe {
        match libc::open(path.as_ptr(), libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

pub(super) fn at(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

pub(super) fn kind(file_type: fs::FileType) -> FileType {
    match file_type {
        t if t.is_dir() => FileType::Directory,
        t if t.is_symlink() => FileType::Symlink,
        t if t.is_fifo() => FileType::NamedPipe,
        t if t.is_socket() => FileType::Socket,
        t if t.is_char_device() => FileType::CharDevice,
        t if t.is_block_device() => FileType::BlockDevice,
        _ => FileType::RegularFile,
    }
}

pub(super) fn attributes(ino: u64, fd: &OwnedFd) -> io::Result<FileAttr> {
    // The descriptor itself is asked (fstat), not what a link would lead to.
    let meta = File::from(fd.try_clone()?).metadata()?;
    let time = |secs: i64, nanos: i64| {
        let span = Duration::new(secs.unsigned_abs(), nanos as u32);
        if secs < 0 { UNIX_EPOCH - span } else { UNIX_EPOCH + span }
    };
    Ok(FileAttr {
        ino,
        size: meta.len(),
        blocks: meta.blocks(),
        atime: time(meta.atime(), meta.atime_nsec()),
        mtime: time(meta.mtime(), meta.mtime_nsec()),
        ctime: time(meta.ctime(), meta.ctime_nsec()),
        crtime: UNIX_EPOCH,
        kind: kind(meta.file_type()),
        perm: (meta.mode() & 0o7777) as u16,
        nlink: meta.nlink() as u32,
        uid: meta.uid(),
        gid: meta.gid(),
        rdev: meta.rdev() as u32,
        blksize: meta.blksize() as u32,
        flags: 0,
    })
}

pub(super) fn make_node(path: &Path, mode: u32, rdev: u32) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: a system call with a string that outlives it.
    match unsafe { libc::mknod(path.as_ptr(), mode, u64::from(rdev)) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
