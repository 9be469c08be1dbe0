//! TensorBoard's event files: scalar summaries as protocol buffers in TFRecord frames.
//!
//! A frame is a length (u64), the masked CRC-32C of its eight bytes, the data, and the masked CRC-32C of the
//! data, all little-endian. The data is one `Event` message, of which three fields are used: `wall_time = 1`
//! (double), `step = 2` (int64) and either `file_version = 3` (string, the first frame of a file) or
//! `summary = 5`, a list `value = 1` of `tag = 1` (string) and `simple_value = 2` (float). A code generator
//! would be larger than these three messages.

/// The first frame of an event file, which identifies the format.
pub(super) fn file_version(wall_time: f64) -> Vec<u8> {
    let mut event = Vec::new();
    double_field(&mut event, 1, wall_time);
    bytes_field(&mut event, 3, b"brain.Event:2");
    frame(&event)
}

/// A frame with the scalars of a step, by tag.
pub(super) fn scalars(step: u64, wall_time: f64, values: &[(&str, f64)]) -> Vec<u8> {
    let mut summary = Vec::new();
    for (tag, value) in values {
        let mut entry = Vec::new();
        bytes_field(&mut entry, 1, tag.as_bytes());
        float_field(&mut entry, 2, *value as f32);
        bytes_field(&mut summary, 1, &entry);
    }
    let mut event = Vec::new();
    double_field(&mut event, 1, wall_time);
    key(&mut event, 2, 0);
    varint(&mut event, step);
    bytes_field(&mut event, 5, &summary);
    frame(&event)
}

fn frame(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut frame = Vec::with_capacity(data.len() + 16);
    frame.extend(length);
    frame.extend(masked(crc32c(&length)).to_le_bytes());
    frame.extend(data);
    frame.extend(masked(crc32c(data)).to_le_bytes());
    frame
}

/// Write a field's number and wire type: 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes.
fn key(message: &mut Vec<u8>, field: u64, wire_type: u64) {
    varint(message, field << 3 | wire_type);
}

fn varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

fn double_field(message: &mut Vec<u8>, field: u64, value: f64) {
    key(message, field, 1);
    message.extend(value.to_le_bytes());
}

fn float_field(message: &mut Vec<u8>, field: u64, value: f32) {
    key(message, field, 5);
    message.extend(value.to_le_bytes());
}

fn bytes_field(message: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    key(message, field, 2);
    varint(message, bytes.len() as u64);
    message.extend(bytes);
}

/// Mask a checksum as TFRecord does, by a rotation and the addition of a constant.
fn masked(checksum: u32) -> u32 {
    checksum.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32 with Castagnoli's polynomial, reflected (RFC 3720, appendix B.4).
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |checksum, &byte| {
        TABLE[usize::from(checksum as u8 ^ byte)] ^ (checksum >> 8)
    })
}

/// Remainders of all byte values for [`crc32c`].
const TABLE: [u32; 256] = {
    let mut table = [0u32; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = (value >> 1) ^ (0x82f6_3b78 * (value & 1));
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_gives_the_published_values() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        // RFC 3720, appendix B.4: 32 bytes of zeros, of ones, ascending.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&ascending), 0x46dd_794e);
    }

    #[test]
    fn large_numbers_take_several_bytes() {
        let mut message = Vec::new();
        varint(&mut message, 300);
        assert_eq!(message, [0xac, 0x02]);
        message.clear();
        varint(&mut message, u64::MAX);
        assert_eq!(message.len(), 10);
    }
}
