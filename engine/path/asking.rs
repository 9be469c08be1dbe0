//! What a session asks hooks, and what it keeps of their answers.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::graph::NodeId;
use crate::hook::{Answer, Call, Fan, Hooks, Hop, Prompt, SampleNeeds, Setting, Sight, Step, Tap};
use crate::kernel::softmax;
use crate::signal::{Flow, Mechanism, Start};
use crate::{Error, ErrorKind, Result};

/// Nodes of least resistance that `path/1` is told besides the target.
const RUNNERS_UP: usize = 8;

/// The hooks of a sequence.
///
/// ```
/// use brillm::hook::Hooks;
/// use brillm::path::Asking;
/// let asking = Asking::new(&Hooks::default(), 0);
/// assert!(asking.is_none());
/// ```
#[derive(Clone, Debug)]
pub struct Asking {
    hooks: Hooks,
    sequence: u64,
    seed: u64,
    cancel: Option<Arc<AtomicBool>>,
    needs: SampleNeeds,
    energies: bool,
    signals: bool,
    /// Σ of what left each node of the prompt. `[D]`
    pooled: Vec<f64>,
    history: Vec<u32>,
    prompt: u64,
    prompt_tokens: Vec<u32>,
    setting: Option<Setting>,
}

/// What `path/1` is told of a hop that was chosen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chosen {
    normaliser: f64,
    scores: Vec<f32>,
}

impl Asking {
    /// The hooks of sequence `sequence` of a run; `None` when nobody asks anything.
    pub fn new(hooks: &Hooks, sequence: u64) -> Option<Box<Self>> {
        (!hooks.is_empty()).then(|| {
            Box::new(Self {
                needs: hooks.sample_needs(),
                energies: hooks.probes(Tap::Energy).next().is_some(),
                signals: hooks.probes(Tap::Signal).next().is_some(),
                hooks: hooks.clone(),
                sequence,
                seed: 0,
                cancel: None,
                pooled: Vec::new(),
                history: Vec::new(),
                prompt: 0,
                prompt_tokens: Vec::new(),
                setting: None,
            })
        })
    }

    /// Lets whoever answers see that the run is to stop.
    #[must_use]
    pub fn cancel(mut self: Box<Self>, flag: Option<Arc<AtomicBool>>) -> Box<Self> {
        self.cancel = flag;
        self
    }

    /// Whether a device may be asked in their stead, one that has shaders of `edge/1` or has none.
    #[cfg(feature = "gpu")]
    pub(crate) fn on_device(&self, shaders: bool) -> bool {
        self.hooks.flow_on_device() && self.hooks.edge.is_empty() != shaders
    }

    pub(crate) fn seeded(&mut self, seed: u64) {
        self.seed = seed;
    }

    fn call(&self, flow: &Flow) -> Call<'_> {
        let call = Call::new(self.seed, self.sequence, flow.step);
        match &self.cancel {
            Some(flag) => call.cancel(flag),
            None => call,
        }
    }

    /// `signal/1`: where the signal starts.
    pub(crate) fn start(
        &self,
        mechanism: &Mechanism,
        prompt: &[u32],
        start: &Start,
    ) -> Result<Option<Start>> {
        let Some(signal) = &self.hooks.signal else {
            return Ok(None);
        };
        let mut vector = mechanism.start_vector(start);
        let call = Call::new(self.seed, self.sequence, 0);
        Ok(match signal.start(&call, prompt, &mut vector)? {
            Answer::Given => Some(Start::Vector(vector)),
            Answer::Declined => None,
        })
    }

    /// `edge/1`: the chain rewrites the scores of all nodes.
    pub(crate) fn resist(
        &self,
        mechanism: &Mechanism,
        flow: &Flow,
        energies: &[f32],
        scores: &mut [f32],
    ) -> Result<()> {
        resist(
            &self.hooks,
            &self.call(flow),
            mechanism,
            flow,
            energies,
            scores,
        )
    }

    /// `probe/1`: the energies of a step.
    pub(crate) fn see_energies(&self, flow: &Flow, energies: &[f32]) -> Result<()> {
        if !self.energies {
            return Ok(());
        }
        self.see(Tap::Energy, flow, energies)
    }

    fn see(&self, tap: Tap, flow: &Flow, values: &[f32]) -> Result<()> {
        let sight = Sight {
            tap,
            layer: 0,
            layers: 1,
            tokens: &[flow.node],
            values,
            width: values.len(),
        };
        let call = self.call(flow);
        self.hooks
            .probes(tap)
            .try_for_each(|probe| probe.see(&call, &sight))
    }

    /// `sample/1`: the chain rewrites the scores and sets the temperature.
    ///
    /// A prompt is asked about before its first new token.
    pub(crate) fn sample(&mut self, flow: &Flow, scores: &mut [f32]) -> Result<Setting> {
        if self.hooks.sample.is_empty() {
            return Ok(Setting::default());
        }
        let call = Call::new(self.seed, self.sequence, flow.step);
        let hidden: &[f32] = if self.needs.hidden {
            &flow.leaving
        } else {
            &[]
        };
        let mut setting = match self.setting {
            Some(setting) => setting,
            None => {
                let mean: Vec<f32> = self
                    .pooled
                    .iter()
                    .map(|sum| (sum / self.prompt.max(1) as f64) as f32)
                    .collect();
                let prompt = Prompt {
                    tokens: &self.prompt_tokens,
                    pooled: &mean,
                    hidden,
                    scores,
                };
                let mut setting = Setting::default();
                for hook in self.hooks.sample.iter().filter(|hook| hook.needs().prompt) {
                    let answer = hook.prompt(&call, &prompt)?;
                    setting.temperature = answer.temperature.or(setting.temperature);
                }
                self.setting = Some(setting);
                setting
            }
        };
        if self.needs.step {
            let step = self.step(flow);
            for hook in self.hooks.sample.iter().filter(|hook| hook.needs().step) {
                hook.step(&call, &step, scores, &mut setting)?;
            }
            if scores.iter().any(|score| score.is_nan()) {
                return Err(Error::new(ErrorKind::Plugin, "a score became not a number")
                    .at(format!("step {}", flow.step))
                    .at("sample/1"));
            }
        }
        Ok(setting)
    }

    fn step<'a>(&'a self, flow: &'a Flow) -> Step<'a> {
        Step {
            generated: (flow.step + 1).saturating_sub(self.prompt),
            token: flow.node,
            history: &self.history,
            hidden: if self.needs.hidden {
                &flow.leaving
            } else {
                &[]
            },
        }
    }

    /// Whether somebody chooses the node.
    pub(crate) fn chooses(&self) -> bool {
        self.needs.choose
    }

    /// `sample/1`: the last of the chain that chooses, chooses.
    pub(crate) fn choose(&self, flow: &Flow, probabilities: &[f32]) -> Result<Option<u32>> {
        let (call, step) = (self.call(flow), self.step(flow));
        for hook in self
            .hooks
            .sample
            .iter()
            .rev()
            .filter(|hook| hook.needs().choose)
        {
            if let Some(node) = hook.choose(&call, &step, probabilities)? {
                if !probabilities.get(node as usize).is_some_and(|&p| p > 0.0) {
                    return Err(Error::new(
                        ErrorKind::Plugin,
                        format!("node {node} was chosen, whose probability is 0"),
                    )
                    .at(format!("step {}", flow.step))
                    .at("sample/1"));
                }
                return Ok(Some(node));
            }
        }
        Ok(None)
    }

    /// What `path/1` will be told of the hop that is about to be chosen.
    pub(crate) fn chosen(&self, scores: &[f32]) -> Option<Chosen> {
        self.hooks.path.iter().any(|path| path.ranks()).then(|| {
            let mut spent = scores.to_vec();
            Chosen {
                normaliser: softmax::softmax(&mut spent),
                scores: scores.to_vec(),
            }
        })
    }

    /// The first node was reached.
    pub(crate) fn begun(&mut self, flow: &Flow) -> Result<()> {
        self.pass(flow, true);
        if self.signals {
            self.see(Tap::Signal, flow, &flow.signal)?;
        }
        Ok(())
    }

    /// A hop was taken: `path/1` and `probe/1` are told.
    pub(crate) fn hopped(
        &mut self,
        source: u32,
        flow: &Flow,
        chosen: Option<&Chosen>,
    ) -> Result<()> {
        self.pass(flow, self.setting.is_none());
        if self.signals {
            self.see(Tap::Signal, flow, &flow.signal)?;
        }
        if self.hooks.path.is_empty() {
            return Ok(());
        }
        let mut runners_up = Vec::new();
        let (mut rank, mut resistance) = (None, f64::NAN);
        if let Some(chosen) = chosen {
            let own = chosen.scores[flow.node as usize];
            resistance = chosen.normaliser - f64::from(own);
            rank = Some(chosen.scores.iter().filter(|&&score| score > own).count() as u64);
            runners_up = (0..chosen.scores.len() as u32)
                .filter(|&node| {
                    node != flow.node && chosen.scores[node as usize] > f32::NEG_INFINITY
                })
                .collect();
            let better = |&a: &u32, &b: &u32| {
                chosen.scores[b as usize]
                    .total_cmp(&chosen.scores[a as usize])
                    .then(a.cmp(&b))
            };
            if runners_up.len() > RUNNERS_UP {
                runners_up.select_nth_unstable_by(RUNNERS_UP - 1, better);
                runners_up.truncate(RUNNERS_UP);
            }
            runners_up.sort_unstable_by(better);
        }
        let hop = Hop {
            source,
            target: flow.node,
            rank,
            resistance,
            runners_up: &runners_up,
            signal: &flow.signal,
        };
        let call = self.call(flow);
        self.hooks
            .path
            .iter()
            .try_for_each(|path| path.hop(&call, &hop))
    }

    /// Remembers a node: for the mean of a prompt, and the history where somebody wants it.
    fn pass(&mut self, flow: &Flow, of_prompt: bool) {
        if of_prompt && !self.hooks.sample.is_empty() {
            self.prompt += 1;
            if self.needs.prompt {
                self.prompt_tokens.push(flow.node);
                if self.needs.hidden {
                    self.pooled.resize(flow.leaving.len(), 0.0);
                    for (sum, &value) in self.pooled.iter_mut().zip(&flow.leaving) {
                        *sum += f64::from(value);
                    }
                }
            }
        }
        if self.needs.history {
            self.history.push(flow.node);
        }
    }
}

/// Has the chain of `edge/1` rewrite scores, as resistances above the least.
pub(crate) fn resist(
    hooks: &Hooks,
    call: &Call<'_>,
    mechanism: &Mechanism,
    flow: &Flow,
    energies: &[f32],
    scores: &mut [f32],
) -> Result<()> {
    if hooks.edge.is_empty() {
        return Ok(());
    }
    let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if !top.is_finite() {
        return Ok(());
    }
    let mut resistance: Vec<f32> = scores.iter().map(|score| top - score).collect();
    let own = mechanism.graph().fan(NodeId(flow.node));
    let fan = Fan {
        source: flow.node,
        energies,
        targets: own.targets,
        counts: own.counts,
    };
    let mut given = false;
    for edge in &hooks.edge {
        given |= edge.resist(call, &fan, &mut resistance)? == Answer::Given;
    }
    if given {
        for (score, &resistance) in scores.iter_mut().zip(&resistance) {
            *score = -resistance;
        }
    }
    Ok(())
}
