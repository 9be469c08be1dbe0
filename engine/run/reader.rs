//! A model read in one direction: how likely a text is after, or before, a context.

use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use crate::hook::Hooks;
use crate::kernel::softmax;
use crate::path::{BeamOptions, Sampling, Session};
use crate::run::Engine;
use crate::signal::Start;
use crate::text::{LEFT_TO_RIGHT, RIGHT_TO_LEFT, ReadingDirection};
use crate::{Error, ErrorKind, Result};

/// A model in one of the directions it reads in. Texts are in reading order in either direction.
#[derive(Clone, Debug)]
pub struct Reader {
    engine: Engine,
    backward: bool,
    mark: Option<u32>,
}

impl Reader {
    /// Create a reader from left to right, or `backward`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a model that does not read that way.
    pub fn new(engine: Engine, backward: bool) -> Result<Self> {
        let direction = engine.direction();
        let (able, name) = if backward {
            (direction.reads_backward(), "backward")
        } else {
            (direction.reads_forward(), "forward")
        };
        if !able {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("the model does not read {name}"),
            )
            .at(engine.name())
            .advice("set data.direction in the run file to train one that does"));
        }
        let mark = match direction {
            ReadingDirection::Both => {
                let name = if backward {
                    RIGHT_TO_LEFT
                } else {
                    LEFT_TO_RIGHT
                };
                let id = engine.tokenizer().vocabulary().id(name);
                Some(id.ok_or_else(|| {
                    Error::new(ErrorKind::Format, format!("the vocabulary has no {name}"))
                        .at(engine.name())
                })?)
            }
            _ => None,
        };
        Ok(Self {
            engine,
            backward,
            mark,
        })
    }

    /// The model.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Put a text's tokens into the order in which the model reads them, after its direction mark.
    pub fn taken(&self, text: &[u32]) -> Vec<u32> {
        let mut ids: Vec<u32> = self.mark.into_iter().collect();
        ids.extend(self.made(self.bare(text)));
        ids
    }

    /// Remove direction marks from a text.
    pub fn bare(&self, text: &[u32]) -> Vec<u32> {
        let vocabulary = self.engine.tokenizer().vocabulary();
        let marks = [LEFT_TO_RIGHT, RIGHT_TO_LEFT].map(|mark| vocabulary.id(mark));
        let bare = text.iter().filter(|id| !marks.contains(&Some(**id)));
        bare.copied().collect()
    }

    /// Put tokens that the model generated into reading order.
    pub fn made(&self, mut ids: Vec<u32>) -> Vec<u32> {
        if self.backward {
            ids.reverse();
        }
        ids
    }

    /// Compute the logits of all V tokens next to `context`. `[V]`
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for an empty context; [`ErrorKind::Numeric`] when arithmetic fails.
    pub fn logits(&self, context: &[u32]) -> Result<Vec<f32>> {
        let mut session = self.session(&self.taken(context))?;
        Ok(session.look()?.1.to_vec())
    }

    fn session(&self, ids: &[u32]) -> Result<Box<dyn Session>> {
        self.engine.session(ids, Sampling::greedy())
    }

    /// Compute ln p of each text next to `context`: after it, or before it when reading backward. The very first token,
    /// which has no context, does not count.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] where context and text are both empty, or a token is outside the vocabulary;
    /// [`ErrorKind::Unsupported`] for a masked language model.
    pub fn likelihoods(&self, context: &[u32], texts: &[Vec<u32>]) -> Result<Vec<f64>> {
        let context = self.taken(context);
        crate::measure::check_ids(&texts.concat(), self.engine.vocabulary())?;
        let begun = if context.is_empty() {
            None
        } else {
            Some(Mutex::new(self.session(&context)?))
        };
        let one = |text: &Vec<u32>| -> Result<f64> {
            let text = self.made(text.clone());
            let (mut session, rest) = match &begun {
                Some(begun) => {
                    let begun = begun.lock().unwrap_or_else(PoisonError::into_inner);
                    (begun.fork()?, text.as_slice())
                }
                None => {
                    let (first, rest) = text.split_at(text.len().min(1));
                    (self.session(first)?, rest)
                }
            };
            let mut sum = 0.0;
            session.predict(rest, &mut |index, logits| {
                let normaliser = softmax::softmax(&mut logits.to_vec());
                sum += f64::from(logits[rest[index] as usize]) - normaliser;
                Ok(())
            })?;
            Ok(sum)
        };
        texts.par_iter().map(one).collect()
    }

    /// Find the likeliest texts of `tokens` tokens next to `context`, with ln p, likeliest first: a beam of `width`.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for an empty context; as [`HookedEngine::beam`](crate::run::HookedEngine::beam).
    pub fn likeliest(
        &self,
        context: &[u32],
        tokens: usize,
        width: usize,
    ) -> Result<Vec<(Vec<u32>, f64)>> {
        let vocabulary = self.engine.tokenizer().vocabulary();
        let stop_tokens = self.engine.stop_tokens();
        let marks = [LEFT_TO_RIGHT, RIGHT_TO_LEFT].map(Some);
        let options = BeamOptions {
            // Neither stop tokens nor direction marks belong inside a text.
            banned: (0..self.engine.vocabulary() as u32)
                .filter(|&id| stop_tokens.contains(&id) || marks.contains(&vocabulary.token(id)))
                .collect(),
            ..BeamOptions::new(width, tokens)
        };
        let hooked = self.engine.with_hooks(&Hooks::default(), 0)?;
        let paths = hooked.beam(&self.taken(context), &Start::Profile, &options)?;
        Ok(paths
            .into_iter()
            .filter(|path| path.nodes.len() == tokens)
            .map(|path| (self.made(path.nodes), -path.resistance))
            .collect())
    }
}
