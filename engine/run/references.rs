//! Reference texts become records: `corpus/1`, with the run's model as the speaker.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::hook::{Call, Generate, Hooks, Reference};
use crate::model::Model;
use crate::path::Sampling;
use crate::run::{Finish, Request};
use crate::{Error, ErrorKind, Result};

/// A model that continues prompts.
#[derive(Clone, Debug)]
pub struct Speaker {
    /// The model.
    pub model: Model,
    /// How its tokens are chosen; each text it speaks has a seed of its own.
    pub sampling: Sampling,
    /// Asked while it speaks.
    pub hooks: Hooks,
    /// Ends it.
    pub cancel: Option<Arc<AtomicBool>>,
    spoken: u64,
}

impl Speaker {
    /// A speaker.
    pub fn new(model: Model, sampling: Sampling, hooks: Hooks) -> Self {
        Self {
            model,
            sampling,
            hooks,
            cancel: None,
            spoken: 0,
        }
    }
}

impl Generate for Speaker {
    fn generate(&mut self, prompt: &str, tokens: usize) -> Result<String> {
        let seed = self.sampling.seed.wrapping_add(self.spoken);
        self.spoken += 1;
        let mut request = Request::text(&self.model, prompt)?
            .tokens(tokens)
            .sampling(self.sampling.clone().seed(seed))
            .hooks(self.hooks.clone());
        if let Some(flag) = &self.cancel {
            request = request.cancel(flag.clone());
        }
        let mut generation = request.start(&self.model)?;
        let (text, _) = generation.collect_text()?;
        if generation.finish() == Some(Finish::Cancelled) {
            return Err(Error::new(ErrorKind::Cancelled, "cancelled"));
        }
        Ok(text)
    }
}

/// Has the hooks' `corpus/1` make records of documents; `record` takes each, one JSON object. Returns how many.
///
/// # Errors
/// [`ErrorKind::Configuration`] when no hook makes records; whatever reading, the hook or `record` meets.
pub fn write_records(
    documents: impl IntoIterator<Item = Result<String>>,
    hooks: &Hooks,
    seed: u64,
    mut speaker: Option<Speaker>,
    record: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<u64> {
    let Some(corpus) = &hooks.corpus else {
        return Err(
            Error::new(ErrorKind::Configuration, "no plugin makes records").advice(
                "name one that answers corpus/1 with --plugin; `brillm plugin list` shows them",
            ),
        );
    };
    let mut records = 0;
    for (place, document) in documents.into_iter().enumerate() {
        let text = document?;
        let id = place.to_string();
        let reference = Reference {
            id: &id,
            text: &text,
        };
        let speaker = speaker.as_mut().map(|speaker| speaker as &mut dyn Generate);
        corpus.write(
            &Call::new(seed, place as u64, 0),
            &reference,
            speaker,
            &mut |line| {
                records += 1;
                record(line)
            },
        )?;
    }
    Ok(records)
}
