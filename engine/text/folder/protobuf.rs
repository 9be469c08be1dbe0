//! The fields of a protocol-buffer message (<https://protobuf.dev/programming-guides/encoding>), as far as
//! SentencePiece's models need them.

use super::malformed;
use crate::Result;

/// The value of a field.
#[derive(Clone, Copy, Debug)]
pub(super) enum Field<'a> {
    /// An integer, an enumeration or a switch.
    Integer(u64),
    /// A number of 32 bits.
    Float(f32),
    /// A string, bytes or a message.
    Bytes(&'a [u8]),
    /// A number of 64 bits, which no field here has.
    Other,
}

impl<'a> Field<'a> {
    /// The value as a switch or an enumeration; 0 for other types.
    pub(super) fn integer(self) -> i64 {
        match self {
            Self::Integer(value) => value.cast_signed(),
            _ => 0,
        }
    }

    /// The value as bytes; empty for other types.
    pub(super) fn bytes(self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            _ => &[],
        }
    }

    /// The value as text.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Format`] for bytes that are not UTF-8.
    pub(super) fn text(self) -> Result<String> {
        String::from_utf8(self.bytes().to_vec())
            .map_err(|_| malformed("not a SentencePiece model: a string is not UTF-8"))
    }
}

/// Pass the number and value of each field of a message to `take`.
///
/// # Errors
/// [`crate::ErrorKind::Format`] for bytes that are not a message; the first error of `take`.
pub(super) fn fields<'a>(
    mut bytes: &'a [u8],
    mut take: impl FnMut(u64, Field<'a>) -> Result<()>,
) -> Result<()> {
    let truncated = || malformed("not a SentencePiece model: a field is cut off");
    while !bytes.is_empty() {
        let key = integer(&mut bytes).ok_or_else(truncated)?;
        let mut fixed = |count: usize| {
            let (value, rest) = bytes.split_at_checked(count)?;
            bytes = rest;
            Some(value)
        };
        let value = match key & 7 {
            1 => fixed(8).map(|_| Field::Other),
            5 => fixed(4)
                .map(|four| Field::Float(f32::from_le_bytes([four[0], four[1], four[2], four[3]]))),
            0 => integer(&mut bytes).map(Field::Integer),
            2 => integer(&mut bytes)
                .and_then(|length| bytes.split_at_checked(usize::try_from(length).ok()?))
                .map(|(value, rest)| {
                    bytes = rest;
                    Field::Bytes(value)
                }),
            _ => None,
        };
        take(key >> 3, value.ok_or_else(truncated)?)?;
    }
    Ok(())
}

/// Remove an integer of seven bits a byte, the lowest first, from the start.
fn integer(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for index in 0..10 {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}
