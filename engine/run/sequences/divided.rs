//! Sequences over own edges that ranks hold in parts.
//!
//! Each sequence runs on a thread of its rank, with its hooks and its sampler. Where its next node belongs to another rank,
//! the thread waits. When all threads of a rank wait, it makes two exchanges with the other ranks: of queries, and of their
//! answers, which it computes in parallel. All ranks make the same exchanges until no sequence of any of them is left.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;

use super::messages::{Part, Progress, add_answer, add_query, read_queries};
use super::queue::{FanQueue, Waiting};
use crate::graph::{FanCost, NodeId, Owners};
use crate::learn::plan::own_fans;
use crate::model::Model;
use crate::ranks::{Call, Ranks, agree_on_failure};
use crate::signal::{FanQuery, Mechanism};
use crate::{Error, ErrorKind, Result};

/// Visits after which every fan has been read: owners are balanced by what a long text costs.
const VISITS: usize = 1 << 20;

/// A model of own edges of which each rank holds some fans.
#[derive(Clone, Debug)]
pub(super) struct Divided {
    ranks: Arc<dyn Ranks>,
    fans: Arc<FanQueue>,
    mechanism: Arc<Mechanism>,
}

impl Divided {
    /// Divide the fans of a model by the visits that its counts predict. Returns the model as this rank uses it, too.
    pub(super) fn new(ranks: Arc<dyn Ranks>, model: &Model) -> Result<(Self, Model)> {
        let graph = model.mechanism().graph();
        let count = |node| -> u64 {
            let counts = graph.fan(NodeId(node)).counts.iter();
            counts.map(|&count| u64::from(count)).sum()
        };
        let visits: Vec<u64> = (0..graph.nodes() as u32).map(count).collect();
        let cost = FanCost::new(model.mechanism().profile().width, VISITS);
        let owners = Owners::assign(&own_fans(graph), &visits, &cost, ranks.size(), 0)?;
        let fans = Arc::new(FanQueue::new(owners, ranks.rank()));
        let mechanism = Mechanism::clone(model.mechanism()).with_remote_fans(fans.clone())?;
        let mechanism = Arc::new(mechanism);
        let model = model.with_mechanism(mechanism.clone());
        let divided = Self {
            ranks,
            fans,
            mechanism,
        };
        Ok((divided, model))
    }

    /// Run `one` for each of the sequences of this rank, on up to `threads` threads. Returns their results in the same order.
    /// The flag of any rank that is cancelled sets those of all.
    ///
    /// # Errors
    /// On all ranks, that of the failed sequence with the lowest number among those that failed before all stopped; those of an
    /// exchange.
    pub(super) fn map(
        &self,
        mine: &[usize],
        threads: usize,
        cancel: &AtomicBool,
        one: &(dyn Fn(usize) -> Result<Vec<u8>> + Sync),
    ) -> Result<Vec<Vec<u8>>> {
        let threads = threads.min(mine.len());
        self.fans.open(threads, rayon::current_num_threads());
        let results = Mutex::new(vec![Vec::new(); mine.len()]);
        let next = AtomicUsize::new(0);
        let work = || {
            let _entered = self.fans.enter();
            while !self.fans.is_closed() {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(&sequence) = mine.get(index) else {
                    break;
                };
                match one(sequence) {
                    Ok(result) => lock(&results)[index] = result,
                    // The other ranks stop after the next exchange.
                    Err(error) => return self.fans.fail(sequence, error),
                }
            }
        };
        std::thread::scope(|scope| {
            let closing = Closing(&self.fans);
            let mut started = Vec::with_capacity(threads);
            for _ in 0..threads {
                match std::thread::Builder::new().spawn_scoped(scope, work) {
                    Ok(thread) => started.push(thread),
                    Err(error) => {
                        let what = "a thread of a sequence cannot be started";
                        let error = Error::new(ErrorKind::Resource, what).because(error);
                        self.fans.fail(mine[0], error);
                        drop(self.fans.enter());
                    }
                }
            }
            let outcome = self.advance(cancel);
            drop(closing);
            for thread in started {
                if let Err(panic) = thread.join() {
                    resume_unwind(panic);
                }
            }
            outcome
        })?;
        agree_on_failure(&*self.ranks, self.fans.failure())?;
        Ok(results.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Exchange queries and answers until all sequences of all ranks have ended, or one has failed.
    fn advance(&self, cancel: &AtomicBool) -> Result<()> {
        loop {
            let (waiting, failed) = self.fans.take();
            let progress = Progress {
                live: waiting.len() as u32,
                failed,
                cancelled: cancel.load(Ordering::Relaxed),
            };
            let mut parts = vec![progress.part(); self.ranks.size()];
            for one in &waiting {
                add_query(&one.query, &mut parts[self.fans.owner(one.query.node)]);
            }
            let width = self.mechanism.profile().width;
            // A rank that needs no other's fans for a long time comes late.
            let call = Call::unwatched("queries of fans");
            let received = self.exchange(call, &parts)?.into_iter();
            let received: Vec<_> = received
                .map(|part| read_queries(&part, width))
                .collect::<Result<_>>()?;
            if received.iter().any(|(progress, _)| progress.cancelled) {
                cancel.store(true, Ordering::Relaxed);
            }
            let failed = received.iter().any(|(progress, _)| progress.failed);
            if failed || received.iter().all(|(progress, _)| progress.live == 0) {
                // Before the queries are dropped: a thread that this wakes has not failed by itself.
                self.fans.close();
                return Ok(());
            }
            let queries: Vec<_> = received.into_iter().map(|(_, queries)| queries).collect();
            let answers = self.exchange("energies of fans".into(), &self.answers(&queries))?;
            self.wake(waiting, &answers);
        }
    }

    /// Compute the answers to the queries of each rank.
    fn answers(&self, queries: &[Vec<FanQuery>]) -> Vec<Vec<u8>> {
        let all: Vec<&FanQuery> = queries.iter().flatten().collect();
        let answers: Vec<_> = all
            .par_iter()
            .map(|query| self.mechanism.compute(query))
            .collect();
        let mut answers = answers.iter();
        let parts = queries.iter().map(|queries| {
            let mut part = Vec::new();
            let answers = answers.by_ref().take(queries.len());
            answers.for_each(|answer| add_answer(answer, &mut part));
            part
        });
        parts.collect()
    }

    /// Wake the threads that wait with the answers of the ranks.
    fn wake(&self, waiting: Vec<Waiting>, answers: &[Vec<u8>]) {
        let mut parts: Vec<Part<'_>> = answers.iter().map(|part| Part(part)).collect();
        self.fans.resume(waiting.len());
        for one in waiting {
            let length = self.mechanism.answer_length(&one.query);
            let answer = parts[self.fans.owner(one.query.node)].answer(length);
            one.wake(answer);
        }
    }

    fn exchange(&self, call: Call<'_>, parts: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        self.ranks.exchange(call, &parts)
    }
}

/// Ends the threads of the sequences when it is dropped, so that nothing waits for a rank that fails.
struct Closing<'a>(&'a FanQueue);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn lock<T>(results: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    results.lock().unwrap_or_else(PoisonError::into_inner)
}
