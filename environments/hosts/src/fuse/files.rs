//! The file system: names and attributes are passed on to the backing directory, contents go through the volume.
//!
//! A file is known by a descriptor that stands for it without opening it (`O_PATH`), so that renames change nothing; its
//! number is the backing file's own. Nothing is cached by the kernel beyond an open file's pages, since a power cut changes
//! what the backing directory holds.
use super::backing::{at, attributes, kind, make_node, number, stand_for};
use super::orders::PROBE;
use super::volume::{Fate, Volume};
use fuser::{
    FileAttr, FileType, Filesystem, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow,
};
use splitbrain_core::disk::FOLDER;
use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const ROOT: u64 = 1;
/// Attributes may change behind the kernel's back.
const TTL: Duration = Duration::ZERO;

struct Node {
    fd: OwnedFd,
    lookups: u64,
    /// Whether faults leave it alone: the folder of orders and what is in it.
    exempt: bool,
}

struct Open {
    file: Arc<File>,
    exempt: bool,
}

/// The file system.
pub(super) struct Files {
    nodes: HashMap<u64, Node>,
    open: HashMap<u64, Open>,
    next: u64,
    volume: Arc<Volume>,
}

impl Files {
    pub fn new(backing: &Path, volume: Arc<Volume>) -> io::Result<Files> {
        let root = Node {
            fd: stand_for(&backing.canonicalize()?)?,
            lookups: 1,
            exempt: false,
        };
        Ok(Files {
            nodes: HashMap::from([(ROOT, root)]),
            open: HashMap::new(),
            next: 1,
            volume,
        })
    }

    fn node(&self, ino: u64) -> io::Result<&Node> {
        self.nodes.get(&ino).ok_or(io::Error::from_raw_os_error(libc::ESTALE))
    }

    fn child(&self, parent: u64, name: &OsStr) -> io::Result<PathBuf> {
        Ok(at(&self.node(parent)?.fd).join(name))
    }

    /// Where something new is to be made: nowhere on a full disk.
    fn new_child(&self, parent: u64, name: &OsStr) -> io::Result<PathBuf> {
        let exempt = self.node(parent)?.exempt || name == FOLDER || name == PROBE;
        if exempt || self.volume.has_room() {
            self.child(parent, name)
        } else {
            Err(io::Error::from_raw_os_error(libc::ENOSPC))
        }
    }

    /// Looks a name up and counts that the kernel knows it.
    fn known(&mut self, parent: u64, name: &OsStr) -> io::Result<FileAttr> {
        let fd = stand_for(&self.child(parent, name)?)?;
        let exempt = self.node(parent)?.exempt || (parent == ROOT && name == FOLDER);
        let ino = File::from(fd.try_clone()?).metadata()?.ino();
        // The backing root keeps the number that the protocol gives it; nothing else can have that one.
        let attr = attributes(ino, &fd)?;
        let node = self.nodes.entry(ino).or_insert(Node { fd, lookups: 0, exempt });
        node.lookups += 1;
        Ok(attr)
    }

    fn opened(&mut self, file: File, exempt: bool) -> u64 {
        let handle = self.next;
        self.next += 1;
        let file = Arc::new(file);
        self.open.insert(handle, Open { file, exempt });
        handle
    }

    fn handle(&self, fh: u64) -> io::Result<&Open> {
        self.open.get(&fh).ok_or(io::Error::from_raw_os_error(libc::EBADF))
    }

    fn enter(&mut self, made: io::Result<()>, parent: u64, name: &OsStr, reply: ReplyEntry) {
        match made.and_then(|()| self.known(parent, name)) {
            Ok(attr) => reply.entry(&TTL, &attr, 0),
            Err(e) => reply.error(number(&e)),
        }
    }

    fn change(&mut self, ino: u64, mode: Option<u32>, size: Option<u64>, fh: Option<u64>) -> io::Result<FileAttr> {
        let node = self.node(ino)?;
        let path = at(&node.fd);
        if let Some(mode) = mode {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        }
        if let Some(size) = size {
            let file = match fh.and_then(|fh| self.open.get(&fh)) {
                Some(open) => open.file.clone(),
                None => Arc::new(OpenOptions::new().read(true).write(true).open(&path)?),
            };
            if node.exempt {
                file.set_len(size)?;
            } else {
                self.volume.resize(ino, &file, size)?;
            }
        }
        attributes(ino, &self.node(ino)?.fd)
    }

    fn create_file(&mut self, parent: u64, name: &OsStr, mode: u32, flags: i32) -> io::Result<(FileAttr, u64)> {
        let path = self.new_child(parent, name)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).mode(mode);
        let file = options.custom_flags(flags & libc::O_EXCL).open(path)?;
        let attr = self.known(parent, name)?;
        let exempt = self.node(attr.ino)?.exempt;
        Ok((attr, self.opened(file, exempt)))
    }
}

fn done(result: io::Result<()>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(e) => reply.error(number(&e)),
    }
}

impl Filesystem for Files {
    fn lookup(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEntry) {
        self.enter(Ok(()), parent, name, reply);
    }

    fn forget(&mut self, _: &Request<'_>, ino: u64, lookups: u64) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.lookups = node.lookups.saturating_sub(lookups);
            if node.lookups == 0 && ino != ROOT {
                self.nodes.remove(&ino);
            }
        }
    }

    fn getattr(&mut self, _: &Request<'_>, ino: u64, _fh: Option<u64>, reply: ReplyAttr) {
        match self.node(ino).and_then(|node| attributes(ino, &node.fd)) {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(e) => reply.error(number(&e)),
        }
    }

    fn setattr(
        &mut self,
        _: &Request<'_>,
        ino: u64,
        mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        fh: Option<u64>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<u32>,
        reply: ReplyAttr,
    ) {
        match self.change(ino, mode, size, fh) {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(e) => reply.error(number(&e)),
        }
    }

    fn readlink(&mut self, _: &Request<'_>, ino: u64, reply: ReplyData) {
        let read = self.node(ino).and_then(|node| {
            let mut buffer = vec![0u8; 4096];
            // SAFETY: an empty name means the descriptor itself; the buffer is as long as we say.
            let n = unsafe {
                libc::readlinkat(
                    node.fd.as_raw_fd(),
                    c"".as_ptr(),
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                )
            };
            let n = usize::try_from(n).map_err(|_| io::Error::last_os_error())?;
            buffer.truncate(n);
            Ok(buffer)
        });
        match read {
            Ok(target) => reply.data(&target),
            Err(e) => reply.error(number(&e)),
        }
    }

    fn mknod(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, mode: u32, _: u32, rdev: u32, reply: ReplyEntry) {
        let made = self
            .new_child(parent, name)
            .and_then(|path| make_node(&path, mode, rdev));
        self.enter(made, parent, name, reply);
    }

    fn mkdir(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, mode: u32, _: u32, reply: ReplyEntry) {
        let made = self.new_child(parent, name);
        let made = made.and_then(|path| fs::DirBuilder::new().mode(mode).create(path));
        self.enter(made, parent, name, reply);
    }

    fn unlink(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEmpty) {
        done(self.child(parent, name).and_then(fs::remove_file), reply);
    }

    fn rmdir(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEmpty) {
        done(self.child(parent, name).and_then(fs::remove_dir), reply);
    }

    fn symlink(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let made = self.new_child(parent, name);
        self.enter(
            made.and_then(|path| std::os::unix::fs::symlink(target, path)),
            parent,
            name,
            reply,
        );
    }

    fn rename(
        &mut self,
        _: &Request<'_>,
        from: u64,
        name: &OsStr,
        to: u64,
        new: &OsStr,
        flags: u32,
        reply: ReplyEmpty,
    ) {
        if flags != 0 {
            return reply.error(libc::EINVAL);
        }
        let paths = self.child(from, name).and_then(|old| Ok((old, self.child(to, new)?)));
        done(paths.and_then(|(old, new)| fs::rename(old, new)), reply);
    }

    fn link(&mut self, _: &Request<'_>, ino: u64, parent: u64, name: &OsStr, reply: ReplyEntry) {
        let made = self.new_child(parent, name).and_then(|path| {
            let old = at(&self.node(ino)?.fd);
            // The path through /proc is itself a link, so it has to be followed.
            let [old, new] = [old, path].map(|path| CString::new(path.as_os_str().as_bytes()));
            let (old, new) = (old?, new?);
            // SAFETY: a system call with strings that outlive it.
            let linked = unsafe {
                libc::linkat(
                    libc::AT_FDCWD,
                    old.as_ptr(),
                    libc::AT_FDCWD,
                    new.as_ptr(),
                    libc::AT_SYMLINK_FOLLOW,
                )
            };
            if linked == 0 {
                Ok(())
            } else {
                Err(io::Error::last_os_error())
            }
        });
        self.enter(made, parent, name, reply);
    }

    fn open(&mut self, req: &Request<'_>, ino: u64, flags: i32, reply: ReplyOpen) {
        if flags & libc::O_ACCMODE != libc::O_RDONLY {
            self.volume.opened_by(req.pid());
        }
        let opened = self.node(ino).and_then(|node| {
            let writes = flags & libc::O_ACCMODE != libc::O_RDONLY;
            // Written files are read as well: what a write overwrites is remembered.
            let file = OpenOptions::new().read(true).write(writes).open(at(&node.fd))?;
            Ok((file, node.exempt, writes))
        });
        let opened = opened.and_then(|(file, exempt, writes)| {
            if writes && flags & libc::O_TRUNC != 0 {
                let file = Arc::new(file);
                self.volume.resize(ino, &file, 0)?;
                return Ok((Arc::into_inner(file), exempt));
            }
            Ok((Some(file), exempt))
        });
        match opened {
            Ok((Some(file), exempt)) => reply.opened(self.opened(file, exempt), 0),
            // The volume remembers the file that it cut; it is opened again.
            Ok((None, exempt)) => match self.node(ino).map(|node| at(&node.fd)) {
                Ok(path) => match OpenOptions::new().read(true).write(true).open(path) {
                    Ok(file) => reply.opened(self.opened(file, exempt), 0),
                    Err(e) => reply.error(number(&e)),
                },
                Err(e) => reply.error(number(&e)),
            },
            Err(e) => reply.error(number(&e)),
        }
    }

    fn create(
        &mut self,
        req: &Request<'_>,
        parent: u64,
        name: &OsStr,
        mode: u32,
        _: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        self.volume.opened_by(req.pid());
        match self.create_file(parent, name, mode, flags) {
            Ok((attr, handle)) => reply.created(&TTL, &attr, 0, handle, 0),
            Err(e) => reply.error(number(&e)),
        }
    }

    fn read(
        &mut self,
        _: &Request<'_>,
        _ino: u64,
        fh: u64,
        offset: i64,
        size: u32,
        _flags: i32,
        _lock: Option<u64>,
        reply: ReplyData,
    ) {
        let mut buffer = vec![0; size as usize];
        let mut filled = 0;
        let result = self.handle(fh).and_then(|open| {
            while filled < buffer.len() {
                match open
                    .file
                    .read_at(&mut buffer[filled..], offset as u64 + filled as u64)?
                {
                    0 => break,
                    n => filled += n,
                }
            }
            Ok(())
        });
        match result {
            Ok(()) => reply.data(&buffer[..filled]),
            Err(e) => reply.error(number(&e)),
        }
    }

    fn write(
        &mut self,
        req: &Request<'_>,
        ino: u64,
        fh: u64,
        offset: i64,
        data: &[u8],
        _write_flags: u32,
        _flags: i32,
        _lock: Option<u64>,
        reply: ReplyWrite,
    ) {
        let length = data.len() as u32;
        let written = self.handle(fh).and_then(|open| {
            if open.exempt {
                return open.file.write_all_at(data, offset as u64).map(|()| Fate::Written);
            }
            self.volume.write(ino, &open.file, offset as u64, data)
        });
        match written {
            Ok(Fate::Written) => reply.written(length),
            Ok(Fate::Refused(error)) => reply.error(error),
            Ok(Fate::Cut) => {
                // Before the reply: the writer sees nothing of what comes after the power.
                self.volume.opened_by(req.pid());
                self.volume.end_writers();
                reply.error(libc::EIO);
            }
            Err(e) => reply.error(number(&e)),
        }
    }

    fn flush(&mut self, _: &Request<'_>, _ino: u64, _fh: u64, _lock: u64, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(&mut self, _: &Request<'_>, _: u64, fh: u64, _: i32, _: Option<u64>, _: bool, reply: ReplyEmpty) {
        self.open.remove(&fh);
        reply.ok();
    }

    fn fsync(&mut self, _: &Request<'_>, ino: u64, fh: u64, _datasync: bool, reply: ReplyEmpty) {
        let (file, exempt) = match self.handle(fh) {
            Ok(open) => (open.file.clone(), open.exempt),
            Err(e) => return reply.error(number(&e)),
        };
        let volume = self.volume.clone();
        // A slow disk is slow for who waits for it, and for nobody else.
        let work = move || {
            let synced = if exempt {
                file.sync_data()
            } else {
                volume.sync(ino, &file)
            };
            done(synced, reply);
        };
        if let Err(e) = crate::local::helper("sync", work) {
            note!("a sync found no thread: {e}");
        }
    }

    fn fsyncdir(&mut self, _: &Request<'_>, _ino: u64, _fh: u64, _datasync: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn readdir(&mut self, _: &Request<'_>, ino: u64, _fh: u64, offset: i64, mut reply: ReplyDirectory) {
        let listed = self.node(ino).and_then(|node| {
            let mut entries: Vec<_> = fs::read_dir(at(&node.fd))?.collect::<io::Result<_>>()?;
            // By name, so that offsets keep their meaning from one call to the next.
            entries.sort_by_key(fs::DirEntry::file_name);
            Ok(entries)
        });
        let entries = match listed {
            Ok(entries) => entries,
            Err(e) => return reply.error(number(&e)),
        };
        for (n, entry) in entries.iter().enumerate().skip(offset as usize) {
            use std::os::unix::fs::DirEntryExt;
            let kind = entry.file_type().map_or(FileType::RegularFile, kind);
            if reply.add(entry.ino(), n as i64 + 1, kind, entry.file_name()) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&mut self, _: &Request<'_>, _ino: u64, reply: ReplyStatfs) {
        let free = if self.volume.has_room() { 1 << 20 } else { 0 };
        reply.statfs(1 << 21, free, free, 1 << 20, 1 << 19, 4096, 255, 4096);
    }

    fn fallocate(&mut self, _: &Request<'_>, _: u64, _: u64, _: i64, _: i64, _: i32, reply: ReplyEmpty) {
        // Programs fall back to writing zeros, which the volume sees.
        reply.error(libc::EOPNOTSUPP);
    }
}
