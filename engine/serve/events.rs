//! Runs whose output is sent while they go, as server-sent events.

use std::convert::Infallible;
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use axum::http::Response;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::run_queue::{Job, Run};

/// Events that are buffered before the run waits for its reader.
const BUFFERED: usize = 32;

/// Time without an event after which a comment is sent, so that a closed connection is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Time that a reader has to take the last events of a run that was stopped.
const LAST: Duration = Duration::from_secs(2);

/// The sending end of a run's events, for its thread.
pub(super) struct Sink {
    sender: mpsc::Sender<Event>,
    runtime: tokio::runtime::Handle,
    job: Job,
}

/// Start a run and answer with its events. Dropping the response cancels the run.
pub(super) fn respond(
    mut run: Run,
    work: impl FnOnce(Job, Sink) + Send + 'static,
) -> Response<Body> {
    let (sender, mut receiver) = mpsc::channel(BUFFERED);
    let runtime = tokio::runtime::Handle::current();
    drop(run.start(move |job| {
        let sink = Sink {
            sender,
            runtime,
            job: job.clone(),
        };
        work(job, sink);
    }));
    let events = stream::poll_fn(move |context| {
        let next = receiver.poll_recv(context);
        if matches!(next, Poll::Ready(None)) {
            run.complete();
        }
        next.map(|event| event.map(Ok::<_, Infallible>))
    });
    Sse::new(events)
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response()
}

impl Sink {
    /// Send a named event with JSON data. Returns false when the connection is closed or the time limit has passed.
    pub(super) fn send(&self, name: &str, data: &impl Serialize) -> bool {
        match serde_json::to_string(data) {
            Ok(json) => self.put(Event::default().event(name).data(json), self.job.deadline),
            Err(_) => false,
        }
    }

    /// Send data without a name. Returns false as [`Self::send`].
    pub(super) fn data(&self, text: &str) -> bool {
        self.put(Event::default().data(text), self.job.deadline)
    }

    /// Send an event of a run that has ended, whether or not its time limit has passed.
    pub(super) fn last(&self, event: Event) {
        self.put(event, Instant::now() + LAST);
    }

    fn put(&self, event: Event, deadline: Instant) -> bool {
        self.runtime.block_on(async {
            let sent = tokio::time::timeout_at(deadline, self.sender.send(event)).await;
            matches!(sent, Ok(Ok(())))
        })
    }
}
