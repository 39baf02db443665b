//! Switching off what an interface leaves to hardware that a veth pair does not have.
//!
//! Between two ends of a veth pair Linux passes packets on without checksums and TCP data in pieces of up to 64 KiB,
//! because in the end nobody would look. A switch in user space looks: it would carry frames beyond the MTU, with
//! checksums that are wrong, and no flipped bit would ever be noticed. So all of segmentation, scatter-gather, receive
//! merging, checksums and VLAN insertion is switched off, at both ends of each pair.
//!
//! The calls are ethtool's (`SIOCETHTOOL`, linux/ethtool.h): features have names and bits, which differ between
//! kernels; the names are asked for and matched.
use super::socket::{control_socket, ifname_bytes};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

const SIOCETHTOOL: libc::Ioctl = 0x8946;
const GSTRINGS: u32 = 0x1b;
const GSSET_INFO: u32 = 0x37;
const GFEATURES: u32 = 0x3a;
const SFEATURES: u32 = 0x3b;
/// The string set of feature names, and the length of each.
const SS_FEATURES: u32 = 4;
const STRING_LEN: usize = 32;

/// Switches every offload of interface `ifname` off, in the network namespace of the calling thread, and verifies it.
/// Errors name the interface and the feature that stayed on.
pub fn offloads_off(ifname: &str) -> io::Result<()> {
    let failed = |what: &str| {
        let what = format!("{what} of interface {ifname}");
        move |e: io::Error| io::Error::new(e.kind(), format!("switch offloads off: {what}: {e}"))
    };
    let tool = Ethtool {
        socket: control_socket().map_err(failed("control socket"))?,
        ifname: ifname_bytes(ifname).map_err(failed("name"))?,
    };
    let names = tool.names().map_err(failed("feature names"))?;
    let blocks = names.len().div_ceil(32);
    let mut request = vec![SFEATURES, blocks as u32];
    let features = tool.features(blocks).map_err(failed("features"))?;
    for (block, feature) in features.iter().enumerate() {
        let valid = feature.available & offload_bits(&names, block);
        request.extend([valid, 0]);
    }
    tool.call(&mut request).map_err(failed("features"))?;
    let after = tool.features(blocks).map_err(failed("features"))?;
    let still_on = names.iter().enumerate().find(|(i, name)| {
        let changeable = features[i / 32].available;
        is_offload(name) && (after[i / 32].active & changeable) >> (i % 32) & 1 == 1
    });
    match still_on {
        Some((_, name)) => Err(failed("feature")(io::Error::other(format!("{name} stays on")))),
        None => Ok(()),
    }
}

fn is_offload(name: &str) -> bool {
    let starts = [
        "tx-checksum-",
        "tx-scatter-gather",
        "tx-vlan-",
        "rx-vlan-hw",
        "rx-vlan-stag-hw",
        "rx-gro",
        "rx-lro",
    ];
    starts.iter().any(|s| name.starts_with(s)) || name.ends_with("segmentation") || name == "rx-checksum"
}

fn offload_bits(names: &[String], block: usize) -> u32 {
    let in_block = names.iter().skip(block * 32).take(32).enumerate();
    in_block
        .filter(|(_, name)| is_offload(name))
        .fold(0, |bits, (i, _)| bits | 1 << i)
}

struct Ethtool {
    socket: OwnedFd,
    ifname: [libc::c_char; libc::IFNAMSIZ],
}

#[derive(Clone, Copy)]
struct Features {
    available: u32,
    active: u32,
}

impl Ethtool {
    fn names(&self) -> io::Result<Vec<String>> {
        // struct ethtool_sset_info: cmd, reserved, 64 bits of mask, then one count for each bit set.
        let mut info = [GSSET_INFO, 0, 0, 0, 0];
        let mask = (1_u64 << SS_FEATURES).to_ne_bytes();
        info[2] = u32::from_ne_bytes([mask[0], mask[1], mask[2], mask[3]]);
        info[3] = u32::from_ne_bytes([mask[4], mask[5], mask[6], mask[7]]);
        self.call(&mut info)?;
        let count = info[4] as usize;
        let mut strings = vec![0; 3 + count * STRING_LEN / 4];
        strings[..3].copy_from_slice(&[GSTRINGS, SS_FEATURES, count as u32]);
        self.call(&mut strings)?;
        let bytes: Vec<u8> = strings[3..].iter().flat_map(|w| w.to_ne_bytes()).collect();
        let text = |name: &[u8]| {
            let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
            String::from_utf8_lossy(&name[..end]).into_owned()
        };
        Ok(bytes.chunks(STRING_LEN).map(text).collect())
    }

    fn features(&self, blocks: usize) -> io::Result<Vec<Features>> {
        // struct ethtool_gfeatures: cmd, size, then for each block available, requested, active, never_changed.
        let mut words = vec![0; 2 + blocks * 4];
        words[..2].copy_from_slice(&[GFEATURES, blocks as u32]);
        self.call(&mut words)?;
        let features = |w: &[u32]| Features {
            available: w[0],
            active: w[2],
        };
        Ok(words[2..].chunks(4).map(features).collect())
    }

    fn call(&self, words: &mut [u32]) -> io::Result<()> {
        // SAFETY: all zero is a valid ifreq.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        request.ifr_name = self.ifname;
        request.ifr_ifru.ifru_data = words.as_mut_ptr().cast();
        // SAFETY: the kernel reads and writes no more than the counts in `words` say, which is what it has room for.
        let result = unsafe { libc::ioctl(self.socket.as_raw_fd(), SIOCETHTOOL, &mut request) };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_an_offload_by_its_name() {
        for on in [
            "tx-checksum-ip-generic",
            "tx-tcp-segmentation",
            "tx-udp-segmentation",
            "rx-gro",
            "rx-checksum",
        ] {
            assert!(is_offload(on), "{on}");
        }
        for off in ["highdma", "loopback", "tx-gso-robust", "rx-all", "tx-nocache-copy"] {
            assert!(!is_offload(off), "{off}");
        }
        let names: Vec<String> = (0..40)
            .map(|i| if i % 2 == 0 { "rx-gro".into() } else { "highdma".into() })
            .collect();
        assert_eq!(offload_bits(&names, 0), 0x5555_5555);
        assert_eq!(offload_bits(&names, 1), 0x55);
    }
}
