//! Decoding of text to UTF-8 with line ends of `\n`.

use std::io::{BufRead, Read};

/// Character encoding of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Utf8,
    Utf16Little,
    Utf16Big,
}

impl Encoding {
    /// Recognise the encoding by the byte-order mark, or by the zero in every second byte of ASCII in UTF-16.
    pub(super) fn of(head: &[u8]) -> Self {
        let zeros = |parity: usize| {
            head.len() >= 4
                && head.iter().skip(parity).step_by(2).all(|&byte| byte == 0)
                && head
                    .iter()
                    .skip(1 - parity)
                    .step_by(2)
                    .all(|&byte| byte != 0)
        };
        if head.starts_with(b"\xff\xfe") || zeros(1) {
            Self::Utf16Little
        } else if head.starts_with(b"\xfe\xff") || zeros(0) {
            Self::Utf16Big
        } else {
            Self::Utf8
        }
    }
}

/// A byte that is not valid in UTF-8; it takes the position of an unpaired surrogate or half a UTF-16 unit.
const INVALID: u8 = 0xff;
/// U+FEFF in UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// A reader that converts text to UTF-8, skips byte-order marks at the start, and converts the line ends `\r\n` and
/// `\r` to `\n`. Bytes that are not valid in UTF-8 are passed on.
pub(super) struct Decoding<R> {
    inner: R,
    encoding: Encoding,
    /// Decoded bytes, of which `..used` have been read.
    ready: Vec<u8>,
    used: usize,
    /// The first byte of a UTF-16 unit whose second byte has not been read.
    half: Option<u8>,
    /// The first surrogate of a pair.
    high: Option<u16>,
    after_return: bool,
    at_start: bool,
}

impl<R: BufRead> Decoding<R> {
    pub(super) fn new(inner: R, encoding: Encoding) -> Self {
        Self {
            inner,
            encoding,
            ready: Vec::new(),
            used: 0,
            half: None,
            high: None,
            after_return: false,
            at_start: true,
        }
    }

    /// Decode the next block of the inner reader; `ready` stays empty at the end of the text.
    fn refill(&mut self) -> std::io::Result<()> {
        while self.used == self.ready.len() {
            self.ready.clear();
            self.used = 0;
            let block = self.inner.fill_buf()?;
            let (length, at_end) = (block.len(), block.is_empty());
            match self.encoding {
                Encoding::Utf8 => self.ready.extend_from_slice(block),
                _ => {
                    let bytes: Vec<u8> = self
                        .half
                        .take()
                        .into_iter()
                        .chain(block.iter().copied())
                        .collect();
                    self.decode_utf16(&bytes, at_end);
                }
            }
            self.inner.consume(length);
            if at_end {
                return Ok(());
            }
            self.convert_line_ends();
            if self.at_start {
                // The first block is long enough for a mark unless the text is shorter.
                while self.ready[self.used..].starts_with(MARK) {
                    self.used += MARK.len();
                }
                self.at_start = false;
            }
        }
        Ok(())
    }

    /// Append UTF-16 to `ready`. At the end of the text, a half unit or pair is invalid.
    fn decode_utf16(&mut self, bytes: &[u8], at_end: bool) {
        let mut units = bytes.chunks_exact(2);
        let mut push = |character: Option<char>| match character {
            Some(character) => {
                let mut buffer = [0; 4];
                self.ready
                    .extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
            }
            None => self.ready.push(INVALID),
        };
        for pair in units.by_ref() {
            let pair = [pair[0], pair[1]];
            let unit = match self.encoding {
                Encoding::Utf16Big => u16::from_be_bytes(pair),
                _ => u16::from_le_bytes(pair),
            };
            if let Some(high) = self.high.take() {
                if matches!(unit, 0xdc00..=0xdfff) {
                    let low = u32::from(unit) - 0xdc00;
                    push(char::from_u32(
                        0x10000 + ((u32::from(high) - 0xd800) << 10) + low,
                    ));
                    continue;
                }
                push(None);
            }
            match unit {
                0xd800..=0xdbff => self.high = Some(unit),
                _ => push(char::from_u32(u32::from(unit))),
            }
        }
        self.half = units.remainder().first().copied();
        if at_end && (self.half.take().is_some() | self.high.take().is_some()) {
            push(None);
        }
    }

    fn convert_line_ends(&mut self) {
        if !self.after_return && !self.ready.contains(&b'\r') {
            return;
        }
        let after_return = &mut self.after_return;
        self.ready.retain_mut(|byte| {
            let second = *byte == b'\n' && *after_return;
            *after_return = *byte == b'\r';
            if *after_return {
                *byte = b'\n';
            }
            !second
        });
    }
}

impl<R: BufRead> Read for Decoding<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Decoding<R> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        self.refill()?;
        Ok(&self.ready[self.used..])
    }

    fn consume(&mut self, count: usize) {
        self.used += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: &[u8], block: usize) -> Vec<u8> {
        let mut text = Vec::new();
        let reader = std::io::BufReader::with_capacity(block, bytes);
        Decoding::new(reader, Encoding::of(bytes))
            .read_to_end(&mut text)
            .unwrap();
        text
    }

    #[test]
    fn marks_encodings_and_line_ends_are_decoded_in_blocks_of_any_size() {
        let little = |text: &str| -> Vec<u8> {
            let units = std::iter::once(0xfeff).chain(text.encode_utf16());
            units.flat_map(u16::to_le_bytes).collect()
        };
        let swapped = |mut bytes: Vec<u8>| {
            bytes.chunks_exact_mut(2).for_each(|pair| pair.swap(0, 1));
            bytes
        };
        let cases: [(Vec<u8>, &[u8]); 9] = [
            (b"a\r\nb\rc\n\r\n\rd\r".into(), b"a\nb\nc\n\n\nd\n"),
            (b"\xef\xbb\xbfa".into(), b"a"),
            (b"\xef\xbb\xbf\xef\xbb\xbf\xef\xbb\xbf".into(), b""),
            (
                little("h\u{e9} \u{1f600}\r\nx"),
                "h\u{e9} \u{1f600}\nx".as_bytes(),
            ),
            (
                swapped(little("h\u{e9} \u{1f600}\r\nx")),
                "h\u{e9} \u{1f600}\nx".as_bytes(),
            ),
            (little("abc")[2..].into(), b"abc"),
            (swapped(little("abc"))[2..].into(), b"abc"),
            (b"\xff\xfea\0\x3d\xd8b\0\0\xdcc".into(), b"a\xffb\xff\xff"),
            (b"".into(), b""),
        ];
        for (bytes, text) in cases {
            // The mark must be in the first block.
            for block in [9, 10, 11, 4096] {
                assert_eq!(decoded(&bytes, block), text, "{bytes:?}, blocks of {block}");
            }
        }
    }
}
