//! A trace under way: one step at a time, on either path.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::document::{Trace, TraceFinish, TraceRequest};
use super::fan::{FanLook, FanRequest};
use super::intervention::Changes;
use super::step::{Contributions, Distribution, Edges, Step};
use super::token::{ShownToken, show_tokens};
#[cfg(feature = "transformer")]
use super::watch::{Seen, Watch};
use crate::hook::Hooks;
use crate::path::{GraphSession, HookRunner, Session, SessionOptions};
use crate::run::Engine;
use crate::text::Decoder;
#[cfg(feature = "transformer")]
use crate::transformer::{Architecture, FilledMask, HookAdapter, Transformer};
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

/// A trace under way.
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
    way: Direction,
    ends: Vec<u32>,
    cancel: Option<Arc<AtomicBool>>,
}

/// What makes the steps.
enum Direction {
    Graph(Box<GraphSession>),
    #[cfg(feature = "transformer")]
    Causal(Box<crate::transformer::TransformerSession>, Seen),
    /// Masks that were filled in, in their order.
    #[cfg(feature = "transformer")]
    Filled(std::vec::IntoIter<FilledMask>),
}

impl Tracing {
    /// Takes the prompt.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for an empty prompt, a token, option or intervention out of range;
    /// [`ErrorKind::Unsupported`] for interventions on signals of a model that has none.
    pub fn begin(engine: &Engine, request: TraceRequest, hooks: &Hooks) -> Result<Self> {
        #[cfg(feature = "transformer")]
        if let Engine::Transformer(model) = engine {
            let asked = HookAdapter::new(model, hooks, request.sampling.seed, None)?;
            return Self::begin_asked(engine, request, hooks, Some(&asked));
        }
        Self::begin_asked(engine, request, hooks, None)
    }

    /// As [`Self::begin`], with what the hooks have decided about a transformer already.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn begin_asked(
        engine: &Engine,
        request: TraceRequest,
        hooks: &Hooks,
        #[cfg(feature = "transformer")] asked: Option<&HookAdapter>,
        #[cfg(not(feature = "transformer"))] _: Option<()>,
    ) -> Result<Self> {
        if request.prompt.is_empty() {
            return Err(Error::new(
                ErrorKind::Input,
                "the prompt is empty: there is no token to start at",
            )
            .advice("give at least one token"));
        }
        let changes = Changes::of(&request.interventions, engine.vocabulary())?;
        let (way, ends, ids) = match engine {
            Engine::Graph(model) => {
                let mut hooks = hooks.clone();
                hooks.edge.extend(changes.steering.hook());
                let session = GraphSession::begin_with(
                    model.mechanism().clone(),
                    &request.prompt,
                    &request.start,
                    request.sampling.clone(),
                    SessionOptions {
                        hook_runner: HookRunner::new(&hooks, 0),
                        gains: changes.gains.clone(),
                        attribution: true,
                    },
                )?;
                let way = Direction::Graph(Box::new(session));
                let ends = model.tokenizer().vocabulary().stop();
                (way, ends.into_iter().collect(), request.prompt.clone())
            }
            #[cfg(feature = "transformer")]
            Engine::Transformer(model) => {
                if !changes.gains.is_empty() {
                    return Err(Error::new(
                        ErrorKind::Unsupported,
                        "a transformer blends no signal whose parts could be scaled",
                    )
                    .advice("scale nodes or edges, or use a .bril model"));
                }
                let (way, whole) = Direction::of_transformer(model, &request, hooks, asked)?;
                let ids = whole.unwrap_or_else(|| request.prompt.clone());
                (way, model.stop_tokens(), ids)
            }
        };
        let mut trace = Trace::head(engine, &request);
        trace.tokens = show_tokens(engine.tokenizer(), &ids);
        Ok(Self {
            engine: engine.clone(),
            changes,
            trace,
            ids,
            decoder: Decoder::default(),
            way,
            ends: if request.ignore_eos { Vec::new() } else { ends },
            cancel: None,
            request,
        })
    }

    /// Ends when the flag is set, from any thread.
    #[must_use]
    pub fn cancel(mut self, flag: Arc<AtomicBool>) -> Self {
        self.cancel = Some(flag);
        self
    }

    /// Has a device choose the nodes of a graph; see [`GraphSession::use_device`].
    ///
    /// # Errors
    /// As [`GraphSession::use_device`].
    #[cfg(feature = "gpu")]
    pub fn use_device(
        &mut self,
        device: Arc<crate::signal::DeviceMechanism>,
        forced: bool,
    ) -> Result<()> {
        match &mut self.way {
            Direction::Graph(session) => {
                session.use_device(device, self.request.tokens.clamp(1, 32), forced)
            }
            #[cfg(feature = "transformer")]
            _ => Ok(()),
        }
    }

    /// The trace as far as it has come; its tokens and text are whole when it has ended.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The trace, where no more steps are wanted.
    pub fn into_trace(self) -> Trace {
        self.trace
    }

    /// To say what the engine cannot know: the model's checksum, the plugins.
    pub fn trace_mut(&mut self) -> &mut Trace {
        &mut self.trace
    }

    /// The next step; `None` at the end.
    ///
    /// # Errors
    /// Whatever ends the path.
    pub fn advance(&mut self) -> Result<Option<Traced>> {
        if self.trace.finish.is_some() {
            return Ok(None);
        }
        let cancelled = |flag: &Arc<AtomicBool>| flag.load(Ordering::Relaxed);
        if self.cancel.as_ref().is_some_and(cancelled) {
            return Ok(self.end(TraceFinish::Cancelled));
        }
        let index = self.trace.steps.len();
        if index >= self.request.tokens && !self.way.is_fixed() {
            return Ok(self.end(TraceFinish::Length));
        }
        if self.way.is_full() {
            return Ok(self.end(TraceFinish::Context));
        }
        let Some(step) = self.step(index)? else {
            let finish = match self.way.is_fixed() {
                true => TraceFinish::Length,
                false => TraceFinish::Exhausted,
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
        if self.ends.contains(&chosen) {
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

    /// All that is left, and the trace.
    ///
    /// # Errors
    /// The first error of a step.
    pub fn collect(mut self) -> Result<Trace> {
        while self.advance()?.is_some() {}
        Ok(self.trace)
    }

    /// What may follow where it is, as new token `step`.
    pub(super) fn look(mut self, step: usize, request: &FanRequest) -> Result<FanLook> {
        let tokenizer = self.engine.tokenizer().clone();
        let nodes = self.engine.vocabulary();
        crate::measure::check_ids(&request.targets, nodes)?;
        let injected: Vec<(u32, f32)> = self.changes.injected(step).collect();
        let (seen, contributions, attention, source, candidates);
        match &mut self.way {
            Direction::Graph(session) => {
                for (node, energy) in injected {
                    session.inject(node, energy)?;
                }
                let mechanism = session.mechanism().clone();
                source = session.flow().node;
                let edges = Edges {
                    mechanism: &mechanism,
                    source,
                };
                let (energies, logits) = session.look()?;
                seen = Distribution::of(energies, logits, Some(&edges));
                let split = |&target: &u32| {
                    let split = session.split(target)?;
                    Ok(Contributions::of(&split, request.vectors))
                };
                contributions = request.targets.iter().map(split).collect::<Result<_>>()?;
                attention = None;
                let vocabulary = tokenizer.vocabulary();
                candidates = seen.list(
                    request.candidates,
                    &request.targets,
                    vocabulary,
                    Some(&edges),
                );
            }
            #[cfg(feature = "transformer")]
            Direction::Causal(session, watched) => {
                source = session.token();
                let energies = session.logits().to_vec();
                steer(session, injected.into_iter(), &self.changes)?;
                seen = Distribution::of(&energies, session.logits(), None);
                contributions = Vec::new();
                attention = Some(watched.attention());
                let vocabulary = tokenizer.vocabulary();
                candidates = seen.list(request.candidates, &request.targets, vocabulary, None);
            }
            #[cfg(feature = "transformer")]
            Direction::Filled(_) => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "a model that sees both sides has no fan at the end of a text",
                ));
            }
        }
        Ok(FanLook {
            source,
            entropy: seen.entropy(),
            margin: seen.margin(),
            candidates: candidates.0,
            rest: candidates.1,
            contributions,
            attention,
        })
    }

    fn end(&mut self, finish: TraceFinish) -> Option<Traced> {
        self.trace.finish = Some(finish);
        let rest = self.decoder.finish();
        self.trace.text.push_str(&rest);
        None
    }

    fn step(&mut self, index: usize) -> Result<Option<Step>> {
        let position = self.request.prompt.len() + index;
        let injected: Vec<(u32, f32)> = self.changes.injected(index).collect();
        let forced = self.changes.forced.get(&index).copied();
        let tokenizer = self.engine.tokenizer().clone();
        let count = self.request.candidates;
        match &mut self.way {
            Direction::Graph(session) => {
                let mechanism = session.mechanism().clone();
                for (node, energy) in injected {
                    session.inject(node, energy)?;
                }
                let source = session.flow().node;
                let edges = Edges {
                    mechanism: &mechanism,
                    source,
                };
                let (energies, logits) = session.look()?;
                let seen = Distribution::of(energies, logits, Some(&edges));
                // The shares are those of before the hop, and the choice is known after it.
                let before = session.clone();
                let chosen = match forced {
                    Some(node) => {
                        session.force(node)?;
                        Some(node)
                    }
                    None => session.step()?,
                };
                let Some(chosen) = chosen else {
                    return Ok(None);
                };
                let split = before.split(chosen)?;
                let place = (index, position, source, chosen);
                let listed = seen.list(count, &[chosen], tokenizer.vocabulary(), Some(&edges));
                Ok(Some(Step {
                    contributions: Some(Contributions::of(&split, false)),
                    ..seen.step(place, forced.is_some(), listed)
                }))
            }
            #[cfg(feature = "transformer")]
            Direction::Causal(session, watched) => {
                let source = session.token();
                let energies = session.logits().to_vec();
                steer(session, injected.into_iter(), &self.changes)?;
                let seen = Distribution::of(&energies, session.logits(), None);
                let (attention, cache) = (watched.attention(), session.report().retained);
                let chosen = match forced {
                    Some(node) => {
                        session.force(node)?;
                        Some(node)
                    }
                    None => session.step()?,
                };
                let Some(chosen) = chosen else {
                    return Ok(None);
                };
                let listed = seen.list(count, &[chosen], tokenizer.vocabulary(), None);
                Ok(Some(Step {
                    attention: (!attention.is_empty()).then_some(attention),
                    cache: (!cache.is_empty()).then_some(cache),
                    ..seen.step((index, position, source, chosen), forced.is_some(), listed)
                }))
            }
            #[cfg(feature = "transformer")]
            Direction::Filled(filled) => {
                let Some(filled) = filled.next() else {
                    return Ok(None);
                };
                let before = filled.position.checked_sub(1).map(|place| self.ids[place]);
                let seen = Distribution::of(&filled.logits, &filled.logits, None);
                let listed = seen.list(count, &[filled.token], tokenizer.vocabulary(), None);
                let source = before.unwrap_or(filled.token);
                let place = (index, filled.position, source, filled.token);
                Ok(Some(seen.step(place, false, listed)))
            }
        }
    }
}

/// Adds to a transformer's scores what a graph's hooks add to resistances.
#[cfg(feature = "transformer")]
fn steer(
    session: &mut crate::transformer::TransformerSession,
    injected: impl Iterator<Item = (u32, f32)>,
    changes: &Changes,
) -> Result<()> {
    let source = session.token();
    for (node, energy) in injected {
        session.inject(node, energy)?;
    }
    for (node, logit) in changes.steering.at(source) {
        // A score far below all others has the probability 0.
        session.inject(node, logit.max(-1e30))?;
    }
    Ok(())
}

impl Direction {
    /// A causal model's session; or, of a model that sees both sides, what it filled in, with the text around it.
    #[cfg(feature = "transformer")]
    fn of_transformer(
        model: &Transformer,
        request: &TraceRequest,
        hooks: &Hooks,
        asked: Option<&HookAdapter>,
    ) -> Result<(Self, Option<Vec<u32>>)> {
        let shape = model.configuration();
        if shape.architecture == Architecture::Bert {
            let (text, filled) = crate::run::fill_text(
                model,
                &request.prompt,
                request.tokens,
                &request.sampling,
                hooks,
            )?;
            let mask = crate::transformer::mask_token(model)?;
            let mut masked = text;
            for one in &filled {
                masked[one.position] = mask;
            }
            return Ok((Self::Filled(filled.into_iter()), Some(masked)));
        }
        let own;
        let asked = match asked {
            Some(asked) => asked,
            None => {
                own = HookAdapter::new(model, hooks, request.sampling.seed, None)?;
                &own
            }
        };
        let mut options = asked.options(shape, 0, request.prompt.len())?;
        let seen = Seen::default();
        if model.network().is_some() {
            options.probe = Some(Box::new(Watch {
                seen: seen.clone(),
                other: options.probe.take(),
            }));
        }
        let session = crate::transformer::TransformerSession::begin_with(
            model,
            &request.prompt,
            request.sampling.clone(),
            options,
        )?;
        Ok((Self::Causal(Box::new(session), seen), None))
    }

    fn is_full(&self) -> bool {
        match self {
            Self::Graph(session) => session.is_full(),
            #[cfg(feature = "transformer")]
            Self::Causal(session, _) => session.is_full(),
            #[cfg(feature = "transformer")]
            Self::Filled(_) => false,
        }
    }

    /// Whether the steps are those there are, and no length ends them.
    fn is_fixed(&self) -> bool {
        match self {
            #[cfg(feature = "transformer")]
            Self::Filled(_) => true,
            _ => false,
        }
    }
}
