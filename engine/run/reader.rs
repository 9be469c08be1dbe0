//! A model that reads one way: how likely text is after what stands before it, or before what stands after it.

use rayon::prelude::*;

use crate::hook::Hooks;
use crate::path::{GraphSession, Sampling, beam};
use crate::run::{Engine, score_tokens};
use crate::signal::Start;
use crate::text::{LEFT_TO_RIGHT, RIGHT_TO_LEFT, ReadingDirection};
use crate::{Error, ErrorKind, Result};

/// A model in one of the directions it reads in. Its texts are in the order in which people read them,
/// whichever way the model goes.
#[derive(Clone, Debug)]
pub struct Reader {
    engine: Engine,
    backward: bool,
    mark: Option<u32>,
}

impl Reader {
    /// Reads from left to right, or `backward`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a model that does not read that way.
    pub fn new(engine: Engine, backward: bool) -> Result<Self> {
        let direction = engine.direction();
        let able = match backward {
            true => direction.reads_backward(),
            false => direction.reads_forward(),
        };
        if !able {
            let way = if backward { "backward" } else { "forward" };
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("the model does not read {way}"),
            )
            .at(engine.name())
            .advice("data.direction in its run file says which way a model reads"));
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

    /// Whether it reads from right to left.
    pub fn is_backward(&self) -> bool {
        self.backward
    }

    /// Tokens of a text in the order in which the model takes them, with its mark before them.
    pub fn taken(&self, text: &[u32]) -> Vec<u32> {
        let mut ids: Vec<u32> = self.mark.into_iter().collect();
        ids.extend(self.made(self.bare(text)));
        ids
    }

    /// A text without the marks that say how it is read.
    pub fn bare(&self, text: &[u32]) -> Vec<u32> {
        let vocabulary = self.engine.tokenizer().vocabulary();
        let marks = [LEFT_TO_RIGHT, RIGHT_TO_LEFT].map(|mark| vocabulary.id(mark));
        let bare = text.iter().filter(|id| !marks.contains(&Some(**id)));
        bare.copied().collect()
    }

    /// Turns tokens that the model made into the order of reading.
    pub fn made(&self, mut ids: Vec<u32>) -> Vec<u32> {
        if self.backward {
            ids.reverse();
        }
        ids
    }

    /// Scores of all V tokens next to `context`, whose softmax is their distribution. `[V]`
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for an empty context; [`ErrorKind::Numeric`] when arithmetic fails.
    pub fn logits(&self, context: &[u32]) -> Result<Vec<f32>> {
        let taken = self.taken(context);
        match &self.engine {
            Engine::Graph(_) => match session(self, &taken)? {
                Some(mut session) => Ok(session.look()?.1.to_vec()),
                None => Err(Error::new(
                    ErrorKind::Input,
                    "there is no token to start at",
                )),
            },
            #[cfg(feature = "transformer")]
            Engine::Transformer(model) => {
                let sampling = Sampling::greedy();
                let session =
                    crate::transformer::TransformerSession::begin(model, &taken, sampling)?;
                Ok(session.logits().to_vec())
            }
        }
    }

    /// The tokens that end a text: on the left, for one that reads backward.
    pub fn ends(&self) -> Vec<u32> {
        match &self.engine {
            Engine::Graph(model) => model.tokenizer().vocabulary().stop().into_iter().collect(),
            #[cfg(feature = "transformer")]
            Engine::Transformer(model) => model.stop_tokens(),
        }
    }

    /// ln p of each text next to `context`: after it, or before it for one that reads backward. The first token of
    /// all, which nothing stands beside, is not counted.
    ///
    /// # Errors
    /// As [`score_tokens`]; [`ErrorKind::Input`] where context and text are both empty.
    pub fn likelihoods(&self, context: &[u32], texts: &[Vec<u32>]) -> Result<Vec<f64>> {
        let context = self.taken(context);
        let begun = session(self, &context)?;
        let one = |text: &Vec<u32>| -> Result<f64> {
            let text = self.made(text.clone());
            if let Some(begun) = &begun {
                let mut session = begun.clone();
                let mut sum = 0.0;
                for token in text {
                    sum -= session.resistance(token)?;
                    session.force(token)?;
                }
                return Ok(sum);
            }
            let whole = [context.as_slice(), &text].concat();
            let scored = score_tokens(&self.engine, &whole, 0, &Hooks::default(), None)?;
            let counted = scored[context.len()..].iter();
            Ok(counted.filter_map(|score| score.ln_probability).sum())
        };
        texts.par_iter().map(one).collect()
    }

    /// The likeliest texts of so many tokens next to `context`, with ln p, the likeliest first: a beam of `width`.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for an empty context; as [`beam()`].
    pub fn likeliest(
        &self,
        context: &[u32],
        tokens: usize,
        width: usize,
    ) -> Result<Vec<(Vec<u32>, f64)>> {
        let taken = self.taken(context);
        // What ends a text or names a direction fills nothing.
        let banned: Vec<u32> = (0..self.engine.vocabulary() as u32)
            .filter(|&id| {
                let vocabulary = self.engine.tokenizer().vocabulary();
                vocabulary.stop() == Some(id)
                    || [LEFT_TO_RIGHT, RIGHT_TO_LEFT]
                        .map(Some)
                        .contains(&vocabulary.token(id))
            })
            .collect();
        let paths = match &self.engine {
            Engine::Graph(model) => beam(
                model.mechanism(),
                &taken,
                &Start::Profile,
                width,
                tokens,
                &[],
                &banned,
                &Hooks::default(),
            )?,
            #[cfg(feature = "transformer")]
            Engine::Transformer(model) => {
                crate::transformer::beam(model, &taken, width, tokens, &[], &banned)?
            }
        };
        Ok(paths
            .into_iter()
            .filter(|path| path.nodes.len() == tokens)
            .map(|path| (self.made(path.nodes), -path.resistance))
            .collect())
    }
}

/// A graph's session that has walked the context, if there is any.
fn session(reader: &Reader, context: &[u32]) -> Result<Option<GraphSession>> {
    match &reader.engine {
        Engine::Graph(model) if !context.is_empty() => GraphSession::begin(
            model.mechanism().clone(),
            context,
            &Start::Profile,
            Sampling::greedy(),
        )
        .map(Some),
        _ => Ok(None),
    }
}
