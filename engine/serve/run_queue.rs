//! Runs of models: a fixed number at a time, a queue before them, a time limit, and cancellation.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::http::StatusCode;
use futures_util::future::{Either, select};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use super::api_error::{ApiError, ApiResult};
use super::settings::Limits;

/// Admits runs: `parallel` at a time, `queue` more may wait.
#[derive(Debug)]
pub(super) struct RunQueue {
    permits: Arc<Semaphore>,
    parallel: usize,
    queue: u64,
    time_limit: Duration,
    /// Set when the server stops its runs.
    stopping: watch::Sender<bool>,
    counts: Arc<RunCounts>,
}

/// Counts of runs, for `/metrics` and `/api/v1/runs`.
#[derive(Debug, Default)]
pub(super) struct RunCounts {
    pub(super) waiting: AtomicU64,
    pub(super) running: AtomicU64,
    pub(super) finished: AtomicU64,
    pub(super) cancelled: AtomicU64,
    /// Not admitted because the queue was full.
    pub(super) refused: AtomicU64,
    /// Not admitted because the time limit passed in the queue.
    pub(super) queue_timeouts: AtomicU64,
}

/// An admitted run. Dropping it before it has finished cancels it.
#[derive(Debug)]
pub(super) struct Run {
    job: Job,
    timer: tokio::task::AbortHandle,
    permit: Option<OwnedSemaphorePermit>,
    counts: Arc<RunCounts>,
    done: bool,
}

/// The state of a run that its thread can see.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// Set when the run has to stop.
    pub(super) cancel: Arc<AtomicBool>,
    /// Why, unless the connection was closed.
    reason: Arc<OnceLock<StopReason>>,
    pub(super) deadline: Instant,
}

#[derive(Clone, Copy, Debug)]
enum StopReason {
    TimeLimit,
    Shutdown,
}

/// Counts a waiting run until it is dropped, which also happens when its connection closes.
struct Waiting<'a>(&'a RunCounts);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl RunQueue {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(limits.parallel)),
            parallel: limits.parallel,
            queue: limits.queue as u64,
            time_limit: Duration::from_secs_f64(limits.seconds),
            stopping: watch::Sender::new(false),
            counts: Arc::default(),
        }
    }

    pub(super) fn counts(&self) -> &RunCounts {
        &self.counts
    }

    /// Admit a run, waiting in the queue where all permits are taken.
    ///
    /// # Errors
    /// [`ApiError::queue_full`]; [`ApiError::queue_timeout`]; [`ApiError::stopping`].
    pub(super) async fn admit(&self) -> ApiResult<Run> {
        let deadline = Instant::now() + self.time_limit;
        let permit = match self.permits.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => self.wait(deadline).await?,
        };
        let job = Job {
            cancel: Arc::default(),
            reason: Arc::default(),
            deadline,
        };
        let (timed, mut stopping) = (job.clone(), self.stopping.subscribe());
        let timer = tokio::spawn(async move {
            let stopped = stopping.wait_for(|stopping| *stopping);
            let reason = match tokio::time::timeout_at(deadline, stopped).await {
                Ok(_) => StopReason::Shutdown,
                Err(_) => StopReason::TimeLimit,
            };
            let _ = timed.reason.set(reason);
            timed.cancel.store(true, Ordering::Relaxed);
        });
        self.counts.running.fetch_add(1, Ordering::Relaxed);
        Ok(Run {
            job,
            timer: timer.abort_handle(),
            permit: Some(permit),
            counts: self.counts.clone(),
            done: false,
        })
    }

    /// Wait in the queue for a permit.
    async fn wait(&self, deadline: Instant) -> ApiResult<OwnedSemaphorePermit> {
        let before = self.counts.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.counts);
        if before >= self.queue {
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
            tracing::debug!("refused a run: {before} are waiting");
            return Err(ApiError::queue_full());
        }
        let mut stopping = self.stopping.subscribe();
        let permit = pin!(self.permits.clone().acquire_owned());
        let stopped = pin!(stopping.wait_for(|stopping| *stopping));
        match tokio::time::timeout_at(deadline, select(permit, stopped)).await {
            Ok(Either::Left((Ok(permit), _))) => Ok(permit),
            Ok(_) => Err(ApiError::stopping()),
            Err(_) => {
                self.counts.queue_timeouts.fetch_add(1, Ordering::Relaxed);
                tracing::debug!("a run waited in the queue until its time limit");
                Err(ApiError::queue_timeout())
            }
        }
    }

    /// Number of runs in progress or in the queue.
    pub(super) fn open(&self) -> u64 {
        let counts = &self.counts;
        counts.running.load(Ordering::Relaxed) + counts.waiting.load(Ordering::Relaxed)
    }

    /// Stop all runs, and refuse those in the queue, because the server stops.
    pub(super) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Wait until no run is left, but no longer than `most`.
    pub(super) async fn drain(&self, most: Duration) {
        let all = self.permits.acquire_many(self.parallel as u32);
        let _ = tokio::time::timeout(most, all).await;
    }
}

/// Returns a permit when the thread of its run has ended, by a panic as well.
struct RunningPermit {
    counts: Arc<RunCounts>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Drop for RunningPermit {
    fn drop(&mut self) {
        self.counts.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Run {
    /// Start the run on a thread of its own. It keeps its permit until the thread has ended, even if the result is
    /// not awaited.
    pub(super) fn start<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(Job) -> T + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        let job = self.job.clone();
        let permit = RunningPermit {
            counts: self.counts.clone(),
            _permit: self.permit.take(),
        };
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(job)
        })
    }

    /// Start the run and wait for its result.
    pub(super) async fn finish<T: Send + 'static>(
        mut self,
        work: impl FnOnce(Job) -> ApiResult<T> + Send + 'static,
    ) -> ApiResult<T> {
        let outcome = self.start(work).await;
        self.complete();
        if let Some(error) = self.job.stopped() {
            return Err(error);
        }
        match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                tracing::error!("a run panicked: {error}");
                Err(ApiError::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the run failed because of a defect of the server (please report it with the request)",
                ))
            }
        }
    }

    /// Count the run as finished, which keeps the drop from cancelling it.
    pub(super) fn complete(&mut self) {
        self.done = true;
        self.counts.finished.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.timer.abort();
        if !self.done {
            self.job.cancel.store(true, Ordering::Relaxed);
            self.counts.cancelled.fetch_add(1, Ordering::Relaxed);
        }
        // A run that was admitted and never started still holds its permit.
        if self.permit.is_some() {
            self.counts.running.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Job {
    /// The error of a run that the server stopped.
    pub(super) fn stopped(&self) -> Option<ApiError> {
        self.reason.get().map(|reason| match reason {
            StopReason::TimeLimit => ApiError::run_timeout(),
            StopReason::Shutdown => ApiError::stopping(),
        })
    }

    /// Fail where the run has to stop.
    pub(super) fn check(&self) -> ApiResult<()> {
        match self.stopped() {
            Some(error) => Err(error),
            None if self.cancel.load(Ordering::Relaxed) => Err(ApiError::run_timeout()),
            None => Ok(()),
        }
    }
}
