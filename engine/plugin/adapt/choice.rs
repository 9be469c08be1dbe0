//! `sample/1`, `order/1`.

use brillm_abi as abi;

use super::PluginHook;
use crate::Result;
use crate::hook::{Answer, Call, Canvas, Fill, Order, Prompt, Sample, SampleNeeds, Setting, Step};

impl Sample for PluginHook<abi::brl_sample> {
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
        let question = abi::brl_prompt::new(call.sequence, prompt);
        let answer = self.answer(
            call,
            abi::brl_setting::new(&Setting::default()),
            // SAFETY: the instance is the plugin's; question, frame and answer live until the call returns.
            |instance, frame, setting, _| unsafe {
                ask(instance, frame, &raw const question, setting)
            },
            |setting, _| setting.setting(),
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
        let question = abi::brl_step::new(call.sequence, call.step, step);
        let answer = self.rewrite(
            call,
            logits,
            (
                |value| !value.is_nan() && value != f32::INFINITY,
                "the logit of token",
            ),
            abi::brl_setting::new(&Setting::default()),
            // SAFETY: the instance is the plugin's; question, frame, buffer and answer live until the call returns.
            |instance, frame, buffer, setting| unsafe {
                ask(instance, frame, &raw const question, buffer, setting)
            },
            |setting| setting.setting(),
        )?;
        let Some(setting) = answer else {
            return Ok(Answer::Declined);
        };
        out.temperature = setting.temperature.or(out.temperature);
        Ok(Answer::Given)
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
        let question = abi::brl_step::new(call.sequence, call.step, step);
        let view = abi::brl_tensor::vector(probabilities);
        let length = probabilities.len();
        self.answer(
            call,
            u64::MAX,
            // SAFETY: the instance is the plugin's; question, frame, view and answer live until the call returns.
            |instance, frame, token, _| unsafe {
                ask(instance, frame, &raw const question, &raw const view, token)
            },
            |token, _| {
                if token < length as u64 {
                    Ok(token as u32)
                } else {
                    Err(format!(
                        "it chose token {token}, but the vocabulary has {length} tokens"
                    ))
                }
            },
        )
    }
}

impl Order for PluginHook<abi::brl_order> {
    fn next(&self, call: &Call<'_>, canvas: &Canvas<'_>) -> Result<Option<Fill>> {
        let Some(next) = self.table.next else {
            return Ok(None);
        };
        let question = abi::brl_canvas::new(call.sequence, call.step, canvas);
        let initial = Fill {
            position: u64::MAX,
            direction: crate::hook::Direction::Forward,
        };
        self.answer(
            call,
            abi::brl_fill::new(&initial),
            // SAFETY: the instance is the plugin's; question, frame and answer live until the call returns.
            |instance, frame, fill, _| unsafe { next(instance, frame, &raw const question, fill) },
            |fill, _| {
                let fill = fill.fill()?;
                let position = usize::try_from(fill.position).ok();
                match position.and_then(|position| canvas.tokens.get(position)) {
                    Some(&Canvas::EMPTY) => Ok(fill),
                    _ => Err(format!("position {} is not empty", fill.position)),
                }
            },
        )
    }
}
