//! `probe/1`.

use std::sync::Arc;

use brillm_abi as abi;

use super::learning::collect;
use super::{Asked, find, ids, index, lacks, size, tensor};
use crate::Result;
use crate::hook::{Activations, Call, Hooks, Probe, Subject, Tap};
use crate::plugin::instance::{Instance, nonsense};

const PROBE: usize = index("probe/1");

pub(super) fn install(instance: &Arc<Instance>, hooks: &mut Hooks) -> Result<()> {
    if let Some(asked) = find::<abi::brl_probe>(instance, "probe/1") {
        for (function, there) in [
            ("taps", asked.table.taps.is_some()),
            ("see", asked.table.see.is_some()),
            ("report", asked.table.report.is_some()),
        ] {
            if !there {
                return Err(lacks(instance, "probe/1", function));
            }
        }
        hooks.probe.push(Arc::new(asked));
    }
    Ok(())
}

fn bit(tap: Tap) -> u64 {
    match tap {
        Tap::Signal => abi::BRL_TAP_SIGNAL,
        Tap::Energy => abi::BRL_TAP_ENERGY,
        Tap::Hidden => abi::BRL_TAP_HIDDEN,
        Tap::Logits => abi::BRL_TAP_LOGITS,
    }
}

impl Probe for Asked<abi::brl_probe> {
    fn wants(&self, tap: Tap) -> bool {
        match self.table.taps {
            // SAFETY: the instance is the plugin's, and nobody else is in it.
            Some(taps) => self.instance.look(|instance| unsafe { taps(instance) }) & bit(tap) != 0,
            None => false,
        }
    }

    fn see(&self, call: &Call<'_>, activations: &Activations<'_>) -> Result<()> {
        let Some(see) = self.table.see else {
            return Ok(());
        };
        let rows = activations.values.len() / activations.width.max(1);
        let question = abi::brl_activations {
            struct_size: size::<abi::brl_activations>(),
            sequence: call.sequence,
            step: call.step,
            tap: bit(activations.tap),
            layer: activations.layer as u64,
            layers: activations.layers as u64,
            tokens: ids(activations.tokens),
            values: tensor(activations.values, &[rows, activations.width]),
        };
        self.instance
            .ask(
                PROBE,
                call,
                // SAFETY: the instance is the plugin's; question and frame live until it returns.
                |instance, frame, _| unsafe { see(instance, frame, &raw const question) },
                |_| Ok(()),
            )
            .map(|_| ())
    }

    fn report(&self, call: &Call<'_>) -> Result<Option<serde_json::Value>> {
        let Some(report) = self.table.report else {
            return Ok(None);
        };
        let mut records: Vec<Vec<u8>> = Vec::new();
        let records = &raw mut records;
        let sink = abi::brl_sink {
            ctx: records.cast(),
            write: Some(collect),
        };
        self.instance.ask(
            PROBE,
            call,
            // SAFETY: the instance is the plugin's; frame and sink live until it returns.
            |instance, frame, _| unsafe { report(instance, frame, &raw const sink) },
            |_| {
                // SAFETY: the call has returned, and the records are ours again.
                let text = unsafe { &*records }.concat();
                serde_json::from_slice(&text)
                    .map_err(|error| nonsense(format!("its report is not JSON: {error}")))
            },
        )
    }

    fn asks(&self) -> bool {
        self.table.ask.is_some()
    }

    fn ask(&self, call: &Call<'_>, subject: &mut dyn Subject) -> Result<()> {
        let Some(ask) = self.table.ask else {
            return Ok(());
        };
        let mut context = super::subject::SubjectContext::new(subject, &self.instance);
        let table = context.table();
        let answer = self.instance.ask(
            PROBE,
            call,
            // SAFETY: the instance is the plugin's; frame, table and its context live until it returns.
            |instance, frame, _| unsafe { ask(instance, frame, &raw const table) },
            |_| Ok(()),
        );
        // What the host met says more than what the plugin made of it.
        match context.error {
            Some(error) => Err(error
                .at("probe/1")
                .at(format!("plugin {}", self.instance.id()))),
            None => answer.map(|_| ()),
        }
    }
}
