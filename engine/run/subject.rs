//! A model that answers a probe's questions: [`ProbedModel`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::hook::{State, Subject, SubjectKind, SubjectShape};
use crate::path::Sampling;
use crate::run::{Engine, EngineKind};
use crate::{Error, ErrorKind, Result};

/// A model that answers probes. A graph computes in f32 whatever its file stores, so that two answers differ only by
/// what was changed.
pub struct ProbedModel {
    engine: Engine,
    /// The engine in f32.
    own: Engine,
    /// The engine that answers now: `own`, untrained or shifted.
    now: Engine,
    cancel: Option<Arc<AtomicBool>>,
    on_question: Box<dyn FnMut() + Send>,
}

impl std::fmt::Debug for ProbedModel {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "ProbedModel({})", self.engine.name())
    }
}

impl ProbedModel {
    /// Wrap a model; `on_question` is called for every question.
    ///
    /// # Errors
    /// As [`Weights::converted`](crate::signal::Weights::converted).
    pub fn new(
        engine: Engine,
        cancel: Option<Arc<AtomicBool>>,
        on_question: impl FnMut() + Send + 'static,
    ) -> Result<Self> {
        let own = engine.in_f32()?;
        Ok(Self {
            engine,
            now: own.clone(),
            own,
            cancel,
            on_question: Box::new(on_question),
        })
    }

    fn count(&mut self) -> Result<()> {
        (self.on_question)();
        match &self.cancel {
            Some(flag) if flag.load(Ordering::Relaxed) => {
                Err(Error::new(ErrorKind::Cancelled, "cancelled"))
            }
            _ => Ok(()),
        }
    }
}

impl Subject for ProbedModel {
    fn shape(&self) -> SubjectShape {
        let summary = self.engine.summary();
        SubjectShape {
            kind: match summary.kind {
                EngineKind::Graph => SubjectKind::Graph,
                EngineKind::Transformer => SubjectKind::Transformer,
            },
            layers: match summary.kind {
                // One signal leaves a node, whatever number of layers it passed.
                EngineKind::Graph => 1,
                EngineKind::Transformer => summary.layers.unwrap_or(1),
            },
            width: summary.width,
            nodes: self.engine.vocabulary(),
        }
    }

    fn tokens(&mut self, text: &str) -> Result<Vec<u32>> {
        self.engine.tokenizer().encode(text)
    }

    fn resist(&mut self, prompt: &str, answer: &str) -> Result<Vec<f64>> {
        self.count()?;
        let before = self.engine.encode(prompt)?;
        let whole = self.engine.encode(&format!("{prompt}{answer}"))?;
        let shared = before.iter().zip(&whole).take_while(|(a, b)| a == b);
        let (prompt, answer) = whole.split_at(shared.count());
        if prompt.is_empty() {
            return Err(Error::new(
                ErrorKind::Input,
                "the prompt is empty: a resistance needs a token before it",
            ));
        }
        let mut session = self.now.session(prompt, Sampling::greedy())?;
        let mut all = Vec::with_capacity(answer.len());
        for &token in answer {
            all.push(session.resistance(token)?);
            session.force(token)?;
        }
        Ok(all)
    }

    fn states(&mut self, state: State, text: &str) -> Result<Vec<f32>> {
        self.count()?;
        let ids = self.engine.encode(text)?;
        if ids.is_empty() {
            return Err(Error::new(ErrorKind::Input, "the text has no token"));
        }
        let marks = ids.len() - self.engine.tokenizer().encode(text)?.len();
        self.now.states(state, &ids, marks)
    }

    fn untrained(&mut self, seed: Option<u64>) -> Result<()> {
        self.now = match seed {
            None => self.own.clone(),
            Some(seed) => self.engine.untrained(seed)?,
        };
        Ok(())
    }

    fn shift(&mut self, node: u32, delta: &[f32]) -> Result<()> {
        self.now = self.own.shifted(node, delta)?;
        Ok(())
    }
}
