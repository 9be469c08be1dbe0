//! GGUF files (version 2 and 3, little-endian): metadata and tensors of a model in one file.
//!
//! ```text
//! "GGUF" version:u32 tensors:u64 values:u64
//! values × (key:string type:u32 value)          string: length:u64 bytes; array: type:u32 length:u64 elements
//! tensors × (name:string n:u32 dimensions:u64×n format:u32 offset:u64)
//! padding to general.alignment, then the tensors at their offsets
//! ```
//!
//! Nothing is copied: values and tensors are views of the file, so that memory does not grow with what a file claims.

use std::collections::BTreeMap;

use crate::kernel::block_format::Format;
use crate::kernel::bytes::Bytes;
use crate::kernel::stored::Stored;
use crate::transformer::weights::StoredTensor;
use crate::{Error, ErrorKind, Result};

/// First bytes of a GGUF file.
pub(super) const MAGIC: &[u8; 4] = b"GGUF";
/// Alignment of tensors in a file that does not state one.
pub(super) const ALIGNMENT: usize = 32;
const ALIGNMENT_KEY: &str = "general.alignment";

/// Types of values, as files number them.
pub(super) const U32: u32 = 4;
pub(super) const I32: u32 = 5;
pub(super) const F32: u32 = 6;
pub(super) const BOOL: u32 = 7;
pub(super) const STRING: u32 = 8;
pub(super) const ARRAY: u32 = 9;

/// A value of the metadata.
#[derive(Clone, Debug)]
pub(super) enum Value<'a> {
    Integer(i64),
    Float(f64),
    Bool(bool),
    Text(&'a str),
    /// Elements of a type, not yet parsed.
    Array(u32, u64, &'a [u8]),
}

/// A parsed file.
pub(super) struct Gguf<'a> {
    pub(super) values: BTreeMap<&'a str, Value<'a>>,
    /// The values as the file stores them: their types and bytes.
    pub(super) stored: BTreeMap<&'a str, (u32, &'a [u8])>,
    pub(super) tensors: BTreeMap<&'a str, StoredTensor>,
    /// Formats of tensors that are not supported.
    pub(super) unread: BTreeMap<String, String>,
}

/// Reads from the beginning of a file on.
struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

fn invalid(offset: usize, what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Format, format!("invalid GGUF file: {what}"))
        .at(format!("byte {offset}"))
        .advice("check that the file is complete, or download it again")
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: u64) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.offset..];
        match usize::try_from(count) {
            Ok(count) if count <= rest.len() => {
                self.offset += count;
                Ok(&rest[..count])
            }
            _ => Err(invalid(
                self.offset,
                format!("{count} bytes are needed, {} are left", rest.len()),
            )),
        }
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N as u64)?.try_into().expect("N bytes"))
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.number()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.number()?))
    }

    fn text(&mut self) -> Result<&'a str> {
        let offset = self.offset;
        let length = self.u64()?;
        std::str::from_utf8(self.take(length)?)
            .map_err(|_| invalid(offset, "a string is not UTF-8"))
    }

    fn value(&mut self, kind: u32) -> Result<Value<'a>> {
        let offset = self.offset;
        Ok(match kind {
            0 => Value::Integer(i64::from(self.number::<1>()?[0])),
            1 => Value::Integer(i64::from(self.number::<1>()?[0] as i8)),
            2 => Value::Integer(i64::from(u16::from_le_bytes(self.number()?))),
            3 => Value::Integer(i64::from(i16::from_le_bytes(self.number()?))),
            U32 => Value::Integer(i64::from(self.u32()?)),
            I32 => Value::Integer(i64::from(i32::from_le_bytes(self.number()?))),
            F32 => Value::Float(f64::from(f32::from_le_bytes(self.number()?))),
            BOOL => Value::Bool(self.number::<1>()?[0] != 0),
            STRING => Value::Text(self.text()?),
            ARRAY => {
                let (kind, count) = (self.u32()?, self.u64()?);
                let start = self.offset;
                match width(kind) {
                    Some(width) => _ = self.take(count.saturating_mul(width))?,
                    None if kind == STRING => {
                        for _ in 0..count {
                            self.text()?;
                        }
                    }
                    None => return Err(invalid(offset, format!("an array of type {kind}"))),
                }
                Value::Array(kind, count, &self.bytes[start..self.offset])
            }
            10 => Value::Integer(i64::try_from(self.u64()?).unwrap_or(i64::MAX)),
            11 => Value::Integer(i64::from_le_bytes(self.number()?)),
            12 => Value::Float(f64::from_le_bytes(self.number()?)),
            _ => return Err(invalid(offset, format!("a value of type {kind}"))),
        })
    }
}

/// Return the bytes of a number's type.
fn width(kind: u32) -> Option<u64> {
    Some(match kind {
        0 | 1 | BOOL => 1,
        2 | 3 => 2,
        U32 | I32 | F32 => 4,
        10..=12 => 8,
        _ => return None,
    })
}

impl<'a> Gguf<'a> {
    /// Parse a file.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] with the offset of what is invalid; [`ErrorKind::Unsupported`] for another version.
    pub(super) fn parse(file: &'a Bytes) -> Result<Self> {
        let mut reader = Reader {
            bytes: file,
            offset: 0,
        };
        if reader.take(4)? != MAGIC {
            return Err(invalid(0, "it does not begin with GGUF"));
        }
        let version = reader.u32()?;
        if !matches!(version, 2 | 3) {
            // A big-endian file has its version in the other order of bytes.
            let what = if matches!(version.swap_bytes(), 1..=3) {
                "big-endian GGUF files are not supported".to_string()
            } else {
                format!("version {version} of GGUF is not supported")
            };
            return Err(Error::new(ErrorKind::Unsupported, what)
                .advice("supported: version 2 and 3, little-endian"));
        }
        let (tensors, values) = (reader.u64()?, reader.u64()?);
        let mut parsed = Self {
            values: BTreeMap::new(),
            stored: BTreeMap::new(),
            tensors: BTreeMap::new(),
            unread: BTreeMap::new(),
        };
        for _ in 0..values {
            let (offset, key) = (reader.offset, reader.text()?);
            let kind = reader.u32()?;
            let start = reader.offset;
            let value = reader.value(kind)?;
            let bytes = &reader.bytes[start..reader.offset];
            parsed.stored.insert(key, (kind, bytes));
            if parsed.values.insert(key, value).is_some() {
                return Err(invalid(offset, format!("the key {key} occurs twice")));
            }
        }
        parsed.read_tensors(file, &mut reader, tensors)?;
        Ok(parsed)
    }

    fn read_tensors(&mut self, file: &Bytes, reader: &mut Reader<'a>, count: u64) -> Result<()> {
        let mut listed = Vec::new();
        for _ in 0..count {
            let (offset, name) = (reader.offset, reader.text()?);
            let dimensions = reader.u32()?;
            if dimensions > 4 {
                return Err(invalid(offset, format!("{dimensions} dimensions")).at(name));
            }
            // Files list the fastest dimension first.
            let mut shape = Vec::new();
            for _ in 0..dimensions {
                let size = usize::try_from(reader.u64()?);
                shape.insert(
                    0,
                    size.map_err(|_| invalid(offset, "a dimension is too large"))?,
                );
            }
            listed.push((name, shape, reader.u32()?, reader.u64()?));
        }
        let alignment = match self.integer(ALIGNMENT_KEY)? {
            None => ALIGNMENT,
            Some(size) if size.is_power_of_two() => size,
            Some(size) => {
                return Err(invalid(reader.offset, format!("an alignment of {size}")));
            }
        };
        let data = reader.offset.next_multiple_of(alignment);
        let mut all = 0usize;
        for (name, shape, number, offset) in listed {
            let Some(format) = Format::from_number(number) else {
                self.unread
                    .insert(name.into(), format!("the GGML type {number}"));
                continue;
            };
            let within = |what: &str| invalid(data, what).at(name);
            let columns = shape.last().copied().unwrap_or(1);
            let mut rows = shape.iter().rev().skip(1);
            let rows = rows.try_fold(1usize, |rows, size| rows.checked_mul(*size));
            let length = rows.and_then(|rows| format.row_bytes(columns)?.checked_mul(rows));
            let (Some(rows), Some(length)) = (rows, length) else {
                return Err(within(&format!(
                    "a shape of {shape:?} is not whole blocks of {}",
                    format.name()
                )));
            };
            let start = usize::try_from(offset)
                .ok()
                .and_then(|offset| data.checked_add(offset));
            let range = start.and_then(|start| Some(start..start.checked_add(length)?));
            let range = range.filter(|range| range.end <= file.len());
            let range = range.ok_or_else(|| within("the tensor ends after the file"))?;
            // Tensors that share bytes would let a small file fill the memory.
            all += length;
            if all > file.len() {
                return Err(within("tensors overlap"));
            }
            let matrix = Stored::new(format, rows, columns, file.slice(range)?)?;
            if self
                .tensors
                .insert(name, StoredTensor { shape, matrix })
                .is_some()
            {
                return Err(within("the tensor occurs twice"));
            }
        }
        Ok(())
    }

    fn expected(key: &str, what: &str) -> Error {
        Error::new(ErrorKind::Format, format!("{key}: expected {what}"))
    }

    /// Return a value that is not negative; of an array of equal values, that value.
    pub(super) fn integer(&self, key: &str) -> Result<Option<usize>> {
        let error = || Self::expected(key, "a count");
        let count = |value: i64| usize::try_from(value).map_err(|_| error());
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Integer(value)) => count(*value).map(Some),
            Some(Value::Array(..)) => {
                let list = self.numbers(key)?;
                let first = list.first().copied().unwrap_or(0.0);
                if list.iter().any(|value| *value != first) {
                    let what = format!("{key}: different values for each layer are not supported");
                    return Err(Error::new(ErrorKind::Unsupported, what));
                }
                count(first as i64).map(Some)
            }
            Some(_) => Err(error()),
        }
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<f64>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Float(value)) => Ok(Some(*value)),
            Some(Value::Integer(value)) => Ok(Some(*value as f64)),
            Some(_) => Err(Self::expected(key, "a number")),
        }
    }

    /// Return a number that must be finite and above 0.
    ///
    /// # Errors
    /// [`ErrorKind::Format`].
    pub(super) fn positive(&self, key: &str) -> Result<Option<f64>> {
        match self.number(key)? {
            Some(number) if !number.is_finite() || number <= 0.0 => {
                let what = format!("{key}: expected a number above 0, found {number}");
                Err(Error::new(ErrorKind::Format, what)
                    .advice("download the file again, or another conversion of the model"))
            }
            number => Ok(number),
        }
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(_) => Err(Self::expected(key, "true or false")),
        }
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Text(value)) => Ok(Some(*value)),
            Some(_) => Err(Self::expected(key, "a string")),
        }
    }

    /// Return the elements of an array, which `convert` must accept; empty without one.
    fn elements<T>(
        &self,
        key: &str,
        expected: &str,
        convert: impl Fn(Value<'a>) -> Option<T>,
    ) -> Result<Vec<T>> {
        let Some(value) = self.values.get(key) else {
            return Ok(Vec::new());
        };
        let Value::Array(kind, count, bytes) = *value else {
            return Err(Self::expected(key, expected));
        };
        let mut reader = Reader { bytes, offset: 0 };
        let element = |_| {
            let value = convert(reader.value(kind)?);
            value.ok_or_else(|| Self::expected(key, expected))
        };
        (0..count).map(element).collect()
    }

    /// Return a list of strings; empty without one.
    pub(super) fn texts(&self, key: &str) -> Result<Vec<String>> {
        self.elements(key, "a list of strings", |value| match value {
            Value::Text(text) => Some(text.to_string()),
            _ => None,
        })
    }

    /// Return a list of numbers; empty without one.
    pub(super) fn numbers(&self, key: &str) -> Result<Vec<f64>> {
        self.elements(key, "a list of numbers", |value| match value {
            Value::Integer(value) => Some(value as f64),
            Value::Float(value) => Some(value),
            Value::Bool(value) => Some(f64::from(u8::from(value))),
            _ => None,
        })
    }

    /// Return a list of bytes, signed or not; empty without one.
    pub(super) fn bytes(&self, key: &str) -> Result<Vec<u8>> {
        if let Some(Value::Array(0 | 1, _, bytes)) = self.values.get(key) {
            return Ok(bytes.to_vec());
        }
        self.elements(key, "a list of bytes", |value| match value {
            Value::Integer(value @ 0..) => u8::try_from(value).ok(),
            Value::Integer(value) => i8::try_from(value).ok().map(|byte| byte as u8),
            _ => None,
        })
    }
}
