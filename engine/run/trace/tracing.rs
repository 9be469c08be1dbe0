//! A running trace: one step at a time, on a model of either kind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::document::{Trace, TraceFinish, TraceRequest};
use super::fan::{FanLook, FanRequest};
use super::intervention::Changes;
use super::step::{Attention, Contributions, Distribution, Edges, Step};
use super::token::{ShownToken, show_tokens};
use crate::hook::Hooks;
use crate::path::Session;
use crate::run::{Engine, HookedEngine, SequenceOptions};
use crate::text::Decoder;
#[cfg(feature = "transformer")]
use crate::transformer::FilledMask;
use crate::{Error, ErrorKind, Result};

/// One step with the token it adds.
#[derive(Clone, Debug, PartialEq)]
pub struct Traced {
    /// The step.
    pub step: Step,
    /// The chosen token.
    pub token: ShownToken,
    /// Text that is complete now.
    pub text: String,
}

/// A running trace.
///
/// ```no_run
/// use brillm::hook::Hooks;
/// use brillm::run::Engine;
/// use brillm::run::trace::{TraceRequest, Tracing};
/// # fn main() -> brillm::Result<()> {
/// let engine = Engine::open("model.bril".as_ref(), Default::default())?;
/// let request = TraceRequest::new(engine.encode("Once upon a time")?).tokens(5);
/// let trace = Tracing::begin(&engine, request, &Hooks::default())?.collect()?;
/// println!("{}", trace.to_json()?);
/// # Ok(())
/// # }
/// ```
pub struct Tracing {
    engine: Engine,
    request: TraceRequest,
    changes: Changes,
    trace: Trace,
    ids: Vec<u32>,
    decoder: Decoder,
    source: Source,
    stop_tokens: Vec<u32>,
    cancel: Option<Arc<AtomicBool>>,
}

/// Where the steps come from.
enum Source {
    Session(Box<dyn Session>),
    /// Masks that were filled in, in the order of filling.
    #[cfg(feature = "transformer")]
    Filled(std::vec::IntoIter<FilledMask>),
}

impl Tracing {
    /// Read the prompt.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for an empty prompt, a token, option or intervention out of range;
    /// [`ErrorKind::Unsupported`] for scaled signals on a transformer.
    pub fn begin(engine: &Engine, request: TraceRequest, hooks: &Hooks) -> Result<Self> {
        let hooked = engine.with_hooks(hooks, request.sampling.seed)?;
        Self::begin_on(&hooked, request)
    }

    /// Read the prompt, on an engine that has its hooks.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn begin_on(hooked: &HookedEngine, request: TraceRequest) -> Result<Self> {
        if request.prompt.is_empty() {
            return Err(Error::new(
                ErrorKind::Input,
                "the prompt is empty: there is no token to start at",
            )
            .advice("pass at least one token"));
        }
        let engine = hooked.engine();
        let changes = Changes::of(&request.interventions, engine.vocabulary())?;
        let (source, ids) = Source::begin(hooked, &request, &changes)?;
        let mut trace = Trace::head(engine, &request);
        trace.tokens = show_tokens(engine.tokenizer(), &ids);
        let decoder = match source.is_fixed() {
            true => Decoder::default(),
            false => Decoder::after(engine.tokenizer(), &ids),
        };
        Ok(Self {
            engine: engine.clone(),
            changes,
            trace,
            ids,
            decoder,
            source,
            stop_tokens: if request.ignore_eos {
                Vec::new()
            } else {
                engine.stop_tokens()
            },
            cancel: None,
            request,
        })
    }

    /// End when the flag is set, from any thread.
    #[must_use]
    pub fn cancel(mut self, flag: Arc<AtomicBool>) -> Self {
        self.cancel = Some(flag);
        self
    }

    /// Let a device choose the nodes of a graph; see [`Session::use_device`].
    ///
    /// # Errors
    /// As [`Session::use_device`].
    #[cfg(feature = "gpu")]
    pub fn use_device(
        &mut self,
        device: Arc<crate::signal::DeviceMechanism>,
        forced: bool,
    ) -> Result<()> {
        let chunk = self.request.tokens.clamp(1, 32);
        match &mut self.source {
            Source::Session(session) => session.use_device(device, chunk, forced),
            #[cfg(feature = "transformer")]
            Source::Filled(_) => Ok(()),
        }
    }

    /// The trace so far.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Return the trace so far.
    pub fn into_trace(self) -> Trace {
        self.trace
    }

    /// The trace, to add what the engine does not know: the model's checksum, the plugins.
    pub fn trace_mut(&mut self) -> &mut Trace {
        &mut self.trace
    }

    /// Take the next step; `None` at the end.
    ///
    /// # Errors
    /// As [`Session::step`].
    pub fn advance(&mut self) -> Result<Option<Traced>> {
        if self.trace.finish.is_some() {
            return Ok(None);
        }
        let cancelled = |flag: &Arc<AtomicBool>| flag.load(Ordering::Relaxed);
        if self.cancel.as_ref().is_some_and(cancelled) {
            return Ok(self.end(TraceFinish::Cancelled));
        }
        let index = self.trace.steps.len();
        if index >= self.request.tokens && !self.source.is_fixed() {
            return Ok(self.end(TraceFinish::Length));
        }
        if self.source.is_full() {
            return Ok(self.end(TraceFinish::Context));
        }
        let Some(step) = self.step(index)? else {
            let finish = if self.source.is_fixed() {
                TraceFinish::Length
            } else {
                TraceFinish::Exhausted
            };
            return Ok(self.end(finish));
        };
        let chosen = step.chosen;
        if step.position < self.ids.len() {
            self.ids[step.position] = chosen;
        } else {
            self.ids.push(chosen);
        }
        let token = ShownToken::of(self.engine.tokenizer().vocabulary(), chosen);
        let mut text = String::new();
        if self.stop_tokens.contains(&chosen) {
            text.push_str(&self.decoder.finish());
            self.trace.text.push_str(&text);
            self.trace.finish = Some(TraceFinish::Stop);
        } else {
            text.push_str(&self.decoder.push(self.engine.tokenizer(), chosen));
            if index + 1 == self.request.tokens {
                text.push_str(&self.decoder.finish());
            }
            self.trace.text.push_str(&text);
        }
        self.trace.steps.push(step.clone());
        self.trace.tokens = show_tokens(self.engine.tokenizer(), &self.ids);
        Ok(Some(Traced { step, token, text }))
    }

    /// Take all remaining steps and returns the trace.
    ///
    /// # Errors
    /// The first error of a step.
    pub fn collect(mut self) -> Result<Trace> {
        while self.advance()?.is_some() {}
        Ok(self.trace)
    }

    /// Describe the candidates for new token `step`.
    pub(super) fn look(mut self, step: usize, request: &FanRequest) -> Result<FanLook> {
        crate::measure::check_ids(&request.targets, self.engine.vocabulary())?;
        crate::measure::check_ids(request.against.as_slice(), self.engine.vocabulary())?;
        // Without the feature `transformer` there is one kind of source only.
        #[cfg_attr(not(feature = "transformer"), expect(irrefutable_let_patterns))]
        let Source::Session(session) = &mut self.source else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "a masked language model has no candidates at the end of a text",
            ));
        };
        let source = session.token();
        let seen = distribution(&mut **session, &self.changes, step)?;
        let contributions = request.targets.iter().map(|&target| {
            let split = session.attribution(target)?;
            Ok(split.map(|split| Contributions::of(&split, request.vectors)))
        });
        let contributions: Result<Option<Vec<Contributions>>> = contributions.collect();
        let mut explanations = Vec::new();
        for (against, &target) in request.against.into_iter().cycle().zip(&request.targets) {
            let margin = session.margin(against, target)?;
            explanations.extend(margin.map(|margin| seen.explain(&margin, &self.ids)));
        }
        let (candidates, rest) = seen.list(
            request.candidates,
            &request.targets,
            self.engine.tokenizer().vocabulary(),
            Edges::of(&**session).as_ref(),
        );
        Ok(FanLook {
            source,
            entropy: seen.entropy(),
            margin: seen.margin(),
            candidates,
            rest,
            contributions: contributions?.unwrap_or_default(),
            explanations,
            attention: session.mechanism().is_none().then(|| attention(&**session)),
        })
    }

    fn end(&mut self, finish: TraceFinish) -> Option<Traced> {
        self.trace.finish = Some(finish);
        let rest = self.decoder.finish();
        self.trace.text.push_str(&rest);
        None
    }

    fn step(&mut self, index: usize) -> Result<Option<Step>> {
        let vocabulary = self.engine.tokenizer().vocabulary();
        let count = self.request.candidates;
        let session = match &mut self.source {
            Source::Session(session) => session,
            #[cfg(feature = "transformer")]
            Source::Filled(filled) => {
                let Some(filled) = filled.next() else {
                    return Ok(None);
                };
                let seen = Distribution::of(&filled.logits, &filled.logits, None);
                let listed = seen.list(count, &[filled.token], vocabulary, None);
                let before = filled
                    .position
                    .checked_sub(1)
                    .map(|before| self.ids[before]);
                let source = before.unwrap_or(filled.token);
                let at = (index, filled.position, source, filled.token);
                return Ok(Some(seen.step(at, false, listed)));
            }
        };
        let source = session.token();
        let seen = distribution(&mut **session, &self.changes, index)?;
        // Contributions, attention and cache are those before the hop, while the choice is known after it.
        let attention = attention(&**session);
        let cache = session.cache().unwrap_or_default().retained;
        let before = match session.mechanism() {
            Some(_) => Some(session.fork()?),
            None => None,
        };
        let forced = self.changes.forced.get(&index).copied();
        let chosen = match forced {
            Some(node) => {
                session.force(node)?;
                node
            }
            None => match session.step()? {
                Some(node) => node,
                None => return Ok(None),
            },
        };
        let (mut contributions, mut listed) = (None, None);
        if let Some(before) = before {
            let split = before.attribution(chosen)?;
            contributions = split.map(|split| Contributions::of(&split, false));
            let edges = Edges::of(&*before);
            listed = Some(seen.list(count, &[chosen], vocabulary, edges.as_ref()));
        }
        let listed = listed.unwrap_or_else(|| seen.list(count, &[chosen], vocabulary, None));
        let position = self.request.prompt.len() + index;
        Ok(Some(Step {
            contributions,
            attention: (!attention.is_empty()).then_some(attention),
            cache: (!cache.is_empty()).then_some(cache),
            ..seen.step((index, position, source, chosen), forced.is_some(), listed)
        }))
    }
}

/// Compute the distribution of new token `step`, after the interventions on it.
fn distribution(session: &mut dyn Session, changes: &Changes, step: usize) -> Result<Distribution> {
    for (node, energy) in changes.injected(step) {
        session.inject(node, energy)?;
    }
    // A graph is steered by a hook of edge/1.
    if session.mechanism().is_none() {
        for (node, logit) in changes.steering.at(session.token()) {
            // A logit far below all others has probability 0; −∞ is refused.
            session.add_logit(node, logit.max(-1e30))?;
        }
    }
    let (energies, logits) = session.look()?;
    let (energies, logits) = (energies.to_vec(), logits.to_vec());
    Ok(Distribution::of(
        &energies,
        &logits,
        Edges::of(session).as_ref(),
    ))
}

/// The attention of each layer's last row; empty on a graph. Positions that are not kept have no weight.
fn attention(session: &dyn Session) -> Vec<Attention> {
    let layers = session.attention().unwrap_or_default().iter().enumerate();
    layers
        .map(|(layer, weights)| Attention {
            layer,
            weights: weights
                .iter()
                .map(|&weight| (!weight.is_nan()).then_some(weight))
                .collect(),
        })
        .collect()
}

impl Source {
    /// Begin a session, or fill the masks of a masked language model; also returns the text so far.
    fn begin(
        hooked: &HookedEngine,
        request: &TraceRequest,
        changes: &Changes,
    ) -> Result<(Self, Vec<u32>)> {
        #[cfg(feature = "transformer")]
        if let Some(model) = hooked.engine().as_transformer()
            && !hooked.engine().is_causal()
        {
            let (mut text, filled) = crate::run::fill_text(
                model,
                &request.prompt,
                request.tokens,
                &request.sampling,
                hooked.hooks(),
            )?;
            let mask = crate::transformer::mask_token(model)?;
            for one in &filled {
                text[one.position] = mask;
            }
            return Ok((Self::Filled(filled.into_iter()), text));
        }
        let options = SequenceOptions {
            sampling: request.sampling.clone(),
            start: request.start.clone(),
            gains: changes.gains.clone(),
            recall: request.recall,
            explain: true,
            ..SequenceOptions::default()
        };
        let steering = changes
            .steering
            .hook()
            .filter(|_| hooked.engine().as_graph().is_some());
        let session = match steering {
            Some(hook) => {
                let mut hooks = hooked.hooks().clone();
                hooks.edge.push(hook);
                let steered = hooked.engine().with_hooks(&hooks, request.sampling.seed)?;
                steered.session(&request.prompt, &options)?
            }
            None => hooked.session(&request.prompt, &options)?,
        };
        Ok((Self::Session(session), request.prompt.clone()))
    }

    fn is_full(&self) -> bool {
        match self {
            Self::Session(session) => session.is_full(),
            #[cfg(feature = "transformer")]
            Self::Filled(_) => false,
        }
    }

    /// Whether the number of steps is fixed by the masks, not by the requested length.
    fn is_fixed(&self) -> bool {
        !matches!(self, Self::Session(_))
    }
}
