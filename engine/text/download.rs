//! Files that a download left in place of the real ones: Git LFS pointers, error pages, links without a target.

use std::fs::File;
use std::io::ErrorKind::NotFound;
use std::io::Read;
use std::path::Path;

use crate::{Error, ErrorKind, Result};

/// First bytes of a pointer to a file, what it is, and what to do. Letters match in either case.
const POINTERS: [(&str, &str, &str); 4] = [
    ("version https://git-lfs", LFS, "run git lfs pull"),
    ("version https://hawser", LFS, "run git lfs pull"),
    (
        "# xet version",
        "a Xet pointer",
        "fetch the file with git xet",
    ),
    (
        "/annex/objects/",
        "a git-annex pointer",
        "run git annex get",
    ),
];
/// The same of an answer that a server gave instead of a file. In a corpus it may be text.
const PAGES: [(&str, &str, &str); 7] = [
    ("<!doctype html", "an HTML page", AGAIN),
    ("<html", "an HTML page", AGAIN),
    ("<?xml", "an XML page", AGAIN),
    ("{\"error\"", "the error message of a server", AGAIN),
    ("entry not found", "the error message of a server", AGAIN),
    (
        "repository not found",
        "the error message of a server",
        AGAIN,
    ),
    ("access to model", "the error message of a server", AGAIN),
];
/// Bytes that [`check`] needs.
#[cfg(feature = "transformer")]
const HEAD: u64 = 512;
const LFS: &str = "a Git LFS pointer";
const AGAIN: &str = "download the file itself, with an access token where the site requires one";

/// Check that a file of a model is not one that a download left in its place.
///
/// # Errors
/// [`ErrorKind::Format`] with what the file is instead.
pub(crate) fn check(bytes: &[u8]) -> Result<()> {
    if bytes.is_empty() {
        return Err(Error::new(ErrorKind::Format, "the file is empty").advice("download it again"));
    }
    match find(&POINTERS, bytes).or_else(|| find(&PAGES, bytes)) {
        None => Ok(()),
        Some((kind, advice)) => {
            Err(Error::new(ErrorKind::Format, format!("this is {kind}")).advice(advice))
        }
    }
}

/// Recognise a pointer to a file by its first bytes: what it is, and what to do.
pub(super) fn pointer(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    find(&POINTERS, bytes)
}

fn find(
    kinds: &[(&'static str, &'static str, &'static str)],
    bytes: &[u8],
) -> Option<(&'static str, &'static str)> {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = text[..text.len().min(256)].trim_ascii_start();
    let begins = |first: &str| {
        let head = text.get(..first.len());
        head.is_some_and(|head| head.eq_ignore_ascii_case(first.as_bytes()))
    };
    let found = kinds.iter().find(|(first, ..)| begins(first));
    found.map(|&(_, kind, advice)| (kind, advice))
}

/// Open a file. Refuses pipes, whose opening waits for a writer, and devices, which have no end.
///
/// # Errors
/// [`ErrorKind::Io`], as [`unreadable`].
pub(crate) fn open(path: &Path) -> Result<File> {
    let meta = std::fs::metadata(path).map_err(|error| unreadable(error, path))?;
    if !meta.is_file() {
        return Err(Error::new(ErrorKind::Io, "the path is not a file").at(path.display()));
    }
    File::open(path).map_err(Error::io_at(path))
}

/// Read a file of a model.
///
/// # Errors
/// As [`open`] and [`check`], naming the file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = open(path)?.read_to_end(&mut bytes);
    read.map_err(Error::io_at(path))?;
    check(&bytes).map_err(|error| error.at(path.display()))?;
    Ok(bytes)
}

/// Read a text file of a model: see [`read_text`](crate::text::read_text) for what is decoded.
///
/// # Errors
/// As [`read`] and `read_text`.
#[cfg(feature = "transformer")]
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let mut head = Vec::new();
    let read = open(path)?.take(HEAD).read_to_end(&mut head);
    read.map_err(Error::io_at(path))?;
    check(&head).map_err(|error| error.at(path.display()))?;
    crate::text::read_text(path)
}

/// Describe why a file cannot be opened; a link without a target is named with its target.
pub(crate) fn unreadable(error: std::io::Error, path: &Path) -> Error {
    match std::fs::read_link(path) {
        Ok(target) if error.kind() == NotFound => {
            let advice = if target.to_string_lossy().contains("annex/objects") {
                "run git annex get"
            } else {
                "download the file again, or copy it with its link followed (cp -L)"
            };
            let what = format!("a link to {}, which does not exist", target.display());
            Error::new(ErrorKind::Io, what)
                .at(path.display())
                .advice(advice)
        }
        _ => Error::io(error, path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_left_by_a_download_are_recognised() {
        let cases: [(&[u8], Option<&str>); 9] = [
            (
                b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n",
                Some("this is a Git LFS pointer (run git lfs pull)"),
            ),
            (
                b"/annex/objects/SHA256E-s9--4d.bin\n",
                Some("git annex get"),
            ),
            (b"\n <!DOCTYPE html><html>", Some("an HTML page")),
            (b"\xef\xbb\xbf<HTML>", Some("an HTML page")),
            (b"<?xml version='1.0'?><Error>", Some("an XML page")),
            (b"Entry not found", Some("of a server")),
            (b"", Some("the file is empty")),
            (b"{\"model_type\": \"llama\"}", None),
            (b"version", None),
        ];
        for (bytes, expected) in cases {
            let found = check(bytes).err().map(|error| error.to_string());
            match expected {
                Some(part) => assert!(found.clone().unwrap().contains(part), "{found:?}"),
                None => assert_eq!(found, None),
            }
        }
    }
}
