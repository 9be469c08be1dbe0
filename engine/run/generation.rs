//! From a prompt to text: a token iterator over a session, with stop strings and cancellation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::hook::Hooks;
use crate::model::{ChargeSettings, Model};
use crate::path::{GraphSession, HookRunner, Sampling, Session, SessionState};
use crate::signal::Start;
use crate::text::{Decoder, Tokenizer};
use crate::{Error, ErrorKind, Result};

/// Tokens that a device decodes in one submission: text still streams, and the way back is seldom gone.
#[cfg(feature = "gpu")]
const CHUNK: usize = 32;

/// One new token, with the text it completes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The token.
    pub id: u32,
    /// Text that is complete now; empty while a character is still on its way.
    pub text: String,
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// All tokens asked for are there.
    Length,
    /// The model's end token, or a stop string.
    Stop,
    /// The caller cancelled.
    Cancelled,
    /// No node was left to choose: all were banned.
    Exhausted,
    /// The model has no place for another token.
    Context,
}

/// What to generate and how; [`Self::start`] begins, or [`Engine::start`](crate::Engine::start) on a model of either
/// kind.
///
/// ```
/// use brillm::{Model, Request, path::Sampling};
/// let model = Model::open("models/english.bril".as_ref(), Default::default())?;
/// let request = Request::text(&model, "Once upon a time")?
///     .tokens(8)
///     .sampling(Sampling::default().temperature(0.8).top_p(0.95).seed(7))
///     .stop(".");
/// let (first, _) = request.clone().start(&model)?.collect_text()?;
/// let (second, _) = request.start(&model)?.collect_text()?;
/// assert_eq!(first, second); // the same seed, the same text
/// # Ok::<(), brillm::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Request {
    prompt: Vec<u32>,
    start: Start,
    pub(super) sampling: Sampling,
    tokens: usize,
    stops: Vec<String>,
    ignore_eos: bool,
    pub(super) cancel: Option<Arc<AtomicBool>>,
    #[cfg(feature = "gpu")]
    device: Option<(Arc<crate::signal::DeviceMechanism>, bool)>,
    charges: Option<ChargeSettings>,
    state: Option<SessionState>,
    pub(super) hooks: Hooks,
    injections: Vec<(usize, u32, f32)>,
    forced: BTreeMap<usize, u32>,
}

impl Request {
    /// A request for text that continues `prompt`.
    ///
    /// # Errors
    /// As [`crate::text::Tokenizer::encode`].
    pub fn text(model: &Model, prompt: &str) -> Result<Self> {
        Ok(Self::ids(model.tokenizer().encode(prompt)?))
    }

    /// A request for tokens that continue `prompt`.
    pub fn ids(prompt: Vec<u32>) -> Self {
        Self {
            prompt,
            start: Start::Profile,
            sampling: Sampling::greedy(),
            tokens: 128,
            stops: Vec::new(),
            ignore_eos: false,
            cancel: None,
            #[cfg(feature = "gpu")]
            device: None,
            charges: None,
            state: None,
            hooks: Hooks::default(),
            injections: Vec::new(),
            forced: BTreeMap::new(),
        }
    }

    /// At most so many new tokens.
    #[must_use]
    pub fn tokens(mut self, tokens: usize) -> Self {
        self.tokens = tokens;
        self
    }

    /// How nodes are chosen.
    #[must_use]
    pub fn sampling(mut self, sampling: Sampling) -> Self {
        self.sampling = sampling;
        self
    }

    /// Where the signal starts.
    #[must_use]
    pub fn start_signal(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Ends as soon as the new text contains this; the text up to it is given out.
    #[must_use]
    pub fn stop(mut self, text: impl Into<String>) -> Self {
        self.stops.push(text.into());
        self
    }

    /// Does not end at the model's end token.
    #[must_use]
    pub fn ignore_eos(mut self, ignore: bool) -> Self {
        self.ignore_eos = ignore;
        self
    }

    /// Has a device choose the tokens; see [`GraphSession::use_device`].
    #[cfg(feature = "gpu")]
    #[must_use]
    pub fn device(mut self, mechanism: Arc<crate::signal::DeviceMechanism>, forced: bool) -> Self {
        self.device = Some((mechanism, forced));
        self
    }

    /// Ends when the flag is set, from any thread.
    #[must_use]
    pub fn cancel(mut self, flag: Arc<AtomicBool>) -> Self {
        self.cancel = Some(flag);
        self
    }

    /// Visited nodes keep charges with these constants (an option for streams).
    #[must_use]
    pub fn charges(mut self, settings: ChargeSettings) -> Self {
        self.charges = Some(settings);
        self
    }

    /// Adds energy at `node` for the choice of new token `step`, counted from 0 (the paper's recall
    /// activation).
    #[must_use]
    pub fn inject(mut self, step: usize, node: u32, energy: f32) -> Self {
        self.injections.push((step, node, energy));
        self
    }

    /// Makes `node` new token `step`, counted from 0, whatever its energy.
    #[must_use]
    pub fn force(mut self, step: usize, node: u32) -> Self {
        self.forced.insert(step, node);
        self
    }

    /// Goes on from a saved session; the prompt, if any, is walked from there.
    #[must_use]
    pub fn resume(mut self, state: SessionState) -> Self {
        self.state = Some(state);
        self
    }

    /// Asks these hooks on the way.
    #[must_use]
    pub fn hooks(mut self, hooks: Hooks) -> Self {
        self.hooks = hooks;
        self
    }

    /// The prompt's tokens.
    pub fn prompt_ids(&self) -> &[u32] {
        &self.prompt
    }

    /// Walks the prompt; the iterator then gives one new token at a time.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for an empty prompt, a sampling option out of range, or a forced or lit node
    /// outside the vocabulary.
    pub fn start(self, model: &Model) -> Result<Generation> {
        if self.stops.iter().any(String::is_empty) {
            return Err(Error::new(ErrorKind::Input, "a stop string is empty"));
        }
        let mechanism = model.mechanism().clone();
        self.check_nodes(mechanism.nodes())?;
        let hook_runner = HookRunner::new(&self.hooks, 0)
            .map(|hook_runner| hook_runner.cancel(self.cancel.clone()));
        let mut session = match self.state {
            Some(state) => {
                let mut session =
                    GraphSession::restore_with_hooks(mechanism, state, self.sampling, hook_runner)?;
                session.walk(&self.prompt)?;
                session
            }
            None => GraphSession::begin_with_hooks(
                mechanism,
                &self.prompt,
                &self.start,
                self.sampling,
                hook_runner,
            )?,
        };
        if let Some(settings) = self.charges {
            session.set_charges(settings.charges());
        }
        #[cfg(feature = "gpu")]
        if let Some((device, forced)) = self.device {
            if forced && self.charges.is_some() {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "charges are kept on the processor",
                )
                .advice("use --backend cpu or auto with charges"));
            }
            session.use_device(device, self.tokens.clamp(1, CHUNK), forced)?;
        }
        let ends = if self.ignore_eos {
            Vec::new()
        } else {
            model.tokenizer().vocabulary().stop().into_iter().collect()
        };
        Ok(Generation {
            tokenizer: model.shared_tokenizer().clone(),
            session,
            done: 0,
            left: self.tokens,
            injections: self.injections,
            forced: self.forced,
            stops: self.stops,
            ends,
            cancel: self.cancel,
            decoder: Decoder::default(),
            held: String::new(),
            finish: None,
        })
    }

    /// Whether every forced or lit node is one of `nodes`.
    fn check_nodes(&self, nodes: usize) -> Result<()> {
        let lit = self.injections.iter().map(|one| one.1);
        match lit
            .chain(self.forced.values().copied())
            .find(|&node| node as usize >= nodes)
        {
            None => Ok(()),
            Some(node) => Err(Error::new(
                ErrorKind::Input,
                format!("token {node} is outside the vocabulary of {nodes}"),
            )),
        }
    }

    /// Begins on a model of the comparison path, with what a technique decides about its cache.
    ///
    /// # Errors
    /// As [`crate::transformer::TransformerSession::begin_with`]; [`ErrorKind::Unsupported`] for what only a graph has: a
    /// start signal, charges, a saved session.
    #[cfg(feature = "transformer")]
    pub fn start_transformer(
        self,
        model: &crate::transformer::Transformer,
        asked: &crate::transformer::HookAdapter,
    ) -> Result<Generation<crate::transformer::TransformerSession>> {
        if self.stops.iter().any(String::is_empty) {
            return Err(Error::new(ErrorKind::Input, "a stop string is empty"));
        }
        if self.charges.is_some() || self.state.is_some() || self.start != Start::Profile {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "start signals, charges and saved sessions belong to a graph",
            )
            .advice("leave them out, or use a .bril model"));
        }
        self.check_nodes(model.configuration().vocabulary)?;
        let ends = if self.ignore_eos {
            Vec::new()
        } else {
            model.stop_tokens()
        };
        let options = asked.options(model.configuration(), 0, self.prompt.len())?;
        let session = crate::transformer::TransformerSession::begin_with(
            model,
            &self.prompt,
            self.sampling,
            options,
        )?;
        Ok(Generation {
            tokenizer: model.tokenizer().clone(),
            session,
            done: 0,
            left: self.tokens,
            injections: self.injections,
            forced: self.forced,
            stops: self.stops,
            ends,
            cancel: self.cancel,
            decoder: Decoder::default(),
            held: String::new(),
            finish: None,
        })
    }
}

/// A generation under way: an iterator of tokens.
///
/// ```
/// use brillm::run::Finish;
/// let model = brillm::open("models/english.bril")?;
/// let mut generation = model.start(model.request("Once upon a time")?.tokens(5))?;
/// let mut pieces = 0;
/// for piece in &mut generation {
///     print!("{}", piece?.text); // the text that this token completes
///     pieces += 1;
/// }
/// assert_eq!((pieces, generation.finish()), (5, Some(Finish::Length)));
/// # Ok::<(), brillm::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Generation<W = GraphSession> {
    tokenizer: Arc<Tokenizer>,
    session: W,
    done: usize,
    left: usize,
    injections: Vec<(usize, u32, f32)>,
    forced: BTreeMap<usize, u32>,
    stops: Vec<String>,
    ends: Vec<u32>,
    cancel: Option<Arc<AtomicBool>>,
    decoder: Decoder,
    /// Text held back because it may be the beginning of a stop string.
    held: String,
    finish: Option<Finish>,
}

impl<W: Session> Generation<W> {
    /// The session, to look at, to inject energy into, or to save.
    pub fn session(&mut self) -> &mut W {
        &mut self.session
    }

    /// Why it ended; `None` while it goes on.
    pub fn finish(&self) -> Option<Finish> {
        self.finish
    }

    /// The same with its session behind a pointer: one type for graphs and transformers.
    pub fn boxed(self) -> Generation<Box<dyn Session + Send>>
    where
        W: Send + 'static,
    {
        Generation {
            session: Box::new(self.session),
            tokenizer: self.tokenizer,
            done: self.done,
            left: self.left,
            injections: self.injections,
            forced: self.forced,
            stops: self.stops,
            ends: self.ends,
            cancel: self.cancel,
            decoder: self.decoder,
            held: self.held,
            finish: self.finish,
        }
    }

    /// All that is left, as one text with its tokens.
    ///
    /// # Errors
    /// The first error of a step.
    pub fn collect_text(&mut self) -> Result<(String, Vec<u32>)> {
        let (mut text, mut ids) = (String::new(), Vec::new());
        for piece in self {
            let piece = piece?;
            text.push_str(&piece.text);
            ids.push(piece.id);
        }
        Ok((text, ids))
    }

    fn advance(&mut self) -> Result<Option<Piece>> {
        if self
            .cancel
            .as_ref()
            .is_some_and(|flag| flag.load(Ordering::Relaxed))
        {
            self.finish = Some(Finish::Cancelled);
            return Ok(None);
        }
        if self.left == 0 {
            self.finish = Some(Finish::Length);
            return Ok(None);
        }
        if self.session.is_full() {
            self.finish = Some(Finish::Context);
            return Ok(None);
        }
        for &(_, node, energy) in self.injections.iter().filter(|one| one.0 == self.done) {
            self.session.inject(node, energy)?;
        }
        let id = match self.forced.get(&self.done) {
            Some(&node) => {
                self.session.force(node)?;
                node
            }
            None => match self.session.step()? {
                Some(node) => node,
                None => {
                    self.finish = Some(Finish::Exhausted);
                    return Ok(None);
                }
            },
        };
        self.done += 1;
        if self.ends.contains(&id) {
            self.finish = Some(Finish::Stop);
            return Ok(None);
        }
        self.left -= 1;
        let mut text = self.decoder.push(&self.tokenizer, id);
        if self.left == 0 {
            text.push_str(&self.decoder.finish());
        }
        Ok(Some(Piece {
            id,
            text: self.release(text),
        }))
    }

    /// Holds back what may begin a stop string, and ends at a whole one.
    fn release(&mut self, text: String) -> String {
        if self.stops.is_empty() {
            return text;
        }
        self.held.push_str(&text);
        if let Some(at) = self
            .stops
            .iter()
            .filter_map(|stop| self.held.find(stop.as_str()))
            .min()
        {
            self.finish = Some(Finish::Stop);
            let text = self.held[..at].to_string();
            self.held.clear();
            return text;
        }
        if self.left == 0 {
            return std::mem::take(&mut self.held);
        }
        let begins = |from: &usize| {
            self.held.is_char_boundary(*from)
                && self
                    .stops
                    .iter()
                    .any(|stop| stop.starts_with(&self.held[*from..]))
        };
        let keep = (0..self.held.len()).find(begins).unwrap_or(self.held.len());
        let rest = self.held.split_off(keep);
        std::mem::replace(&mut self.held, rest)
    }
}

impl<W: Session> Iterator for Generation<W> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.finish.is_some() {
            return None;
        }
        let next = self.advance().transpose();
        if matches!(next, Some(Err(_))) {
            self.finish = Some(Finish::Exhausted);
        }
        if next.is_none() && !self.held.is_empty() {
            // The end token came while text was held back: it is given out with no token of its own.
            let text = std::mem::take(&mut self.held);
            return Some(Ok(Piece {
                id: self.session.token(),
                text,
            }));
        }
        next
    }
}
