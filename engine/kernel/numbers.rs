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

    /// Read a whole number; 0 in a row of real ones.
    pub fn whole_at(&self, index: usize) -> u32 {
        match self.element {
            Element::U16 => u32::from(self.bytes.typed::<u16>().expect(CHECKED)[index]),
            Element::U32 => self.bytes.typed::<u32>().expect(CHECKED)[index],
            _ => 0,
        }
    }

    /// Read a real number; 0 in a row of whole ones.
    pub fn real_at(&self, index: usize) -> f32 {
        match self.element {
            Element::F16 => {
                half::f16::from_bits(self.bytes.typed::<u16>().expect(CHECKED)[index]).to_f32()
            }
            Element::F32 => self.bytes.typed::<f32>().expect(CHECKED)[index],
            _ => 0.0,
        }
    }

    /// Iterate over whole numbers.
    pub fn wholes(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.len()).map(|index| self.whole_at(index))
    }

    /// Find a whole number in a range where they ascend. O(log n).
    pub fn find(&self, range: Range<usize>, value: u32) -> Option<usize> {
        let (mut start, mut end) = (range.start, range.end);
        while start < end {
            let middle = start + (end - start) / 2;
            match self.whole_at(middle).cmp(&value) {
                std::cmp::Ordering::Less => start = middle + 1,
                std::cmp::Ordering::Greater => end = middle,
                std::cmp::Ordering::Equal => return Some(middle),
            }
        }
        None
    }
}
