//! The `local` environment: a cluster on this machine, without root and without any tool.
//!
//! Control (the `splitbrain` process) runs its own program again as a *sandbox* ([`sandbox`]): a process in user,
//! network, mount and pid namespaces of its own. Its pid 1, *init*, makes a network namespace for each host, joins them
//! by a user-space [`switch`], starts the processes that control asks for, and carries actions out and proves them.
//!
//! ```text
//! control --spawns--> stage 1 --forks--> init (pid 1 inside) --spawns--> processes of n1, n2, ...
//!    |                 (waits)             |  n1 [eth0]--.
//!    '------ socket: orders, reports ------'  n2 [eth0]--+-- switch (a thread of init)
//!    '------ pipes: candidate protocol ------ n3 [eth0]--'
//! ```
//!
//! **Nothing outlives control.** Stage 1 dies with the thread of control that spawned it, init dies with stage 1 or when
//! the socket closes, and with a pid namespace's first process the kernel ends all others; namespaces, interfaces and
//! mounts go with the last process in them. No clean-up code has to run.
//!
//! Caveats: hosts share the kernel, the clock and the file system; a process that leaves its network namespace on
//! purpose escapes its host, though not the sandbox.
pub(crate) mod channel;
mod clocks;
pub(crate) mod control;
mod doctor;
mod effects;
mod init;
mod leftovers;
mod namespaces;
mod net;
mod netlink;
mod probe;
pub mod sandbox;
mod site;
pub mod switch;

pub use channel::Traffic;
pub use doctor::{Check, doctor};
pub use leftovers::{Leftover, end, leftovers};
pub use site::{LocalConfig, LocalSite};

pub(crate) use control::helper;
