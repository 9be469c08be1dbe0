//! TensorBoard's event file: TFRecord frames around hand-encoded `Event` messages.
//!
//! A frame is the length (u64), its masked CRC-32C, the message, its masked CRC-32C. `Event` has
//! `wall_time = 1 (double)`, `step = 2 (int64)`, `file_version = 3`, `summary = 5`; `Summary.value = 1`;
//! `Value` has `tag = 1` and `simple_value = 2 (float)`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// An open event file.
pub struct EventFile {
    file: File,
    path: PathBuf,
}

impl EventFile {
    /// Begins the event file of a run folder, replacing an older one.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`].
    pub fn create(folder: &Path) -> Result<Self> {
        let path = folder.join("events.out.tfevents.0.brillm");
        let file = File::create(&path).map_err(|error| Error::io(error, path.display()))?;
        let mut events = Self { file, path };
        let mut message = double(1, 0.0);
        message.extend(delimited(3, b"brain.Event:2"));
        events.frame(&message)?;
        Ok(events)
    }

    /// Adds one scalar.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`].
    pub fn scalar(&mut self, tag: &str, step: u64, wall_time: f64, value: f32) -> Result<()> {
        let mut scalar = delimited(1, tag.as_bytes());
        scalar.push(2 << 3 | 5);
        scalar.extend_from_slice(&value.to_le_bytes());
        let mut message = double(1, wall_time);
        message.push(2 << 3);
        varint(step, &mut message);
        message.extend(delimited(5, &delimited(1, &scalar)));
        self.frame(&message)
    }

    fn frame(&mut self, message: &[u8]) -> Result<()> {
        let length = (message.len() as u64).to_le_bytes();
        let mut frame = Vec::with_capacity(message.len() + 16);
        frame.extend_from_slice(&length);
        frame.extend_from_slice(&masked(&length).to_le_bytes());
        frame.extend_from_slice(message);
        frame.extend_from_slice(&masked(message).to_le_bytes());
        self.file
            .write_all(&frame)
            .map_err(|error| Error::io(error, self.path.display()))
    }
}

fn double(field: u8, value: f64) -> Vec<u8> {
    let mut bytes = vec![field << 3 | 1];
    bytes.extend_from_slice(&value.to_le_bytes());
    bytes
}

fn delimited(field: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![field << 3 | 2];
    varint(content.len() as u64, &mut bytes);
    bytes.extend_from_slice(content);
    bytes
}

fn varint(mut value: u64, bytes: &mut Vec<u8>) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// CRC-32C (Castagnoli), rotated and offset as TFRecord wants it.
pub(crate) fn masked(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
        }
    }
    (!crc).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnoli() {
        // The check value of CRC-32C over "123456789" is 0xe3069283.
        assert_eq!(
            masked(b"123456789"),
            0xe306_9283u32.rotate_right(15).wrapping_add(0xa282_ead8)
        );
    }
}
