//! A host with its own sshd, users and keys: one process of OpenSSH for each connection that we take, in a mount namespace
//! where `/etc/passwd` and its like are the test's own. Needs root, and leaves nothing.
use splitbrain_core::plan::{HostKeys, Ssh};
use splitbrain_environments::remote::Remote;
use splitbrain_environments::ssh;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{process, thread};

/// Longer than anything takes; only there so that a failure is no hang.
pub const LONG: Duration = Duration::from_secs(60);

/// Stands for our program: answers `--version`, and as `steward` does what its second argument says.
pub const PROGRAM: &str = r#"#!/bin/sh
[ "$1" = --version ] && { echo "stand-in 1"; exit 0; }
[ "$1" = steward ] || { echo "called as $*" >&2; exit 2; }
case "$2" in
    echo) exec cat;;
    who) echo "$(id -u) $3"; exec cat;;
    noise) head -c 16000000 /dev/zero >&2 & cat; wait;;
    fail) echo "it went wrong" >&2; exit 7;;
    deaf) echo "$$"; exec sleep 1000000;;
esac
"#;

/// A login shell with a talkative profile.
pub const NOISY: &str =
    "#!/bin/sh\necho Welcome; echo splitbrain:machine BeOS; printf oops; echo oops >&2\nexec /bin/sh \"$@\"\n";

/// What differs from a well-meant host.
pub struct Wish {
    /// Lines for `sshd_config`.
    pub config: String,
    /// The shell of all users; `DIR` is the rig's folder.
    pub shell: String,
    /// Commands of the mount namespace.
    pub mounts: String,
}

impl Default for Wish {
    fn default() -> Wish {
        Wish {
            config: "Subsystem sftp internal-sftp".to_string(),
            shell: "/bin/sh".to_string(),
            mounts: String::new(),
        }
    }
}

/// The host, and what control needs to reach it.
pub struct Rig {
    pub dir: tempfile::TempDir,
    pub address: SocketAddr,
    children: Arc<Mutex<Vec<Child>>>,
    acceptor: Option<JoinHandle<()>>,
}

impl Rig {
    pub fn new() -> Rig {
        Rig::with(&Wish::default())
    }

    pub fn with(wish: &Wish) -> Rig {
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests start sshd, and need root"
        );
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        let put = |name: &str, text: &str, mode: u32| {
            fs::write(path.join(name), text).unwrap();
            fs::set_permissions(path.join(name), fs::Permissions::from_mode(mode)).unwrap();
        };
        for (name, id) in [("root", 0), ("worker", 1500), ("limited", 1501)] {
            fs::create_dir(path.join(name)).unwrap();
            chown(path.join(name), Some(id), Some(id)).unwrap();
        }
        let shown = path.display();
        let shell = wish.shell.replace("DIR", &shown.to_string());
        put("noisy", NOISY, 0o755);
        put(
            "passwd",
            &format!(
                "root:x:0:0::{shown}/root:{shell}\nsshd:x:105:65534::/run/sshd:/usr/sbin/nologin\n\
                 worker:x:1500:1500::{shown}/worker:{shell}\nlimited:x:1501:1501::{shown}/limited:{shell}\n"
            ),
            0o644,
        );
        put(
            "shadow",
            "root:*:19000:0:99999:7:::\nsshd:*:19000:0:99999:7:::\nworker:*:19000:0:99999:7:::\n\
             limited:*:19000:0:99999:7:::\n",
            0o600,
        );
        put(
            "sudoers",
            "Defaults use_pty\nroot ALL=(ALL) ALL\nworker ALL=(ALL) NOPASSWD: ALL\n",
            0o440,
        );
        put("program", PROGRAM, 0o755);
        keygen(&path.join("host_ed25519"), "ed25519", "");
        keygen(&path.join("host_rsa"), "rsa", "");
        keygen(&path.join("key"), "ed25519", "");
        fs::copy(path.join("key.pub"), path.join("authorized_keys")).unwrap();
        put(
            "sshd_config",
            &format!(
                "{}\nHostKey {shown}/host_ed25519\nHostKey {shown}/host_rsa\nAuthorizedKeysFile {shown}/authorized_keys\n\
                 StrictModes no\nUsePAM no\nPermitRootLogin yes\nPasswordAuthentication no\n\
                 KbdInteractiveAuthentication no\nPidFile none\n",
                wish.config
            ),
            0o644,
        );
        put("enter", &enter(path, &wish.mounts), 0o755);
        Rig::serve(dir)
    }

    fn serve(dir: tempfile::TempDir) -> Rig {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let children = Arc::new(Mutex::new(Vec::new()));
        let (path, list) = (dir.path().to_path_buf(), children.clone());
        let acceptor = thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                if path.join("closed").exists() {
                    return;
                }
                list.lock().unwrap().push(sshd(&path, stream));
            }
        });
        let rig = Rig {
            dir,
            address,
            children,
            acceptor: Some(acceptor),
        };
        rig.know("host_ed25519.pub");
        rig
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn host(&self, user: &str) -> String {
        format!("{user}@{}", self.address)
    }

    /// Makes one of the host's keys, and no other, the known one.
    pub fn know(&self, public: &str) {
        let key = fs::read_to_string(self.path(public)).unwrap();
        let line = format!("[127.0.0.1]:{} {key}", self.address.port());
        fs::write(self.path("known_hosts"), line).unwrap();
    }

    /// The settings that work.
    pub fn settings(&self, user: &str) -> Ssh {
        let shown = |name| self.path(name).display().to_string();
        Ssh {
            hosts: vec![self.host(user)],
            identity: Some(shown("key")),
            known_hosts: Some(shown("known_hosts")),
            host_keys: HostKeys::Check,
            jump: None,
            network: None,
        }
    }

    pub fn remote(&self, user: &str) -> Arc<dyn Remote> {
        one(&self.settings(user))
    }

    pub fn start(&self, remote: &dyn Remote, args: &[&str]) -> anyhow::Result<UnixStream> {
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        let log = File::create(self.path("log")).unwrap();
        let stream = remote.start_agent(&self.path("program"), &args, log)?;
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.set_write_timeout(Some(LONG)).unwrap();
        Ok(stream)
    }

    /// Why it does not start.
    #[track_caller]
    pub fn refused(&self, settings: &Ssh) -> String {
        let remote = one(settings);
        let error = self.start(&*remote, &["echo"]).expect_err("it started");
        let text = format!("{error:#}");
        assert!(
            text.starts_with(&remote.describe()),
            "it does not name the host: {text}"
        );
        text
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    /// What was copied for a user, by file name.
    pub fn copies(&self, user: &str) -> Vec<PathBuf> {
        let bin = self.path(user).join(".cache/splitbrain/bin");
        let folders = fs::read_dir(bin).into_iter().flatten();
        let files = folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
        files.map(|file| file.unwrap().path()).collect()
    }

    /// Waits until all processes of sshd have ended by themselves.
    pub fn all_ended(&self) {
        for child in self.children.lock().unwrap().iter_mut() {
            child.wait().unwrap();
        }
    }

    /// All processes of sshd, and what they started.
    pub fn processes(&self) -> Vec<i32> {
        let mut found: Vec<i32> = self
            .children
            .lock()
            .unwrap()
            .iter()
            .map(|child| i32::try_from(child.id()).unwrap())
            .collect();
        let mut i = 0;
        while i < found.len() {
            let children = format!("/proc/{0}/task/{0}/children", found[i]);
            let text = fs::read_to_string(children).unwrap_or_default();
            found.extend(text.split_whitespace().map(|pid| pid.parse::<i32>().unwrap()));
            i += 1;
        }
        found
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        for pid in self.processes() {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        fs::write(self.path("closed"), "").unwrap();
        let _ = TcpStream::connect(self.address);
        let _ = self.acceptor.take().unwrap().join();
        self.signal(nix::sys::signal::Signal::SIGKILL);
        self.all_ended();
    }
}

pub fn one(settings: &Ssh) -> Arc<dyn Remote> {
    ssh::remotes(settings).unwrap().remove(0)
}

pub fn keygen(path: &Path, kind: &str, passphrase: &str) {
    let mut keygen = Command::new("ssh-keygen");
    keygen
        .args(["-q", "-t", kind, "-N", passphrase, "-C", "test", "-f"])
        .arg(path);
    assert!(keygen.status().expect("ssh-keygen is installed").success());
}

/// The script that turns into sshd.
fn enter(dir: &Path, mounts: &str) -> String {
    let dir = dir.display();
    format!(
        "#!/bin/sh\nset -e\nmount --make-rprivate /\nfor f in passwd shadow sudoers; do mount --bind {dir}/$f /etc/$f; done\n\
         mount -t tmpfs none /run\nmkdir /run/sshd\n{}\nexec /usr/sbin/sshd -i -e -f {dir}/sshd_config\n",
        mounts.replace("DIR", &dir.to_string())
    )
}

fn sshd(dir: &Path, stream: TcpStream) -> Child {
    let log = File::options()
        .append(true)
        .create(true)
        .open(dir.join("sshd.log"))
        .unwrap();
    let input: OwnedFd = stream.into();
    let mut command = Command::new("unshare");
    command.arg("-m").arg(dir.join("enter"));
    command.stdin(input.try_clone().unwrap()).stdout(input).stderr(log);
    let parent = process::id();
    // SAFETY: only async-signal-safe calls.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
            match nix::unistd::getppid().as_raw() == parent as i32 {
                true => Ok(()),
                false => Err(io::Error::other("the test ended")),
            }
        });
    }
    command.spawn().expect("unshare is installed")
}

/// Between us and a host; can fall silent.
pub struct Proxy {
    pub address: SocketAddr,
    sockets: Arc<Mutex<Vec<TcpStream>>>,
    silent: Arc<Mutex<bool>>,
}

impl Proxy {
    pub fn to(target: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sockets, silent) = (Arc::<Mutex<Vec<TcpStream>>>::default(), Arc::<Mutex<bool>>::default());
        let (kept, hushed) = (sockets.clone(), silent.clone());
        // Ends with the test's process: there is one, and it waits in the kernel.
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let far = TcpStream::connect(target).unwrap();
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    kept.lock().unwrap().push(from.try_clone().unwrap());
                    let hushed = hushed.clone();
                    thread::spawn(move || {
                        let mut buffer = [0; 16384];
                        while let Ok(n @ 1..) = from.read(&mut buffer) {
                            if !*hushed.lock().unwrap() && io::Write::write_all(&mut to, &buffer[..n]).is_err() {
                                break;
                            }
                        }
                    });
                }
            }
        });
        Proxy {
            address,
            sockets,
            silent,
        }
    }

    pub fn fall_silent(&self) {
        *self.silent.lock().unwrap() = true;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        for socket in self.sockets.lock().unwrap().drain(..) {
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// An `ssh-agent`, with a key.
pub struct Agent {
    child: Child,
    pub socket: PathBuf,
}

impl Agent {
    pub fn with(key: &Path) -> Agent {
        let socket = key.with_extension("agent");
        let mut command = Command::new("ssh-agent");
        command.arg("-D").arg("-a").arg(&socket).stdout(Stdio::piped());
        let mut child = command.spawn().expect("ssh-agent is installed");
        // It prints where it listens once it does.
        let mut byte = [0];
        child.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
        let agent = Agent { child, socket };
        agent.add(key);
        agent
    }

    pub fn add(&self, key: &Path) {
        let mut add = Command::new("ssh-add");
        add.arg("-q").arg(key).env("SSH_AUTH_SOCK", &self.socket);
        assert!(add.status().unwrap().success());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody listens on, for as long as the socket lives.
pub fn reserved() -> (OwnedFd, SocketAddr) {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, getsockname, socket};
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(fd.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
    let bound: SockaddrIn = getsockname(fd.as_raw_fd()).unwrap();
    (fd, SocketAddr::from(([127, 0, 0, 1], bound.port())))
}
