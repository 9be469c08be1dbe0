//! Answers that come piece by piece: server-sent events.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Response, header};
use futures_core::Stream;
use serde::Serialize;
use tokio::sync::mpsc;

use super::work::{Job, Run};

/// Events that may be under way before the run waits for its reader.
const AHEAD: usize = 32;

/// How often something is sent where nothing happens, so that a reader who has gone is noticed.
const SILENCE: Duration = Duration::from_secs(5);

/// Where a run's thread puts its events.
pub(super) struct Sink {
    sender: mpsc::Sender<Bytes>,
    runtime: tokio::runtime::Handle,
    job: Job,
}

/// The reader's end. Dropping it cancels the run.
struct Events {
    receiver: mpsc::Receiver<Bytes>,
    silence: Pin<Box<tokio::time::Sleep>>,
    run: Run,
}

impl Stream for Events {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        match this.receiver.poll_recv(context) {
            Poll::Ready(Some(event)) => {
                let next = tokio::time::Instant::now() + SILENCE;
                this.silence.as_mut().reset(next);
                Poll::Ready(Some(Ok(event)))
            }
            Poll::Ready(None) => {
                this.run.complete();
                Poll::Ready(None)
            }
            Poll::Pending => match std::future::Future::poll(this.silence.as_mut(), context) {
                Poll::Ready(()) => {
                    let next = tokio::time::Instant::now() + SILENCE;
                    this.silence.as_mut().reset(next);
                    context.waker().wake_by_ref();
                    Poll::Ready(Some(Ok(Bytes::from_static(b": keep-alive\n\n"))))
                }
                Poll::Pending => Poll::Pending,
            },
        }
    }
}

/// Starts a run whose events are the answer.
pub(super) fn answer(
    mut run: Run,
    work: impl FnOnce(Job, Sink) + Send + 'static,
) -> Response<Body> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let runtime = tokio::runtime::Handle::current();
    drop(run.start(move |job| {
        let sink = Sink {
            sender,
            runtime,
            job: job.clone(),
        };
        work(job, sink);
    }));
    let events = Events {
        receiver,
        silence: Box::pin(tokio::time::sleep(SILENCE)),
        run,
    };
    let mut response = Response::new(Body::from_stream(events));
    let headers = response.headers_mut();
    let set = HeaderValue::from_static;
    headers.insert(header::CONTENT_TYPE, set("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, set("no-store"));
    response
}

impl Sink {
    /// Sends a named event. `false` when nobody reads any more, or time is up.
    pub(super) fn send(&self, event: &str, data: &impl Serialize) -> bool {
        match serde_json::to_string(data) {
            Ok(json) => self.put(format!("event: {event}\ndata: {json}\n\n")),
            Err(_) => false,
        }
    }

    /// Sends data without a name.
    pub(super) fn data(&self, text: &str) -> bool {
        self.put(format!("data: {text}\n\n"))
    }

    fn put(&self, text: String) -> bool {
        match self.sender.try_send(text.into()) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Err(mpsc::error::TrySendError::Full(event)) => self.runtime.block_on(async {
                let sent = self.sender.send(event);
                let sent = tokio::time::timeout_at(self.job.deadline, sent).await;
                matches!(sent, Ok(Ok(())))
            }),
        }
    }
}
