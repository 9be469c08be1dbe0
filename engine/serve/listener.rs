//! The listener: accepts connections, serves them, and shuts down.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_io_timeout::TimeoutStream;

use super::routes;
use super::settings::{Limits, Settings};
use super::state::{ServedModel, ServerState};
use crate::kernel::allocator;
use crate::{Error, ErrorKind, Result};

/// Largest head of a request, in bytes.
const MAX_HEAD: usize = 64 << 10;

/// Time between two returns of free memory to the system.
const TRIMMING: Duration = Duration::from_secs(2);

/// Time that runs have to finish at a shutdown.
const FINISHING: Duration = Duration::from_secs(10);

/// Time that connections without a run have to finish their exchange at a shutdown.
const CLOSING: Duration = Duration::from_secs(1);

/// An HTTP server that is bound to its address.
///
/// ```no_run
/// use brillm::run::Engine;
/// use brillm::serve::{ServedModel, Server, Settings};
/// # fn main() -> brillm::Result<()> {
/// let engine = Engine::open("model.bril".as_ref(), Default::default())?;
/// let model = ServedModel { name: engine.name().into(), engine, sha256: None };
/// let server = Server::bind(Settings::default(), vec![model])?;
/// println!("http://{}/", server.address());
/// server.run(|| false)
/// # }
/// ```
pub struct Server {
    runtime: tokio::runtime::Runtime,
    listener: TcpListener,
    address: SocketAddr,
    state: Arc<ServerState>,
}

impl Server {
    /// Bind the address of `settings`. Connections are answered once [`Self::run`] is called.
    ///
    /// # Errors
    /// As [`Settings::check`]; [`ErrorKind::Input`] without a model; [`ErrorKind::Io`] when the address cannot be
    /// bound or the folder of the library cannot be created; what a plugin reports when it is loaded.
    pub fn bind(settings: Settings, models: Vec<ServedModel>) -> Result<Self> {
        settings.check()?;
        let address = SocketAddr::from((settings.host, settings.port));
        let unbound = |error| {
            Error::io(error, address)
                .advice("if another server uses the port, pass another --port, or 0 for a free one")
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(settings.limits.parallel + 32)
            .enable_all()
            .build()
            .map_err(unbound)?;
        let listener = runtime
            .block_on(TcpListener::bind(address))
            .map_err(unbound)?;
        let address = listener.local_addr().map_err(unbound)?;
        let state = ServerState::new(settings, models, address.port())?;
        Ok(Self {
            runtime,
            listener,
            address,
            state: Arc::new(state),
        })
    }

    /// The address that the server is bound to, with the port that was chosen.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serve until `stop`, which is called many times a second, returns true; then wait up to ten seconds for runs to
    /// finish. Those that have not finished by then end with an error.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the listener fails a thousand times in a row.
    pub fn run(self, stop: impl Fn() -> bool) -> Result<()> {
        let Self {
            runtime,
            listener,
            state,
            ..
        } = self;
        let outcome = runtime.block_on(serve(listener, state, stop));
        runtime.shutdown_timeout(Duration::from_secs(2));
        outcome
    }
}

async fn serve(
    listener: TcpListener,
    state: Arc<ServerState>,
    stop: impl Fn() -> bool,
) -> Result<()> {
    let graceful = GracefulShutdown::new();
    let permits = Arc::new(Semaphore::new(state.settings.limits.connections));
    let router = routes::router(state.clone());
    let (mut failures, mut trimmed, mut used) = (0, Instant::now(), false);
    while !stop() {
        if used && trimmed.elapsed() > TRIMMING {
            (trimmed, used) = (Instant::now(), state.runs.open() > 0);
            drop(tokio::task::spawn_blocking(allocator::trim));
        }
        let Ok(accepted) = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await
        else {
            continue;
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // No file handle left, or a peer that has gone: the other connections are still served.
                tracing::warn!("a connection could not be accepted: {error}");
                failures += 1;
                if failures > 1000 {
                    let failed = Error::new(ErrorKind::Io, "connections cannot be accepted");
                    return Err(failed.because(error));
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        (failures, used) = (0, true);
        let _ = stream.set_nodelay(true);
        let Ok(permit) = permits.clone().try_acquire_owned() else {
            tracing::warn!("refused a connection: too many are open");
            tokio::spawn(refuse(stream));
            continue;
        };
        // A client that does not read its response does not hold the connection for longer than a run may take.
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(Duration::from_secs_f64(state.settings.limits.seconds)));
        let service = TowerToHyperService::new(router.clone());
        let connection = protocol(&state.settings.limits)
            .serve_connection(TokioIo::new(Box::pin(stream)), service);
        let connection = graceful.watch(connection);
        let open = OpenConnection::new(state.clone(), permit);
        tokio::spawn(async move {
            let _open = open;
            if let Err(error) = connection.await {
                tracing::debug!("a connection ended early: {error}");
            }
        });
    }
    drop(listener);
    finish(&state, graceful).await;
    Ok(())
}

/// Let runs finish, up to [`FINISHING`], and close all connections.
async fn finish(state: &ServerState, connections: GracefulShutdown) {
    let running = state.runs.open();
    if running > 0 {
        let runs = if running == 1 { "run" } else { "runs" };
        tracing::info!("finishing {running} {runs}, Ctrl-C again to stop");
    }
    let start = Instant::now();
    let mut closed = std::pin::pin!(connections.shutdown());
    let mut last_run = start;
    loop {
        let tick = Duration::from_millis(50);
        if tokio::time::timeout(tick, &mut closed).await.is_ok() {
            return;
        }
        if state.runs.open() > 0 {
            last_run = Instant::now();
        }
        if last_run.elapsed() > CLOSING {
            return;
        }
        if start.elapsed() > FINISHING {
            break;
        }
    }
    let left = state.runs.open();
    tracing::warn!(
        "stopped {left} unfinished runs after {} s",
        FINISHING.as_secs()
    );
    state.runs.stop();
    let _ = tokio::time::timeout(CLOSING, closed).await;
    state.runs.drain(CLOSING).await;
}

/// The settings of HTTP/1 on every connection.
pub(super) fn protocol(limits: &Limits) -> http1::Builder {
    let mut protocol = http1::Builder::new();
    protocol
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs_f64(limits.request_timeout))
        .max_buf_size(MAX_HEAD);
    protocol
}

/// Counts a connection while it is open.
struct OpenConnection {
    state: Arc<ServerState>,
    _permit: OwnedSemaphorePermit,
}

impl OpenConnection {
    fn new(state: Arc<ServerState>, permit: OwnedSemaphorePermit) -> Self {
        state.metrics.connections.fetch_add(1, Ordering::Relaxed);
        Self {
            state,
            _permit: permit,
        }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.state
            .metrics
            .connections
            .fetch_sub(1, Ordering::Relaxed);
    }
}

/// Answer 503 without reading the request, and close the connection.
async fn refuse(stream: TcpStream) {
    const RESPONSE: &[u8] =
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n\
        Content-Type: application/json\r\nContent-Length: 73\r\n\r\n\
        {\"error\":{\"kind\":\"resource\",\"message\":\"too many connections\",\"code\":503}}";
    let write = async {
        let mut written = 0;
        while written < RESPONSE.len() {
            stream.writable().await?;
            match stream.try_write(&RESPONSE[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), write).await;
}
