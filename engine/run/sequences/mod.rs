//! Sequences of a graph that advance over ranks: windows and documents of an evaluation, texts that are generated.

mod divided;
mod generated;
mod messages;
mod queue;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rayon::prelude::*;

use self::divided::Divided;
pub use self::generated::{Generated, generate_over};
use self::messages::Part;
use crate::Result;
use crate::model::Model;
use crate::ranks::{Call, OneProcess, Ranks};
use crate::signal::EdgeForm;

/// Sequences that a rank advances at the same time over edges that ranks hold in parts: they share its exchanges.
const TOGETHER: usize = 64;

/// Ranks that advance the sequences of a graph, each of them on one rank.
///
/// Of composed and layered edges every rank holds the whole model. Own edges are divided: a rank reads the fans of the nodes
/// that it owns alone, and the others get energies and pre-activations from it. Every sequence has the bits of one process.
///
/// ```
/// use brillm::Model;
/// use brillm::ranks::OneProcess;
/// use brillm::run::SequenceRanks;
/// let model = Model::open("models/english.bril".as_ref(), Default::default())?;
/// let (sequences, _) = SequenceRanks::new(std::sync::Arc::new(OneProcess), &model)?;
/// let squares = sequences.numbers(4, false, &|sequence| Ok((sequence * sequence) as f64))?;
/// assert_eq!(squares, [0.0, 1.0, 4.0, 9.0]);
/// # Ok::<(), brillm::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SequenceRanks {
    ranks: Arc<dyn Ranks>,
    divided: Option<Divided>,
    cancel: Arc<AtomicBool>,
}

impl SequenceRanks {
    /// Prepare a model for sequences over ranks. Returns the model as this rank must use it, too: its own edges are those of
    /// all ranks together. Open a file of own edges with [`Verify::Touched`](crate::model::Verify::Touched), so that a rank
    /// reads no other edges than it owns.
    ///
    /// # Errors
    /// As [`Owners::assign`](crate::graph::Owners::assign).
    pub fn new(ranks: Arc<dyn Ranks>, model: &Model) -> Result<(Self, Model)> {
        let (divided, model) = match model.mechanism().profile().form {
            EdgeForm::Own if ranks.size() > 1 => {
                let (divided, model) = Divided::new(ranks.clone(), model)?;
                (Some(divided), model)
            }
            _ => (None, model.clone()),
        };
        let sequences = Self {
            ranks,
            divided,
            cancel: Arc::default(),
        };
        Ok((sequences, model))
    }

    /// Set the flag that ends the sequences of this rank. Over edges that ranks hold in parts, the flag of any rank sets those
    /// of all at the next exchange.
    #[must_use]
    pub fn cancel(mut self, flag: Arc<AtomicBool>) -> Self {
        self.cancel = flag;
        self
    }

    /// Return the one process that is always there.
    pub fn one_process() -> Self {
        Self {
            ranks: Arc::new(OneProcess),
            divided: None,
            cancel: Arc::default(),
        }
    }

    /// The ranks.
    pub fn ranks(&self) -> &dyn Ranks {
        &*self.ranks
    }

    /// Whether each rank holds a part of the own edges.
    pub fn are_divided(&self) -> bool {
        self.divided.is_some()
    }

    /// Run `one` for each of `count` sequences: sequence s on rank s mod N, where many advance at the same time, or with
    /// `in_order` one after the other. Returns the results of all of them on every rank, in their order. All ranks make the
    /// same call.
    ///
    /// # Errors
    /// That of a failed sequence, on its rank, which must end the job: the others wait for it. Where ranks hold edges in parts,
    /// all of them return it. Those of an exchange.
    pub fn map(
        &self,
        count: usize,
        in_order: bool,
        one: &(dyn Fn(usize) -> Result<Vec<u8>> + Sync),
    ) -> Result<Vec<Vec<u8>>> {
        let mine: Vec<usize> = (self.ranks.rank()..count)
            .step_by(self.ranks.size())
            .collect();
        let results = match &self.divided {
            Some(divided) => {
                let threads = if in_order { 1 } else { TOGETHER };
                divided.map(&mine, threads, &self.cancel, one)?
            }
            None => {
                let one = |&sequence: &usize| one(sequence);
                match in_order {
                    true => mine.iter().map(one).collect::<Result<Vec<_>>>()?,
                    false => mine.par_iter().map(one).collect::<Result<Vec<_>>>()?,
                }
            }
        };
        self.gather(count, &results)
    }

    /// As [`Self::map`], for sequences whose result is a number.
    ///
    /// # Errors
    /// As [`Self::map`].
    pub fn numbers(
        &self,
        count: usize,
        in_order: bool,
        one: &(dyn Fn(usize) -> Result<f64> + Sync),
    ) -> Result<Vec<f64>> {
        let one = |sequence| one(sequence).map(|number| number.to_le_bytes().to_vec());
        let results = self.map(count, in_order, &one)?.concat();
        Ok(bytemuck::pod_collect_to_vec(&results))
    }

    /// Return the results of all ranks, in the order of sequences.
    fn gather(&self, count: usize, mine: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
        let mut sent = Vec::new();
        for result in mine {
            sent.extend((result.len() as u32).to_le_bytes());
            sent.extend_from_slice(result);
        }
        // The sequences of one rank may take much longer than those of another.
        let call = Call::unwatched("results of sequences");
        let all = self.ranks.gather(call, &sent)?;
        let mut parts: Vec<Part<'_>> = all.iter().map(|part| Part(part)).collect();
        (0..count)
            .map(|sequence| {
                let part = &mut parts[sequence % self.ranks.size()];
                let length = part.number()? as usize;
                part.take(length).map(<[u8]>::to_vec)
            })
            .collect()
    }
}
