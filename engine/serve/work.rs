//! Models at work: places, a queue before them, threads, and an end to what nobody waits for any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::api_error::ApiError;
use super::settings::Limits;

/// The places, and who is in them.
#[derive(Debug)]
pub(super) struct Work {
    places: Arc<Semaphore>,
    parallel: usize,
    queue: usize,
    seconds: Duration,
    tally: Arc<Tally>,
}

/// Counts of runs.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) waiting: AtomicUsize,
    pub(super) running: AtomicUsize,
    pub(super) finished: AtomicU64,
    pub(super) cancelled: AtomicU64,
    pub(super) refused: AtomicU64,
}

/// One run that was let in. When it is dropped before it has finished, the run is cancelled.
#[derive(Debug)]
pub(super) struct Run {
    job: Job,
    timer: tokio::task::AbortHandle,
    permit: Option<OwnedSemaphorePermit>,
    tally: Arc<Tally>,
    done: bool,
}

/// What the thread of a run knows of it.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// Set when the run is to end.
    pub(super) cancel: Arc<AtomicBool>,
    /// Whether its time was up.
    late: Arc<AtomicBool>,
    pub(super) deadline: Instant,
}

/// Counts down again, whatever happens.
struct Waiting<'a>(&'a Tally);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Work {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            places: Arc::new(Semaphore::new(limits.parallel)),
            parallel: limits.parallel,
            queue: limits.queue,
            seconds: Duration::from_secs_f64(limits.seconds),
            tally: Arc::default(),
        }
    }

    /// The counts.
    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Lets a run in, or has it wait for its turn, or refuses it.
    pub(super) async fn admit(&self) -> Result<Run, ApiError> {
        let deadline = Instant::now() + self.seconds;
        let permit = match self.places.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let before = self.tally.waiting.fetch_add(1, Ordering::Relaxed);
                let waiting = Waiting(&self.tally);
                if before >= self.queue {
                    self.tally.refused.fetch_add(1, Ordering::Relaxed);
                    return Err(ApiError::busy());
                }
                let turn = self.places.clone().acquire_owned();
                let turn = tokio::time::timeout_at(deadline, turn).await;
                drop(waiting);
                match turn {
                    Ok(Ok(permit)) => permit,
                    _ => {
                        self.tally.refused.fetch_add(1, Ordering::Relaxed);
                        return Err(ApiError::busy());
                    }
                }
            }
        };
        let job = Job {
            cancel: Arc::default(),
            late: Arc::default(),
            deadline,
        };
        let watched = job.clone();
        let timer = tokio::spawn(async move {
            tokio::time::sleep_until(watched.deadline).await;
            watched.late.store(true, Ordering::Relaxed);
            watched.cancel.store(true, Ordering::Relaxed);
        });
        self.tally.running.fetch_add(1, Ordering::Relaxed);
        Ok(Run {
            job,
            timer: timer.abort_handle(),
            permit: Some(permit),
            tally: self.tally.clone(),
            done: false,
        })
    }

    /// Waits until no run is left, for a while.
    pub(super) async fn rest(&self, patience: Duration) {
        let all = self.places.acquire_many(self.parallel as u32);
        let _ = tokio::time::timeout(patience, all).await;
    }
}

/// Gives the place back when the thread has ended, however it ended.
struct Place {
    tally: Arc<Tally>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.tally.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Run {
    /// Starts the run on a thread of its own. The place is kept until the thread has ended, even if nobody waits.
    pub(super) fn start<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(Job) -> T + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        let job = self.job.clone();
        let place = Place {
            tally: self.tally.clone(),
            _permit: self.permit.take(),
        };
        tokio::task::spawn_blocking(move || {
            let _place = place;
            work(job)
        })
    }

    /// Runs to the end and waits for it.
    pub(super) async fn finish<T: Send + 'static>(
        mut self,
        work: impl FnOnce(Job) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let outcome = self.start(work).await;
        self.complete();
        match outcome {
            _ if self.job.is_late() => Err(ApiError::late()),
            Ok(outcome) => outcome,
            Err(_) => Err(ApiError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the run broke down; this is a defect of the server",
            )),
        }
    }

    /// The run has come to its end.
    pub(super) fn complete(&mut self) {
        self.done = true;
        self.tally.finished.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.timer.abort();
        if !self.done {
            self.job.cancel.store(true, Ordering::Relaxed);
            self.tally.cancelled.fetch_add(1, Ordering::Relaxed);
        }
        if self.permit.is_some() {
            // It was let in and never started.
            self.tally.running.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Job {
    /// Whether the run is to end.
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }

    /// Whether that is because its time was up.
    pub(super) fn is_late(&self) -> bool {
        self.late.load(Ordering::Relaxed)
    }

    /// Ends a run that is to end.
    pub(super) fn check(&self) -> Result<(), ApiError> {
        match self.is_cancelled() {
            true => Err(ApiError::late()),
            false => Ok(()),
        }
    }
}
