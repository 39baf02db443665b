//! A capture file: classic libpcap, little-endian, nanoseconds, Ethernet.
//!
//! The format is the one of pcap-savefile(5) with the magic number `0xa1b23c4d`, which tcpdump and Wireshark read. A
//! frame is written when the switch hands it to its receiver, as it is then: lost and blocked frames are not in the file,
//! duplicates are there twice, corrupted ones corrupted, a flooded one once for each receiver.
//!
//! Records are gathered and flushed by the caller, at the latest every [`FLUSH_EVERY`] and at the end. A kill in between
//! loses that much and may leave half a record at the end, which readers report and step over. If the disk refuses, the
//! capture ends there and says so; the network goes on.
use splitbrain_core::Nanos;
use std::io::{self, Write};

/// Longest time that a frame waits in memory.
pub const FLUSH_EVERY: Nanos = Nanos::millis(100);

const BUFFER: usize = 256 * 1024;

/// A capture in progress.
pub struct Pcap<W: Write> {
    out: W,
    /// Nanoseconds since 1970 that the caller's time zero was at.
    epoch: u64,
    buffer: Vec<u8>,
    /// When the oldest frame in the buffer came.
    since: Option<Nanos>,
    error: Option<io::Error>,
}

impl<W: Write> Pcap<W> {
    /// Begins a capture. `epoch` is the wall clock, in nanoseconds since 1970, at the caller's time zero.
    pub fn new(mut out: W, epoch: u64) -> io::Result<Pcap<W>> {
        let mut header = Vec::with_capacity(24);
        header.extend(0xa1b2_3c4d_u32.to_le_bytes());
        header.extend(2_u16.to_le_bytes());
        header.extend(4_u16.to_le_bytes());
        header.extend([0; 8]); // time zone and accuracy, always zero
        header.extend(65_535_u32.to_le_bytes());
        header.extend(1_u32.to_le_bytes()); // LINKTYPE_ETHERNET
        out.write_all(&header)?;
        Ok(Pcap {
            out,
            epoch,
            buffer: Vec::with_capacity(BUFFER),
            since: None,
            error: None,
        })
    }

    /// Adds a frame that was delivered at `now`.
    pub fn frame(&mut self, now: Nanos, frame: &[u8]) {
        if self.error.is_some() {
            return;
        }
        let at = self.epoch.saturating_add(now.0);
        // Seconds are 32 bits in this format; they end in 2106.
        let (secs, nanos) = ((at / 1_000_000_000) as u32, (at % 1_000_000_000) as u32);
        let len = frame.len() as u32;
        let kept = &frame[..frame.len().min(65_535)];
        for word in [secs, nanos, kept.len() as u32, len] {
            self.buffer.extend(word.to_le_bytes());
        }
        self.buffer.extend_from_slice(kept);
        self.since.get_or_insert(now);
        if self.buffer.len() >= BUFFER {
            self.flush();
        }
    }

    /// When [`Pcap::flush`] is due; `None` while nothing waits.
    pub fn deadline(&self) -> Option<Nanos> {
        self.since.map(|since| since + FLUSH_EVERY)
    }

    /// Writes out what waits.
    pub fn flush(&mut self) {
        if self.error.is_none() {
            let written = self.out.write_all(&self.buffer).and_then(|()| self.out.flush());
            self.error = written.err();
        }
        self.buffer.clear();
        self.since = None;
    }

    /// Why the capture ended early, if it did.
    pub fn error(&self) -> Option<&io::Error> {
        self.error.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_those_of_the_format() {
        let mut file = Vec::new();
        let mut pcap = Pcap::new(&mut file, 1_700_000_000_000_000_000).unwrap();
        assert_eq!(pcap.deadline(), None);
        pcap.frame(Nanos(1_000_000_002), &[0xaa, 0xbb, 0xcc]);
        pcap.frame(Nanos(1_500_000_000), &[]);
        assert_eq!(pcap.deadline(), Some(Nanos(1_100_000_002)));
        pcap.flush();
        assert_eq!(pcap.deadline(), None);
        #[rustfmt::skip]
        let expected: &[u8] = &[
            0x4d, 0x3c, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 1, 0, 0, 0,
            0x01, 0xf1, 0x53, 0x65, 2, 0, 0, 0, 3, 0, 0, 0, 3, 0, 0, 0, 0xaa, 0xbb, 0xcc,
            0x01, 0xf1, 0x53, 0x65, 0x00, 0x65, 0xcd, 0x1d, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(file, expected);
    }

    #[test]
    fn a_full_disk_ends_the_capture_and_is_told() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                if self.0 < bytes.len() {
                    return Err(io::Error::from(io::ErrorKind::StorageFull));
                }
                self.0 -= bytes.len();
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut pcap = Pcap::new(Full(30), 0).unwrap();
        pcap.frame(Nanos::ZERO, &[1; 100]);
        assert!(pcap.error().is_none());
        pcap.flush();
        assert_eq!(pcap.error().unwrap().kind(), io::ErrorKind::StorageFull);
        pcap.frame(Nanos::ZERO, &[1; 100]);
        assert_eq!(pcap.deadline(), None, "nothing is gathered any more");
    }
}
