//! Bytes as they come, cut into lines of bounded length.
use splitbrain_core::wire::MAX_LINE;

/// Keeps the start of a line until its end arrives. A last line without a newline is never given out: its writer died
/// in the middle of it, and half a request must not be carried out.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    begun: Vec<u8>,
}

/// A line over [`MAX_LINE`] bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

impl Lines {
    /// Calls `each` with every line that `bytes` completes, without its newline.
    pub(crate) fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8])) -> Result<(), TooLong> {
        let mut parts = bytes.split(|b| *b == b'\n').peekable();
        while let Some(part) = parts.next() {
            if self.begun.len() + part.len() >= MAX_LINE {
                return Err(TooLong);
            }
            self.begun.extend_from_slice(part);
            if parts.peek().is_some() {
                each(&self.begun);
                self.begun.clear();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(chunks: &[&str], expect: &[&str]) {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        for chunk in chunks {
            lines
                .feed(chunk.as_bytes(), |l| found.push(String::from_utf8(l.to_vec()).unwrap()))
                .unwrap();
        }
        assert_eq!(found, expect, "{chunks:?}");
    }

    #[test]
    fn lines_come_out_whole_however_they_were_cut() {
        check(&["a\nb\n"], &["a", "b"]);
        check(&["a", "", "b", "\n", "\nc"], &["ab", ""]);
        check(&["half a request"], &[]);
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut lines = Lines::default();
        let chunk = vec![b'x'; MAX_LINE / 2];
        assert_eq!(lines.feed(&chunk, |_| ()), Ok(()));
        assert_eq!(lines.feed(&chunk, |_| ()), Err(TooLong));
    }
}
