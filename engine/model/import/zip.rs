//! The directory of a zip archive whose entries are stored, as `torch.save` writes them.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::{Error, ErrorKind, Result};

fn fault(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Format, what).at("zip directory")
}

fn number(bytes: &[u8], at: usize, width: usize) -> Result<u64> {
    let field = at
        .checked_add(width)
        .and_then(|end| bytes.get(at..end))
        .ok_or_else(|| fault("is cut short"))?;
    Ok(field
        .iter()
        .rev()
        .fold(0, |value, &byte| value << 8 | u64::from(byte)))
}

/// Where the bytes of each entry lie in the file.
///
/// # Errors
/// [`ErrorKind::Format`] for a directory that is damaged or reaches outside the file;
/// [`ErrorKind::Unsupported`] for a compressed entry.
pub(crate) fn entries(bytes: &[u8]) -> Result<BTreeMap<String, Range<usize>>> {
    let tail = bytes.len().saturating_sub(65_557);
    let end = (tail..bytes.len().saturating_sub(21))
        .rev()
        .find(|&at| bytes[at..].starts_with(b"PK\x05\x06"))
        .ok_or_else(|| fault("is not there: the file is cut short"))?;
    let mut count = number(bytes, end + 10, 2)?;
    let mut at = number(bytes, end + 16, 4)?;
    if count == 0xffff || at == 0xffff_ffff {
        let locator = end
            .checked_sub(20)
            .filter(|&at| bytes[at..].starts_with(b"PK\x06\x07"));
        let locator = locator.ok_or_else(|| fault("of a large archive is not there"))?;
        let record = usize::try_from(number(bytes, locator + 8, 8)?).unwrap_or(usize::MAX);
        if !bytes
            .get(record..)
            .is_some_and(|record| record.starts_with(b"PK\x06\x06"))
        {
            return Err(fault("of a large archive is not where it should be"));
        }
        count = number(bytes, record + 32, 8)?;
        at = number(bytes, record + 48, 8)?;
    }
    let mut at = usize::try_from(at).unwrap_or(usize::MAX);
    let mut entries = BTreeMap::new();
    for _ in 0..count {
        if !bytes
            .get(at..)
            .is_some_and(|entry| entry.starts_with(b"PK\x01\x02"))
        {
            return Err(fault("has an entry that is none"));
        }
        let method = number(bytes, at + 10, 2)?;
        let mut size = number(bytes, at + 24, 4)?;
        let lengths = [28, 30, 32].map(|field| number(bytes, at + field, 2));
        let [name_length, extra_length, comment_length] = lengths;
        let (name_length, extra_length, comment_length) = (
            name_length? as usize,
            extra_length? as usize,
            comment_length? as usize,
        );
        let mut local = number(bytes, at + 42, 4)?;
        let name_at = at + 46;
        let name = bytes
            .get(name_at..name_at + name_length)
            .ok_or_else(|| fault("is cut short"))?;
        let name = String::from_utf8_lossy(name).into_owned();
        // Sizes and offsets of 32 ones stand in the zip64 field, in this order, where they are needed.
        let (mut extra, extra_end) = (name_at + name_length, name_at + name_length + extra_length);
        while extra + 4 <= extra_end {
            let (kind, length) = (
                number(bytes, extra, 2)?,
                number(bytes, extra + 2, 2)? as usize,
            );
            if kind == 1 {
                let mut field = extra + 4;
                if size == 0xffff_ffff {
                    size = number(bytes, field, 8)?;
                    field += 8;
                }
                if number(bytes, at + 20, 4)? == 0xffff_ffff {
                    field += 8;
                }
                if local == 0xffff_ffff {
                    local = number(bytes, field, 8)?;
                }
            }
            extra += 4 + length;
        }
        if method != 0 && size > 0 {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("entry {name} is compressed"),
            )
            .advice("save the checkpoint with torch.save, which stores its entries"));
        }
        let local = usize::try_from(local).unwrap_or(usize::MAX);
        if !bytes
            .get(local..)
            .is_some_and(|entry| entry.starts_with(b"PK\x03\x04"))
        {
            return Err(fault(format!("points to nothing for {name}")));
        }
        let start =
            local as u64 + 30 + number(bytes, local + 26, 2)? + number(bytes, local + 28, 2)?;
        let end = start
            .checked_add(size)
            .filter(|&end| end <= bytes.len() as u64);
        let end = end.ok_or_else(|| fault(format!("says that {name} reaches beyond the file")))?;
        entries.insert(name, start as usize..end as usize);
        at = extra_end + comment_length;
    }
    Ok(entries)
}
