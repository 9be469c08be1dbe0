//! `edge/1`, `signal/1`, `path/1`.

use brillm_abi as abi;

use super::{PluginHook, given};
use crate::Result;
use crate::hook::{Answer, Call, Edge, Fan, Hop, Path, Signal};

impl Edge for PluginHook<abi::brl_edge> {
    fn resist(&self, call: &Call<'_>, fan: &Fan<'_>, resistance: &mut [f32]) -> Result<Answer> {
        let Some(resist) = self.table.resist else {
            return Ok(Answer::Declined);
        };
        let question = abi::brl_fan::new(call.sequence, call.step, fan);
        self.rewrite(
            call,
            resistance,
            (
                |value| !value.is_nan() && value != f32::NEG_INFINITY,
                "the resistance of the edge to node",
            ),
            (),
            // SAFETY: the instance is the plugin's; question, frame and buffer live until the call returns.
            |instance, frame, buffer, _| unsafe {
                resist(instance, frame, &raw const question, buffer)
            },
            Ok,
        )
        .map(given)
    }
}

impl Signal for PluginHook<abi::brl_signal> {
    fn start(&self, call: &Call<'_>, prompt: &[u32], signal: &mut [f32]) -> Result<Answer> {
        let Some(start) = self.table.start else {
            return Ok(Answer::Declined);
        };
        let question = abi::brl_start::new(call.sequence, prompt);
        self.rewrite(
            call,
            signal,
            (f32::is_finite, "the signal at index"),
            (),
            // SAFETY: the instance is the plugin's; question, frame and buffer live until the call returns.
            |instance, frame, buffer, _| unsafe {
                start(instance, frame, &raw const question, buffer)
            },
            Ok,
        )
        .map(given)
    }
}

impl Path for PluginHook<abi::brl_path> {
    fn ranks(&self) -> bool {
        self.table.needs & abi::BRL_NEED_RANK != 0
    }

    fn hop(&self, call: &Call<'_>, hop: &Hop<'_>) -> Result<()> {
        let Some(observe) = self.table.hop else {
            return Ok(());
        };
        let question = abi::brl_hop::new(call.sequence, call.step, hop);
        // SAFETY: the instance is the plugin's; question and frame live until the call returns.
        self.call(call, |instance, frame| unsafe {
            observe(instance, frame, &raw const question)
        })?;
        Ok(())
    }
}
