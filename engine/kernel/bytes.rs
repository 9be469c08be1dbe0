//! Read-only bytes, cheap to share: owned, mapped from a file, or part of the program.

use std::io::Read;
use std::ops::{Deref, Range};
use std::sync::Arc;

use crate::{Error, ErrorKind, Result};

/// Storage of the bytes.
#[derive(Clone)]
enum Source {
    /// Allocated as 64-byte units, so that any element type is aligned.
    Owned(Arc<Vec<Line>>),
    Mapped(Arc<memmap2::Mmap>),
    Static(&'static [u8]),
}

/// A cache line: the unit of owned allocations.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// A read-only region of bytes; clones share it.
#[derive(Clone)]
pub struct Bytes {
    source: Source,
    range: Range<usize>,
}

impl Bytes {
    /// Copy plain numbers into 64-byte-aligned memory.
    pub fn copy_of<T: bytemuck::NoUninit>(values: &[T]) -> Self {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        let mut lines = vec![Line([0; 64]); bytes.len().div_ceil(64)];
        bytemuck::cast_slice_mut::<Line, u8>(&mut lines)[..bytes.len()].copy_from_slice(bytes);
        Self {
            source: Source::Owned(Arc::new(lines)),
            range: 0..bytes.len(),
        }
    }

    /// Read `length` bytes into memory.
    ///
    /// # Errors
    /// [`ErrorKind::Resource`] when they do not fit; [`ErrorKind::Io`] when the source fails or has fewer bytes.
    pub fn read(mut source: impl Read, length: usize) -> Result<Self> {
        let (mut lines, count) = (Vec::new(), length.div_ceil(64));
        lines.try_reserve_exact(count).map_err(|error| {
            let what = format!("{length} bytes do not fit into memory");
            Error::new(ErrorKind::Resource, what).because(error)
        })?;
        lines.resize(count, Line([0; 64]));
        source
            .read_exact(&mut bytemuck::cast_slice_mut::<Line, u8>(&mut lines)[..length])
            .map_err(|error| Error::io(error, "reading"))?;
        Ok(Self {
            source: Source::Owned(Arc::new(lines)),
            range: 0..length,
        })
    }

    /// Create a region of zeros, which takes memory only where it is read.
    ///
    /// # Errors
    /// [`ErrorKind::Resource`] when the system has no addresses for it.
    pub fn zeros(length: usize) -> Result<Self> {
        let map = memmap2::MmapMut::map_anon(length.max(1))
            .and_then(memmap2::MmapMut::make_read_only)
            .map_err(|error| {
                let what = format!("{length} bytes cannot be mapped");
                Error::new(ErrorKind::Resource, what).because(error)
            })?;
        Ok(Self {
            source: Source::Mapped(Arc::new(map)),
            range: 0..length,
        })
    }

    /// Use a whole mapped file.
    pub fn mapped(map: memmap2::Mmap) -> Self {
        let range = 0..map.len();
        Self {
            source: Source::Mapped(Arc::new(map)),
            range,
        }
    }

    /// Use bytes of the program; their alignment is that of the program file.
    pub fn of_program(bytes: &'static [u8]) -> Self {
        Self {
            source: Source::Static(bytes),
            range: 0..bytes.len(),
        }
    }

    /// Return part of the region, sharing its memory.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] when the range is not within the region.
    pub fn slice(&self, range: Range<usize>) -> Result<Self> {
        if range.start > range.end || range.end > self.len() {
            return Err(Error::new(
                ErrorKind::Format,
                format!(
                    "bytes {}..{} are outside a region of {}",
                    range.start,
                    range.end,
                    self.len()
                ),
            ));
        }
        let start = self.range.start + range.start;
        Ok(Self {
            source: self.source.clone(),
            range: start..start + range.len(),
        })
    }

    /// Remove the pages of the mapped file, if there is one, from the memory of this process until they are read again.
    pub fn release(&self) {
        if let Source::Mapped(map) = &self.source {
            crate::kernel::pages::release(map);
        }
    }

    /// Cast the region to numbers.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] when it is not aligned for them or not a whole number of them.
    pub fn typed<T: bytemuck::AnyBitPattern>(&self) -> Result<&[T]> {
        bytemuck::try_cast_slice(self).map_err(|error| {
            Error::new(
                ErrorKind::Format,
                format!("cannot read {} bytes as numbers: {error}", self.len()),
            )
        })
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let all: &[u8] = match &self.source {
            Source::Owned(lines) => bytemuck::cast_slice(lines),
            Source::Mapped(map) => map,
            Source::Static(bytes) => bytes,
        };
        &all[self.range.clone()]
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Bytes({})", self.len())
    }
}
