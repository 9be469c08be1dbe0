//! The server: an HTTP interface for programs, and the visualiser for people.
//!
//! In: opened models and [`Settings`]. Out: a listening [`Server`], which answers
//!
//! * `/` and whatever lies in `assets/`: the visualiser, embedded, with no request to anywhere else;
//! * `/api/v1/…`: what it shows: traces as streams of events, fans, nodes, the map, comparisons, exports, plugins and
//!   a library of saved traces;
//! * `/v1/completions` and `/v1/models`: the shape that OpenAI's clients speak, with prompt log-probabilities;
//! * `/health` and `/metrics` (Prometheus).
//!
//! Connections live on an asynchronous runtime; models work on threads of their own, as many at a time as
//! there are places, with a short queue before them and a clean refusal (429) beyond it. Whoever closes a connection
//! ends the work behind it within one step. A server listens on this machine alone unless it is given a token; it
//! refuses foreign names in `Host` and foreign pages in `Origin`, so that no web page that is open elsewhere can
//! reach it.
#![forbid(unsafe_code)]

mod about;
mod api_error;
mod assets;
mod auth;
mod choice;
mod compare;
mod completion;
mod events;
mod exchange;
mod library;
mod listener;
mod map;
mod metrics;
mod nodes;
mod plugins;
mod routes;
mod settings;
mod state;
mod trace;
mod work;

pub use listener::Server;
pub use settings::{Limits, Settings};
pub use state::ServedModel;
