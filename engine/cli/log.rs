//! Prints the library's `tracing` events on standard error.

use std::fmt::Write;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Installs the printer for the life of the program, unless a subscriber exists already.
///
/// Debug messages of plugins are printed if `BRILLM_PLUGIN_DEBUG` is set.
pub(super) fn install() {
    let debug = std::env::var_os("BRILLM_PLUGIN_DEBUG").is_some();
    let least = if debug { Level::DEBUG } else { Level::INFO };
    let _ = tracing::subscriber::set_global_default(Printer { least });
}

/// Prints the events of this crate; ignores spans.
struct Printer {
    least: Level,
}

impl Subscriber for Printer {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && *metadata.level() <= self.least
            && metadata.target().starts_with("brillm")
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let level = match *event.metadata().level() {
            Level::ERROR => "error: ",
            Level::WARN => "warning: ",
            Level::INFO => "",
            _ => "debug: ",
        };
        super::say_error(format_args!(
            "brillm: {level}{}{}",
            line.plugin, line.message
        ));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The parts of a line: `plugin NAME: ` for events of a plugin, and the message with the other fields after it.
#[derive(Default)]
struct Line {
    plugin: String,
    message: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            "plugin" => write!(self.plugin, "plugin {value:?}: "),
            name => write!(self.message, "; {name} {value:?}"),
        };
    }
}
