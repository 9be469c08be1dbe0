//! `mask/1`.

use std::ffi::c_void;
use std::sync::Arc;

use brillm_abi as abi;

use super::{Asked, bytes, find, ids, index, lacks, size, tensor};
use crate::hook::{Answer, Call, Hooks, Mask, MaskMoment, MaskOutcome, MaskTokens};
use crate::plugin::instance::{Instance, nonsense};
use crate::{Error, Result};

const MASK: usize = index("mask/1");

pub(super) fn install(
    instance: &Arc<Instance>,
    hooks: &mut Hooks,
    twice: &dyn Fn(&str) -> Error,
) -> Result<()> {
    if let Some(asked) = find::<abi::brl_mask>(instance, "mask/1") {
        if asked.table.ratio.is_none() && asked.table.weigh.is_none() {
            return Err(lacks(instance, "mask/1", "ratio or weigh"));
        }
        if asked.table.save.is_some() != asked.table.restore.is_some() {
            return Err(lacks(instance, "mask/1", "save and restore, or neither"));
        }
        if hooks.mask.replace(Arc::new(asked)).is_some() {
            return Err(twice("mask/1"));
        }
    }
    Ok(())
}

/// Collects what a plugin writes into a sink.
pub(super) unsafe extern "C" fn collect(ctx: *mut c_void, record: abi::brl_str) -> abi::brl_status {
    // SAFETY: the context is the vector that the sink was made of, alive until the call returns.
    let Some(all) = (unsafe { ctx.cast::<Vec<Vec<u8>>>().as_mut() }) else {
        return abi::BRL_E_ARG;
    };
    if record.ptr.is_null() || record.len == 0 {
        all.push(Vec::new());
        return abi::BRL_OK;
    }
    // SAFETY: the plugin's bytes hold for this call.
    let bytes = unsafe { std::slice::from_raw_parts(record.ptr.cast::<u8>(), record.len as usize) };
    all.push(bytes.to_vec());
    abi::BRL_OK
}

impl Mask for Asked<abi::brl_mask> {
    fn ratio(&self, call: &Call<'_>, moment: &MaskMoment) -> Result<Option<f64>> {
        let Some(ask) = self.table.ratio else {
            return Ok(None);
        };
        let question = abi::brl_mask_moment {
            struct_size: size::<abi::brl_mask_moment>(),
            step: moment.step,
            steps: moment.steps,
            epoch: moment.epoch,
        };
        let mut ratio = f64::NAN;
        let place = &raw mut ratio;
        self.instance.ask(
            MASK,
            call,
            // SAFETY: the instance is the plugin's; question, frame and answer live until it returns.
            |instance, frame, _| unsafe { ask(instance, frame, &raw const question, place) },
            |_| {
                // SAFETY: the call has returned, and the place is ours again.
                let ratio = unsafe { *place };
                if (0.0..=1.0).contains(&ratio) {
                    Ok(ratio)
                } else {
                    Err(nonsense(format!("the ratio is {ratio}")))
                }
            },
        )
    }

    fn weigh(
        &self,
        call: &Call<'_>,
        tokens: &MaskTokens<'_>,
        weights: &mut [f32],
    ) -> Result<Answer> {
        let Some(ask) = self.table.weigh else {
            return Ok(Answer::Declined);
        };
        let allowed: Vec<u8> = tokens
            .allowed
            .iter()
            .map(|&allowed| u8::from(allowed))
            .collect();
        let question = abi::brl_mask_tokens {
            struct_size: size::<abi::brl_mask_tokens>(),
            step: call.step,
            sequence: call.sequence,
            ratio: tokens.ratio,
            tokens: ids(tokens.tokens),
            tags: ids(tokens.tags),
            words: ids(tokens.words),
            allowed: bytes(&allowed),
        };
        let ones = vec![1.0; weights.len()];
        let answer = self.instance.ask(
            MASK,
            call,
            |instance, frame, scratch| {
                let buffer = abi::brl_f32s {
                    ptr: scratch.floats.load(&ones),
                    len: ones.len() as u64,
                };
                // SAFETY: the instance is the plugin's; question, frame and buffer live until it returns.
                unsafe { ask(instance, frame, &raw const question, buffer) }
            },
            |scratch| {
                let values = scratch.floats.values();
                match values
                    .iter()
                    .position(|value| !(*value >= 0.0 && value.is_finite()))
                {
                    Some(place) => Err(nonsense(format!(
                        "the weight of token {place} is {}",
                        values[place]
                    ))),
                    None => Ok(values.to_vec()),
                }
            },
        )?;
        Ok(match answer {
            Some(values) => {
                weights.copy_from_slice(&values);
                Answer::Given
            }
            None => Answer::Declined,
        })
    }

    fn learn(&self, call: &Call<'_>, outcome: &MaskOutcome<'_>) -> Result<()> {
        let Some(ask) = self.table.learn else {
            return Ok(());
        };
        let question = abi::brl_mask_outcome {
            struct_size: size::<abi::brl_mask_outcome>(),
            step: call.step,
            tokens: ids(outcome.tokens),
            tags: ids(outcome.tags),
            losses: tensor(outcome.losses, &[outcome.losses.len()]),
        };
        self.instance
            .ask(
                MASK,
                call,
                // SAFETY: the instance is the plugin's; question and frame live until it returns.
                |instance, frame, _| unsafe { ask(instance, frame, &raw const question) },
                |_| Ok(()),
            )
            .map(|_| ())
    }

    fn save(&self) -> Result<Vec<u8>> {
        let Some(ask) = self.table.save else {
            return Ok(Vec::new());
        };
        let mut records: Vec<Vec<u8>> = Vec::new();
        let sink = abi::brl_sink {
            ctx: (&raw mut records).cast(),
            write: Some(collect),
        };
        self.instance.ask(
            MASK,
            &Call::new(0, 0, 0),
            // SAFETY: the instance is the plugin's; frame and sink live until it returns.
            |instance, frame, _| unsafe { ask(instance, frame, &raw const sink) },
            |_| Ok(()),
        )?;
        Ok(records.concat())
    }

    fn restore(&self, state: &[u8]) -> Result<()> {
        let Some(ask) = self.table.restore else {
            return if state.is_empty() {
                Ok(())
            } else {
                Err(nonsense("it keeps no state, but the checkpoint holds one"))
            };
        };
        let view = abi::brl_str {
            ptr: state.as_ptr().cast(),
            len: state.len() as u64,
        };
        self.instance
            .ask(
                MASK,
                &Call::new(0, 0, 0),
                // SAFETY: the instance is the plugin's; frame and state live until it returns.
                |instance, frame, _| unsafe { ask(instance, frame, view) },
                |_| Ok(()),
            )
            .map(|_| ())
    }
}
