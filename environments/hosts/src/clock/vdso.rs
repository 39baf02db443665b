//! The vDSO: the small library that the kernel maps into each process, by which it reads clocks without a system call.
//!
//! It is an ELF image. What is looked for in it is where the clock functions are and how much room is left behind it.
//! Names are compared whole: `clock_gettime` and `__vdso_clock_gettime` are both there, and so are `clock_gettime64`s.
use super::stub::{ENTRIES, JUMP, NAMES};
use std::fs;
use std::ops::Range;

const PT_LOAD: u64 = 1;
const PT_DYNAMIC: u64 = 2;
const DT_HASH: u64 = 4;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_GNU_HASH: u64 = 0x6fff_fef5;

/// What of a vDSO matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// Where the functions begin, from the image's first byte; in the order of [`NAMES`].
    pub entries: [Option<usize>; ENTRIES],
    /// Where nothing is.
    pub room: Range<usize>,
}

/// Where a process has its vDSO; the error says why it cannot be known, `None` that the process has none.
pub(super) fn place(pid: i32) -> Result<Option<Range<u64>>, std::io::Error> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let line = maps.lines().find(|line| line.ends_with("[vdso]"));
    Ok(line.and_then(|line| {
        let (from, to) = line.split_whitespace().next()?.split_once('-')?;
        Some(u64::from_str_radix(from, 16).ok()?..u64::from_str_radix(to, 16).ok()?)
    }))
}

/// Reads an image, or says what is odd about it.
pub(super) fn layout(image: &[u8]) -> Result<Layout, String> {
    let elf = Elf(image);
    if image.get(..6) != Some(b"\x7fELF\x02\x01".as_slice()) {
        return Err("its vDSO is no 64-bit little-endian ELF image: a 32-bit program?".to_string());
    }
    let odd = || "its vDSO has no symbols that we understand".to_string();
    let symbols = elf.symbols().ok_or_else(odd)?;
    let mut entries = [None; ENTRIES];
    for (entry, name) in entries.iter_mut().zip(NAMES) {
        let Some(name) = name else { continue };
        let Some((at, size)) = symbols.iter().find(|(n, ..)| *n == name.as_bytes()).map(|s| (s.1, s.2)) else {
            continue;
        };
        if at % JUMP != 0 || size < JUMP || at.saturating_add(size) > image.len() {
            return Err(format!(
                "its vDSO has {name} at {at:#x} with {size} bytes: no room for a jump"
            ));
        }
        *entry = Some(at);
    }
    if entries[0].is_none() {
        return Err(format!("its vDSO has no {}", NAMES[0].unwrap_or_default()));
    }
    let end = elf.end().ok_or_else(odd)?.next_multiple_of(16);
    Ok(Layout {
        entries,
        room: end.min(image.len())..image.len(),
    })
}

struct Elf<'a>(&'a [u8]);

impl<'a> Elf<'a> {
    fn number(&self, at: usize, bytes: usize) -> Option<u64> {
        let bytes = self.0.get(at..at.checked_add(bytes)?)?;
        Some(bytes.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte)))
    }

    fn size(&self, at: usize, bytes: usize) -> Option<usize> {
        usize::try_from(self.number(at, bytes)?).ok()
    }

    fn segments(&self) -> impl Iterator<Item = (u64, usize, usize)> + '_ {
        let (at, each) = (self.size(32, 8), self.size(54, 2));
        let count = self.size(56, 2).unwrap_or(0);
        (0..count).filter_map(move |n| {
            let at = at?.checked_add(n * each?)?;
            Some((
                self.number(at, 4)?,
                self.size(at.checked_add(8)?, 8)?,
                self.size(at.checked_add(32)?, 8)?,
            ))
        })
    }

    /// The first byte after all that the image says it has.
    fn end(&self) -> Option<usize> {
        let sections = self.size(40, 8)?.checked_add(self.size(58, 2)? * self.size(60, 2)?)?;
        let loaded = self.segments().filter(|(kind, ..)| *kind == PT_LOAD);
        let loaded = loaded.map(|(_, at, bytes)| at.saturating_add(bytes)).max()?;
        let end = loaded.max(sections);
        (end <= self.0.len()).then_some(end)
    }

    fn dynamic(&self, tag: u64) -> Option<usize> {
        let (_, at, bytes) = self.segments().find(|(kind, ..)| *kind == PT_DYNAMIC)?;
        let mut entries = (at..at.checked_add(bytes)?.min(self.0.len())).step_by(16);
        let found = entries.find(|at| self.number(*at, 8) == Some(tag))?;
        // An address is a place in the image; one that is outside of it is of no use.
        self.size(found + 8, 8).filter(|at| *at < self.0.len())
    }

    /// Names, places and sizes of all symbols.
    fn symbols(&self) -> Option<Vec<(&'a [u8], usize, usize)>> {
        let (table, names) = (self.dynamic(DT_SYMTAB)?, self.dynamic(DT_STRTAB)?);
        let count = self.count()?;
        let symbol = |n: usize| {
            let at = table + n * 24;
            let name = self.0.get(names + self.size(at, 4)?..)?;
            let length = name.iter().position(|byte| *byte == 0)?;
            Some((&name[..length], self.size(at + 8, 8)?, self.size(at + 16, 8)?))
        };
        (0..count).map(symbol).collect()
    }

    fn count(&self) -> Option<usize> {
        if let Some(hash) = self.dynamic(DT_HASH) {
            return self.size(hash + 4, 4);
        }
        // The end of the last chain. The header: buckets, first symbol that is in a chain, words of the filter.
        let hash = self.dynamic(DT_GNU_HASH)?;
        let [buckets, first, filter] = [0, 4, 8].map(|at| self.size(hash + at, 4));
        let (buckets, first) = (buckets?, first?);
        let at = hash + 16 + filter? * 8;
        let chains = at + buckets * 4;
        let last = (0..buckets).filter_map(|n| self.size(at + n * 4, 4)).max()?;
        if last < first {
            return Some(first);
        }
        let mut ends =
            (last..).take_while(|n| self.size(chains + (n - first) * 4, 4).is_some_and(|hash| hash & 1 == 0));
        Some(ends.by_ref().last().map_or(last, |n| n + 1) + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Vec<u8> {
        let place = place(std::process::id().cast_signed())
            .unwrap()
            .expect("this process has a vDSO");
        let length = usize::try_from(place.end - place.start).unwrap();
        let at = std::ptr::with_exposed_provenance::<u8>(usize::try_from(place.start).unwrap());
        // SAFETY: the kernel says that so many bytes are there, readable.
        unsafe { std::slice::from_raw_parts(at, length) }.to_vec()
    }

    #[test]
    fn the_functions_are_where_the_loader_finds_them() {
        let layout = layout(&own()).unwrap();
        let place = place(std::process::id().cast_signed()).unwrap().unwrap();
        for (name, entry) in NAMES.iter().zip(layout.entries) {
            let Some(name) = name else { continue };
            let name = std::ffi::CString::new(*name).unwrap();
            // SAFETY: both names are C strings; the library is in every process already.
            let found = unsafe {
                let library = libc::dlopen(c"linux-vdso.so.1".as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD);
                libc::dlsym(library, name.as_ptr())
            };
            let want = (!found.is_null()).then(|| found.addr() - usize::try_from(place.start).unwrap());
            assert_eq!(entry, want, "{name:?}");
        }
    }

    #[test]
    fn there_is_room_and_nothing_is_in_it() {
        let image = own();
        let room = layout(&image).unwrap().room;
        assert!(room.len() >= super::super::stub::fresh().unwrap().0.len(), "{room:?}");
        assert!(image[room].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn both_hash_tables_count_the_same() {
        let image = own();
        let count = Elf(&image).count().unwrap();
        let mut only_gnu = image.clone();
        let (_, at, bytes) = Elf(&image).segments().find(|(kind, ..)| *kind == PT_DYNAMIC).unwrap();
        let tags = |tag| {
            (at..at + bytes)
                .step_by(16)
                .find(|at| Elf(&image).number(*at, 8) == Some(tag))
        };
        let (Some(hash), Some(_)) = (tags(DT_HASH), tags(DT_GNU_HASH)) else {
            panic!("this kernel's vDSO has one hash table only")
        };
        only_gnu[hash..hash + 8].copy_from_slice(&0x7000_0000_u64.to_le_bytes());
        assert_eq!(Elf(&only_gnu).count(), Some(count));
        assert!(count > 5);
    }

    #[test]
    fn an_image_that_is_none_is_refused_and_never_read_beyond() {
        assert!(layout(b"\x7fELF\x01\x01 and more").unwrap_err().contains("32-bit"));
        let image = own();
        for cut in 0..image.len() {
            let _ = layout(&image[..cut]);
        }
        let mut state = 1_u64;
        for _ in 0..2_000 {
            let mut image = image.clone();
            for _ in 0..4 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (state >> 33) as usize % 0x600;
                image[at] = (state >> 20) as u8;
            }
            let _ = layout(&image);
        }
    }
}
