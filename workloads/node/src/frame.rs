//! Length, checksum, payload: one form for what lies on the disk and for what goes over the wire.
//!
//! A frame is a little-endian `u32` length, a little-endian `u32` CRC32C, and that many bytes. The checksum covers the
//! four length bytes too. A run of zeros, which is what many file systems leave where an interrupted append should have
//! been, is therefore no frame: the checksum of a zero length is not zero.
//!
//! On the wire the checksum is what keeps a corrupted packet from becoming a different, well-formed message: TCP's own
//! 16-bit sum lets some damage through, and a protocol that was never given a message cannot be blamed for it.
use std::fmt;

/// Bytes before the payload.
pub(crate) const HEADER: usize = 8;

/// Longest payload in bytes; bounds what a corrupt or hostile length can make us allocate.
pub const MAX_PAYLOAD: usize = 16 << 20;

/// Bytes that begin no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    /// The bytes end before the frame does.
    Cut,
    /// The length is over [`MAX_PAYLOAD`].
    Long(u32),
    /// The checksum does not fit.
    Checksum,
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bad::Cut => f.write_str("it ends too early"),
            Bad::Long(n) => write!(f, "it claims {n} bytes, over the {MAX_PAYLOAD} allowed"),
            Bad::Checksum => f.write_str("its checksum does not fit"),
        }
    }
}

/// The first eight bytes of a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    length: u32,
    crc: u32,
}

impl Header {
    pub(crate) fn parse(bytes: [u8; HEADER]) -> Result<Header, Bad> {
        let [a, b, c, d, rest @ ..] = bytes;
        let length = u32::from_le_bytes([a, b, c, d]);
        if length as usize > MAX_PAYLOAD {
            return Err(Bad::Long(length));
        }
        let crc = u32::from_le_bytes(rest);
        Ok(Header { length, crc })
    }

    pub(crate) fn length(self) -> usize {
        self.length as usize
    }

    pub(crate) fn check(self, payload: &[u8]) -> Result<(), Bad> {
        if checksum(self.length, payload) == self.crc {
            Ok(())
        } else {
            Err(Bad::Checksum)
        }
    }
}

fn checksum(length: u32, payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&length.to_le_bytes()), payload)
}

/// Appends `payload` to `out` as one frame. Panics if it is over [`MAX_PAYLOAD`]: the caller has checked.
pub(crate) fn encode(payload: &[u8], out: &mut Vec<u8>) {
    assert!(payload.len() <= MAX_PAYLOAD, "a payload of {} bytes", payload.len());
    let length = payload.len() as u32;
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&checksum(length, payload).to_le_bytes());
    out.extend_from_slice(payload);
}

/// The payload of the frame at the start of `bytes`.
pub(crate) fn decode(bytes: &[u8]) -> Result<&[u8], Bad> {
    let (header, rest) = bytes.split_first_chunk::<HEADER>().ok_or(Bad::Cut)?;
    let header = Header::parse(*header)?;
    let payload = rest.get(..header.length()).ok_or(Bad::Cut)?;
    header.check(payload)?;
    Ok(payload)
}

/// The payload's length that the frame at the start of `bytes` claims, if it is an allowed one.
pub(crate) fn decode_length(bytes: &[u8]) -> Option<usize> {
    Header::parse(*bytes.first_chunk()?).ok().map(Header::length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_zeros_is_no_frame() {
        assert_eq!(decode(&[0; 64]), Err(Bad::Checksum));
        let mut empty = Vec::new();
        encode(b"", &mut empty);
        assert_eq!(decode(&empty), Ok(&b""[..]));
    }

    #[test]
    fn a_huge_length_is_refused_before_anything_is_allocated() {
        assert_eq!(decode(&[0xff; 8]), Err(Bad::Long(u32::MAX)));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let mut whole = Vec::new();
        encode(b"vote n2 in term 7", &mut whole);
        for bit in 0..whole.len() * 8 {
            let mut hurt = whole.clone();
            hurt[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&hurt).is_err(), "bit {bit}");
        }
    }
}
