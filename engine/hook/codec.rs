//! `kv.codec/1`: in how many bits a layer's cache stores keys and values.

use crate::Result;
use crate::hook::Call;

/// Keys or values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodecSide {
    /// Keys.
    Key,
    /// Values.
    Value,
}

/// Along what the numbers of a group lie, which share a scale and a zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodecAxis {
    /// One channel over several tokens (KIVI's keys).
    Channel,
    /// One token over several channels (KIVI's values).
    Token,
}

/// A layer's keys or values to plan.
#[derive(Clone, Copy, Debug)]
pub struct CodecQuestion {
    /// The layer.
    pub layer: usize,
    /// Layers of the model, `L`.
    pub layers: usize,
    /// Width of a head.
    pub head_width: usize,
    /// Keys or values.
    pub side: CodecSide,
}

/// An affine group format: `x ≈ zero + scale · q`, `q` of `bits` bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodecFormat {
    /// Bits of a number: 2, 4 or 8.
    pub bits: u32,
    /// Numbers in a group.
    pub group: usize,
    /// Along what they lie.
    pub axis: CodecAxis,
    /// The newest tokens that stay unquantised, at least.
    pub residual: usize,
}

/// Plans how a cache is stored; at most one in a run.
pub trait Codec: Send + Sync {
    /// The format of a layer's keys or values; `None` stores them as the run says.
    ///
    /// # Errors
    /// Whatever went wrong.
    fn plan(&self, call: &Call<'_>, question: &CodecQuestion) -> Result<Option<CodecFormat>>;
}
