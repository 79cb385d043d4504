//! Lines of an input, of bounded length.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// Reads lines; one that is too long comes in parts, so that nothing is lost.
pub(super) struct Lines<R> {
    input: R,
    bytes_max: usize,
    begun: Vec<u8>,
    /// Whether the last part was cut from a line that goes on.
    is_cut: bool,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    pub(super) fn new(input: R, bytes_max: usize) -> Self {
        Self { input, bytes_max, begun: Vec::new(), is_cut: false }
    }

    /// The next line without its end; what is not UTF-8 is replaced. It may be called again after it was
    /// dropped.
    pub(super) async fn next(&mut self) -> io::Result<Option<String>> {
        loop {
            if self.begun.len() >= self.bytes_max {
                let end = boundary(&self.begun);
                let rest = self.begun.split_off(end);
                let part = std::mem::replace(&mut self.begun, rest);
                self.is_cut = true;
                return Ok(Some(text(&part)));
            }
            let available = self.input.fill_buf().await?;
            if available.is_empty() {
                let line = std::mem::take(&mut self.begun);
                return Ok((!line.is_empty()).then(|| text(&line)));
            }
            let room = self.bytes_max - self.begun.len();
            let available = &available[..available.len().min(room)];
            let end = available.iter().position(|byte| *byte == b'\n');
            self.begun.extend_from_slice(&available[..end.unwrap_or(available.len())]);
            let used = end.map_or(available.len(), |end| end + 1);
            self.input.consume(used);
            if end.is_some() {
                let line = std::mem::take(&mut self.begun);
                let was_cut = std::mem::take(&mut self.is_cut);
                if !(was_cut && line.is_empty()) {
                    return Ok(Some(text(&line)));
                }
            }
        }
    }
}

fn text(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    String::from_utf8_lossy(line).into_owned()
}

/// Where the bytes may be cut: before a character that is not complete.
fn boundary(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => error.valid_up_to(),
        _ => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(input: &[u8], bytes_max: usize) -> Vec<String> {
        let mut lines = Lines::new(input, bytes_max);
        let mut all = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            all.push(line);
        }
        all
    }

    #[tokio::test]
    async fn lines_come_without_their_ends_and_the_last_needs_none() {
        assert_eq!(lines(b"one\r\n\ntwo\nthree", 100).await, ["one", "", "two", "three"]);
        assert!(lines(b"", 100).await.is_empty());
        assert_eq!(lines(b"\xff\n", 100).await, ["\u{fffd}"]);
    }

    #[tokio::test]
    async fn a_long_line_comes_in_parts_between_characters() {
        assert_eq!(lines(b"abcdefgh\nx\n", 4).await, ["abcd", "efgh", "x"]);
        assert_eq!(lines("aaaaüüü\n".as_bytes(), 5).await.concat(), "aaaaüüü");
        assert_eq!(lines("👩👩👩👩\n".as_bytes(), 7).await.concat(), "👩👩👩👩");
    }
}
