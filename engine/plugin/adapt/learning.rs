//! `mask/1`.

use brillm_abi as abi;

use super::{PluginHook, collector, given};
use crate::hook::{Answer, Call, Mask, MaskMoment, MaskOutcome, MaskTokens};
use crate::plugin::instance::{Instance, invalid_answer};
use crate::{Error, ErrorKind, Result};

/// Check that a plugin that saves its state also restores it.
pub(super) fn check(instance: &Instance) -> Result<()> {
    match instance.code.table_of::<abi::brl_mask>("mask/1") {
        Some(table) if table.save.is_some() != table.restore.is_some() => Err(Error::new(
            ErrorKind::Plugin,
            "its table of mask/1 has only one of the functions save and restore",
        )
        .at(format!("plugin {}", instance.id()))),
        _ => Ok(()),
    }
}

impl Mask for PluginHook<abi::brl_mask> {
    fn ratio(&self, call: &Call<'_>, moment: &MaskMoment) -> Result<Option<f64>> {
        let Some(ask) = self.table.ratio else {
            return Ok(None);
        };
        let question = abi::brl_mask_moment::new(moment);
        self.answer(
            call,
            f64::NAN,
            // SAFETY: the instance is the plugin's; question, frame and answer live until the call returns.
            |instance, frame, ratio, _| unsafe { ask(instance, frame, &raw const question, ratio) },
            |ratio, _| {
                if (0.0..=1.0).contains(&ratio) {
                    Ok(ratio)
                } else {
                    Err(format!("the ratio is {ratio}"))
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
        let question = abi::brl_mask_tokens::new(call.sequence, call.step, tokens);
        self.rewrite(
            call,
            weights,
            (
                |value| value >= 0.0 && value.is_finite(),
                "the weight of token",
            ),
            (),
            // SAFETY: the instance is the plugin's; question, frame and buffer live until the call returns.
            |instance, frame, buffer, _| unsafe {
                ask(instance, frame, &raw const question, buffer)
            },
            Ok,
        )
        .map(given)
    }

    fn learn(&self, call: &Call<'_>, outcome: &MaskOutcome<'_>) -> Result<()> {
        let Some(learn) = self.table.learn else {
            return Ok(());
        };
        let question = abi::brl_mask_outcome::new(call.step, outcome);
        // SAFETY: the instance is the plugin's; question and frame live until the call returns.
        self.call(call, |instance, frame| unsafe {
            learn(instance, frame, &raw const question)
        })?;
        Ok(())
    }

    fn save(&self) -> Result<Vec<u8>> {
        let Some(save) = self.table.save else {
            return Ok(Vec::new());
        };
        let mut records = Vec::new();
        let sink = collector(&mut records);
        // SAFETY: the instance is the plugin's; frame and sink live until the call returns.
        self.call(&Call::new(0, 0, 0), |instance, frame| unsafe {
            save(instance, frame, &raw const sink)
        })?;
        Ok(records.concat())
    }

    fn restore(&self, state: &[u8]) -> Result<()> {
        let Some(restore) = self.table.restore else {
            return if state.is_empty() {
                Ok(())
            } else {
                Err(invalid_answer(
                    "it saves no state, but the checkpoint contains one",
                ))
            };
        };
        let view = abi::brl_str::from_bytes(state);
        // SAFETY: the instance is the plugin's; frame and state live until the call returns.
        self.call(&Call::new(0, 0, 0), |instance, frame| unsafe {
            restore(instance, frame, view)
        })?;
        Ok(())
    }
}
