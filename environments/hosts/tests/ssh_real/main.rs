//! Hosts by SSH, for real: OpenSSH's own server answers, on 127.0.0.1, as root and as other users.
mod meeting;
mod rig;
mod running;
