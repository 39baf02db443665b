//! What runs on a host that is not ours: the agent.
pub mod proto;
