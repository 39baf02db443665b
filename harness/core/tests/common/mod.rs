//! What several tests need, and none needs all of.
#[allow(dead_code)]
mod dice;

pub use dice::Dice;
use std::hash::{BuildHasher, Hasher};

/// A fresh seed, printed with how to give it again.
pub fn seed(test: &str) -> u64 {
    let given = std::env::var("SPLITBRAIN_SEED").ok().and_then(|s| s.parse().ok());
    let fresh = || std::hash::RandomState::new().build_hasher().finish();
    let seed = given.unwrap_or_else(fresh);
    println!("{test}: SPLITBRAIN_SEED={seed}");
    seed
}
