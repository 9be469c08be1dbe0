//! Checks of an ELF library before the system maps it: the loader trusts its headers, and a page that the file does
//! not have ends the process with a bus error.

use std::path::Path;

use crate::model::read_or_map;
use crate::{Error, ErrorKind, Result};

/// The function that every plugin exports.
const ENTRY: &[u8] = b"\0brl_plugin_entry\0";
/// `e_type` of a dynamic library.
const DYNAMIC: u16 = 3;
/// `p_type` of a segment that is mapped.
const LOAD: u32 = 1;

/// `e_machine` of this program; `None` where it is not listed here.
fn machine() -> Option<u16> {
    match std::env::consts::ARCH {
        "x86_64" => Some(62),
        "aarch64" => Some(183),
        "riscv64" => Some(243),
        "loongarch64" => Some(258),
        "s390x" => Some(22),
        "powerpc64" => Some(21),
        _ => None,
    }
}

/// Check that a file is a whole ELF library for this machine that names the entry of plugins.
///
/// # Errors
/// [`ErrorKind::Io`] when it cannot be read; [`ErrorKind::Plugin`], with what is wrong.
pub(crate) fn check(path: &Path) -> Result<()> {
    let file = read_or_map(path)?;
    check_bytes(&file)
}

fn check_bytes(file: &[u8]) -> Result<()> {
    let invalid = |what: &str| {
        Err(Error::new(ErrorKind::Plugin, what)
            .advice("give a library that `brillm plugin build` made on this machine"))
    };
    let cut = || invalid("it cannot be loaded: the file is cut short");
    if !file.starts_with(b"\x7fELF") {
        return invalid("it cannot be loaded: not a dynamic library");
    }
    let little = cfg!(target_endian = "little");
    let Some((&class, &order)) = file.get(4).zip(file.get(5)) else {
        return cut();
    };
    if (class == 2) != cfg!(target_pointer_width = "64") || (order == 1) != little {
        return invalid("it cannot be loaded: built for another kind of machine");
    }
    if class != 2 {
        // 32-bit headers have another layout; the system's loader checks them.
        return Ok(());
    }
    let Some(head) = file.get(..64) else {
        return cut();
    };
    let half = |at: usize| u16::from_ne_bytes([head[at], head[at + 1]]);
    if half(16) != DYNAMIC {
        return invalid("it cannot be loaded: not a dynamic library");
    }
    if machine().is_some_and(|machine| machine != half(18)) {
        return invalid("it cannot be loaded: built for another kind of machine");
    }
    // Tables of program headers (segments) and section headers: offset, length of an entry, count. The second is at the
    // end of a file as linkers write it.
    let tables = [(32, half(54), half(56)), (40, half(58), half(60))];
    for (at, size, count) in tables {
        let length = u64::from(size) * u64::from(count);
        if !inside(file, number(head, at), length) {
            return cut();
        }
    }
    let (first, size, count) = (number(head, 32) as usize, usize::from(half(54)), half(56));
    if size < 56 || count == 0 {
        return invalid("it cannot be loaded: it has no segments");
    }
    for segment in file[first..].chunks(size).take(usize::from(count)) {
        let kind = u32::from_ne_bytes([segment[0], segment[1], segment[2], segment[3]]);
        if kind == LOAD && !inside(file, number(segment, 8), number(segment, 32)) {
            return cut();
        }
    }
    if !file.windows(ENTRY.len()).any(|bytes| bytes == ENTRY) {
        return invalid("it is not a brillm plugin: it exports no function brl_plugin_entry");
    }
    Ok(())
}

/// The number of 8 bytes at an offset within a header.
fn number(header: &[u8], at: usize) -> u64 {
    let bytes = header[at..at + 8].try_into();
    u64::from_ne_bytes(bytes.expect("a slice of 8 bytes"))
}

fn inside(file: &[u8], offset: u64, length: u64) -> bool {
    offset
        .checked_add(length)
        .is_some_and(|end| end <= file.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_and_damaged_libraries_are_refused() {
        // This test program is an ELF file; the entry's name is added, as a plugin has it.
        let mut whole = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let end = whole.len();
        whole.extend_from_slice(ENTRY);
        check_bytes(&whole).unwrap();
        let mut lengths: Vec<usize> = (0..200).collect();
        lengths.extend((1..100).map(|part| end / 100 * part));
        lengths.push(end - 1);
        for length in lengths {
            let error = check_bytes(&whole[..length]).expect_err("cut");
            assert_eq!(error.kind(), ErrorKind::Plugin, "{length}: {error}");
        }
        // Any header is an answer, never a panic.
        for at in 0..64 {
            for value in [0, 1, 0x7f, 0xff] {
                let mut damaged = whole[..4096].to_vec();
                damaged[at] = value;
                drop(check_bytes(&damaged));
            }
        }
        for text in [
            &b"text"[..],
            b"",
            b"#!/bin/sh\n",
            b"MZ\x90",
            b"\xcf\xfa\xed\xfe",
        ] {
            assert!(check_bytes(text).is_err());
        }
    }
}
