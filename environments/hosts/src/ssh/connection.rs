//! One connection: from a socket to a session whose host is known and which has let us in.
use super::access::Access;
use super::known::{HostKey, Standing, Unknown};
use super::leash::Leash;
use super::pump::Pump;
use super::target::Target;
use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sys::socket::{Shutdown, setsockopt, shutdown, sockopt};
use ssh2::{Channel, DisconnectCode, ErrorCode, ExtendedData, MethodType, Session};
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Until a host has taken our connection.
const CONNECT: Duration = Duration::from_secs(5);
/// For one call of libssh2, in ms.
const CALL: u32 = 10_000;
/// Most that a command of ours may say.
const MAX_ANSWER: usize = 1 << 20;

/// A session that has let us in. Dropping it shuts its socket down first, so that libssh2 has nothing to wait for.
pub(super) struct Connection {
    /// To be used by one thread only.
    pub session: Session,
    /// The session's own, once more.
    pub socket: OwnedFd,
    /// Of whom we are connected to, if the host was not reached through another.
    pub peer: Option<IpAddr>,
}

/// How a host is reached.
#[derive(Clone, Debug)]
pub(super) struct Route {
    /// The host.
    pub target: Target,
    /// How it knows us and we know it.
    pub access: Arc<Access>,
}

impl Connection {
    /// Connects to a host, through `jump` if there is one.
    pub fn open(route: &Route, jump: Option<&Route>, leash: &Arc<Leash>) -> Result<Connection> {
        let Some(jump) = jump else {
            let stream = dial(&route.target)?;
            leash.hold(&stream)?;
            let peer = stream.peer_addr().map(|address| address.ip()).ok();
            return Connection::enter(stream.into(), peer, route);
        };
        let outer = Connection::open(jump, None, leash)
            .with_context(|| format!("failed to pass through jump host {}", jump.target))?;
        let (ours, theirs) = UnixStream::pair()?;
        leash.hold(&ours)?;
        let channel = outer
            .session
            .channel_direct_tcpip(&route.target.host, route.target.port, None)
            .map_err(|error| {
                outer.cut();
                anyhow!(
                    "jump host {} cannot reach {} port {} ({}): is it up, does its sshd listen there, and does the \
                     jump host allow forwarding (AllowTcpForwarding)?",
                    jump.target,
                    route.target.host,
                    route.target.port,
                    error.message()
                )
            })?;
        let pump = Pump::new(outer, channel, theirs, None)?;
        let name = format!("ssh jump {}", route.target.host);
        thread::Builder::new().name(name).spawn(move || {
            // How it ended, the inner connection sees for itself.
            let _ = pump.run();
        })?;
        Connection::enter(ours.into(), None, route)
    }

    /// Makes a session on a connected socket: keys are exchanged, the host's is checked, ours is shown.
    fn enter(socket: OwnedFd, peer: Option<IpAddr>, route: &Route) -> Result<Connection> {
        let mut session = Session::new()?;
        session.set_timeout(CALL);
        session.set_tcp_stream(socket.try_clone()?);
        let supported = session.supported_algs(MethodType::HostKey)?;
        let preference = route.access.known.preference(&route.target, &supported)?;
        session.method_pref(MethodType::HostKey, &preference)?;
        let mut connection = Connection { session, socket, peer };
        connection.session.handshake().map_err(|error| {
            connection.cut();
            anyhow!(
                "no SSH connection could be made at {} port {} ({}): is that its sshd, and does it take more \
                 connections (MaxStartups)?",
                route.target.host,
                route.target.port,
                error.message()
            )
        })?;
        connection.check_host(route)?;
        route.access.log_in(&connection, &route.target)?;
        Ok(connection)
    }

    fn check_host(&self, route: &Route) -> Result<()> {
        let target = &route.target;
        let key = match self.session.host_key() {
            Some((key, _)) => HostKey(key.to_vec()),
            None => bail!("it showed no host key"),
        };
        let known = &route.access.known;
        if known.unknown == Unknown::Take {
            return Ok(());
        }
        let files: Vec<String> = known.files.iter().map(|file| file.display().to_string()).collect();
        let shown = format!("{} {}", key.kind(), key.fingerprint());
        match (known.standing(target, &key)?, known.unknown) {
            (Standing::Known, _) => Ok(()),
            (Standing::Unknown, Unknown::Write | Unknown::Take) => known.write(target, &key),
            (Standing::Unknown, Unknown::Refuse) => bail!(
                "its host key is not known: {shown} is not in {}. Compare it with the host's own (`ssh-keygen -lf \
                 /etc/ssh/ssh_host_..._key.pub` there), then connect once by `ssh {}`, or add it by `ssh-keyscan -p {} {} \
                 >> {}`, or take it unseen by --accept-new-host-keys",
                files.join(" nor "),
                target.for_ssh(),
                target.port,
                target.host,
                files[0],
            ),
            (Standing::Changed(at), _) => bail!(
                "ITS HOST KEY HAS CHANGED: it shows {shown}, and {at} says otherwise. Somebody may be in between, or \
                 the host was made anew; it is never connected to like this. If you know why, remove that line and try \
                 again"
            ),
            (Standing::Revoked(at), _) => bail!("ITS HOST KEY WAS REVOKED: it shows {shown}, which {at} forbids"),
        }
    }

    /// Runs a line of a POSIX shell there, whatever the user's own shell is, and returns what it says on either output. The
    /// line must hold no `'` and end with a word of its own: a status is nothing to rely on.
    pub fn ask(&self, line: &str) -> Result<String> {
        let mut answer = Vec::new();
        self.run(line)
            .and_then(|mut channel| {
                let mut buffer = vec![0; 16 * 1024];
                while !channel.eof() {
                    let n = channel.read(&mut buffer)?;
                    answer.extend_from_slice(&buffer[..n]);
                    ensure!(
                        answer.len() < MAX_ANSWER,
                        "a command that should say little says too much"
                    );
                }
                channel.close().and_then(|()| channel.wait_close())?;
                Ok(())
            })
            .inspect_err(|_| self.cut())?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    fn run(&self, line: &str) -> Result<Channel> {
        let mut channel = self.session.channel_session()?;
        // Whoever reads one of two streams alone waits forever should the other one fill up.
        channel.handle_extended_data(ExtendedData::Merge)?;
        channel.exec(&shell(line))?;
        Ok(channel)
    }

    /// Shuts the socket down; whatever is asked of the session from now on fails at once.
    pub fn cut(&self) {
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
    }

    /// Says good-bye. Bounded in time.
    pub fn close(self) {
        self.session.set_blocking(true);
        self.session.set_timeout(1000);
        let _ = self
            .session
            .disconnect(Some(DisconnectCode::ByApplication), "done", None);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.cut();
    }
}

/// A command that any login shell passes to a POSIX shell as it is.
pub(super) fn shell(line: &str) -> String {
    assert!(
        !line.contains(['\'', '\n']),
        "the line must survive every shell's quoting"
    );
    format!("exec sh -c '{line}'")
}

/// A word inside such a line.
pub(super) fn quoted(word: &str) -> Result<String> {
    ensure!(
        !word.contains(['\'', '\n', '\\', '`', '$', '"', '!']),
        "a name with quotes or other special characters cannot be used: {word}"
    );
    Ok(format!("\"{word}\""))
}

/// Whether libssh2 only wants to be asked again.
pub(super) fn would_block(error: &ssh2::Error) -> bool {
    // LIBSSH2_ERROR_EAGAIN, which the crate does not name.
    error.code() == ErrorCode::Session(-37)
}

fn dial(target: &Target) -> Result<TcpStream> {
    let (host, port) = (&target.host, target.port);
    let addresses: Vec<SocketAddr> = match (host.as_str(), port).to_socket_addrs() {
        Ok(addresses) => addresses.collect(),
        Err(error) => bail!("the name {host} has no address ({error}): check it, or give the address itself"),
    };
    let until = Instant::now() + CONNECT;
    let mut last = anyhow!("the name {host} has no address");
    for address in addresses {
        let left = until
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(1));
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => {
                tune(&stream).context("failed to set the socket's options")?;
                return Ok(stream);
            }
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                last = anyhow!("nothing listens at {address}: start its sshd, or give another port as HOST:PORT");
            }
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                last = anyhow!("{address} did not answer within {CONNECT:?}: is it up, and not behind a firewall?");
            }
            Err(error) => {
                last = anyhow!("{address} cannot be reached ({error}): is it up, and is there a route to it?")
            }
        }
    }
    Err(last)
}

/// So that the kernel notices a dead peer, which libssh2's own keepalive does not.
fn tune(stream: &TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let fd = stream.as_fd();
    setsockopt(&fd, sockopt::KeepAlive, &true)?;
    setsockopt(&fd, sockopt::TcpKeepIdle, &2)?;
    setsockopt(&fd, sockopt::TcpKeepInterval, &1)?;
    setsockopt(&fd, sockopt::TcpKeepCount, &4)?;
    setsockopt(&fd, sockopt::TcpUserTimeout, &5000)?;
    Ok(())
}
