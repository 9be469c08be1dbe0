//! A generation of either kind, and what can be asked of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use brillm::graph::NodeId;
use brillm::kernel::softmax;
use brillm::path::Session;
use brillm::run::{Engine, Finish, Generation, Piece};

use crate::error::ApiError;
use crate::layout::*;
use crate::model::brillm_model;
use crate::settings::Settings;

/// A generation under way.
pub(crate) enum AnySession {
    Graph(Box<Generation>),
    #[cfg(feature = "transformer")]
    Transformer(Box<Generation<brillm::transformer::TransformerSession>>),
}

/// The cancellation of a call as its answer.
pub(crate) fn cancelled(place: &str) -> ApiError {
    ApiError::new(BRILLM_ERROR_CANCELLED, format!("{place} was cancelled"))
}

impl AnySession {
    /// Begins at a prompt. A graph walks it token by token and looks at the flag before each; a transformer takes it
    /// as a whole.
    pub(crate) fn begin(
        model: &brillm_model,
        settings: &Settings,
        ids: Vec<u32>,
        flag: &Arc<AtomicBool>,
    ) -> Result<Self, ApiError> {
        model.check(&ids)?;
        match model.engine() {
            Engine::Graph(graph) => {
                let rest = ids.get(1..).unwrap_or_default().to_vec();
                let first = ids.into_iter().take(1).collect();
                let request = settings.request(first).cancel(flag.clone());
                let mut generation = request.start(graph)?;
                for id in rest {
                    if flag.load(Ordering::Relaxed) {
                        return Err(cancelled("the prompt"));
                    }
                    generation.session().force(id)?;
                }
                Ok(Self::Graph(Box::new(generation)))
            }
            #[cfg(feature = "transformer")]
            Engine::Transformer(network) => {
                let request = settings.request(ids).cancel(flag.clone());
                let asked = brillm::transformer::HookAdapter::default();
                let generation = request.start_transformer(network, &asked)?;
                Ok(Self::Transformer(Box::new(generation)))
            }
        }
    }

    /// The next piece; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Piece>, ApiError> {
        let next = match self {
            Self::Graph(generation) => generation.next(),
            #[cfg(feature = "transformer")]
            Self::Transformer(generation) => generation.next(),
        };
        Ok(next.transpose()?)
    }

    /// Why it ended, as far as it has.
    pub(crate) fn finish(&self) -> Option<Finish> {
        match self {
            Self::Graph(generation) => generation.finish(),
            #[cfg(feature = "transformer")]
            Self::Transformer(generation) => generation.finish(),
        }
    }

    pub(crate) fn walk(&mut self) -> &mut dyn Session {
        match self {
            Self::Graph(generation) => generation.session(),
            #[cfg(feature = "transformer")]
            Self::Transformer(generation) => generation.session(),
        }
    }

    /// Resistance −ln p of a token as the next one, over all V.
    pub(crate) fn resistance(&mut self, id: u32) -> Result<f64, ApiError> {
        Ok(match self {
            Self::Graph(generation) => generation.session().resistance(id)?,
            #[cfg(feature = "transformer")]
            Self::Transformer(generation) => generation.session().resistance(id)?,
        })
    }

    /// Goes to given tokens.
    pub(crate) fn feed(&mut self, ids: &[u32], flag: &AtomicBool) -> Result<(), ApiError> {
        for &id in ids {
            if flag.load(Ordering::Relaxed) {
                return Err(cancelled("the walk"));
            }
            let walk = self.walk();
            if walk.is_full() {
                return Err(ApiError::new(
                    BRILLM_ERROR_UNSUPPORTED,
                    "the model has no place for another token (begin anew with a shorter text)",
                ));
            }
            walk.force(id)?;
        }
        Ok(())
    }

    /// Every token as the next one, the likeliest first.
    pub(crate) fn candidates(&mut self) -> Result<Vec<brillm_candidate>, ApiError> {
        let mut candidates = match self {
            Self::Graph(generation) => {
                let session = generation.session();
                let (energies, logits) = session.look()?;
                let (energies, logits) = (energies.to_vec(), logits.to_vec());
                let (source, mechanism) = (session.flow().node, session.mechanism());
                let mut candidates = weighed(&energies, &logits, BRILLM_EDGE_SHARED);
                let fan = mechanism.graph().fan(NodeId(source));
                for ((&target, &count), &edge_row) in
                    fan.targets.iter().zip(fan.counts).zip(fan.edge_rows)
                {
                    let candidate = &mut candidates[target as usize];
                    candidate.count = u64::from(count);
                    candidate.edge = match edge_row {
                        0 => BRILLM_EDGE_SEEN,
                        _ => BRILLM_EDGE_OWN,
                    };
                }
                if !mechanism.profile().self_loops {
                    candidates.remove(source as usize);
                }
                candidates
            }
            #[cfg(feature = "transformer")]
            Self::Transformer(generation) => {
                let logits = generation.session().logits();
                weighed(logits, logits, BRILLM_EDGE_NONE)
            }
        };
        candidates.sort_unstable_by(|a, b| b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id)));
        Ok(candidates)
    }
}

/// Candidates in the order of their ids.
fn weighed(energies: &[f32], logits: &[f32], edge: u32) -> Vec<brillm_candidate> {
    let normaliser = softmax::softmax(&mut logits.to_vec());
    (0..)
        .zip(energies.iter().zip(logits))
        .map(|(id, (&energy, &logit))| brillm_candidate {
            id,
            edge,
            count: 0,
            energy: f64::from(energy),
            logit: f64::from(logit),
            probability: (f64::from(logit) - normaliser).exp(),
        })
        .collect()
}
