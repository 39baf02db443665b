//! What runs on a host that is not ours: the agent.
//!
//! Control brings our program there and starts it as `splitbrain steward serve`. That process forks: the child is the
//! *agent* ([`serve`]), which speaks [`proto`] over standard input and output and does all the work; the parent is its
//! *guard* ([`guard`]), which does nothing but watch it.
//!
//! ```text
//! control ==frames==> agent: reader thread --orders--> order thread --starts--> processes of the host
//!                       |       |  answers beats          (one order at a time)    |
//!                     guard <---'  each frame is a sign of life                    '-- streams: a thread each
//! ```
//!
//! **Nothing outlives control.** Whatever ends the agent without an orderly end, the guard heals the host: it ends every
//! process of ours and undoes what the [`ledger`] names. That happens when control's stream ends, when control was silent for
//! longer than [`proto::Hello::dead_man`] (also if the agent hangs or stands still), when the agent is killed, and on
//! SIGTERM, SIGINT and SIGHUP. If the guard is killed, the agent becomes what heals. If both are killed at once, the ledger
//! and our marks are left, the host is refused to the next run, and `splitbrain heal` cleans it.
//!
//! **Nothing of others is touched.** A process is ours if it descends from the agent, if the ledger names its pid and start
//! time, or if its environment carries our mark. Rules and mounts are known by marks of their own. Nothing is ever flushed,
//! and no process is found by its name.
//!
//! Caveats: agent and guard both die where a whole container is torn down, or a whole control group is killed; in the first
//! case nothing is left that could be healed, in the second see above. Then, too, an orphan is not found that has wiped its
//! environment: only agent and guard know it as theirs.
mod guard;
mod heal;
mod ledger;
mod orders;
pub mod proto;
mod serve;
mod spawn;
mod state;
mod streams;

/// What the agent becomes when its guard was killed.
const FINISH: &str = "finish";

/// Everything after the word [`crate::remote::AGENT`]. To be called before any thread exists. Returns the exit code.
///
/// - `serve`: see above;
/// - `heal`: cleans this host by its ledger and our marks. Prints `{"removed":[..],"left":[..]}`; 0 if nothing is left;
/// - `check`: looks and touches nothing. Prints `{"left":[..],"in_use_by":null}`; 0 if nothing is left and nobody uses it.
pub fn main(args: &[String]) -> i32 {
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve"] => guard::serve(),
        ["heal"] => heal::heal_command(),
        ["check"] => heal::check_command(),
        [FINISH] => heal::finish_command(),
        _ => {
            note!("this command is for internal use: serve, heal or check");
            2
        }
    }
}
