//! The server without a network: requests and responses are bytes in memory, for fuzzing.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::service::TowerToHyperService;

use super::settings::Settings;
use super::state::{ServedModel, ServerState};
use super::{listener, routes};
use crate::{Error, Result};

/// A server that answers one connection at a time, whose bytes are in memory.
pub struct InMemoryServer {
    runtime: tokio::runtime::Runtime,
    state: Arc<ServerState>,
    router: Router,
}

/// The two directions of a connection.
struct Stream<'a> {
    request: &'a [u8],
    response: &'a mut Vec<u8>,
}

impl InMemoryServer {
    /// Create a server that answers to the port of `settings`.
    ///
    /// # Errors
    /// As [`Server::bind`](super::Server::bind).
    pub fn new(settings: Settings, models: Vec<ServedModel>) -> Result<Self> {
        settings.check()?;
        let port = settings.port;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|error| Error::io(error, "the asynchronous runtime"))?;
        let state = Arc::new(ServerState::new(settings, models, port)?);
        Ok(Self {
            runtime,
            router: routes::router(state.clone()),
            state,
        })
    }

    /// Answer the requests of a connection and return the responses.
    ///
    /// # Panics
    /// When the connection has not ended after ten times the limit of a run.
    pub fn answer(&self, request: &[u8]) -> Vec<u8> {
        let mut response = Vec::new();
        let limits = &self.state.settings.limits;
        let stream = Stream {
            request,
            response: &mut response,
        };
        let service = TowerToHyperService::new(self.router.clone());
        // The client sends nothing after its requests and reads until the server closes.
        let mut protocol = listener::protocol(limits);
        let connection = protocol.half_close(true).serve_connection(stream, service);
        let limit = Duration::from_secs_f64(10.0 * limits.seconds);
        let ended = self
            .runtime
            .block_on(async { tokio::time::timeout(limit, connection).await });
        assert!(ended.is_ok(), "the connection does not end");
        response
    }
}

impl Read for Stream<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let length = self.request.len().min(buffer.remaining());
        let (now, later) = self.request.split_at(length);
        buffer.put_slice(now);
        self.request = later;
        Poll::Ready(Ok(()))
    }
}

impl Write for Stream<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().response.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
