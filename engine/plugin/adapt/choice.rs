//! `sample/1`, `order/1`.

use std::sync::Arc;

use brillm_abi as abi;

use super::{Asked, find, ids, index, lacks, size, tensor};
use crate::hook::{
    Answer, Call, Canvas, Direction, Fill, Hooks, Order, Prompt, Sample, SampleNeeds, Setting, Step,
};
use crate::plugin::instance::{Instance, nonsense};
use crate::{Error, Result};

const SAMPLE: usize = index("sample/1");
const ORDER: usize = index("order/1");

pub(super) fn install(
    instance: &Arc<Instance>,
    hooks: &mut Hooks,
    twice: &dyn Fn(&str) -> Error,
) -> Result<()> {
    if let Some(asked) = find::<abi::brl_sample>(instance, "sample/1") {
        let table = &asked.table;
        if table.prompt.is_none() && table.step.is_none() && table.choose.is_none() {
            return Err(lacks(instance, "sample/1", "prompt, step or choose"));
        }
        hooks.sample.push(Arc::new(asked));
    }
    if let Some(asked) = find::<abi::brl_order>(instance, "order/1") {
        if asked.table.next.is_none() {
            return Err(lacks(instance, "order/1", "next"));
        }
        if hooks.order.replace(Arc::new(asked)).is_some() {
            return Err(twice("order/1"));
        }
    }
    Ok(())
}

const UNSET: abi::brl_setting = abi::brl_setting {
    struct_size: size::<abi::brl_setting>(),
    temperature: f64::NAN,
};

fn setting(raw: &abi::brl_setting) -> Result<Setting> {
    let temperature = raw.temperature as f32;
    if raw.temperature.is_nan() {
        return Ok(Setting::default());
    }
    if !(temperature >= 0.0 && temperature.is_finite()) {
        return Err(nonsense(format!("the temperature is {}", raw.temperature)));
    }
    Ok(Setting {
        temperature: Some(temperature),
    })
}

fn step_question(call: &Call<'_>, step: &Step<'_>) -> abi::brl_step {
    abi::brl_step {
        struct_size: size::<abi::brl_step>(),
        sequence: call.sequence,
        step: call.step,
        generated: step.generated,
        token: u64::from(step.token),
        history: ids(step.history),
        hidden: tensor(step.hidden, &[step.hidden.len()]),
    }
}

impl Sample for Asked<abi::brl_sample> {
    fn needs(&self) -> SampleNeeds {
        SampleNeeds {
            prompt: self.table.prompt.is_some(),
            step: self.table.step.is_some(),
            choose: self.table.choose.is_some(),
            hidden: self.table.needs & abi::BRL_NEED_HIDDEN != 0,
            history: self.table.needs & abi::BRL_NEED_HISTORY != 0,
        }
    }

    fn prompt(&self, call: &Call<'_>, prompt: &Prompt<'_>) -> Result<Setting> {
        let Some(ask) = self.table.prompt else {
            return Ok(Setting::default());
        };
        let question = abi::brl_prompt {
            struct_size: size::<abi::brl_prompt>(),
            sequence: call.sequence,
            tokens: ids(prompt.tokens),
            pooled: tensor(prompt.pooled, &[prompt.pooled.len()]),
            hidden: tensor(prompt.hidden, &[prompt.hidden.len()]),
            logits: tensor(prompt.logits, &[prompt.logits.len()]),
        };
        let mut raw = UNSET;
        let place = &raw mut raw;
        let answer = self.instance.ask(
            SAMPLE,
            call,
            // SAFETY: the instance is the plugin's; question, frame and answer live until it returns.
            |instance, frame, _| unsafe { ask(instance, frame, &raw const question, place) },
            // SAFETY: the call has returned, and the place is ours again.
            |_| setting(unsafe { &*place }),
        )?;
        Ok(answer.unwrap_or_default())
    }

    fn step(
        &self,
        call: &Call<'_>,
        step: &Step<'_>,
        logits: &mut [f32],
        out: &mut Setting,
    ) -> Result<Answer> {
        let Some(ask) = self.table.step else {
            return Ok(Answer::Declined);
        };
        let question = step_question(call, step);
        let mut raw = UNSET;
        let place = &raw mut raw;
        let given: &[f32] = logits;
        let answer = self.instance.ask(
            SAMPLE,
            call,
            |instance, frame, scratch| {
                let ptr = scratch.floats.load(given);
                let buffer = abi::brl_f32s {
                    ptr,
                    len: given.len() as u64,
                };
                // SAFETY: the instance is the plugin's; question, frame, buffer and answer live until it returns.
                unsafe { ask(instance, frame, &raw const question, buffer, place) }
            },
            |scratch| {
                let values = scratch.floats.values();
                match values
                    .iter()
                    .position(|value| value.is_nan() || *value == f32::INFINITY)
                {
                    Some(token) => Err(nonsense(format!(
                        "the score of token {token} is {}",
                        values[token]
                    ))),
                    // SAFETY: the call has returned, and the place is ours again.
                    None => Ok((values.to_vec(), setting(unsafe { &*place })?)),
                }
            },
        )?;
        Ok(match answer {
            Some((values, setting)) => {
                logits.copy_from_slice(&values);
                if setting.temperature.is_some() {
                    out.temperature = setting.temperature;
                }
                Answer::Given
            }
            None => Answer::Declined,
        })
    }

    fn choose(
        &self,
        call: &Call<'_>,
        step: &Step<'_>,
        probabilities: &[f32],
    ) -> Result<Option<u32>> {
        let Some(ask) = self.table.choose else {
            return Ok(None);
        };
        let question = step_question(call, step);
        let view = tensor(probabilities, &[probabilities.len()]);
        let mut token = u64::MAX;
        let place = &raw mut token;
        self.instance.ask(
            SAMPLE,
            call,
            // SAFETY: the instance is the plugin's; question, frame, view and answer live until it returns.
            |instance, frame, _| unsafe {
                ask(instance, frame, &raw const question, &raw const view, place)
            },
            |_| {
                // SAFETY: the call has returned, and the place is ours again.
                let token = unsafe { *place };
                if token >= probabilities.len() as u64 {
                    return Err(nonsense(format!(
                        "it chose token {token} of {}",
                        probabilities.len()
                    )));
                }
                Ok(token as u32)
            },
        )
    }
}

impl Order for Asked<abi::brl_order> {
    fn next(&self, call: &Call<'_>, canvas: &Canvas<'_>) -> Result<Option<Fill>> {
        let Some(next) = self.table.next else {
            return Ok(None);
        };
        let question = abi::brl_canvas {
            struct_size: size::<abi::brl_canvas>(),
            sequence: call.sequence,
            step: call.step,
            tokens: ids(canvas.tokens),
            left: canvas.left,
            right: canvas.right,
            left_resistance: canvas.left_resistance,
            right_resistance: canvas.right_resistance,
        };
        let mut raw = abi::brl_place {
            struct_size: size::<abi::brl_place>(),
            position: u64::MAX,
            direction: abi::BRL_FORWARD,
        };
        let place = &raw mut raw;
        self.instance.ask(
            ORDER,
            call,
            // SAFETY: the instance is the plugin's; question, frame and answer live until it returns.
            |instance, frame, _| unsafe { next(instance, frame, &raw const question, place) },
            |_| {
                // SAFETY: the call has returned, and the place is ours again.
                let answer = unsafe { *place };
                let direction = match answer.direction {
                    abi::BRL_FORWARD => Direction::Forward,
                    abi::BRL_BACKWARD => Direction::Backward,
                    other => return Err(nonsense(format!("there is no direction {other}"))),
                };
                let empty = usize::try_from(answer.position)
                    .ok()
                    .and_then(|position| canvas.tokens.get(position))
                    == Some(&Canvas::EMPTY);
                if !empty {
                    return Err(nonsense(format!(
                        "position {} is not empty",
                        answer.position
                    )));
                }
                Ok(Fill {
                    position: answer.position,
                    direction,
                })
            },
        )
    }
}
