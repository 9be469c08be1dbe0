//! `brillm serve` over real sockets: responses, refusals, limits, cancellation.

#[path = "../support/serve.rs"]
mod server;
#[path = "../support/mod.rs"]
mod support;

mod changed_files;
mod chat;
mod completions;
mod cross_origin;
mod fields;
#[cfg(feature = "plugin")]
mod plugins;
mod requests;
mod runs;
mod traces;
mod visualiser;
