//! Our program, as it travels to a container.
//!
//! It stands there under a folder named by its content, as on every foreign host, so that its path tells which one ran.
use anyhow::{Context, Result, bail, ensure};
use futures::{Stream, stream};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes sent at a time.
const PIECE: usize = 1 << 20;
/// Empty, for the agent: see its own module.
const STATE: &str = "var/lib/splitbrain";

/// A program, packed.
pub(super) struct Program {
    /// At control.
    pub source: PathBuf,
    /// In the container.
    pub path: String,
    /// The loader that it names, unless it needs none.
    pub loader: Option<String>,
    tar: Arc<Vec<u8>>,
}

impl Program {
    /// Reads and packs it.
    pub fn pack(source: &Path) -> Result<Program> {
        let bytes = std::fs::read(source).with_context(|| format!("failed to read {}", source.display()))?;
        let digest = Sha256::digest(&bytes).iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        let dir = format!("usr/local/lib/splitbrain/{}", &digest[..16]);
        let inside = format!("{dir}/splitbrain");
        let mut tar = tar::Builder::new(Vec::with_capacity(bytes.len() + 8192));
        for folder in ["usr/local/lib/splitbrain", &dir, STATE] {
            let mut header = header(tar::EntryType::Directory, 0);
            tar.append_data(&mut header, format!("{folder}/"), &[][..])?;
        }
        let mut header = header(tar::EntryType::Regular, bytes.len());
        tar.append_data(&mut header, &inside, &bytes[..])?;
        Ok(Program {
            source: source.to_path_buf(),
            path: format!("/{inside}"),
            loader: loader(&bytes).with_context(|| format!("failed to read {}", source.display()))?,
            tar: Arc::new(tar.into_inner()?),
        })
    }

    /// The archive, in pieces, none of which is copied before its turn.
    pub fn pieces<B: From<Vec<u8>>>(&self) -> impl Stream<Item = B> + Send + 'static {
        let tar = self.tar.clone();
        let starts = (0..tar.len()).step_by(PIECE);
        stream::iter(starts.map(move |start| tar[start..tar.len().min(start + PIECE)].to_vec().into()))
    }
}

fn header(kind: tar::EntryType, size: usize) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size as u64);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// The path in an ELF file's `PT_INTERP` (`elf(5)`); `None` if it has none or is no ELF file (a script). Only the
/// 64-bit little-endian kind is known, which all machines are that we build for.
fn loader(bytes: &[u8]) -> Result<Option<String>> {
    const PT_INTERP: u64 = 3;
    if !bytes.starts_with(b"\x7fELF") {
        return Ok(None);
    }
    ensure!(
        bytes.get(4..6) == Some(&[2, 1]),
        "it is no 64-bit little-endian program"
    );
    let number = |at: usize, size: usize| -> Result<u64> {
        let Some(field) = at.checked_add(size).and_then(|end| bytes.get(at..end)) else {
            bail!("its ELF headers are cut off")
        };
        Ok(field.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    let offset = |at: usize| -> Result<usize> { Ok(usize::try_from(number(at, 8)?)?) };
    let (table, size, count) = (offset(0x20)?, number(0x36, 2)? as usize, number(0x38, 2)? as usize);
    for entry in (0..count).map(|index| table.saturating_add(index * size)) {
        if number(entry, 4)? == PT_INTERP {
            let (start, length) = (offset(entry.saturating_add(8))?, offset(entry.saturating_add(0x20))?);
            let Some(path) = start.checked_add(length).and_then(|end| bytes.get(start..end)) else {
                bail!("its ELF headers are cut off")
            };
            return Ok(Some(String::from_utf8_lossy(path).trim_end_matches('\0').to_string()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;
    use std::io::Read;

    #[test]
    fn the_loader_is_the_one_that_the_file_names() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        let found = loader(&own).unwrap().expect("a test is linked to glibc");
        assert!(found.starts_with("/lib") && found.contains("ld-linux"), "{found}");
        assert_eq!(loader(b"#!/bin/sh\n").unwrap(), None);
        for cut in [5, 16, 0x38, 0x40, 0x100] {
            assert!(loader(&own[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn the_program_travels_whole_and_runnable() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("program");
        let bytes: Vec<u8> = (0..3 * PIECE as u32 / 2).map(|n| n as u8).collect();
        std::fs::write(&source, &bytes).unwrap();
        let program = Program::pack(&source).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let pieces: Vec<Vec<u8>> = runtime.block_on(program.pieces().collect());
        let whole = pieces.concat();
        let mut archive = tar::Archive::new(&whole[..]);
        let mut seen = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = format!("/{}", entry.path().unwrap().display());
            assert_eq!(entry.header().mode().unwrap(), 0o755, "{path}");
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            if path == program.path {
                assert!(content == bytes);
            }
            seen.push(path);
        }
        assert!(
            seen.contains(&program.path) && seen.contains(&format!("/{STATE}/")),
            "{seen:?}"
        );
    }
}
