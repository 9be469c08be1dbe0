//! The queue of what sequences need from other ranks, and the threads that wait for it.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::graph::Owners;
use crate::signal::{FanQuery, RemoteFans};
use crate::{Error, ErrorKind, Result};

/// A query, and where its thread waits for the answer.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) query: FanQuery,
    answer: SyncSender<Result<Vec<f32>>>,
}

impl Waiting {
    /// Wake the thread with an answer. A thread that has ended needs none.
    pub(super) fn wake(self, answer: Result<Vec<f32>>) {
        drop(self.answer.send(answer));
    }
}

#[derive(Debug, Default)]
struct State {
    /// Threads that neither wait for an answer nor have ended.
    running: usize,
    /// Further threads that may compute at the same time.
    permits: usize,
    waiting: Vec<Waiting>,
    /// The failed sequence with the lowest number.
    failed: Option<(usize, Error)>,
    panicked: bool,
    /// Whether nothing is answered any more.
    closed: bool,
}

/// The fans of other ranks, as the threads of sequences see them: each query waits here for the next exchange.
#[derive(Debug)]
pub(super) struct FanQueue {
    owners: Owners,
    rank: usize,
    state: Mutex<State>,
    /// Signals that no thread runs.
    idle: Condvar,
    /// Signals a permit.
    free: Condvar,
}

impl FanQueue {
    pub(super) fn new(owners: Owners, rank: usize) -> Self {
        Self {
            owners,
            rank,
            state: Mutex::default(),
            idle: Condvar::new(),
            free: Condvar::new(),
        }
    }

    /// The rank that holds the own edges of a node.
    pub(super) fn owner(&self, node: u32) -> usize {
        self.owners.rank_of(node)
    }

    /// Prepare for `threads` threads, of which `permits` compute at the same time.
    pub(super) fn open(&self, threads: usize, permits: usize) {
        *self.lock() = State {
            running: threads,
            permits,
            ..State::default()
        };
    }

    /// Enter a thread; it leaves when the result is dropped.
    pub(super) fn enter(&self) -> Entered<'_> {
        self.take_permit();
        Entered(self)
    }

    /// Wait until no thread runs. Returns the queries that wait, and whether a sequence has failed.
    pub(super) fn take(&self) -> (Vec<Waiting>, bool) {
        let mut state = self.lock();
        while state.running > 0 {
            state = self
                .idle
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let failed = state.failed.is_some() || state.panicked;
        (std::mem::take(&mut state.waiting), failed)
    }

    /// Count threads as running that are woken next.
    pub(super) fn resume(&self, threads: usize) {
        self.lock().running += threads;
    }

    /// Note that a sequence has failed.
    pub(super) fn fail(&self, sequence: usize, error: Error) {
        let mut state = self.lock();
        // Sequences that are stopped fail too; what stopped them is reported.
        let first = state
            .failed
            .as_ref()
            .is_none_or(|failed| sequence < failed.0);
        if first && !state.closed {
            state.failed = Some((sequence, error));
        }
    }

    /// Answer nothing from now on. Threads that wait get an error once their queries are dropped.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.waiting.clear();
    }

    /// Whether sequences are to stop.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Return the failed sequence with the lowest number.
    pub(super) fn failure(&self) -> Option<(usize, Error)> {
        self.lock().failed.take()
    }

    fn take_permit(&self) {
        let mut state = self.lock();
        while state.permits == 0 {
            state = self
                .free
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.permits -= 1;
    }

    /// Count a thread that waits or ends.
    fn pause(&self, state: &mut State) {
        state.running = state.running.saturating_sub(1);
        state.permits += 1;
        self.free.notify_one();
        if state.running == 0 {
            self.idle.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RemoteFans for FanQueue {
    fn holds(&self, node: u32) -> bool {
        self.owner(node) == self.rank
    }

    fn fetch(&self, query: FanQuery) -> Result<Vec<f32>> {
        let stopped = || {
            let what = "the ranks exchange no fans: a sequence has failed, or all have ended";
            Error::new(ErrorKind::Cancelled, what)
        };
        let (answer, answered) = sync_channel(1);
        {
            let mut state = self.lock();
            // Outside of `open`, nobody would answer.
            if state.closed || state.running == 0 {
                return Err(stopped());
            }
            state.waiting.push(Waiting { query, answer });
            self.pause(&mut state);
        }
        let answer = answered.recv();
        self.take_permit();
        answer.map_err(|_| stopped())?
    }
}

/// A thread of sequences.
pub(super) struct Entered<'a>(&'a FanQueue);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.panicked |= std::thread::panicking();
        self.0.pause(&mut state);
    }
}
