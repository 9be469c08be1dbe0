//! In how many bits a transformer's memory is stored: [`KvCodec`].

use brillm_abi as abi;

use crate::door::{Tables, enter};
use crate::{Call, Plugin, Result, view};

/// Keys or values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Keys.
    Key,
    /// Values.
    Value,
}

/// Along what the numbers of a group lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// One channel over several tokens.
    Channel,
    /// One token over several channels.
    Token,
}

/// A layer's keys or values to plan.
#[derive(Clone, Copy, Debug)]
pub struct CodecQuestion {
    /// The layer.
    pub layer: usize,
    /// Layers, `L`.
    pub layers: usize,
    /// Width of a head.
    pub head_width: usize,
    /// Keys or values.
    pub side: Side,
}

/// An affine group format: `x ≈ zero + scale · q`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodecPlan {
    /// Bits of `q`: 2, 4 or 8.
    pub bits: u32,
    /// Numbers in a group.
    pub group: usize,
    /// Along what they lie.
    pub axis: Axis,
    /// The newest tokens that stay as they are, at least.
    pub residual: usize,
}

/// `kv.codec/1`: in how many bits a cache stores its numbers.
pub trait KvCodec: Plugin {
    /// The format of a layer's keys or values; `None` stores them as the run says.
    ///
    /// # Errors
    /// Whatever goes wrong.
    fn plan(&mut self, call: &mut Call<'_>, question: &CodecQuestion) -> Result<Option<CodecPlan>>;
}

unsafe extern "C" fn codec<T: KvCodec>(
    instance: *mut abi::brl_self,
    call: *mut abi::brl_call,
    question: *const abi::brl_codec_in,
    plan: *mut abi::brl_codec_plan,
) -> abi::brl_status {
    let body = |plugin: &mut T, call: &mut Call<'_>| {
        // SAFETY: the host's table, valid for this call.
        let raw = unsafe { view::read(question) }.ok_or("there is no question")?;
        let question = CodecQuestion {
            layer: raw.layer as usize,
            layers: raw.layers as usize,
            head_width: raw.head_width as usize,
            side: if raw.side == abi::BRL_SIDE_KEY {
                Side::Key
            } else {
                Side::Value
            },
        };
        let Some(answer) = plugin.plan(call, &question)? else {
            return Ok(abi::BRL_DECLINED);
        };
        // SAFETY: the host's table to be written, as long as it says.
        unsafe {
            if !view::whole(plan) {
                return Ok(abi::BRL_E_BUFFER);
            }
            let plan = &mut *plan;
            plan.bits = u64::from(answer.bits);
            plan.group = answer.group as u64;
            plan.axis = match answer.axis {
                Axis::Channel => abi::BRL_AXIS_CHANNEL,
                Axis::Token => abi::BRL_AXIS_TOKEN,
            };
            plan.residual = answer.residual as u64;
        }
        Ok(abi::BRL_OK)
    };
    // SAFETY: the host passes what `create` made, one call at a time.
    unsafe { enter(instance, call, body) }
}

impl<T: KvCodec> Tables<T> {
    /// The table of `kv.codec/1`.
    pub const KV_CODEC: abi::brl_kv_codec = abi::brl_kv_codec {
        struct_size: size_of::<abi::brl_kv_codec>() as u64,
        needs: 0,
        plan: Some(codec::<T>),
    };
}
