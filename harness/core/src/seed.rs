//! One seed, many independent random streams.
//!
//! A run has a single seed, which is always printed. Each part that needs chance takes a stream of its own, named by a
//! label (`"nemesis"`, `"net"`, `"n3"`), so that one part's drawing more numbers never shifts another's.
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// The random generator of every stream: fast, and the same on every machine.
pub type Rng = ChaCha8Rng;

/// The stream called `label` of a run's `seed`.
pub fn stream(seed: u64, label: &str) -> Rng {
    // FNV-1a over the label: a fixed function, unlike the standard library's hashers.
    let hash = label.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
    });
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&hash.to_le_bytes());
    key[16..24].copy_from_slice(&(label.len() as u64).to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng as _;

    #[test]
    fn streams_are_their_own_and_repeat() {
        assert_eq!(stream(7, "a").next_u64(), stream(7, "a").next_u64());
        assert_ne!(stream(7, "a").next_u64(), stream(7, "b").next_u64());
        assert_ne!(stream(7, "a").next_u64(), stream(8, "a").next_u64());
    }
}
