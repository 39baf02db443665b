//! The little that a switch must know of an Ethernet frame: where it goes, and which of its bits may be flipped.
//!
//! Which bits of a packet may be flipped is the same wherever it is corrupted ([`shape::bit_to_flip`]). A frame that is no IP
//! has no such bit and passes unharmed.
use crate::shape;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// Bytes of an Ethernet header without a VLAN tag.
pub const HEADER: usize = 14;

/// Whom a frame is for, or `None` if it is too short to say.
pub fn destination(frame: &[u8]) -> Option<Mac> {
    if frame.len() < HEADER {
        return None;
    }
    frame.first_chunk::<6>().copied()
}

/// Whether `mac` is a group address: broadcast or multicast.
pub fn is_group(mac: Mac) -> bool {
    mac[0] & 1 == 1
}

/// The byte and the mask that flip one bit behind the IP header, chosen by `random`; `None` if the frame has no bit that
/// a checksum covers.
pub fn bit_to_flip(frame: &[u8], random: u64) -> Option<(usize, u8)> {
    let kind = u16::from_be_bytes([*frame.get(12)?, *frame.get(13)?]);
    let packet = &frame[HEADER..];
    let version = packet.first()? >> 4;
    if !matches!((kind, version), (0x0800, 4) | (0x86dd, 6)) {
        return None;
    }
    let (at, mask) = shape::bit_to_flip(packet, random)?;
    Some((HEADER + at, mask))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An IPv4 frame of `payload` bytes behind a header of `ihl` words, padded to 60 bytes.
    fn ipv4(ihl: u8, payload: usize) -> Vec<u8> {
        let mut f = vec![0; HEADER + usize::from(ihl) * 4 + payload];
        f[12..14].copy_from_slice(&[0x08, 0x00]);
        f[14] = 0x40 | ihl;
        f[16..18].copy_from_slice(&(u16::from(ihl) * 4 + payload as u16).to_be_bytes());
        f.resize(f.len().max(60), 0);
        f
    }

    #[test]
    fn flips_every_bit_behind_the_ip_header_and_no_other() {
        for ihl in [5, 15] {
            let f = ipv4(ihl, 8);
            let start = HEADER + usize::from(ihl) * 4;
            let hit: Vec<(usize, u8)> = (0..64).map(|r| bit_to_flip(&f, r).unwrap()).collect();
            let all: Vec<(usize, u8)> = (0..64).map(|i| (start + i / 8, 1 << (i % 8))).collect();
            assert_eq!(hit, all);
            assert_eq!(bit_to_flip(&f, 64), bit_to_flip(&f, 0));
        }
    }

    #[test]
    fn flips_behind_an_ipv6_header() {
        let mut f = vec![0; HEADER + 40 + 2];
        f[12..14].copy_from_slice(&[0x86, 0xdd]);
        f[14] = 0x60;
        f[18..20].copy_from_slice(&2_u16.to_be_bytes());
        assert_eq!(bit_to_flip(&f, 15), Some((HEADER + 41, 0x80)));
    }

    #[test]
    fn leaves_alone_what_no_checksum_covers() {
        let mut arp = ipv4(5, 20);
        arp[12..14].copy_from_slice(&[0x08, 0x06]);
        assert_eq!(bit_to_flip(&arp, 3), None);
        assert_eq!(bit_to_flip(&ipv4(5, 0), 3), None, "no payload, only padding");
    }

    #[test]
    fn never_reads_beyond_a_frame_that_lies_about_its_length() {
        for len in 0..60 {
            let mut f = ipv4(15, 8);
            f[16] = 0xff;
            f.truncate(len);
            for r in [0, 77, u64::MAX] {
                assert!(bit_to_flip(&f, r).is_none_or(|(at, _)| at < len));
            }
            destination(&f);
        }
    }

    #[test]
    fn tells_groups_from_hosts() {
        assert!(is_group([0xff; 6]));
        assert!(is_group([0x33, 0x33, 0, 0, 0, 1]));
        assert!(!is_group([2, 0, 0, 0, 0, 1]));
        assert_eq!(destination(&[7; 13]), None);
    }
}
