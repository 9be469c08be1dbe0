//! A stored row of numbers: whole ones of 16 or 32 bits, or f16 and f32.

use std::ops::Range;

use crate::kernel::bytes::Bytes;
use crate::kernel::element::Element;
use crate::{Error, ErrorKind, Result};

/// Why stored bytes convert to numbers.
const CHECKED: &str = "Numbers::new checked the alignment";

/// Read-only numbers in the element type they are stored in; clones share them.
#[derive(Clone, Debug)]
pub struct Numbers {
    element: Element,
    bytes: Bytes,
}

impl Default for Numbers {
    fn default() -> Self {
        Self::whole(&[])
    }
}

impl Numbers {
    /// Create a row over stored bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] for another element type than u16, u32, f16 and f32, and for bytes that are not aligned
    /// or not a whole number of elements.
    pub fn new(element: Element, bytes: Bytes) -> Result<Self> {
        match element {
            Element::U16 | Element::F16 => drop(bytes.typed::<u16>()?),
            Element::U32 => drop(bytes.typed::<u32>()?),
            Element::F32 => drop(bytes.typed::<f32>()?),
            other => {
                let what = format!("unexpected element type {other}");
                return Err(Error::new(ErrorKind::Format, what));
            }
        }
        Ok(Self { element, bytes })
    }

    /// Store whole numbers, in 16 bits where all fit.
    pub fn whole(values: &[u32]) -> Self {
        let narrow: Option<Vec<u16>> = values.iter().map(|&value| value.try_into().ok()).collect();
        let (element, bytes) = match narrow {
            Some(narrow) => (Element::U16, Bytes::copy_of(&narrow)),
            None => (Element::U32, Bytes::copy_of(values)),
        };
        Self { element, bytes }
    }

    /// Store real numbers as f16, or as f32 where they are to be exact.
    pub fn real(values: &[f32], exact: bool) -> Self {
        let (element, bytes) = if exact {
            (Element::F32, Bytes::copy_of(values))
        } else {
            let narrow = values.iter().map(|&value| half::f16::from_f32(value));
            (Element::F16, Bytes::copy_of(&narrow.collect::<Vec<_>>()))
        };
        Self { element, bytes }
    }

    /// Element type.
    pub fn element(&self) -> Element {
        self.element
    }

    /// Stored bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Number of numbers.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.element.size()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The numbers as a slice of their element type.
    pub fn cells(&self) -> Cells<'_> {
        match self.element {
            Element::U16 => Cells::Narrow(self.bytes.typed().expect(CHECKED)),
            Element::F16 => Cells::Half(self.bytes.typed().expect(CHECKED)),
            Element::F32 => Cells::Single(self.bytes.typed().expect(CHECKED)),
            _ => Cells::Wide(self.bytes.typed().expect(CHECKED)),
        }
    }

    /// Find a whole number in a range where they ascend. O(log n).
    pub fn find(&self, range: Range<usize>, value: u32) -> Option<usize> {
        let start = range.start;
        let found = match self.cells() {
            Cells::Narrow(cells) => cells[range].binary_search(&u16::try_from(value).ok()?),
            Cells::Wide(cells) => cells[range].binary_search(&value),
            Cells::Half(_) | Cells::Single(_) => return None,
        };
        found.ok().map(|offset| start + offset)
    }
}

/// Numbers in the element type they are stored in.
#[derive(Clone, Copy, Debug)]
pub enum Cells<'a> {
    /// u16.
    Narrow(&'a [u16]),
    /// u32.
    Wide(&'a [u32]),
    /// The bits of f16.
    Half(&'a [u16]),
    /// f32.
    Single(&'a [f32]),
}

impl Cells<'_> {
    /// Read a whole number; 0 among real ones.
    #[inline]
    pub fn whole(&self, index: usize) -> u32 {
        match self {
            Self::Narrow(cells) => u32::from(cells[index]),
            Self::Wide(cells) => cells[index],
            Self::Half(_) | Self::Single(_) => 0,
        }
    }

    /// Read a real number; 0 among whole ones.
    #[inline]
    pub fn real(&self, index: usize) -> f32 {
        match self {
            Self::Half(cells) => half::f16::from_bits(cells[index]).to_f32(),
            Self::Single(cells) => cells[index],
            Self::Narrow(_) | Self::Wide(_) => 0.0,
        }
    }
}
