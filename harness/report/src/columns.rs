//! A million operations in a page: columns, byte planes, zlib, base64.
//!
//! A row a JSON object would cost 100 MB and seconds of parsing. Instead each field is a column of integers, each column
//! is split into planes (all lowest bytes, then all second bytes, ...), so that the planes that are nearly always zero
//! compress to nothing, and the whole goes through zlib and base64 into a `<script>` that no browser executes. The page
//! inflates it with `DecompressionStream` into typed arrays. Times are in units of [`Columns::unit`] nanoseconds, at
//! least a microsecond, chosen so that every instant of the run fits 32 bits.
use crate::picture::{Ended, Picture};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use splitbrain_core::Nanos;
use std::io::Write;

/// The packed tables of a page.
pub struct Columns {
    /// Nanoseconds per unit of time in the columns.
    pub unit: u64,
    /// Operations, in base64.
    pub ops: String,
    /// What the storage saw, in base64.
    pub stores: String,
}

impl Columns {
    /// Packs a picture's operations and storage rows.
    pub fn of(picture: &Picture) -> Columns {
        let unit = (picture.end.0 / u64::from(u32::MAX) + 1).max(1_000);
        Columns {
            unit,
            ops: ops(picture, unit),
            stores: stores(picture, unit),
        }
    }
}

/// Columns: start (delta), duration, index of the invocation (delta): four planes each; lane: two; operation and
/// ending: one.
fn ops(picture: &Picture, unit: u64) -> String {
    let rows = &picture.ops;
    let mut planes = Planes::new(rows.len());
    planes.deltas(rows.iter().map(|r| r.start.0 / unit));
    planes.column(4, rows.iter().map(|r| r.end.since(r.start).0 / unit));
    planes.deltas(rows.iter().map(|r| r.index));
    planes.column(2, rows.iter().map(|r| r.lane as u64));
    planes.column(1, rows.iter().map(|r| u64::from(r.f) << 2 | ending(r.ended)));
    planes.pack()
}

fn ending(ended: Ended) -> u64 {
    match ended {
        Ended::Ok => 0,
        Ended::Fail => 1,
        Ended::Info => 2,
        Ended::Open => 3,
    }
}

/// Columns: time (delta), position (0 where refused), rank of the reign from 1 (0 where no candidate named it):
/// four planes each; token: eight; the writer's lane: two.
fn stores(picture: &Picture, unit: u64) -> String {
    let rows = &picture.stores;
    let rank = |r: &crate::picture::StoreRow| picture.rank_of(r).map_or(0, |rank| rank as u64 + 1);
    let mut planes = Planes::new(rows.len());
    planes.deltas(rows.iter().map(|r| r.time.0 / unit));
    planes.column(4, rows.iter().map(|r| r.seq.unwrap_or(0)));
    planes.column(4, rows.iter().map(rank));
    planes.column(8, rows.iter().map(|r| r.token.0));
    planes.column(2, rows.iter().map(|r| r.by as u64));
    planes.pack()
}

struct Planes {
    rows: usize,
    bytes: Vec<u8>,
}

impl Planes {
    fn new(rows: usize) -> Planes {
        Planes {
            rows,
            bytes: Vec::with_capacity(rows * 16),
        }
    }

    fn deltas(&mut self, values: impl Iterator<Item = u64>) {
        let mut last = 0;
        self.column(4, values.map(|v| v - std::mem::replace(&mut last, v)));
    }

    fn column(&mut self, width: usize, values: impl Iterator<Item = u64>) {
        let start = self.bytes.len();
        self.bytes.resize(start + self.rows * width, 0);
        for (row, value) in values.enumerate() {
            let value = value.min(if width == 8 { u64::MAX } else { (1 << (8 * width)) - 1 });
            for plane in 0..width {
                self.bytes[start + plane * self.rows + row] = (value >> (8 * plane)) as u8;
            }
        }
    }

    fn pack(self) -> String {
        let mut zlib = ZlibEncoder::new(Vec::with_capacity(self.bytes.len() / 4), Compression::new(5));
        let packed = zlib.write_all(&self.bytes).and_then(|()| zlib.finish());
        STANDARD.encode(packed.expect("a vector takes every write"))
    }
}

/// Operations a bin of time, by ending: ok, fail, and the rest. What an overview draws instead of a million ticks.
pub fn density(picture: &Picture, bins: usize) -> [Vec<u32>; 3] {
    let mut out = [vec![0; bins], vec![0; bins], vec![0; bins]];
    let end = picture.end.max(Nanos(1)).0 as u128;
    for op in &picture.ops {
        let bin = (op.start.0 as u128 * bins as u128 / end).min(bins as u128 - 1) as usize;
        out[ending(op.ended).min(2) as usize][bin] += 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::ZlibDecoder;
    use std::io::Read;

    fn unpack(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        ZlibDecoder::new(STANDARD.decode(text).unwrap().as_slice())
            .read_to_end(&mut out)
            .unwrap();
        out
    }

    #[test]
    fn planes_hold_the_low_bytes_first() {
        let mut planes = Planes::new(3);
        planes.deltas([5, 261, 262].into_iter());
        planes.column(1, [7, 8, 300].into_iter());
        assert_eq!(unpack(&planes.pack()), [5, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 8, 255]);
    }

    #[test]
    fn a_run_of_days_still_fits() {
        let mut picture = Picture {
            end: Nanos::secs(30 * 86_400),
            ..Picture::default()
        };
        picture.ops.push(crate::picture::OpRow {
            start: Nanos::ZERO,
            end: picture.end,
            index: 0,
            lane: 0,
            f: 0,
            ended: Ended::Open,
        });
        let columns = Columns::of(&picture);
        let bytes = unpack(&columns.ops);
        let duration = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        let span = u64::from(duration) * columns.unit;
        assert!(picture.end.0 - span < columns.unit, "{span}");
    }

    #[test]
    fn density_counts_every_operation_once() {
        let mut picture = Picture {
            end: Nanos(100),
            ..Picture::default()
        };
        for (start, ended) in [(0, Ended::Ok), (50, Ended::Fail), (100, Ended::Info), (99, Ended::Open)] {
            picture.ops.push(crate::picture::OpRow {
                start: Nanos(start),
                end: Nanos(start),
                index: 0,
                lane: 0,
                f: 0,
                ended,
            });
        }
        let [ok, fail, info] = density(&picture, 4);
        assert_eq!((ok, fail, info), (vec![1, 0, 0, 0], vec![0, 0, 1, 0], vec![0, 0, 0, 2]));
    }
}
