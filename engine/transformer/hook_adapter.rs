//! The hooks of a transformer's run: they make the plan of the cache once, then decide for each sequence.
//!
//! `kv.plan/1` and `kv.codec/1` become a [`Plan`], `kv.keep/1` a [`EvictionPolicy`], `probe/1` a [`Probe`], `sample/1` a
//! [`SamplerChain`].

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::hook::{
    self, Activations, Answer, Call, CodecQuestion, CodecSide, Hooks, KvShape, Planned, Probe, Tap,
};
use crate::path::SamplerChain;
use crate::transformer::eviction::EvictionPolicy;
use crate::transformer::plan::{Codec, Plan, Storage};
use crate::transformer::session_options::SessionOptions;
use crate::transformer::trial::{CalibrationText, Tried};
use crate::transformer::{Configuration, Transformer};
use crate::{Error, ErrorKind, Result};

/// The hooks of a run with the plan they made for its model.
#[derive(Clone, Debug, Default)]
pub struct HookAdapter {
    hooks: Hooks,
    plan: Option<Plan>,
    seed: u64,
    cancel: Option<Arc<AtomicBool>>,
}

impl HookAdapter {
    /// Ask for the plan of a run. `calibration` is the text on which a planner may try the model.
    ///
    /// # Errors
    /// Those of the hooks; [`ErrorKind::Unsupported`] for hooks of a cache where the model has none.
    pub fn new(
        model: &Transformer,
        hooks: &Hooks,
        seed: u64,
        calibration: Option<&CalibrationText>,
    ) -> Result<Self> {
        let cached = hooks.plan.is_some() || hooks.keep.is_some() || hooks.codec.is_some();
        let network = model
            .network()
            .filter(|network| network.configuration().causal());
        let plan = match network {
            Some(network) => {
                let mut plan = Plan::full(network.configuration().layers);
                let sources = match &hooks.plan {
                    Some(planner) => {
                        let mut tried = match calibration {
                            Some(text) if planner.tries() => Some(Tried::new(network, text)?),
                            _ => None,
                        };
                        sources(
                            &**planner,
                            network.configuration(),
                            seed,
                            tried.as_mut(),
                            &mut plan,
                        )?
                    }
                    None => false,
                };
                let stored = match &hooks.codec {
                    Some(codec) => stored(&**codec, network.configuration(), seed, &mut plan)?,
                    None => false,
                };
                plan.check(network.configuration())?;
                (sources || stored).then_some(plan)
            }
            None if cached => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "the model has no KV cache for the plugin to manage",
                )
                .at(model.name())
                .advice("remove the plugin, or use a causal transformer"));
            }
            None => None,
        };
        Ok(Self {
            hooks: hooks.clone(),
            plan,
            seed,
            cancel: None,
        })
    }

    /// Set the flag by which hooks see that the run is cancelled.
    #[must_use]
    pub fn cancel(mut self, flag: Option<Arc<AtomicBool>>) -> Self {
        self.cancel = flag;
        self
    }

    /// Return the plan, if hooks made one.
    pub fn plan(&self) -> Option<&Plan> {
        self.plan.as_ref()
    }

    /// Whether hooks decide about the cache.
    pub fn decides(&self) -> bool {
        self.plan.is_some() || self.hooks.keep.is_some()
    }

    /// Return the session options of sequence `sequence`, whose prompt has `prompt` tokens.
    ///
    /// # Errors
    /// Those of the hooks.
    pub fn options(
        &self,
        shape: &Configuration,
        sequence: u64,
        prompt: usize,
    ) -> Result<SessionOptions> {
        let (plan, eviction) = self.cache(shape, sequence, 1, prompt)?;
        let probe = (!self.hooks.probe.is_empty()).then(|| {
            Box::new(ProbeAdapter {
                hooks: self.hooks.clone(),
                sequence,
                seed: self.seed,
            }) as Box<dyn Probe>
        });
        Ok(SessionOptions {
            plan,
            eviction,
            probe,
            attention: false,
            alone: false,
            sampler_chain: SamplerChain::new(&self.hooks, sequence, self.seed, self.cancel.clone()),
            order: self.hooks.order.clone(),
        })
    }

    /// Return the plan and the eviction policy of a cache of `sequences`, the first of them numbered `first`; `None`
    /// where no hook decides.
    ///
    /// # Errors
    /// Those of the hooks.
    pub fn cache(
        &self,
        shape: &Configuration,
        first: u64,
        sequences: usize,
        prompt: usize,
    ) -> Result<(Option<Plan>, Option<EvictionPolicy>)> {
        let Some(keep) = &self.hooks.keep else {
            return Ok((self.plan.clone(), None));
        };
        let mut eviction =
            EvictionPolicy::new(keep.clone(), self.seed, first).cancel(self.cancel.clone());
        let mut per_head = false;
        // One cache serves all sequences: it has groups per head as soon as one of them needs that.
        for sequence in 0..sequences {
            per_head |= eviction.prepare(sequence, prompt, shape.kv_heads)?;
        }
        let mut plan = self
            .plan
            .clone()
            .unwrap_or_else(|| Plan::full(shape.layers));
        if per_head {
            plan = plan.per_head();
        }
        Ok((Some(plan), Some(eviction)))
    }
}

/// Ask `kv.plan/1` for the source and the storage of each layer; returns whether it answered.
fn sources(
    planner: &dyn hook::Plan,
    shape: &Configuration,
    seed: u64,
    tried: Option<&mut Tried<'_>>,
    plan: &mut Plan,
) -> Result<bool> {
    let layers = shape.layers;
    let each = |value: usize| vec![value as u32; layers];
    let question = KvShape {
        layers,
        query_heads: &each(shape.heads),
        kv_heads: &each(shape.kv_heads),
        head_width: &each(shape.head_width),
        context: shape.context,
    };
    let mut source: Vec<u32> = (0..layers as u32).collect();
    let mut storage = vec![0; layers];
    let answer = planner.plan(
        &Call::new(seed, 0, 0),
        &question,
        tried.map(|tried| tried as &mut dyn hook::Trial),
        Planned {
            source: &mut source,
            storage: &mut storage,
        },
    )?;
    if answer == Answer::Declined {
        return Ok(false);
    }
    for (layer, (&source, &bits)) in plan.layers.iter_mut().zip(source.iter().zip(&storage)) {
        layer.source = source as usize;
        if bits == 16 {
            // Half precision: no groups, any axis.
            let half = Storage::Quantised(Codec {
                bits: 16,
                group: 1,
                axis: hook::CodecAxis::Token,
            });
            (layer.keys, layer.values) = (half, half);
        }
    }
    Ok(true)
}

/// Ask `kv.codec/1` for the format of each layer's keys and values; returns whether any is quantised.
fn stored(
    codec: &dyn hook::Codec,
    shape: &Configuration,
    seed: u64,
    plan: &mut Plan,
) -> Result<bool> {
    let (layers, mut any) = (shape.layers, false);
    for (index, layer) in plan.layers.iter_mut().enumerate() {
        if layer.source != index {
            continue;
        }
        for side in [CodecSide::Key, CodecSide::Value] {
            let question = CodecQuestion {
                layer: index,
                layers,
                head_width: shape.head_width,
                side,
            };
            let Some(format) = codec.plan(&Call::new(seed, 0, 0), &question)? else {
                continue;
            };
            let storage = Storage::Quantised(Codec {
                bits: format.bits as u8,
                group: format.group,
                axis: format.axis,
            });
            match side {
                CodecSide::Key => layer.keys = storage,
                CodecSide::Value => layer.values = storage,
            }
            layer.residual = layer.residual.max(format.residual);
            any = true;
        }
    }
    Ok(any)
}

/// The probes of a run, called with the run's seed and sequence.
struct ProbeAdapter {
    hooks: Hooks,
    sequence: u64,
    seed: u64,
}

impl Probe for ProbeAdapter {
    fn wants(&self, tap: Tap) -> bool {
        self.hooks.probes(tap).next().is_some()
    }

    fn see(&self, call: &Call<'_>, activations: &Activations<'_>) -> Result<()> {
        let call = Call::new(self.seed, self.sequence, call.step);
        self.hooks
            .probes(activations.tap)
            .try_for_each(|probe| probe.see(&call, activations))
    }
}
