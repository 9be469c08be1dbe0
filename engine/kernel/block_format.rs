//! Number formats of stored weights: plain floats, and the block formats of GGML, in which neighbouring weights share a
//! scale. `unpack` turns a block into f32; all products and look-ups go through it.
//!
//! | format | weights | bytes | weight |
//! |---|---|---|---|
//! | Q8_0 | 32 | 34 | `d q`, q in −128…127 |
//! | Q4_0, Q5_0 | 32 | 18, 22 | `d (q − 8)`, `d (q − 16)` |
//! | Q4_1, Q5_1 | 32 | 20, 24 | `d q + m` |
//! | Q4_K, Q5_K | 256 | 144, 176 | `d s_i q − m t_i` with 6-bit s and t for 32 weights each |
//! | Q6_K | 256 | 210 | `d s_i (q − 32)` with 8-bit s for 16 weights each |

use crate::{Error, ErrorKind, Result};

/// Number format of a stored matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of the formats")]
pub enum Format {
    F32,
    F16,
    Bf16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
}

/// Every format with its name, its number in GGUF files, the weights of a block, and its bytes.
const FORMATS: [(Format, &str, u32, usize, usize); 11] = [
    (Format::F32, "F32", 0, 1, 4),
    (Format::F16, "F16", 1, 1, 2),
    (Format::Bf16, "BF16", 30, 1, 2),
    (Format::Q4_0, "Q4_0", 2, 32, 18),
    (Format::Q4_1, "Q4_1", 3, 32, 20),
    (Format::Q5_0, "Q5_0", 6, 32, 22),
    (Format::Q5_1, "Q5_1", 7, 32, 24),
    (Format::Q8_0, "Q8_0", 8, 32, 34),
    (Format::Q4K, "Q4_K", 12, 256, 144),
    (Format::Q5K, "Q5_K", 13, 256, 176),
    (Format::Q6K, "Q6_K", 14, 256, 210),
];

impl Format {
    fn row(self) -> (Self, &'static str, u32, usize, usize) {
        // The table lists the formats in another order than the enumeration: find by equality.
        *FORMATS
            .iter()
            .find(|(format, ..)| *format == self)
            .expect("every format is in the table")
    }

    /// Return the name, as in GGML.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Return the number of the format in GGUF files.
    pub fn number(self) -> u32 {
        self.row().2
    }

    /// Find the format of a number in GGUF files.
    pub fn from_number(number: u32) -> Option<Self> {
        let found = FORMATS.iter().find(|row| row.2 == number);
        found.map(|row| row.0)
    }

    /// List the names of all formats.
    pub fn names() -> impl Iterator<Item = &'static str> {
        FORMATS.iter().map(|row| row.1)
    }

    /// Return the weights of a block and its bytes.
    pub fn block(self) -> (usize, usize) {
        let (.., weights, bytes) = self.row();
        (weights, bytes)
    }

    /// Return the bytes of a row of `columns` weights; `None` where they are not whole blocks, or more than can be counted.
    pub fn row_bytes(self, columns: usize) -> Option<usize> {
        let (weights, bytes) = self.block();
        (columns / weights)
            .checked_mul(bytes)
            .filter(|_| columns % weights == 0)
    }

    /// Return whether the weights are plain floats.
    pub fn is_float(self) -> bool {
        self.block().0 == 1
    }

    /// Append `values`, whole blocks of them, in this format.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for formats that are read only.
    pub fn pack(self, values: &[f32], bytes: &mut Vec<u8>) -> Result<()> {
        match self {
            Self::F32 => bytes.extend(values.iter().flat_map(|v| v.to_le_bytes())),
            Self::F16 => {
                let halves = values.iter().map(|&v| half::f16::from_f32(v));
                bytes.extend(halves.flat_map(half::f16::to_le_bytes));
            }
            Self::Bf16 => {
                let halves = values.iter().map(|&v| half::bf16::from_f32(v));
                bytes.extend(halves.flat_map(half::bf16::to_le_bytes));
            }
            Self::Q8_0 => values.chunks(32).for_each(|block| pack_q8_0(block, bytes)),
            Self::Q4_0 => values.chunks(32).for_each(|block| pack_q4_0(block, bytes)),
            Self::Q4_1 => values.chunks(32).for_each(|block| pack_q4_1(block, bytes)),
            _ => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("{} is read, but not written", self.name()),
                )
                .advice("formats that are written: F32, F16, BF16, Q8_0, Q4_0, Q4_1"));
            }
        }
        Ok(())
    }
}

fn pack_q8_0(block: &[f32], bytes: &mut Vec<u8>) {
    let largest = block.iter().fold(0.0f32, |max, v| max.max(v.abs()));
    let d = largest / 127.0;
    bytes.extend(half::f16::from_f32(d).to_le_bytes());
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    // Halves are rounded away from zero, as by C's `roundf`.
    bytes.extend(block.iter().map(|v| (v * inverse).round() as i8 as u8));
}

/// Pack 4-bit numbers: the first half of a block in the low bits, the second in the high ones.
fn pack_nibbles(block: &[f32], number: impl Fn(f32) -> u8, bytes: &mut Vec<u8>) {
    let (low, high) = block.split_at(block.len() / 2);
    let pairs = low.iter().zip(high);
    bytes.extend(pairs.map(|(&a, &b)| number(a) | number(b) << 4));
}

fn pack_q4_0(block: &[f32], bytes: &mut Vec<u8>) {
    // The number of the largest magnitude becomes −8, the only value without a positive counterpart.
    let extreme = block
        .iter()
        .fold(0.0f32, |max, &v| if v.abs() > max.abs() { v } else { max });
    let d = extreme / -8.0;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    bytes.extend(half::f16::from_f32(d).to_le_bytes());
    pack_nibbles(block, |v| ((v * inverse + 8.5) as u8).min(15), bytes);
}

fn pack_q4_1(block: &[f32], bytes: &mut Vec<u8>) {
    let minimum = block.iter().copied().fold(f32::INFINITY, f32::min);
    let maximum = block.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let d = (maximum - minimum) / 15.0;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    bytes.extend(half::f16::from_f32(d).to_le_bytes());
    bytes.extend(half::f16::from_f32(minimum).to_le_bytes());
    let number = |v: f32| (((v - minimum) * inverse + 0.5) as u8).min(15);
    pack_nibbles(block, number, bytes);
}

/// A format at compile time.
pub(super) trait Block {
    /// Weights that [`Self::unpack`] takes at most.
    const WEIGHTS: usize;
    /// Bytes of as many weights.
    const BYTES: usize;

    /// Convert a block, or fewer weights of a float format.
    fn unpack(bytes: &[u8], weights: &mut [f32]);
}

/// Convert an f16 without branches; finite numbers only.
#[inline(always)]
fn half_value(bits: u16) -> f32 {
    // Exponents of f32 are larger by 112. A subnormal has no leading one: it is added and subtracted again.
    const OFFSET: u32 = 112 << 23;
    const ONE: u32 = 1 << 23;
    let magnitude = u32::from(bits & 0x7fff) << 13;
    let normal = f32::from_bits(magnitude + OFFSET);
    let subnormal = f32::from_bits(magnitude + OFFSET + ONE) - f32::from_bits(OFFSET + ONE);
    let value = if magnitude < ONE { subnormal } else { normal };
    f32::from_bits(value.to_bits() | u32::from(bits & 0x8000) << 16)
}

#[inline(always)]
fn half_at(bytes: &[u8], offset: usize) -> f32 {
    half_value(u16::from_le_bytes([bytes[offset], bytes[offset + 1]]))
}

macro_rules! float_block {
    ($name:ident, $bytes:literal, $convert:expr) => {
        pub(super) struct $name;

        impl Block for $name {
            const WEIGHTS: usize = 32;
            const BYTES: usize = 32 * $bytes;

            #[inline(always)]
            fn unpack(bytes: &[u8], weights: &mut [f32]) {
                let convert = $convert;
                for (weight, bytes) in weights.iter_mut().zip(bytes.chunks_exact($bytes)) {
                    *weight = convert(bytes.try_into().expect("a chunk of this length"));
                }
            }
        }
    };
}

float_block!(F32, 4, f32::from_le_bytes);
float_block!(F16, 2, |bytes: [u8; 2]| half_value(u16::from_le_bytes(
    bytes
)));
float_block!(Bf16, 2, |bytes: [u8; 2]| f32::from_bits(
    u32::from(u16::from_le_bytes(bytes)) << 16
));

/// Convert 16 bytes of 4-bit numbers, with a fifth bit where the format has one: `d q + m`.
#[inline(always)]
fn nibbles(numbers: &[u8], fifth: u32, d: f32, m: f32, weights: &mut [f32]) {
    let numbers: &[u8; 16] = numbers[..16].try_into().expect("16 bytes");
    let weights: &mut [f32; 32] = (&mut weights[..32]).try_into().expect("32 weights");
    for i in 0..16 {
        let bits = [(fifth >> i & 1) << 4, (fifth >> (i + 16) & 1) << 4];
        let q = [numbers[i] & 15, numbers[i] >> 4];
        weights[i] = (u32::from(q[0]) | bits[0]) as i32 as f32 * d + m;
        weights[i + 16] = (u32::from(q[1]) | bits[1]) as i32 as f32 * d + m;
    }
}

macro_rules! nibble_block {
    ($name:ident, $bytes:literal, $unpack:expr) => {
        pub(super) struct $name;

        impl Block for $name {
            const WEIGHTS: usize = 32;
            const BYTES: usize = $bytes;

            #[inline(always)]
            fn unpack(bytes: &[u8], weights: &mut [f32]) {
                let unpack = $unpack;
                unpack(&bytes[..$bytes], weights);
            }
        }
    };
}

#[inline(always)]
fn word(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

nibble_block!(Q4_0, 18, |bytes: &[u8], weights: &mut [f32]| {
    let d = half_at(bytes, 0);
    nibbles(&bytes[2..], 0, d, -8.0 * d, weights);
});
nibble_block!(Q4_1, 20, |bytes: &[u8], weights: &mut [f32]| {
    nibbles(
        &bytes[4..],
        0,
        half_at(bytes, 0),
        half_at(bytes, 2),
        weights,
    );
});
nibble_block!(Q5_0, 22, |bytes: &[u8], weights: &mut [f32]| {
    let d = half_at(bytes, 0);
    nibbles(&bytes[6..], word(&bytes[2..]), d, -16.0 * d, weights);
});
nibble_block!(Q5_1, 24, |bytes: &[u8], weights: &mut [f32]| {
    let (d, m) = (half_at(bytes, 0), half_at(bytes, 2));
    nibbles(&bytes[8..], word(&bytes[4..]), d, m, weights);
});
nibble_block!(Q8_0, 34, |bytes: &[u8], weights: &mut [f32]| {
    let d = half_at(bytes, 0);
    let numbers: &[u8; 32] = bytes[2..34].try_into().expect("32 bytes");
    let weights: &mut [f32; 32] = (&mut weights[..32]).try_into().expect("32 weights");
    for i in 0..32 {
        weights[i] = f32::from(numbers[i] as i8) * d;
    }
});

/// Return the 6-bit scale and minimum of the 32 weights with index `i`, of 12 bytes for eight of both.
#[inline(always)]
fn scale_and_minimum(packed: &[u8], i: usize) -> (f32, f32) {
    // The first four pairs have their bits together; the others' high bits fill the gaps.
    let (scale, minimum) = if i < 4 {
        (packed[i] & 63, packed[i + 4] & 63)
    } else {
        (
            packed[i + 4] & 15 | packed[i - 4] >> 6 << 4,
            packed[i + 4] >> 4 | packed[i] >> 6 << 4,
        )
    };
    (f32::from(scale), f32::from(minimum))
}

/// Convert 256 weights of 4 bits, with fifth bits in `high [32]`.
#[inline(always)]
fn k_nibbles(bytes: &[u8], numbers: &[u8], high: Option<&[u8; 32]>, weights: &mut [f32]) {
    let (d, m) = (half_at(bytes, 0), half_at(bytes, 2));
    for (pair, numbers) in numbers.chunks_exact(32).enumerate() {
        for part in 0..2 {
            let i = 2 * pair + part;
            let (scale, minimum) = scale_and_minimum(&bytes[4..16], i);
            let (scale, minimum) = (d * scale, m * minimum);
            for (k, weight) in weights[32 * i..32 * (i + 1)].iter_mut().enumerate() {
                let fifth = high.map_or(0, |high| (high[k] >> i & 1) << 4);
                let q = numbers[k] >> (4 * part) & 15 | fifth;
                *weight = f32::from(q) * scale - minimum;
            }
        }
    }
}

macro_rules! k_block {
    ($name:ident, $bytes:literal, $unpack:expr) => {
        pub(super) struct $name;

        impl Block for $name {
            const WEIGHTS: usize = 256;
            const BYTES: usize = $bytes;

            #[inline(always)]
            fn unpack(bytes: &[u8], weights: &mut [f32]) {
                let unpack = $unpack;
                unpack(&bytes[..$bytes], &mut weights[..256]);
            }
        }
    };
}

k_block!(Q4K, 144, |bytes: &[u8], weights: &mut [f32]| {
    k_nibbles(bytes, &bytes[16..144], None, weights);
});
k_block!(Q5K, 176, |bytes: &[u8], weights: &mut [f32]| {
    let high: &[u8; 32] = bytes[16..48].try_into().expect("32 bytes");
    k_nibbles(bytes, &bytes[48..176], Some(high), weights);
});
k_block!(Q6K, 210, |bytes: &[u8], weights: &mut [f32]| {
    let (low, high, scales) = (&bytes[..128], &bytes[128..192], &bytes[192..208]);
    let d = half_at(bytes, 208);
    for half in 0..2 {
        for quarter in 0..4 {
            // Quarters 0 and 2 are the low and high bits of the same 32 bytes, 1 and 3 those of the next.
            let low = &low[64 * half + 32 * (quarter % 2)..][..32];
            let high = &high[32 * half..][..32];
            let first = 128 * half + 32 * quarter;
            for (k, weight) in weights[first..first + 32].iter_mut().enumerate() {
                let q = low[k] >> (quarter / 2 * 4) & 15 | (high[k] >> (2 * quarter) & 3) << 4;
                let scale = scales[8 * half + 2 * quarter + k / 16] as i8;
                *weight = (f32::from(q) - 32.0) * (d * f32::from(scale));
            }
        }
    }
});
