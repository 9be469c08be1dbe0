//! A session whose nodes and edges can be muted or scaled while it runs.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::Result;
use crate::hook::{Answer, Call, Edge, Fan};
use crate::path::Session;
use crate::run::trace::Steering;
use crate::run::{HookedEngine, SequenceOptions};

/// A session of a model of either kind, with factors on the odds of nodes and edges.
///
/// ```
/// use brillm::hook::Hooks;
/// use brillm::run::{SequenceOptions, SteeredSession};
/// let engine = brillm::open("models/english.bril")?;
/// let hooked = engine.with_hooks(&Hooks::default(), 0)?;
/// let prompt = engine.encode("Once upon a")?;
/// let mut session = SteeredSession::begin(&hooked, &prompt, &SequenceOptions::default())?;
/// let likeliest = brillm::path::likeliest(session.session().look()?.1).unwrap();
/// session.scale_node(likeliest, 0.0)?; // mute it
/// let other = brillm::path::likeliest(session.session().look()?.1).unwrap();
/// assert_ne!(other, likeliest);
/// # Ok::<(), brillm::Error>(())
/// ```
pub struct SteeredSession {
    session: Box<dyn Session>,
    steering: Arc<SharedSteering>,
    vocabulary: usize,
}

/// Factors that the session's owner changes and the hook of its graph reads.
#[derive(Debug, Default)]
struct SharedSteering(RwLock<Steering>);

impl SharedSteering {
    fn read(&self) -> RwLockReadGuard<'_, Steering> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Steering> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Edge for SharedSteering {
    fn resist(&self, call: &Call<'_>, fan: &Fan<'_>, resistance: &mut [f32]) -> Result<Answer> {
        self.read().resist(call, fan, resistance)
    }
}

impl SteeredSession {
    /// Begin a session at a prompt.
    ///
    /// # Errors
    /// As [`HookedEngine::session`].
    pub fn begin(hooked: &HookedEngine, prompt: &[u32], options: &SequenceOptions) -> Result<Self> {
        let steering = Arc::new(SharedSteering::default());
        let vocabulary = hooked.engine().vocabulary();
        let session = if hooked.engine().as_graph().is_some() {
            // The last hook of the chain, so that a muted node stays muted.
            let mut hooks = hooked.hooks().clone();
            hooks.edge.push(steering.clone());
            let steered = hooked.engine().with_hooks(&hooks, options.sampling.seed)?;
            steered.session(prompt, options)?
        } else {
            hooked.session(prompt, options)?
        };
        Ok(Self {
            session,
            steering,
            vocabulary,
        })
    }

    /// The session, to look at, to inject energy into, or to save. Tokens are appended by [`Self::step`] and
    /// [`Self::force`].
    pub fn session(&mut self) -> &mut dyn Session {
        &mut *self.session
    }

    /// Choose the next token and append it; see [`Session::step`].
    ///
    /// # Errors
    /// As [`Session::step`].
    pub fn step(&mut self) -> Result<Option<u32>> {
        let chosen = self.session.step()?;
        self.apply()?;
        Ok(chosen)
    }

    /// Append a given token; see [`Session::force`].
    ///
    /// # Errors
    /// As [`Session::force`].
    pub fn force(&mut self, token: u32) -> Result<()> {
        self.session.force(token)?;
        self.apply()
    }

    /// Multiply the odds of every edge into a node; 0 mutes it. Factors multiply with earlier ones.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) for a node outside the vocabulary or a factor below 0 or not
    /// finite.
    pub fn scale_node(&mut self, node: u32, factor: f32) -> Result<()> {
        let mut change = Steering::default();
        change.scale_node(node, factor, self.vocabulary)?;
        self.steer(&change)
    }

    /// Multiply the odds of the edge from `source` to `target`; 0 mutes it.
    ///
    /// # Errors
    /// As [`Self::scale_node`].
    pub fn scale_edge(&mut self, source: u32, target: u32, factor: f32) -> Result<()> {
        let mut change = Steering::default();
        change.scale_edge(source, target, factor, self.vocabulary)?;
        self.steer(&change)
    }

    /// Add a change to those of the session; it holds from the next choice on.
    fn steer(&mut self, change: &Steering) -> Result<()> {
        self.steering.write().merge(change);
        if self.session.mechanism().is_some() {
            // Logits that were computed before are computed again.
            return self.session.inject(self.session.token(), 0.0);
        }
        self.add_logits(change)
    }

    /// Change the logits of a transformer at its new token; a graph's hook does it.
    fn apply(&mut self) -> Result<()> {
        if self.session.mechanism().is_some() {
            return Ok(());
        }
        let steering = self.steering.read().clone();
        self.add_logits(&steering)
    }

    fn add_logits(&mut self, steering: &Steering) -> Result<()> {
        let changes: BTreeMap<u32, f32> =
            steering
                .at(self.session.token())
                .fold(BTreeMap::new(), |mut sums, (node, logit)| {
                    *sums.entry(node).or_default() += logit;
                    sums
                });
        for (node, logit) in changes {
            // A logit far below all others has probability 0; −∞ is refused.
            self.session.add_logit(node, logit.max(-1e30))?;
        }
        Ok(())
    }
}
