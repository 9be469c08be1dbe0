//! The door: connections come in, are served, and are let go.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::routes;
use super::settings::Settings;
use super::state::{ServedModel, ServerState};
use crate::{Error, ErrorKind, Result};

/// Bytes of a request's head.
const HEAD: usize = 64 << 10;

/// How long running answers may still take once the server is to stop.
const FAREWELL: Duration = Duration::from_secs(10);

/// A server that listens.
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
    /// Listens. Connections are answered once [`Self::run`] is called.
    ///
    /// # Errors
    /// As [`Settings::check`]; [`ErrorKind::Input`] without a model; [`ErrorKind::Io`] when the address cannot be
    /// had, or the library's folder not be made.
    pub fn bind(settings: Settings, models: Vec<ServedModel>) -> Result<Self> {
        settings.check()?;
        let place = SocketAddr::from((settings.host, settings.port));
        let api_error = |error| {
            let error = Error::io(error, place);
            error.advice("is another server there? give --port another number, or 0 for a free one")
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(settings.limits.parallel + 32)
            .enable_all()
            .build()
            .map_err(api_error)?;
        let listener = runtime
            .block_on(TcpListener::bind(place))
            .map_err(api_error)?;
        let address = listener.local_addr().map_err(api_error)?;
        let state = ServerState::new(settings, models, address.port())?;
        Ok(Self {
            runtime,
            listener,
            address,
            state: Arc::new(state),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` says so, which is asked many times a second; then lets running answers end, for ten
    /// seconds at most, and returns.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the listener breaks down.
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
    let room = Arc::new(Semaphore::new(state.settings.limits.connections));
    let router = routes::router(state.clone());
    let mut failures = 0;
    while !stop() {
        let Ok(accepted) = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await
        else {
            continue;
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file handles, or a peer that has gone: others are still served.
                failures += 1;
                if failures > 1000 {
                    return Err(
                        Error::new(ErrorKind::Io, "no connection can be taken").because(error)
                    );
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        failures = 0;
        let _ = stream.set_nodelay(true);
        let Ok(permit) = room.clone().try_acquire_owned() else {
            tokio::spawn(turn_away(stream));
            continue;
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs_f64(state.settings.limits.patience))
            .max_buf_size(HEAD)
            .serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        let open = Open::count(state.clone(), permit);
        tokio::spawn(async move {
            let _open = open;
            // A client that breaks off is no fault of the server's.
            let _ = connection.await;
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(FAREWELL, graceful.shutdown()).await;
    state.work.rest(Duration::from_secs(1)).await;
    Ok(())
}

/// Counts a connection while it is open.
struct Open {
    state: Arc<ServerState>,
    _permit: OwnedSemaphorePermit,
}

impl Open {
    fn count(state: Arc<ServerState>, permit: OwnedSemaphorePermit) -> Self {
        state.metrics.connections.fetch_add(1, Ordering::Relaxed);
        Self {
            state,
            _permit: permit,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.state
            .metrics
            .connections
            .fetch_sub(1, Ordering::Relaxed);
    }
}

/// Says that there are too many connections, and closes this one.
async fn turn_away(stream: TcpStream) {
    const ANSWER: &[u8] =
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n\
        Content-Type: application/json\r\nContent-Length: 73\r\n\r\n\
        {\"error\":{\"kind\":\"resource\",\"message\":\"too many connections\",\"code\":503}}";
    let write = async {
        let mut written = 0;
        while written < ANSWER.len() {
            stream.writable().await?;
            match stream.try_write(&ANSWER[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), write).await;
}
