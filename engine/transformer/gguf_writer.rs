//! Writes GGUF files (version 3), as [`gguf`](super::gguf) describes them: metadata, the list of tensors, the tensors.
//!
//! Tensors are converted while they are written, a few rows at a time: a file of any size needs little memory beyond that of
//! its source.

use crate::kernel::block_format::Format;
use crate::kernel::stored::Stored;
use crate::transformer::gguf::{ALIGNMENT, ARRAY, BOOL, F32, I32, MAGIC, STRING, U32};
use crate::transformer::weights::StoredTensor;
use crate::{Error, ErrorKind, Result};

/// Version of the files.
const VERSION: u32 = 3;
/// Type of arrays of bytes, as files number it.
const U8: u32 = 0;
/// Weights that are converted at once.
const CHUNK: usize = 1 << 20;

/// Metadata as a file stores it.
#[derive(Clone, Debug, Default)]
pub(super) struct Metadata {
    count: u64,
    bytes: Vec<u8>,
}

impl Metadata {
    fn raw_text(&mut self, text: &str) {
        self.bytes
            .extend_from_slice(&(text.len() as u64).to_le_bytes());
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn key(&mut self, key: &str, kind: u32) {
        self.count += 1;
        self.raw_text(key);
        self.bytes.extend_from_slice(&kind.to_le_bytes());
    }

    fn array(&mut self, key: &str, kind: u32, count: usize) {
        self.key(key, ARRAY);
        self.bytes.extend_from_slice(&kind.to_le_bytes());
        self.bytes.extend_from_slice(&(count as u64).to_le_bytes());
    }

    /// Add a count or an id.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for one above 32 bits.
    pub(super) fn integer(&mut self, key: &str, value: usize) -> Result<()> {
        let value = u32::try_from(value).map_err(|_| {
            let what = format!("{value} does not fit into 32 bits");
            Error::new(ErrorKind::Unsupported, what).at(key)
        })?;
        self.key(key, U32);
        self.bytes.extend_from_slice(&value.to_le_bytes());
        Ok(())
    }

    pub(super) fn number(&mut self, key: &str, value: f32) {
        self.key(key, F32);
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn flag(&mut self, key: &str, value: bool) {
        self.key(key, BOOL);
        self.bytes.push(u8::from(value));
    }

    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.key(key, STRING);
        self.raw_text(value);
    }

    pub(super) fn texts(&mut self, key: &str, values: &[String]) {
        self.array(key, STRING, values.len());
        values.iter().for_each(|value| self.raw_text(value));
    }

    pub(super) fn numbers(&mut self, key: &str, values: &[f64]) {
        self.array(key, F32, values.len());
        let values = values.iter().map(|value| *value as f32);
        self.bytes.extend(values.flat_map(f32::to_le_bytes));
    }

    pub(super) fn integers(&mut self, key: &str, values: &[i64]) {
        self.array(key, I32, values.len());
        let values = values.iter().map(|value| *value as i32);
        self.bytes.extend(values.flat_map(i32::to_le_bytes));
    }

    pub(super) fn list_of_bytes(&mut self, key: &str, values: &[u8]) {
        self.array(key, U8, values.len());
        self.bytes.extend_from_slice(values);
    }

    /// Copy a value of another file: its type and bytes.
    pub(super) fn copy(&mut self, key: &str, kind: u32, bytes: &[u8]) {
        self.key(key, kind);
        self.bytes.extend_from_slice(bytes);
    }

    /// Return the beginning of a file: these values and the list of tensors.
    pub(super) fn header(&self, tensors: &[OutputTensor]) -> Result<Vec<u8>> {
        let mut header = MAGIC.to_vec();
        header.extend(VERSION.to_le_bytes());
        header.extend((tensors.len() as u64).to_le_bytes());
        header.extend(self.count.to_le_bytes());
        header.extend_from_slice(&self.bytes);
        let mut offset = 0;
        for tensor in tensors {
            header.extend((tensor.name.len() as u64).to_le_bytes());
            header.extend(tensor.name.as_bytes());
            // Files list the fastest dimension first.
            let shape = tensor.shape();
            header.extend((shape.len() as u32).to_le_bytes());
            header.extend(shape.iter().rev().flat_map(|&n| (n as u64).to_le_bytes()));
            header.extend(tensor.format.number().to_le_bytes());
            header.extend((offset as u64).to_le_bytes());
            offset = (offset + tensor.length()?).next_multiple_of(ALIGNMENT);
        }
        header.resize(header.len().next_multiple_of(ALIGNMENT), 0);
        Ok(header)
    }
}

/// How a tensor is changed on its way to a file.
#[derive(Clone, Debug)]
pub(super) enum Change {
    None,
    /// The rows are written in this order.
    Rows(Vec<usize>),
    /// Rows become columns.
    Transposed,
    /// A number is added to each number.
    Added(f32),
}

/// A tensor to write.
pub(super) struct OutputTensor {
    pub(super) name: String,
    pub(super) source: StoredTensor,
    pub(super) change: Change,
    /// Format in the file.
    pub(super) format: Format,
}

impl OutputTensor {
    /// Return the shape in the file.
    pub(super) fn shape(&self) -> Vec<usize> {
        let mut shape = self.source.shape.clone();
        if matches!(self.change, Change::Transposed) {
            shape.reverse();
        }
        shape
    }

    /// Return the bytes in the file.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] where the rows are not whole blocks.
    pub(super) fn length(&self) -> Result<usize> {
        let shape = self.shape();
        let columns = shape.last().copied().unwrap_or(1);
        let mut rows = shape.iter().rev().skip(1);
        let rows = rows.try_fold(1usize, |rows, &size| rows.checked_mul(size));
        let row = self.format.row_bytes(columns);
        let length = rows.and_then(|rows| row?.checked_mul(rows));
        length.ok_or_else(|| {
            let what = format!(
                "rows of {columns} weights are not whole blocks of {}",
                self.format.name()
            );
            Error::new(ErrorKind::Format, what).at(&self.name)
        })
    }

    /// Pass the bytes of the tensor to `put`, in parts.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] for a number that the format cannot represent; errors of `put`.
    pub(super) fn write(&self, mut put: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let changed = match &self.change {
            Change::None => None,
            Change::Rows(order) => Some(self.source.reordered(order)?),
            Change::Transposed => Some(self.source.transposed()?),
            Change::Added(number) => Some(self.source.added(*number)?),
        };
        let matrix = &changed.as_ref().unwrap_or(&self.source).matrix;
        if matrix.format() == self.format {
            return put(matrix.bytes());
        }
        let (rows, columns) = matrix.dimensions();
        let step = (CHUNK / columns.max(1)).max(1);
        let mut values = Vec::new();
        for first in (0..rows).step_by(step) {
            let count = step.min(rows - first);
            values.resize(count * columns, 0.0);
            matrix.unpack(first..first + count, &mut values);
            let packed = Stored::pack(self.format, &values, count, columns)?;
            if !packed.is_finite() {
                let what = format!("a weight is too large for {}", self.format.name());
                return Err(Error::new(ErrorKind::Numeric, what)
                    .at(&self.name)
                    .advice("pass --element bf16 or f32"));
            }
            put(packed.bytes())?;
        }
        Ok(())
    }
}

/// Write a file. `put` gets its bytes in order.
///
/// # Errors
/// As [`OutputTensor::write`].
pub(super) fn write(
    metadata: &Metadata,
    tensors: &[OutputTensor],
    mut put: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    put(&metadata.header(tensors)?)?;
    for tensor in tensors {
        tensor.write(&mut put)?;
        let length = tensor.length()?;
        let gap = length.next_multiple_of(ALIGNMENT) - length;
        put(&[0; ALIGNMENT][..gap])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::bytes::Bytes;
    use crate::transformer::gguf::Gguf;

    fn tensor(name: &str, shape: &[usize], values: &[f32], format: Format) -> OutputTensor {
        let columns = *shape.last().unwrap();
        let rows = values.len() / columns;
        OutputTensor {
            name: name.into(),
            source: StoredTensor {
                shape: shape.to_vec(),
                matrix: Stored::pack(Format::F32, values, rows, columns).unwrap(),
            },
            change: Change::None,
            format,
        }
    }

    fn written(metadata: &Metadata, tensors: &[OutputTensor]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(metadata, tensors, |part| {
            bytes.extend_from_slice(part);
            Ok(())
        })
        .unwrap();
        bytes
    }

    #[test]
    fn a_file_has_the_bytes_of_the_format() {
        let mut metadata = Metadata::default();
        metadata.integer("a", 7).unwrap();
        let bytes = written(
            &metadata,
            &[tensor("t", &[1, 2], &[1.0, -2.0], Format::F16)],
        );
        let mut expected = b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0".to_vec();
        expected.extend(b"\x01\0\0\0\0\0\0\0a\x04\0\0\0\x07\0\0\0");
        expected.extend(b"\x01\0\0\0\0\0\0\0t\x02\0\0\0\x02\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0");
        expected.extend(b"\x01\0\0\0\0\0\0\0\0\0\0\0");
        expected.resize(expected.len().next_multiple_of(32), 0);
        expected.extend(b"\x00\x3c\x00\xc0");
        expected.resize(expected.len().next_multiple_of(32), 0);
        assert_eq!(bytes, expected);
    }

    #[test]
    fn blocks_have_the_bytes_of_ggml() {
        // d = 127 / 127 = 1: halves are rounded away from zero.
        let mut values = [0.0f32; 32];
        values[..6].copy_from_slice(&[127.0, 0.5, -0.5, 1.5, -2.5, 0.49]);
        let mut bytes = Vec::new();
        Format::Q8_0.pack(&values, &mut bytes).unwrap();
        let mut expected = vec![0x00, 0x3c, 127, 1, 0xff, 2, 0xfd, 0];
        expected.resize(34, 0);
        assert_eq!(bytes, expected);
        // The value of the largest magnitude, 8, becomes −8 times d = −1; the others are x / d + 8.5, cut off.
        let mut values = [0.0f32; 32];
        values[..4].copy_from_slice(&[8.0, 1.0, -7.0, -8.0]);
        values[16..18].copy_from_slice(&[0.5, -0.5]);
        let mut bytes = Vec::new();
        Format::Q4_0.pack(&values, &mut bytes).unwrap();
        // 8 → 0, 1 → 7, −7 → 15, −8 → 16, which is limited to 15; 0.5 → 8, −0.5 → 9.
        let mut expected = vec![0x00, 0xbc, 0x80, 0x97, 0x8f, 0x8f];
        expected.resize(18, 0x88);
        assert_eq!(bytes, expected);
        // Blocks of zeros have no scale.
        for (format, zero) in [(Format::Q8_0, 0), (Format::Q4_0, 0x88)] {
            let mut bytes = Vec::new();
            format.pack(&[0.0; 32], &mut bytes).unwrap();
            let scale = u16::from_le_bytes([bytes[0], bytes[1]]) & 0x7fff;
            assert_eq!(scale, 0, "{}", format.name());
            assert!(bytes[2..].iter().all(|b| *b == zero), "{}", format.name());
        }
    }

    #[test]
    fn the_reader_returns_what_was_written() {
        let mut metadata = Metadata::default();
        metadata.integer("count", 3).unwrap();
        metadata.number("number", 1.5);
        metadata.flag("flag", true);
        metadata.text("text", "naïve");
        metadata.texts("texts", &["a".into(), String::new()]);
        metadata.numbers("numbers", &[0.25, -1.0]);
        metadata.integers("integers", &[-3, 9]);
        metadata.list_of_bytes("bytes", &[1, 255]);
        let values: Vec<f32> = (0..96).map(|i| (i as f32 * 0.37).sin()).collect();
        let formats = [
            (Format::F32, 0.0),
            (Format::F16, 1e-3),
            (Format::Bf16, 1e-2),
            (Format::Q8_0, 1e-2),
            (Format::Q4_0, 0.15),
        ];
        let list = formats.map(|(format, _)| tensor(format.name(), &[3, 32], &values, format));
        let bytes = Bytes::copy_of(&written(&metadata, &list));
        let read = Gguf::parse(&bytes).unwrap();
        assert_eq!(read.integer("count").unwrap(), Some(3));
        assert_eq!(read.number("number").unwrap(), Some(1.5));
        assert_eq!(read.flag("flag").unwrap(), Some(true));
        assert_eq!(read.text("text").unwrap(), Some("naïve"));
        assert_eq!(read.texts("texts").unwrap(), ["a", ""]);
        assert_eq!(read.numbers("numbers").unwrap(), [0.25, -1.0]);
        assert_eq!(read.numbers("integers").unwrap(), [-3.0, 9.0]);
        assert_eq!(read.numbers("bytes").unwrap(), [1.0, 255.0]);
        for (format, tolerance) in formats {
            let found = &read.tensors[format.name()];
            assert_eq!(
                (&found.shape[..], found.matrix.format()),
                (&[3, 32][..], format)
            );
            let read = found.values();
            let gaps = read.iter().zip(&values).map(|(a, b)| (a - b).abs());
            let worst = gaps.fold(0.0, f32::max);
            assert!(worst <= tolerance, "{}: off by {worst}", format.name());
        }
        let mut copy = Metadata::default();
        for (key, (kind, bytes)) in &read.stored {
            copy.copy(key, *kind, bytes);
        }
        let bytes = Bytes::copy_of(&written(&copy, &[]));
        let copied = Gguf::parse(&bytes).unwrap();
        assert_eq!(format!("{:?}", copied.values), format!("{:?}", read.values));
    }

    #[test]
    fn copied_numbers_keep_their_types() {
        let numbers: [(u32, &[u8]); 12] = [
            (0, &200u8.to_le_bytes()),
            (1, &(-3i8).to_le_bytes()),
            (2, &60_000u16.to_le_bytes()),
            (3, &(-300i16).to_le_bytes()),
            (4, &u32::MAX.to_le_bytes()),
            (5, &(-1i32).to_le_bytes()),
            (6, &f32::NAN.to_le_bytes()),
            (7, &[1]),
            (9, b"\x02\0\0\0\x01\0\0\0\0\0\0\0\x07\x08"),
            (10, &u64::MAX.to_le_bytes()),
            (11, &i64::MIN.to_le_bytes()),
            (12, &1e300f64.to_le_bytes()),
        ];
        let mut metadata = Metadata::default();
        for (kind, bytes) in numbers {
            metadata.copy(&format!("{kind:02}"), kind, bytes);
        }
        let file = Bytes::copy_of(&written(&metadata, &[]));
        let read = Gguf::parse(&file).unwrap();
        let mut copy = Metadata::default();
        for (key, (kind, bytes)) in &read.stored {
            copy.copy(key, *kind, bytes);
        }
        assert_eq!(written(&copy, &[]), file[..]);
        let found: Vec<(u32, &[u8])> = read.stored.values().copied().collect();
        assert_eq!(found, numbers);
        assert_eq!(read.bytes("09").unwrap_err().kind(), ErrorKind::Format);
    }

    #[test]
    fn changed_tensors_are_written_in_their_new_order() {
        let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let of = |change| OutputTensor {
            change,
            ..tensor("t", &[3, 2], &values, Format::F32)
        };
        let numbers = |tensor: &OutputTensor| {
            let mut bytes = Vec::new();
            let put = |part: &[u8]| {
                bytes.extend_from_slice(part);
                Ok(())
            };
            tensor.write(put).unwrap();
            let values = bytes
                .chunks(4)
                .map(|b| f32::from_le_bytes(b.try_into().unwrap()));
            values.collect::<Vec<f32>>()
        };
        assert_eq!(
            numbers(&of(Change::Rows(vec![2, 0, 1]))),
            [5.0, 6.0, 1.0, 2.0, 3.0, 4.0]
        );
        let transposed = of(Change::Transposed);
        assert_eq!(transposed.shape(), [2, 3]);
        assert_eq!(numbers(&transposed), [1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
    }

    #[test]
    fn numbers_that_a_format_cannot_hold_are_refused() {
        let large = tensor("large", &[1, 2], &[1e6, 0.0], Format::F16);
        let error = large.write(|_| Ok(())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Numeric);
        assert!(error.to_string().contains("large"), "{error}");
        let uneven = tensor("uneven", &[1, 2], &[1.0, 0.0], Format::Q8_0);
        assert_eq!(uneven.length().unwrap_err().kind(), ErrorKind::Format);
    }
}
