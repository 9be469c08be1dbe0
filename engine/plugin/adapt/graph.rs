//! `edge/1`, `signal/1`, `path/1`.

use std::sync::Arc;

use brillm_abi as abi;

use super::{Asked, find, ids, index, lacks, size, tensor};
use crate::hook::{Answer, Call, Edge, Fan, Hooks, Hop, Path, Signal};
use crate::plugin::instance::{Instance, nonsense};
use crate::{Error, Result};

const EDGE: usize = index("edge/1");
const SIGNAL: usize = index("signal/1");
const PATH: usize = index("path/1");

pub(super) fn install(
    instance: &Arc<Instance>,
    hooks: &mut Hooks,
    twice: &dyn Fn(&str) -> Error,
) -> Result<()> {
    if let Some(asked) = find::<abi::brl_edge>(instance, "edge/1") {
        if asked.table.resist.is_none() {
            return Err(lacks(instance, "edge/1", "resist"));
        }
        hooks.edge.push(Arc::new(asked));
    }
    if let Some(asked) = find::<abi::brl_signal>(instance, "signal/1") {
        if asked.table.start.is_none() {
            return Err(lacks(instance, "signal/1", "start"));
        }
        if hooks.signal.replace(Arc::new(asked)).is_some() {
            return Err(twice("signal/1"));
        }
    }
    if let Some(asked) = find::<abi::brl_path>(instance, "path/1") {
        if asked.table.hop.is_none() {
            return Err(lacks(instance, "path/1", "hop"));
        }
        hooks.path.push(Arc::new(asked));
    }
    Ok(())
}

impl Edge for Asked<abi::brl_edge> {
    fn resist(&self, call: &Call<'_>, fan: &Fan<'_>, resistance: &mut [f32]) -> Result<Answer> {
        let Some(resist) = self.table.resist else {
            return Ok(Answer::Declined);
        };
        let length = resistance.len();
        let question = abi::brl_fan {
            struct_size: size::<abi::brl_fan>(),
            sequence: call.sequence,
            step: call.step,
            source: u64::from(fan.source),
            energies: tensor(fan.energies, &[fan.energies.len()]),
            targets: ids(fan.targets),
            counts: ids(fan.counts),
        };
        let given: &[f32] = resistance;
        let answer = self.instance.ask(
            EDGE,
            call,
            |instance, frame, scratch| {
                let ptr = scratch.floats.load(given);
                let buffer = abi::brl_f32s {
                    ptr,
                    len: length as u64,
                };
                // SAFETY: the instance is the plugin's; question, frame and buffer live until it returns.
                unsafe { resist(instance, frame, &raw const question, buffer) }
            },
            |scratch| {
                let values = scratch.floats.values();
                match values
                    .iter()
                    .position(|value| value.is_nan() || *value == f32::NEG_INFINITY)
                {
                    Some(node) => Err(nonsense(format!(
                        "the resistance of the edge to node {node} is {}",
                        values[node]
                    ))),
                    None => Ok(values.to_vec()),
                }
            },
        )?;
        Ok(match answer {
            Some(values) => {
                resistance.copy_from_slice(&values);
                Answer::Given
            }
            None => Answer::Declined,
        })
    }
}

impl Signal for Asked<abi::brl_signal> {
    fn start(&self, call: &Call<'_>, prompt: &[u32], signal: &mut [f32]) -> Result<Answer> {
        let Some(start) = self.table.start else {
            return Ok(Answer::Declined);
        };
        let question = abi::brl_start {
            struct_size: size::<abi::brl_start>(),
            sequence: call.sequence,
            prompt: ids(prompt),
        };
        let given: &[f32] = signal;
        let answer = self.instance.ask(
            SIGNAL,
            call,
            |instance, frame, scratch| {
                let ptr = scratch.floats.load(given);
                let buffer = abi::brl_f32s {
                    ptr,
                    len: given.len() as u64,
                };
                // SAFETY: the instance is the plugin's; question, frame and buffer live until it returns.
                unsafe { start(instance, frame, &raw const question, buffer) }
            },
            |scratch| {
                let values = scratch.floats.values();
                match values.iter().position(|value| !value.is_finite()) {
                    Some(place) => Err(nonsense(format!(
                        "the signal's number {place} is {}",
                        values[place]
                    ))),
                    None => Ok(values.to_vec()),
                }
            },
        )?;
        Ok(match answer {
            Some(values) => {
                signal.copy_from_slice(&values);
                Answer::Given
            }
            None => Answer::Declined,
        })
    }
}

impl Path for Asked<abi::brl_path> {
    fn ranks(&self) -> bool {
        self.table.needs & abi::BRL_NEED_RANK != 0
    }

    fn hop(&self, call: &Call<'_>, hop: &Hop<'_>) -> Result<()> {
        let Some(told) = self.table.hop else {
            return Ok(());
        };
        let question = abi::brl_hop {
            struct_size: size::<abi::brl_hop>(),
            sequence: call.sequence,
            step: call.step,
            source: u64::from(hop.source),
            target: u64::from(hop.target),
            rank: hop.rank.unwrap_or(abi::BRL_UNRANKED),
            resistance: hop.resistance,
            runners_up: ids(hop.runners_up),
            signal: tensor(hop.signal, &[hop.signal.len()]),
        };
        self.instance
            .ask(
                PATH,
                call,
                // SAFETY: the instance is the plugin's; question and frame live until it returns.
                |instance, frame, _| unsafe { told(instance, frame, &raw const question) },
                |_| Ok(()),
            )
            .map(|_| ())
    }
}
