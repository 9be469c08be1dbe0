//! Writer of `.bril` files: one stream into a temporary file, which is then renamed.

use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use brillm_file::OutputFile;
use serde_json::Value;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::kernel::element::Element;
use crate::model::container::{ALIGNMENT, BlockEntry, Header, MAGIC, VERSION};
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
        self.values(
            &format!("{name}.parts"),
            Element::U64,
            &[boundaries.len()],
            boundaries,
        )?;
        self.values(
            &format!("{name}.checksums"),
            Element::U64,
            &[checksums.len()],
            &checksums,
        )
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
        prologue[8..12].copy_from_slice(&VERSION.to_le_bytes());
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
        let mut whole = Xxh3::new();
        let mut parts = PartChecksums::new(boundaries);
        fill(&mut |bytes: &[u8]| {
            whole.update(bytes);
            self.put(bytes)?;
            parts.update(bytes);
            Ok(())
        })?;
        let checksums = parts.finish();
        let length = self.position - offset;
        let expected = shape.iter().product::<usize>() as u64 * element.size() as u64;
        if length != expected || boundaries.is_some_and(|parts| checksums.len() + 1 != parts.len())
        {
            return Err(Error::new(
                ErrorKind::Format,
                format!("expected {expected} bytes, wrote {length}"),
            )
            .at(format!("block {name}")));
        }
        self.header.blocks.push(BlockEntry {
            name: name.to_string(),
            element,
            shape: shape.iter().map(|&axis| axis as u64).collect(),
            offset,
            length,
            checksum: whole.digest(),
            parts: boundaries.map(|_| checksums.len() as u64),
        });
        Ok(checksums)
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
