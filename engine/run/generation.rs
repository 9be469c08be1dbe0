//! From a prompt to text: a token iterator over a session, with stop strings and cancellation.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::hook::Hooks;
use crate::modality::Modality;
use crate::model::{ChargeSettings, Model};
use crate::path::{RecallSettings, Sampling, Session, SessionState};
use crate::run::{Engine, HookedEngine, SequenceOptions};
use crate::signal::Start;
use crate::text::{Decoder, Tokenizer};
use crate::{Error, ErrorKind, Result};

/// Tokens that a device decodes per submission: few enough for text to stream.
#[cfg(feature = "gpu")]
const CHUNK: usize = 32;

/// One new token, with the text it completes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The token.
    pub id: u32,
    /// Text that is complete now; empty while a character is still on its way.
    pub text: String,
    /// Whether the piece has no token of its own: text that was held back when the generation ended. `id` is then the
    /// last token of the session.
    pub text_only: bool,
}

/// Why a generation ended. Its JSON form is the name in snake case: `length`, `stop`, `stop_text`, ….
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The requested number of tokens was reached.
    Length,
    /// The model's end token.
    Stop,
    /// A stop string.
    StopText,
    /// The caller cancelled.
    Cancelled,
    /// No token was left to choose: all were banned.
    Exhausted,
    /// The context is full.
    Context,
}

impl Finish {
    /// Describe the reason in a few words.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Length => "the requested number of tokens was reached",
            Self::Stop => "the model chose its end token",
            Self::StopText => "a stop text was generated",
            Self::Cancelled => "cancelled",
            Self::Exhausted => "no token was left to choose: all were excluded",
            Self::Context => "the model's context is full",
        }
    }
}

/// What to generate and how; [`Self::start`] or [`Engine::start`] starts it.
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
    options: SequenceOptions,
    tokens: usize,
    stop: Vec<String>,
    ignore_eos: bool,
    /// The token that ends the codes of a modality.
    code_end: Option<u32>,
    cancel: Option<Arc<AtomicBool>>,
    #[cfg(feature = "gpu")]
    device: Option<(Arc<crate::signal::DeviceMechanism>, bool)>,
    hooks: Hooks,
    injections: Vec<(usize, u32, f32)>,
    forced: BTreeMap<usize, u32>,
}

impl Request {
    /// Create a request for text that continues `prompt`.
    ///
    /// # Errors
    /// As [`crate::text::Tokenizer::encode`].
    pub fn text(model: &Model, prompt: &str) -> Result<Self> {
        Ok(Self::ids(model.tokenizer().encode(prompt)?))
    }

    /// Create a request for tokens that continue `prompt`.
    pub fn ids(prompt: Vec<u32>) -> Self {
        Self {
            prompt,
            options: SequenceOptions::default(),
            tokens: 128,
            stop: Vec::new(),
            ignore_eos: false,
            code_end: None,
            cancel: None,
            #[cfg(feature = "gpu")]
            device: None,
            hooks: Hooks::default(),
            injections: Vec::new(),
            forced: BTreeMap::new(),
        }
    }

    /// Set the most new tokens to generate.
    #[must_use]
    pub fn tokens(mut self, tokens: usize) -> Self {
        self.tokens = tokens;
        self
    }

    /// Set how tokens are chosen.
    #[must_use]
    pub fn sampling(mut self, sampling: Sampling) -> Self {
        self.options.sampling = sampling;
        self
    }

    /// Set where a graph's signal starts.
    #[must_use]
    pub fn start_signal(mut self, start: Start) -> Self {
        self.options.start = start;
        self
    }

    /// Set the number of the sequence, as hooks see it.
    #[must_use]
    pub fn sequence(mut self, number: u64) -> Self {
        self.options.sequence = number;
        self
    }

    /// End as soon as the new text contains `text`, which is not part of the result.
    #[must_use]
    pub fn stop(mut self, text: impl Into<String>) -> Self {
        self.stop.push(text.into());
        self
    }

    /// Continue after stop tokens.
    #[must_use]
    pub fn ignore_eos(mut self, ignore: bool) -> Self {
        self.ignore_eos = ignore;
        self
    }

    /// Let a device choose the tokens; see [`Session::use_device`].
    #[cfg(feature = "gpu")]
    #[must_use]
    pub fn device(mut self, mechanism: Arc<crate::signal::DeviceMechanism>, forced: bool) -> Self {
        self.device = Some((mechanism, forced));
        self
    }

    /// End when the flag is set, from any thread.
    #[must_use]
    pub fn cancel(mut self, flag: Arc<AtomicBool>) -> Self {
        self.cancel = Some(flag);
        self
    }

    /// Set the charges that visited nodes of a graph keep.
    #[must_use]
    pub fn charges(mut self, settings: ChargeSettings) -> Self {
        self.options.charges = Some(settings.charges());
        self
    }

    /// Set the constants of recall on a graph; a resumed session keeps what it remembers.
    #[must_use]
    pub fn recall(mut self, settings: RecallSettings) -> Self {
        self.options.recall = Some(settings);
        self
    }

    /// Add energy at `node` for the choice of new token `step`, counted from 0 (the paper's recall
    /// activation).
    #[must_use]
    pub fn inject(mut self, step: usize, node: u32, energy: f32) -> Self {
        self.injections.push((step, node, energy));
        self
    }

    /// Make `node` new token `step`, counted from 0, whatever its energy.
    #[must_use]
    pub fn force(mut self, step: usize, node: u32) -> Self {
        self.forced.insert(step, node);
        self
    }

    /// Continue a saved session; the prompt, which may be empty, is appended to it.
    #[must_use]
    pub fn resume(mut self, state: SessionState) -> Self {
        self.options.state = Some(state);
        self
    }

    /// Set the hooks.
    #[must_use]
    pub fn hooks(mut self, hooks: Hooks) -> Self {
        self.hooks = hooks;
        self
    }

    /// The prompt's tokens.
    pub fn prompt_ids(&self) -> &[u32] {
        &self.prompt
    }

    /// The seed of the random numbers.
    pub(super) fn seed(&self) -> u64 {
        self.options.sampling.seed
    }

    pub(super) fn requested_hooks(&self) -> &Hooks {
        &self.hooks
    }

    pub(super) fn cancellation(&self) -> Option<Arc<AtomicBool>> {
        self.cancel.clone()
    }

    /// Read the prompt; the iterator then yields one new token at a time.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for an empty prompt, a sampling option out of range, an empty stop string, or a forced,
    /// injected, biased or banned token outside the vocabulary; [`ErrorKind::Unsupported`] for options of a graph on a transformer.
    pub fn start(self, engine: impl Into<Engine>) -> Result<Generation> {
        engine.into().start(self)
    }

    /// Continue with an image or a sound: the prompt gets the modality's begin token, and only its codes are chosen, as
    /// many as an image has, or until the end of a sound but `tokens` at most.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a tokenizer without the modality.
    pub fn continue_as(mut self, modality: Modality, tokenizer: &Tokenizer) -> Result<Self> {
        let tokens = tokenizer.modality_tokens(modality)?;
        self.prompt.push(tokens.begin);
        self.code_end = Some(tokens.end);
        let image = tokenizer.codecs().and_then(|codecs| codecs.image.as_ref());
        // A sound may end anywhere, an image only after its last patch.
        let mut allowed: HashSet<u32> = tokens.codes.into_iter().collect();
        match (modality, image) {
            (Modality::Image, Some(codec)) => self.tokens = codec.patches(),
            _ => drop(allowed.insert(tokens.end)),
        }
        let others = (0..tokenizer.vocabulary().len() as u32).filter(|id| !allowed.contains(id));
        self.options.sampling = self.options.sampling.banned(others);
        Ok(self)
    }

    pub(super) fn begin(self, hooked: &HookedEngine) -> Result<Generation> {
        let engine = hooked.engine();
        if self.stop.iter().any(String::is_empty) {
            return Err(Error::new(
                ErrorKind::Input,
                "invalid stop string \"\": expected at least one character",
            ));
        }
        let changed = self.injections.iter().map(|injection| injection.1);
        let mut changed = changed.chain(self.forced.values().copied());
        let vocabulary = engine.vocabulary();
        if let Some(token) = changed.find(|&token| token as usize >= vocabulary) {
            return Err(Error::new(
                ErrorKind::Input,
                format!("token {token} is outside the vocabulary of {vocabulary}"),
            ));
        }
        #[cfg_attr(not(feature = "gpu"), allow(unused_mut))]
        let mut session = hooked.session(&self.prompt, &self.options)?;
        #[cfg(feature = "gpu")]
        if let Some((device, forced)) = self.device {
            let unsupported = self.options.sampling.unsupported_on_device();
            if let Some(option) = unsupported.filter(|_| forced) {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("{option} are supported on the CPU only"),
                )
                .advice(format!("use --backend cpu or auto with {option}")));
            }
            session.use_device(device, self.tokens.clamp(1, CHUNK), forced)?;
        }
        let tokenizer = engine.tokenizer().clone();
        // A resumed session has text before the prompt: its last token represents that text.
        let decoder = match &self.prompt[..] {
            [] => Decoder::after(&tokenizer, &[session.token()]),
            prompt => Decoder::after(&tokenizer, prompt),
        };
        Ok(Generation {
            tokenizer,
            session,
            done: 0,
            left: self.tokens,
            injections: self.injections,
            forced: self.forced,
            stop: self.stop,
            stop_tokens: match self.code_end {
                Some(end) => vec![end],
                None if self.ignore_eos => Vec::new(),
                None => engine.stop_tokens(),
            },
            cancel: self.cancel,
            decoder,
            held: String::new(),
            finish: None,
        })
    }
}

/// A running generation: an iterator of tokens.
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
pub struct Generation {
    tokenizer: Arc<Tokenizer>,
    session: Box<dyn Session>,
    done: usize,
    left: usize,
    injections: Vec<(usize, u32, f32)>,
    forced: BTreeMap<usize, u32>,
    stop: Vec<String>,
    stop_tokens: Vec<u32>,
    cancel: Option<Arc<AtomicBool>>,
    decoder: Decoder,
    /// Text held back because it may be the beginning of a stop string.
    held: String,
    finish: Option<Finish>,
}

impl std::fmt::Debug for Generation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Generation({} tokens done)", self.done)
    }
}

impl Generation {
    /// The session, to inspect, to inject energy into, or to save.
    pub fn session(&mut self) -> &mut dyn Session {
        &mut *self.session
    }

    /// Why it ended; `None` while it runs.
    pub fn finish(&self) -> Option<Finish> {
        self.finish
    }

    /// Generate the rest, as one text with its tokens.
    ///
    /// # Errors
    /// The first error of a step.
    pub fn collect_text(&mut self) -> Result<(String, Vec<u32>)> {
        let (mut text, mut ids) = (String::new(), Vec::new());
        for piece in self {
            let piece = piece?;
            text.push_str(&piece.text);
            if !piece.text_only {
                ids.push(piece.id);
            }
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
        if self.stop_tokens.contains(&id) {
            self.finish = Some(Finish::Stop);
            return Ok(None);
        }
        self.left -= 1;
        let mut text = self.decoder.push(&self.tokenizer, id);
        let last = self.left == 0 || self.session.is_full();
        if last {
            text.push_str(&self.decoder.finish());
        }
        Ok(Some(Piece {
            id,
            text: self.release(text, last),
            text_only: false,
        }))
    }

    /// Hold back what may be the beginning of a stop string, unless this is the `last` text, and end at a complete one.
    fn release(&mut self, text: String, last: bool) -> String {
        if self.stop.is_empty() {
            return text;
        }
        self.held.push_str(&text);
        // The stop string that is complete first, whichever pieces the text arrives in.
        let found = self.stop.iter().filter_map(|stop| {
            let at = self.held.find(stop.as_str())?;
            Some((at + stop.len(), at))
        });
        if let Some((_, at)) = found.min() {
            self.finish = Some(Finish::StopText);
            let text = self.held[..at].to_string();
            self.held.clear();
            return text;
        }
        if last {
            return std::mem::take(&mut self.held);
        }
        let begins = |from: &usize| {
            self.held.is_char_boundary(*from)
                && self
                    .stop
                    .iter()
                    .any(|stop| stop.starts_with(&self.held[*from..]))
        };
        let keep = (0..self.held.len()).find(begins).unwrap_or(self.held.len());
        let rest = self.held.split_off(keep);
        std::mem::replace(&mut self.held, rest)
    }
}

impl Iterator for Generation {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.finish.is_some() {
            return None;
        }
        let next = self.advance().transpose();
        if matches!(next, Some(Err(_))) {
            self.finish = Some(Finish::Exhausted);
        }
        if next.is_none() {
            // A stop token may come while text is held back: the text has no token of its own.
            let rest = self.decoder.finish();
            let text = self.release(rest, true);
            if !text.is_empty() {
                return Some(Ok(Piece {
                    id: self.session.token(),
                    text,
                    text_only: true,
                }));
            }
        }
        next
    }
}
