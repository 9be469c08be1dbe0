//! Several texts that are generated together.

use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::SequenceRanks;
use crate::run::{Finish, Generation, HookedEngine, Request};
use crate::{Error, ErrorKind, Result};

/// Texts that a transformer generates at a time: enough to share the reading of weights, and few enough for the processor's
/// caches to hold the keys and values of a small model.
const TOGETHER: usize = 16;

/// A text that was generated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Generated {
    /// The new text.
    pub text: String,
    /// Its tokens.
    pub ids: Vec<u32>,
    /// Why it ended.
    pub finish: Option<Finish>,
}

/// Generate `count` texts over ranks, those of `request(0)`, `request(1)`, …: the texts of one process, on every rank. With
/// hooks, which keep state, a rank generates one after the other.
///
/// # Errors
/// As [`SequenceRanks::map`]; [`ErrorKind::Unsupported`] for a transformer over several ranks.
pub fn generate_over(
    sequences: &SequenceRanks,
    hooked: &HookedEngine,
    count: usize,
    request: &(dyn Fn(usize) -> Result<Request> + Sync),
) -> Result<Vec<Generated>> {
    let in_order = !hooked.hooks().is_empty();
    if hooked.engine().as_graph().is_none() {
        if sequences.ranks().size() > 1 {
            let what = "transformers generate in one process";
            return Err(Error::new(ErrorKind::Unsupported, what)
                .at(hooked.engine().name())
                .advice("start it without a launcher"));
        }
        let together = if in_order { 1 } else { TOGETHER };
        let mut texts = Vec::with_capacity(count);
        for first in (0..count).step_by(together) {
            let numbers = first..count.min(first + together);
            let start = |number| hooked.start(request(number)?);
            texts.extend(in_turn(numbers.map(start).collect::<Result<_>>()?)?);
        }
        return Ok(texts);
    }
    let one = |number| {
        let generated = match sequences.cancel.load(Ordering::Relaxed) {
            // Not even the prompt is read.
            true => Generated {
                finish: Some(Finish::Cancelled),
                ..Generated::default()
            },
            false => {
                let mut generation = hooked.start(request(number)?)?;
                let (text, ids) = generation.collect_text()?;
                let finish = generation.finish();
                Generated { text, ids, finish }
            }
        };
        serde_json::to_vec(&generated).map_err(unreadable)
    };
    let texts = sequences.map(count, in_order, &one)?;
    let read = |text: &Vec<u8>| serde_json::from_slice(text).map_err(unreadable);
    texts.iter().map(read).collect()
}

fn unreadable(error: serde_json::Error) -> Error {
    Error::new(
        ErrorKind::Format,
        "a text cannot be passed between processes",
    )
    .because(error)
}

/// Run generations in turn, a token of each at a time, so that those of a transformer share forward passes.
fn in_turn(generations: Vec<Generation>) -> Result<Vec<Generated>> {
    let mut texts = vec![Generated::default(); generations.len()];
    let mut running: Vec<_> = generations.into_iter().enumerate().collect();
    while !running.is_empty() {
        let mut rest = Vec::with_capacity(running.len());
        for (number, mut generation) in running {
            let generated = &mut texts[number];
            // A generation that has ended is dropped, and its session with it.
            match generation.next().transpose()? {
                Some(piece) => {
                    generated.text.push_str(&piece.text);
                    if !piece.text_only {
                        generated.ids.push(piece.id);
                    }
                    rest.push((number, generation));
                }
                None => generated.finish = generation.finish(),
            }
        }
        running = rest;
    }
    Ok(texts)
}
