//! The server: an HTTP interface for programs, and the visualiser for people.
//!
//! A [`Server`] serves opened models with [`Settings`]. It answers
//!
//! * `/` and the files of `assets/`: the visualiser, embedded, which sends requests to this server only;
//! * `/api/v1/…`: the data of the visualiser: traces as server-sent events, fans, nodes, the map, comparisons, exports,
//!   plugins and a library of saved traces;
//! * `/v1/completions`, `/v1/chat/completions` and `/v1/models`: the interface of OpenAI's clients, with prompt
//!   log-probabilities; conversations are written with the model's chat template, tools are refused;
//! * `/health` and `/metrics` (Prometheus).
//!
//! Connections are handled on an asynchronous runtime. Models run on threads: [`Limits::parallel`] at a time, with
//! [`Limits::queue`] more waiting; beyond that, requests are refused with 429. Closing a connection cancels its run
//! within one step. A server listens on the loopback address unless it has a token, and rejects other names in `Host`
//! and pages of other origins than [`Settings::origins`], so that a web page of another site cannot use it.
//!
//! The module reports events through `tracing`, with the target `brillm::serve`.
#![forbid(unsafe_code)]

mod about;
mod api_error;
mod assets;
mod auth;
mod compare;
mod completion;
mod cross_origin;
mod edges;
mod events;
mod extract;
#[cfg(fuzzing)]
mod in_memory;
mod library;
mod listener;
mod map;
mod metrics;
mod nodes;
mod plugin_list;
mod private_copy;
mod routes;
mod run_hooks;
mod run_queue;
mod settings;
mod state;
mod trace;

#[cfg(fuzzing)]
pub use in_memory::InMemoryServer;
pub use listener::Server;
pub use private_copy::open_copy;
pub use settings::{Limits, Settings};
pub use state::ServedModel;
