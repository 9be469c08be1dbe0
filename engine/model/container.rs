//! The `.bril` container: one file of named blocks with checksums.
//!
//! ```text
//! 0    magic [8], version u32, zero u32, header offset u64, header length u64, header checksum u64,
//!      prologue checksum u64 (of the 40 bytes before it), zeros up to 64
//! 64   blocks, each beginning at a multiple of 64, zeros between them
//! …    header: JSON {"metadata": …, "blocks": [{name, element, shape, offset, length, checksum, parts?}]}
//! ```
//!
//! Numbers are little-endian, checksums XXH3-64. The header comes last so that writing is one stream. A
//! block written in *parts* (the edge weights, one part per fan) has its part boundaries and checksums in
//! two further blocks, and each part is verified on first use, so that opening does not read it. Its checksum is
//! that of its parts' checksums, so that several processes can write it; in version 1, that of its bytes.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use crate::kernel::bytes::Bytes;
use crate::kernel::element::Element;
use crate::text::download;
use crate::{Error, ErrorKind, Result};

/// The first eight bytes; a transfer that converts line ends damages them.
pub const MAGIC: [u8; 8] = *b"\x89BRIL\r\n\x1a";
/// The newest format version that this build reads and writes. A file without blocks in parts has version 1.
pub const VERSION: u32 = 2;
/// Blocks begin at multiples of this.
pub const ALIGNMENT: u64 = 64;
/// Files up to this size are verified whole on opening.
pub const WHOLE: u64 = 256 << 20;

/// How much of a file is verified when it is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// Everything in files up to 256 MiB; in larger ones all but the blocks in parts, which are verified on first use.
    #[default]
    Lazy,
    /// All but the blocks in parts, which are verified on first use, in files of any size.
    Touched,
    /// Every byte.
    Whole,
}

/// An entry of the block table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BlockEntry {
    pub(crate) name: String,
    pub(crate) element: Element,
    pub(crate) shape: Vec<u64>,
    pub(crate) offset: u64,
    pub(crate) length: u64,
    pub(crate) checksum: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parts: Option<u64>,
}

/// The JSON at the end of the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    pub(crate) metadata: Value,
    pub(crate) blocks: Vec<BlockEntry>,
}

/// A named array in a file.
#[derive(Clone, Debug)]
pub struct Block {
    /// The name, for example `edge.arena`.
    pub name: String,
    /// Element type.
    pub element: Element,
    /// Sizes of the axes: rows, then columns, …
    pub shape: Vec<usize>,
    bytes: Bytes,
    parts: Option<Arc<BlockParts>>,
}

/// The parts of a block, and which of them are verified.
#[derive(Debug)]
pub struct BlockParts {
    bytes: Bytes,
    boundaries: Vec<u64>,
    checksums: Vec<u64>,
    verified: Vec<AtomicU64>,
    location: String,
}

impl BlockParts {
    /// Verify a part on its first use; later calls cost one relaxed load.
    ///
    /// # Errors
    /// [`ErrorKind::Checksum`] with the block and the part; [`ErrorKind::Input`] for a part that does not exist.
    pub fn verify(&self, part: usize) -> Result<()> {
        let Some(word) = self
            .verified
            .get(part / 64)
            .filter(|_| part < self.checksums.len())
        else {
            return Err(Error::new(
                ErrorKind::Input,
                format!("part {part} of {}", self.checksums.len()),
            )
            .at(&self.location));
        };
        let bit = 1u64 << (part % 64);
        if word.load(Ordering::Relaxed) & bit != 0 {
            return Ok(());
        }
        let range = self.boundaries[part] as usize..self.boundaries[part + 1] as usize;
        if xxh3_64(&self.bytes[range]) != self.checksums[part] {
            return Err(damaged(format!("part {part}")).at(&self.location));
        }
        word.fetch_or(bit, Ordering::Relaxed);
        Ok(())
    }
}

impl Block {
    /// The bytes of the block.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The parts, if the block was written in parts and is not verified yet.
    pub fn parts(&self) -> Option<&Arc<BlockParts>> {
        self.parts.as_ref()
    }

    /// The block as a slice of numbers.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] when the elements have another size than `T`.
    pub fn typed<T: bytemuck::AnyBitPattern>(&self) -> Result<&[T]> {
        if size_of::<T>() != self.element.size() {
            return Err(Error::new(
                ErrorKind::Format,
                format!("unexpected element type {}", self.element),
            )
            .at(format!("block {}", self.name)));
        }
        self.bytes
            .typed()
            .map_err(|error| error.at(format!("block {}", self.name)))
    }
}

/// An open `.bril` file.
#[derive(Clone, Debug)]
pub struct Container {
    metadata: Value,
    blocks: Vec<Block>,
}

impl Container {
    /// Open a file and verify it.
    ///
    /// A file up to 256 MiB is read into memory, so that later changes of the file have no effect; a larger one, and any
    /// with [`Verify::Touched`], is mapped.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it cannot be read; [`ErrorKind::Version`], [`ErrorKind::Checksum`] or
    /// [`ErrorKind::Format`] with file and block for a damaged or incomplete file.
    ///
    /// # Complexity
    /// O(verified bytes).
    pub fn open(path: &Path, verify: Verify) -> Result<Self> {
        let bytes = if verify == Verify::Touched {
            let (file, length) = open_file(path)?;
            map(&file, length).map_err(Error::io_at(path))?
        } else {
            read_or_map(path)?
        };
        if bytes.is_empty() {
            return Err(Error::new(ErrorKind::Format, "the file is empty").at(path.display()));
        }
        Self::from_bytes(bytes, verify).map_err(|error| error.at(path.display()))
    }

    /// Open a file in memory.
    ///
    /// # Errors
    /// As [`Self::open`], without a file name.
    pub fn from_bytes(bytes: Bytes, verify: Verify) -> Result<Self> {
        let whole = match verify {
            Verify::Whole => true,
            Verify::Lazy => bytes.len() as u64 <= WHOLE,
            Verify::Touched => false,
        };
        let (version, header) = read_header(&bytes)?;
        let by_parts = version > 1;
        check_layout(&bytes, &header)?;
        let mut blocks = Vec::with_capacity(header.blocks.len());
        for entry in &header.blocks {
            let location = || format!("block {}", entry.name);
            let shape = check_shape(entry).map_err(|error| error.at(location()))?;
            let data =
                bytes.slice(entry.offset as usize..(entry.offset + entry.length) as usize)?;
            // In version 2, parts are verified below.
            if (entry.parts.is_none() || whole && !by_parts) && xxh3_64(&data) != entry.checksum {
                return Err(damaged("its bytes".into()).at(location()));
            }
            blocks.push(Block {
                name: entry.name.clone(),
                element: entry.element,
                shape,
                bytes: data,
                parts: None,
            });
        }
        let mut container = Self {
            metadata: header.metadata,
            blocks,
        };
        for (index, entry) in header.blocks.iter().enumerate() {
            if let Some(count) = entry.parts {
                let parts = container
                    .parts(index, count)
                    .map_err(|error| error.at(format!("block {}", entry.name)))?;
                if by_parts && checksum_of_parts(&parts.checksums) != entry.checksum {
                    let what = damaged("the checksums of its parts".into());
                    return Err(what.at(format!("block {}", entry.name)));
                }
                if whole && by_parts {
                    (0..parts.checksums.len()).try_for_each(|part| parts.verify(part))?;
                }
                if !whole {
                    container.blocks[index].parts = Some(Arc::new(parts));
                }
            }
        }
        Ok(container)
    }

    /// The metadata in the header.
    pub fn metadata(&self) -> &Value {
        &self.metadata
    }

    /// All blocks, in file order.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Find a block by name.
    pub fn block(&self, name: &str) -> Option<&Block> {
        self.blocks.iter().find(|block| block.name == name)
    }

    /// Find a block by name, or fail.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] with its name.
    pub fn require(&self, name: &str) -> Result<&Block> {
        self.block(name).ok_or_else(|| {
            Error::new(ErrorKind::Format, "the block is missing").at(format!("block {name}"))
        })
    }

    /// The blocks whose names begin with `prefix`, without it; no metadata.
    pub(super) fn part(&self, prefix: &str) -> Self {
        let blocks = self.blocks.iter().filter_map(|block| {
            let name = block.name.strip_prefix(prefix)?.to_string();
            Some(Block {
                name,
                ..block.clone()
            })
        });
        Self {
            metadata: Value::Null,
            blocks: blocks.collect(),
        }
    }

    fn parts(&self, index: usize, count: u64) -> Result<BlockParts> {
        let block = &self.blocks[index];
        let invalid = |what: &str| Error::new(ErrorKind::Format, what.to_string());
        let boundaries = self
            .require(&format!("{}.parts", block.name))?
            .typed::<u64>()?
            .to_vec();
        let checksums = self
            .require(&format!("{}.checksums", block.name))?
            .typed::<u64>()?
            .to_vec();
        if checksums.len() as u64 != count || boundaries.len() != checksums.len() + 1 {
            return Err(invalid("the parts do not match their checksums"));
        }
        let ends =
            boundaries[0] == 0 && boundaries[boundaries.len() - 1] == block.bytes.len() as u64;
        if !ends || boundaries.windows(2).any(|pair| pair[0] > pair[1]) {
            return Err(invalid("the parts do not cover the block"));
        }
        let words = checksums.len().div_ceil(64);
        Ok(BlockParts {
            bytes: block.bytes.clone(),
            boundaries,
            checksums,
            verified: (0..words).map(|_| AtomicU64::new(0)).collect(),
            location: format!("block {}", block.name),
        })
    }
}

/// Read a file up to 256 MiB into memory, so that later changes of it have no effect, or map a larger one.
///
/// # Errors
/// [`ErrorKind::Io`]; [`ErrorKind::Resource`] when it does not fit.
pub fn read_or_map(path: &Path) -> Result<Bytes> {
    let (file, length) = open_file(path)?;
    if length <= WHOLE {
        Bytes::read(file, length as usize).map_err(|error| error.at(path.display()))
    } else {
        map(&file, length).map_err(Error::io_at(path))
    }
}

/// Open a file, with its length.
///
/// # Errors
/// [`ErrorKind::Io`].
pub fn open_file(path: &Path) -> Result<(File, u64)> {
    let file = download::open(path)?;
    let length = file.metadata().map_err(Error::io_at(path))?.len();
    Ok((file, length))
}

/// Map an open file of `length` bytes into memory, read-only.
///
/// # Errors
/// Those of the system.
pub fn map(file: &File, length: u64) -> std::io::Result<Bytes> {
    if length == 0 {
        return Ok(Bytes::copy_of::<u8>(&[]));
    }
    // SAFETY: the map is read-only and private to this process's view. Another process that truncates the
    // file while it is open would end this one with a bus error, as with every mapped file; files are
    // written to a new name and renamed, never changed in place, so no writer of ours does that. Where others
    // may do so, as under a server, the file is a private copy without a name.
    let map = unsafe { memmap2::Mmap::map(file) }?;
    Ok(Bytes::mapped(map))
}

fn damaged(what: String) -> Error {
    Error::new(
        ErrorKind::Checksum,
        format!("{what} do not match the checksum: the file is damaged"),
    )
    .advice("copy or download it again")
}

/// Return the checksum of a block in parts, in format version 2.
pub(super) fn checksum_of_parts(checksums: &[u64]) -> u64 {
    let bytes: Vec<u8> = checksums.iter().flat_map(|one| one.to_le_bytes()).collect();
    xxh3_64(&bytes)
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// What a file is that does not begin with the magic: its first bytes, the message, and what to do.
type Other = (&'static [u8], &'static str, &'static str);
const NOT_BRIL: Other = (
    b"",
    "not a .bril file",
    "pass a .bril or .gguf file, or a folder with config.json; checkpoints of BriLLM's authors become one with `brillm import`",
);
const OTHERS: [Other; 2] = [
    (
        b"GGUF",
        "a GGUF file, which is not supported",
        "give the folder with config.json and safetensors that it was made from",
    ),
    (
        b"PK\x03\x04",
        "not a .bril file, but a PyTorch file or zip archive",
        "convert a checkpoint of the authors with `brillm import`, or give a model's folder with safetensors",
    ),
];

/// Read the format version and the header.
fn read_header(bytes: &[u8]) -> Result<(u32, Header)> {
    let invalid = |what: String| Err(Error::new(ErrorKind::Format, what));
    if bytes.len() < 8 || bytes[..8] != MAGIC {
        download::check(bytes)?;
        let (_, what, advice) = OTHERS
            .iter()
            .find(|(first, ..)| bytes.starts_with(first))
            .unwrap_or(&NOT_BRIL);
        return Err(Error::new(ErrorKind::Format, *what).advice(*advice));
    }
    if bytes.len() < 64 {
        return invalid(format!(
            "the file ends after {} bytes, within its prologue",
            bytes.len()
        ));
    }
    let version = u32::from_le_bytes(bytes[8..12].try_into().expect("four bytes"));
    if !(1..=VERSION).contains(&version) {
        return Err(Error::new(
            ErrorKind::Version,
            format!("the file has format version {version}, this build reads 1 to {VERSION}"),
        )
        .advice("use the build of brillm that wrote it, or train or import the model again"));
    }
    if xxh3_64(&bytes[..40]) != number(bytes, 40) || bytes[48..64].iter().any(|&byte| byte != 0) {
        return Err(damaged("the first bytes".into()));
    }
    let (offset, length) = (number(bytes, 16), number(bytes, 24));
    let end = offset.checked_add(length);
    if end != Some(bytes.len() as u64) || offset < 64 {
        return invalid(format!(
            "the header ends at byte {}, but the file has {} bytes: it is incomplete or has trailing bytes",
            end.map_or("?".to_string(), |end| end.to_string()),
            bytes.len()
        ));
    }
    let header = &bytes[offset as usize..];
    if xxh3_64(header) != number(bytes, 32) {
        return Err(damaged("the header's bytes".into()));
    }
    let header = serde_json::from_slice(header).map_err(|error| {
        Error::new(ErrorKind::Format, format!("invalid header: {error}")).because(error)
    })?;
    Ok((version, header))
}

/// Check that blocks follow each other without overlap, with zeros between them.
fn check_layout(bytes: &[u8], header: &Header) -> Result<()> {
    let mut names = HashSet::new();
    let mut end = ALIGNMENT;
    let header_offset = number(bytes, 16);
    for entry in &header.blocks {
        let invalid = |what: &str| {
            Err(Error::new(ErrorKind::Format, what.to_string()).at(format!("block {}", entry.name)))
        };
        if !names.insert(entry.name.as_str()) {
            return invalid("two blocks have this name");
        }
        if entry.offset != end.next_multiple_of(ALIGNMENT) {
            return invalid("the block begins at a wrong offset");
        }
        let Some(next) = entry
            .offset
            .checked_add(entry.length)
            .filter(|&next| next <= header_offset)
        else {
            return invalid("the block overlaps the header");
        };
        check_zeros(bytes, end, entry.offset)?;
        end = next;
    }
    if header_offset != end.next_multiple_of(ALIGNMENT) {
        return Err(Error::new(
            ErrorKind::Format,
            "the header begins at a wrong offset",
        ));
    }
    check_zeros(bytes, end, header_offset)
}

fn check_zeros(bytes: &[u8], from: u64, to: u64) -> Result<()> {
    match bytes[from as usize..to as usize]
        .iter()
        .position(|&byte| byte != 0)
    {
        Some(index) => Err(damaged(format!(
            "the padding at byte {}",
            from + index as u64
        ))),
        None => Ok(()),
    }
}

fn check_shape(entry: &BlockEntry) -> Result<Vec<usize>> {
    let size = entry
        .shape
        .iter()
        .try_fold(entry.element.size() as u64, |size, &axis| {
            size.checked_mul(axis)
        });
    if size != Some(entry.length) || entry.shape.len() > 8 {
        return Err(Error::new(
            ErrorKind::Format,
            format!(
                "{} bytes are not {} of shape {:?}",
                entry.length, entry.element, entry.shape
            ),
        ));
    }
    Ok(entry.shape.iter().map(|&axis| axis as usize).collect())
}
