//! How a connection that belongs to another thread is ended from outside.
//!
//! libssh2 waits where it likes, also when it is dropped. So a connection has a thread of its own which nobody waits for
//! without a limit, and this is what others hold of it: its sockets, to be shut down, after which libssh2 returns at once.
use nix::sys::socket::{Shutdown, shutdown};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

/// One connection's end, from outside.
#[derive(Debug, Default)]
pub(super) struct Leash {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    sockets: Vec<OwnedFd>,
    cut: bool,
    ended: bool,
}

impl Leash {
    /// To be cut with the rest; fails if that has happened.
    pub fn hold(&self, socket: impl AsFd) -> io::Result<()> {
        let socket = socket.as_fd().try_clone_to_owned()?;
        let mut state = self.state.lock().expect("nobody panics here");
        if state.cut {
            return Err(io::Error::other("the connection was given up"));
        }
        state.sockets.push(socket);
        Ok(())
    }

    /// Shuts every socket down.
    pub fn cut(&self) {
        let mut state = self.state.lock().expect("nobody panics here");
        state.cut = true;
        for socket in state.sockets.drain(..) {
            // It may be shut already: that is what we want.
            let _ = shutdown(socket.as_raw_fd(), Shutdown::Both);
        }
    }

    /// Says that the connection's thread is done.
    pub fn end(&self) {
        let mut state = self.state.lock().expect("nobody panics here");
        state.ended = true;
        state.sockets.clear();
        self.changed.notify_all();
    }

    /// Waits until the connection's thread is done; false if it takes longer.
    pub fn ended_within(&self, limit: Duration) -> bool {
        let state = self.state.lock().expect("nobody panics here");
        let (state, _) = self
            .changed
            .wait_timeout_while(state, limit, |state| !state.ended)
            .expect("nobody panics here");
        state.ended
    }
}
