//! Writer of `.bril` files: into a temporary file, which is then renamed.

use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use brillm_file::OutputFile;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::kernel::element::Element;
use crate::model::container::{ALIGNMENT, BlockEntry, Header, MAGIC, VERSION, checksum_of_parts};
use crate::{Error, ErrorKind, Result};

/// Writes blocks one after another; the file gets its final name in [`Writer::finish`].
///
/// Dropping it without `finish` removes the temporary file and leaves an existing file unchanged.
pub struct Writer {
    file: OutputFile,
    path: PathBuf,
    position: u64,
    header: Header,
}

/// The location of a block in a file that several processes write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockLocation {
    /// The file, under its temporary name.
    pub path: PathBuf,
    /// Offset of the block in bytes.
    pub offset: u64,
}

impl Writer {
    /// Create a file.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the folder is not writable.
    pub fn create(path: &Path, metadata: Value) -> Result<Self> {
        let mut writer = Self {
            file: OutputFile::create_seekable(path).map_err(Error::io_at(path))?,
            path: path.to_path_buf(),
            position: 0,
            header: Header {
                metadata,
                blocks: Vec::new(),
            },
        };
        writer.put(&[0; ALIGNMENT as usize])?;
        Ok(writer)
    }

    /// Write a block whose bytes `fill` produces.
    ///
    /// # Errors
    /// Errors of `fill`; [`ErrorKind::Format`] when it does not write as many bytes as the shape has.
    pub fn block(
        &mut self,
        name: &str,
        element: Element,
        shape: &[usize],
        fill: impl FnOnce(&mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()>,
    ) -> Result<()> {
        self.stream(name, element, shape, None, fill).map(drop)
    }

    /// Write a block in parts, each with its own checksum. `boundaries` are byte offsets from 0 to the end.
    ///
    /// # Errors
    /// As [`Self::block`].
    pub fn block_in_parts(
        &mut self,
        name: &str,
        element: Element,
        shape: &[usize],
        boundaries: &[u64],
        fill: impl FnOnce(&mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()>,
    ) -> Result<()> {
        let checksums = self.stream(name, element, shape, Some(boundaries), fill)?;
        self.parts(name, boundaries, &checksums)
    }

    /// Write a block in parts, whose bytes other processes write too. `fill` is given the location of the block, returns when
    /// all of its bytes are on disk, and returns the checksum of each part.
    ///
    /// # Errors
    /// Errors of `fill`; [`ErrorKind::Format`] when it does not return a checksum for each part, or the boundaries do not
    /// end where the shape does; [`ErrorKind::Unsupported`] for a file without a name.
    pub fn block_by_many(
        &mut self,
        name: &str,
        element: Element,
        shape: &[usize],
        boundaries: &[u64],
        fill: impl FnOnce(&BlockLocation) -> Result<Vec<u64>>,
    ) -> Result<()> {
        self.pad()?;
        let Some(path) = self.file.temporary_path().map(Path::to_path_buf) else {
            let what = "several processes can only write a regular file";
            return Err(Error::new(ErrorKind::Unsupported, what).at(self.path.display()));
        };
        let flushed = self.file.flush();
        flushed.map_err(Error::io_at(&self.path))?;
        let offset = self.position;
        let checksums = fill(&BlockLocation { path, offset })?;
        self.position += boundaries.last().copied().unwrap_or(0);
        let sought = self.file.seek(SeekFrom::Start(self.position));
        sought.map_err(Error::io_at(&self.path))?;
        self.enter(
            name,
            element,
            shape,
            offset,
            Digest::Parts(boundaries, &checksums),
        )?;
        self.parts(name, boundaries, &checksums)
    }

    /// Write the boundaries and checksums of a block's parts.
    fn parts(&mut self, name: &str, boundaries: &[u64], checksums: &[u64]) -> Result<()> {
        for (what, values) in [("parts", boundaries), ("checksums", checksums)] {
            let name = format!("{name}.{what}");
            self.values(&name, Element::U64, &[values.len()], values)?;
        }
        Ok(())
    }

    /// Write a block from a slice.
    ///
    /// # Errors
    /// As [`Self::block`].
    pub fn values<T: bytemuck::NoUninit>(
        &mut self,
        name: &str,
        element: Element,
        shape: &[usize],
        values: &[T],
    ) -> Result<()> {
        self.block(name, element, shape, |put| {
            put(bytemuck::cast_slice(values))
        })
    }

    /// Write the header, sync, and rename the file.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] or [`ErrorKind::Resource`]; an existing file is then unchanged.
    pub fn finish(mut self) -> Result<()> {
        self.pad()?;
        let header = serde_json::to_vec(&self.header).map_err(|error| {
            Error::new(ErrorKind::Format, "the header has no JSON form").because(error)
        })?;
        let mut prologue = [0u8; 64];
        prologue[..8].copy_from_slice(&MAGIC);
        // Files that have no block in parts are the same in both versions, and older builds read them.
        let in_parts = self.header.blocks.iter().any(|block| block.parts.is_some());
        let version = if in_parts { VERSION } else { 1 };
        prologue[8..12].copy_from_slice(&version.to_le_bytes());
        prologue[16..24].copy_from_slice(&self.position.to_le_bytes());
        prologue[24..32].copy_from_slice(&(header.len() as u64).to_le_bytes());
        prologue[32..40].copy_from_slice(&xxh3_64(&header).to_le_bytes());
        let checksum = xxh3_64(&prologue[..40]);
        prologue[40..48].copy_from_slice(&checksum.to_le_bytes());
        self.put(&header)?;
        let failed = Error::io_at(&self.path);
        self.file.seek(SeekFrom::Start(0)).map_err(&failed)?;
        self.file.write_all(&prologue).map_err(&failed)?;
        self.file.finish().map_err(failed)
    }

    fn stream(
        &mut self,
        name: &str,
        element: Element,
        shape: &[usize],
        boundaries: Option<&[u64]>,
        fill: impl FnOnce(&mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()>,
    ) -> Result<Vec<u64>> {
        self.pad()?;
        let offset = self.position;
        let (mut whole, in_parts) = (Xxh3::new(), boundaries.is_some());
        let mut parts = PartChecksums::new(boundaries);
        fill(&mut |bytes: &[u8]| {
            if !in_parts {
                whole.update(bytes);
            }
            self.put(bytes)?;
            parts.update(bytes);
            Ok(())
        })?;
        let checksums = parts.finish();
        let digest = match boundaries {
            Some(boundaries) => Digest::Parts(boundaries, &checksums),
            None => Digest::Whole(whole.digest()),
        };
        self.enter(name, element, shape, offset, digest)?;
        Ok(checksums)
    }

    /// Add the block between `offset` and the position to the header.
    fn enter(
        &mut self,
        name: &str,
        element: Element,
        shape: &[usize],
        offset: u64,
        digest: Digest<'_>,
    ) -> Result<()> {
        let invalid =
            |what: String| Err(Error::new(ErrorKind::Format, what).at(format!("block {name}")));
        let length = self.position - offset;
        let expected = shape.iter().product::<usize>() as u64 * element.size() as u64;
        if length != expected {
            return invalid(format!("expected {expected} bytes, wrote {length}"));
        }
        let (checksum, parts) = match digest {
            Digest::Whole(checksum) => (checksum, None),
            Digest::Parts(boundaries, checksums) => {
                let count = boundaries.len().saturating_sub(1);
                if checksums.len() != count || boundaries.last() != Some(&length) {
                    let found = checksums.len();
                    return invalid(format!("expected {count} parts, wrote {found}"));
                }
                (checksum_of_parts(checksums), Some(count as u64))
            }
        };
        self.header.blocks.push(BlockEntry {
            name: name.to_string(),
            element,
            shape: shape.iter().map(|&axis| axis as u64).collect(),
            offset,
            length,
            checksum,
            parts,
        });
        Ok(())
    }

    fn pad(&mut self) -> Result<()> {
        let gap = self.position.next_multiple_of(ALIGNMENT) - self.position;
        self.put(&[0; ALIGNMENT as usize][..gap as usize])
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all(bytes)
            .map_err(Error::io_at(&self.path))?;
        self.position += bytes.len() as u64;
        Ok(())
    }
}

/// What the checksum of a block covers.
enum Digest<'a> {
    /// All of its bytes.
    Whole(u64),
    /// Its parts: their boundaries and checksums.
    Parts(&'a [u64], &'a [u64]),
}

/// Checksums of the parts of a block while it is written; none without boundaries.
struct PartChecksums<'a> {
    /// Offsets in bytes where parts begin, and the end of the last.
    boundaries: &'a [u64],
    written: u64,
    part: Xxh3,
    checksums: Vec<u64>,
}

impl<'a> PartChecksums<'a> {
    fn new(boundaries: Option<&'a [u64]>) -> Self {
        Self {
            boundaries: boundaries.unwrap_or_default(),
            written: 0,
            part: Xxh3::new(),
            checksums: Vec::new(),
        }
    }

    /// The end of the current part.
    fn end(&self) -> Option<u64> {
        self.boundaries.get(self.checksums.len() + 1).copied()
    }

    fn update(&mut self, mut bytes: &[u8]) {
        while let Some(end) = self.end() {
            // A part without bytes ends where the one before it ends.
            if bytes.is_empty() && end != self.written {
                break;
            }
            let take = ((end - self.written) as usize).min(bytes.len());
            self.part.update(&bytes[..take]);
            self.written += take as u64;
            bytes = &bytes[take..];
            if self.written == end {
                self.checksums.push(self.part.digest());
                self.part.reset();
            }
        }
    }

    /// The checksums, with those of parts without bytes at the end.
    fn finish(mut self) -> Vec<u64> {
        self.update(&[]);
        self.checksums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::bytes::Bytes;
    use crate::model::{Container, Verify};

    /// Write a file of 100 bytes in four parts, and a block that is not in parts.
    fn in_parts(path: &Path, write: impl FnOnce(&mut Writer, &[u64], &[u8])) -> Vec<u8> {
        let values: Vec<u8> = (0..100).collect();
        let mut writer = Writer::create(path, serde_json::json!({})).unwrap();
        writer.values("before", Element::U8, &[3], b"abc").unwrap();
        write(&mut writer, &[0, 10, 10, 60, 100], &values);
        writer.values("after", Element::U8, &[3], b"xyz").unwrap();
        writer.finish().unwrap();
        std::fs::read(path).unwrap()
    }

    // Windows lets nobody else write into a file that is locked.
    #[cfg(not(windows))]
    #[test]
    fn a_block_that_several_write_is_that_of_one_writer() {
        let folder = tempfile::tempdir().unwrap();
        let one = in_parts(&folder.path().join("one.bril"), |writer, parts, values| {
            let put = |put: &mut dyn FnMut(&[u8]) -> crate::Result<()>| put(values);
            let written = writer.block_in_parts("data", Element::U8, &[100], parts, put);
            written.unwrap();
        });
        let many = in_parts(&folder.path().join("many.bril"), |writer, parts, values| {
            let fill = |location: &BlockLocation| {
                // The last bytes first, as ranks do in any order.
                for (from, to) in [(60, 100), (0, 60)] {
                    let mut file = brillm_file::open_part(&location.path).unwrap();
                    let at = std::io::SeekFrom::Start(location.offset + from as u64);
                    std::io::Seek::seek(&mut file, at).unwrap();
                    std::io::Write::write_all(&mut file, &values[from..to]).unwrap();
                    brillm_file::sync_part(&file).unwrap();
                }
                let parts = parts.windows(2);
                Ok(parts
                    .map(|ends| xxh3_64(&values[ends[0] as usize..ends[1] as usize]))
                    .collect())
            };
            let written = writer.block_by_many("data", Element::U8, &[100], parts, fill);
            written.unwrap();
        });
        assert_eq!(one, many);
        assert_eq!(one[8], 2, "a file with a block in parts has version 2");
        let lacking = std::panic::catch_unwind(|| {
            in_parts(&folder.path().join("x.bril"), |writer, parts, _| {
                let fill = |_: &BlockLocation| Ok(vec![0; 3]);
                let written = writer.block_by_many("data", Element::U8, &[100], parts, fill);
                assert!(
                    written
                        .unwrap_err()
                        .to_string()
                        .contains("expected 4 parts")
                );
                panic!("not finished");
            })
        });
        assert!(lacking.is_err() && !folder.path().join("x.bril").exists());
    }

    /// Version 1 has the checksum of all bytes where version 2 has that of the parts' checksums.
    #[test]
    fn blocks_in_parts_of_version_1_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = in_parts(&folder.path().join("m.bril"), |writer, parts, values| {
            let put = |put: &mut dyn FnMut(&[u8]) -> crate::Result<()>| put(values);
            let written = writer.block_in_parts("data", Element::U8, &[100], parts, put);
            written.unwrap();
        });
        let at = u64::from_le_bytes(bytes[16..24].try_into().unwrap()) as usize;
        let mut header: serde_json::Value = serde_json::from_slice(&bytes[at..]).unwrap();
        let values: Vec<u8> = (0..100).collect();
        header["blocks"][1]["checksum"] = xxh3_64(&values).into();
        let header = serde_json::to_vec(&header).unwrap();
        bytes.truncate(at);
        bytes.extend(&header);
        bytes[8] = 1;
        bytes[24..32].copy_from_slice(&(header.len() as u64).to_le_bytes());
        bytes[32..40].copy_from_slice(&xxh3_64(&header).to_le_bytes());
        let checksum = xxh3_64(&bytes[..40]);
        bytes[40..48].copy_from_slice(&checksum.to_le_bytes());
        for verify in [Verify::Whole, Verify::Touched] {
            let container = Container::from_bytes(Bytes::copy_of(&bytes), verify).unwrap();
            assert_eq!(container.require("data").unwrap().bytes()[..], values);
        }
        let data = 64 + 64;
        bytes[data + 30] ^= 1;
        let error = Container::from_bytes(Bytes::copy_of(&bytes), Verify::Whole).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Checksum);
    }
}
