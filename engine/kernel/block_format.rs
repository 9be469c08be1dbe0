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

use crate::kernel::simd::Arithmetic;
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

/// Weights that [`Block::unpack`] converts at once.
pub(super) const PART: usize = 32;

/// A format at compile time.
///
/// `unpack` returns an array: through a slice, the compiler would have to assume that the weights overlap the bytes, and
/// would convert one number after the other. It has no closures, which would not use the caller's instruction set.
pub(super) trait Block {
    /// Weights of a block, a multiple of [`PART`]; a float format has blocks of [`PART`] weights here.
    const WEIGHTS: usize;
    /// Bytes of a block.
    const BYTES: usize;

    /// Convert the weights `PART · part` to `PART · (part + 1)` of a block.
    fn unpack<A: Arithmetic>(bytes: &[u8], part: usize) -> [f32; PART];
}

/// Copy the bytes from `start` on.
#[inline(always)]
fn array<const N: usize>(bytes: &[u8], start: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[start..start + N]);
    array
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

/// Convert the f16 that begins at `offset`, the scale of a block, in fewer instructions than [`half_value`]: bits in the
/// places of an f32's, of which the exponent is too small by 112. Products of subnormal f32, here those of subnormal f16,
/// are slow, but few scales are subnormal.
#[inline(always)]
fn half_at(bytes: &[u8], offset: usize) -> f32 {
    const SCALE: f32 = f32::from_bits((127 + 112) << 23);
    let bits = i16::from_le_bytes([bytes[offset], bytes[offset + 1]]);
    let shifted = (i32::from(bits) << 13).cast_unsigned();
    f32::from_bits(shifted & 0x8fff_e000) * SCALE
}

macro_rules! float_block {
    ($name:ident, $bytes:literal, |$number:ident| $value:expr) => {
        pub(super) struct $name;

        impl Block for $name {
            const WEIGHTS: usize = PART;
            const BYTES: usize = PART * $bytes;

            #[inline(always)]
            fn unpack<A: Arithmetic>(bytes: &[u8], _: usize) -> [f32; PART] {
                let bytes: [u8; PART * $bytes] = array(bytes, 0);
                let mut weights = [0.0; PART];
                for i in 0..PART {
                    let mut $number = [0; $bytes];
                    for k in 0..$bytes {
                        $number[k] = bytes[$bytes * i + k];
                    }
                    weights[i] = $value;
                }
                weights
            }
        }
    };
}

float_block!(F32, 4, |number| f32::from_le_bytes(number));
float_block!(F16, 2, |number| half_value(u16::from_le_bytes(number)));
float_block!(Bf16, 2, |number| f32::from_bits(
    u32::from(u16::from_le_bytes(number)) << 16
));

macro_rules! block {
    ($name:ident, $weights:literal, $bytes:literal, |$block:ident, $part:pat_param| $body:block) => {
        pub(super) struct $name;

        impl Block for $name {
            const WEIGHTS: usize = $weights;
            const BYTES: usize = $bytes;

            #[inline(always)]
            fn unpack<A: Arithmetic>(bytes: &[u8], $part: usize) -> [f32; PART] {
                let $block = &bytes[..$bytes];
                $body
            }
        }
    };
}

/// Convert 16 bytes of 4-bit numbers: `d q + m`. Products of a half and a few bits are exact, fused or not.
#[inline(always)]
fn nibbles<A: Arithmetic>(numbers: [u8; 16], d: f32, m: f32) -> [f32; PART] {
    let mut weights = [0.0; PART];
    for (half, weights) in weights.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        for i in 0..16 {
            let q = i32::from(numbers[i] >> (4 * half) & 15) as f32;
            weights[i] = A::multiply_add(q, d, m);
        }
    }
    weights
}

/// Convert 16 bytes of 4-bit numbers with their fifth bits: `d q + m`.
#[inline(always)]
fn five_bits<A: Arithmetic>(numbers: [u8; 16], fifth: u32, d: f32, m: f32) -> [f32; PART] {
    let mut weights = [0.0; PART];
    for (half, weights) in weights.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        for i in 0..16 {
            let q = u32::from(numbers[i] >> (4 * half) & 15) | (fifth >> (16 * half + i) & 1) << 4;
            weights[i] = A::multiply_add(q as i32 as f32, d, m);
        }
    }
    weights
}

block!(Q4_0, 32, 18, |bytes, _| {
    let d = half_at(bytes, 0);
    nibbles::<A>(array(bytes, 2), d, -8.0 * d)
});
block!(Q4_1, 32, 20, |bytes, _| {
    nibbles::<A>(array(bytes, 4), half_at(bytes, 0), half_at(bytes, 2))
});
block!(Q5_0, 32, 22, |bytes, _| {
    let (d, fifth) = (half_at(bytes, 0), u32::from_le_bytes(array(bytes, 2)));
    five_bits::<A>(array(bytes, 6), fifth, d, -16.0 * d)
});
block!(Q5_1, 32, 24, |bytes, _| {
    let fifth = u32::from_le_bytes(array(bytes, 4));
    let (d, m) = (half_at(bytes, 0), half_at(bytes, 2));
    five_bits::<A>(array(bytes, 8), fifth, d, m)
});
block!(Q8_0, 32, 34, |bytes, _| {
    let (d, numbers) = (half_at(bytes, 0), array::<32>(bytes, 2));
    let mut weights = [0.0; PART];
    for i in 0..PART {
        weights[i] = i32::from(numbers[i] as i8) as f32 * d;
    }
    weights
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

/// Convert 32 weights of `numbers`, 4 bits each, with fifth bits in `high`.
#[inline(always)]
fn k_nibbles<A: Arithmetic>(
    bytes: &[u8],
    numbers: &[u8],
    high: [u8; PART],
    part: usize,
) -> [f32; PART] {
    let (d, m) = (half_at(bytes, 0), half_at(bytes, 2));
    let (scale, minimum) = scale_and_minimum(&bytes[4..16], part);
    let (scale, minimum) = (d * scale, m * minimum);
    // Neighbouring parts are the low and the high bits of the same bytes.
    let numbers: [u8; PART] = array(numbers, 32 * (part / 2));
    let shift = 4 * (part as u32 % 2);
    let mut weights = [0.0; PART];
    for k in 0..PART {
        let q = numbers[k] >> shift & 15 | (high[k] >> part & 1) << 4;
        weights[k] = A::multiply_add(i32::from(q) as f32, scale, -minimum);
    }
    weights
}

block!(Q4K, 256, 144, |bytes, part| {
    k_nibbles::<A>(bytes, &bytes[16..], [0; PART], part)
});
block!(Q5K, 256, 176, |bytes, part| {
    k_nibbles::<A>(bytes, &bytes[48..], array(bytes, 16), part)
});
block!(Q6K, 256, 210, |bytes, part| {
    let d = half_at(bytes, 208);
    // Of each half of a block, parts 0 and 2 are the low and high bits of the same 32 bytes, 1 and 3 those of the next.
    let (half, quarter) = (part / 4, part % 4);
    let low: [u8; PART] = array(bytes, 64 * half + 32 * (quarter % 2));
    let high: [u8; PART] = array(bytes, 128 + 32 * half);
    let (low_shift, high_shift) = (quarter as u32 / 2 * 4, 2 * quarter as u32);
    let scales = &bytes[192 + 2 * part..194 + 2 * part];
    let scales = [
        d * f32::from(scales[0] as i8),
        d * f32::from(scales[1] as i8),
    ];
    let mut weights = [0.0; PART];
    for k in 0..PART {
        let q = low[k] >> low_shift & 15 | (high[k] >> high_shift & 3) << 4;
        weights[k] = (i32::from(q) as f32 - 32.0) * scales[k / 16];
    }
    weights
});
