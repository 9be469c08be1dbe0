//! The session trait: what generation, evaluation and traces need of a model, whichever engine it has.

#[cfg(feature = "gpu")]
use std::sync::Arc;

use crate::path::{CacheReport, RecallShare, SessionState};
#[cfg(feature = "gpu")]
use crate::signal::DeviceMechanism;
use crate::signal::{EdgeAttribution, Margin, Mechanism};
use crate::{Error, ErrorKind, Result};

/// Receives the index of a token and the logits it is predicted from. `[V]`
pub type Visit<'a> = dyn FnMut(usize, &[f32]) -> Result<()> + 'a;

/// One text that a model extends token by token.
///
/// [`GraphSession`](crate::path::GraphSession) and `TransformerSession` implement it, and
/// [`Engine::session`](crate::run::Engine::session) begins one on a model of either kind. A session is at a token;
/// [`look`](Self::look) gives the logits of the next one, and three methods use them: [`resistance`](Self::resistance)
/// measures a token, [`force`](Self::force) appends it, [`step`](Self::step) chooses one and appends it.
///
/// ```
/// use brillm::path::{Sampling, Session};
/// let engine = brillm::open("models/english.bril")?;
/// let prompt = engine.encode("Once upon a")?;
/// let mut session = engine.session(&prompt, Sampling::greedy())?;
/// assert_eq!((session.length(), session.token()), (prompt.len(), prompt[prompt.len() - 1]));
///
/// // The distribution of the next token is the softmax of the logits.
/// let logits = session.look()?.1.to_vec();
/// let likeliest = brillm::path::likeliest(&logits).unwrap();
///
/// // A fork continues on its own; greedy decoding takes the likeliest token.
/// let mut fork = session.fork()?;
/// assert_eq!(fork.step()?, Some(likeliest));
/// assert_eq!(session.length() + 1, fork.length());
///
/// // Perplexity is exp of the mean resistance of a text's tokens.
/// let mut nats = 0.0;
/// let text = engine.encode(" time there was")?;
/// for &token in &text {
///     nats += session.resistance(token)?;
///     session.force(token)?;
/// }
/// assert!((nats / text.len() as f64).exp() < 100.0);
/// # Ok::<(), brillm::Error>(())
/// ```
pub trait Session: Send {
    /// Compute energies and logits of all V tokens as the next one, before any choice. `[V]`, `[V]`
    ///
    /// A softmax of the logits is the model's distribution. On a transformer the energies are the network's logits.
    /// Both include injected energy; hooks that rewrite resistances change the logits alone.
    ///
    /// # Errors
    /// Those of the hooks.
    fn look(&mut self) -> Result<(&[f32], &[f32])>;

    /// Choose the next token and append it. `None` when none is left to choose.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] for a logit that is NaN; those of the hooks.
    fn step(&mut self) -> Result<Option<u32>>;

    /// Append a given token.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for a token outside the vocabulary or beyond the context; those of the hooks.
    fn force(&mut self, token: u32) -> Result<()>;

    /// Return −ln p of a token as the next one, over all V; with hooks of `sample/1`, p is what would be drawn from.
    ///
    /// # Errors
    /// Those of the hooks; [`ErrorKind::Input`] when one sets the temperature to 0, which leaves no probabilities.
    fn resistance(&mut self, token: u32) -> Result<f64>;

    /// Predict given tokens: call `visit` with the index of each and the logits it is predicted from, and append all
    /// but the last.
    ///
    /// # Errors
    /// As [`Self::force`]; those of `visit`.
    fn predict(&mut self, tokens: &[u32], visit: &mut Visit<'_>) -> Result<()> {
        for (index, &token) in tokens.iter().enumerate() {
            visit(index, self.look()?.1)?;
            if index + 1 < tokens.len() {
                self.force(token)?;
            }
        }
        Ok(())
    }

    /// Add energy to a token, for the next choice only.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for a token outside the vocabulary or an energy that is not finite.
    fn inject(&mut self, token: u32, energy: f32) -> Result<()>;

    /// Return the last token.
    fn token(&self) -> u32;

    /// Nodes before the last token, the last one nearest, that static resistances depend on; empty on a transformer and
    /// on a graph without longer walks.
    fn earlier(&self) -> &[u32] {
        &[]
    }

    /// Return the number of tokens, those of the prompt included.
    fn length(&self) -> usize;

    /// Whether the context has no position for another token.
    fn is_full(&self) -> bool {
        false
    }

    /// Copy the session; the copy continues independently.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a transformer whose cache plugins manage or observe.
    fn fork(&self) -> Result<Box<dyn Session>>;

    /// Bytes of state that the session keeps between tokens.
    fn state_bytes(&self) -> usize;

    /// What the cache holds; `None` on a graph, which has none.
    fn cache(&self) -> Option<CacheReport> {
        None
    }

    /// Tokens of the prompt whose keys and values an earlier session had computed; see
    /// [`Engine::batched_with`](crate::run::Engine::batched_with).
    fn reused(&self) -> usize {
        0
    }

    /// The mechanism of a graph, whose edges lead to the candidates; `None` on a transformer.
    fn mechanism(&self) -> Option<&Mechanism> {
        None
    }

    /// The state to save; `None` on a transformer.
    fn snapshot(&self) -> Option<SessionState> {
        None
    }

    /// What each past token that the session recalls adds to the probability of the token as the next one, before any
    /// hooks; empty on a transformer and without recall.
    fn recall(&self) -> Vec<RecallShare> {
        Vec::new()
    }

    /// Split the pre-activation of the edge to `target` into what each token contributes; `None` on a transformer.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a graph's session that was not begun with attribution; [`ErrorKind::Input`] for
    /// a target outside the vocabulary.
    fn attribution(&self, _target: u32) -> Result<Option<EdgeAttribution>> {
        Ok(None)
    }

    /// Split the margin of `chosen` over `alternative` into what each token contributes; `None` on a transformer.
    ///
    /// # Errors
    /// As [`Self::attribution`].
    fn margin(&self, _chosen: u32, _alternative: u32) -> Result<Option<Margin>> {
        Ok(None)
    }

    /// What the last row of each layer attends to, mean over heads; NaN at positions that are not kept. `None` unless
    /// the session was begun to record it. `[L][length]`
    fn attention(&self) -> Option<&[Vec<f32>]> {
        None
    }

    /// Add to the logit of a token, not to its energy, for the next choice only. Graphs are steered by hooks instead.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] on a graph; [`ErrorKind::Input`] for a token outside the vocabulary.
    fn add_logit(&mut self, _token: u32, _logit: f32) -> Result<()> {
        Err(Error::new(
            ErrorKind::Unsupported,
            "logits of a graph cannot be changed directly",
        )
        .advice("use a hook of edge/1"))
    }

    /// Decode on a device, `chunk` tokens per submission; see `GraphSession::use_device`.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] when the device holds another mechanism; [`ErrorKind::Unsupported`] on a transformer.
    #[cfg(feature = "gpu")]
    fn use_device(&mut self, _: Arc<DeviceMechanism>, _chunk: usize, _forced: bool) -> Result<()> {
        Err(
            Error::new(ErrorKind::Unsupported, "transformers run on the CPU only")
                .advice("use --backend cpu or auto"),
        )
    }

    /// The error after which the CPU took over from the device.
    #[cfg(feature = "gpu")]
    fn device_error(&self) -> Option<&Error> {
        None
    }
}
