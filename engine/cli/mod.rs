//! The command line: arguments, printed text and JSON, exit codes. One file per command; the work is done by the modules
//! below.
#![forbid(unsafe_code)]

mod backend;
mod baseline;
mod bench;
#[cfg(feature = "gpu")]
mod bench_device;
mod best_of;
#[cfg(feature = "transformer")]
mod chat;
#[cfg(feature = "transformer")]
mod classify;
mod compare;
mod completions;
#[cfg(feature = "transformer")]
mod convert;
mod corpus;
#[cfg(feature = "gpu")]
mod devices;
#[cfg(feature = "transformer")]
mod embed;
#[cfg(feature = "endpoint")]
mod endpoint;
mod eval;
mod explain;
mod export;
mod fit;
mod forget;
mod generate;
mod grow;
mod held_out;
mod import;
mod init;
mod inspect;
mod learn;
#[cfg(any(feature = "plugin", feature = "serve"))]
mod log;
mod man;
mod media;
mod order;
mod plan;
mod plot;
#[cfg(feature = "plugin")]
mod plugin;
mod plugin_options;
mod probe;
mod progress;
mod prompt;
mod quantize;
mod ranks;
#[cfg(feature = "serve")]
mod serve;
mod threads;
mod token_sampling;
mod trace;
mod train;

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::error::ContextKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::kernel::bytes::Bytes;
use crate::model::{Model, Verify};
use crate::ranks::Ranks;
use crate::run::{Engine, SequenceRanks};
use crate::{Error, ErrorKind, Result};

const SUCCESS: u8 = 0;
const FAILURE: u8 = 1;
/// The exit code after Ctrl-C: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

/// A language-model engine whose core data structure is a graph.
#[derive(Parser)]
#[command(name = "brillm", version = VERSION, arg_required_else_help = true, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Number of threads, at most four for each core [default: all cores].
    #[arg(long, global = true, value_name = "N")]
    threads: Option<usize>,
    #[command(flatten)]
    plugins: plugin_options::PluginArguments,
}

#[derive(Subcommand)]
enum Command {
    Generate(Box<generate::Arguments>),
    #[cfg(feature = "transformer")]
    Chat(chat::Arguments),
    Train(train::Arguments),
    Init(init::Arguments),
    Eval(eval::Arguments),
    Baseline(baseline::Arguments),
    Fit(fit::Arguments),
    Learn(learn::Arguments),
    Forget(forget::Arguments),
    Trace(trace::Arguments),
    Explain(explain::Arguments),
    Inspect(inspect::Arguments),
    Export(export::Arguments),
    Import(import::Arguments),
    #[cfg(feature = "transformer")]
    Convert(convert::Arguments),
    Quantize(quantize::Arguments),
    Grow(grow::Arguments),
    Plan(plan::Arguments),
    Plot(plot::Arguments),
    Bench(bench::Arguments),
    Corpus(corpus::Arguments),
    #[cfg(feature = "plugin")]
    Plugin(plugin::Arguments),
    #[cfg(feature = "gpu")]
    Devices(devices::Arguments),
    Compare(compare::Arguments),
    Probe(probe::Arguments),
    #[cfg(feature = "serve")]
    Serve(serve::Arguments),
    #[cfg(feature = "transformer")]
    Classify(classify::Arguments),
    #[cfg(feature = "transformer")]
    Embed(embed::Arguments),
    Completions(completions::Arguments),
    Man(man::Arguments),
}

impl Command {
    /// Whether the command runs a model that plugins can change, or manages plugins.
    fn takes_plugins(&self) -> bool {
        match self {
            Self::Generate(_)
            | Self::Train(_)
            | Self::Eval(_)
            | Self::Trace(_)
            | Self::Bench(_)
            | Self::Corpus(_)
            | Self::Compare(_)
            | Self::Probe(_) => true,
            #[cfg(feature = "transformer")]
            Self::Chat(_) => true,
            #[cfg(feature = "plugin")]
            Self::Plugin(_) => true,
            #[cfg(feature = "serve")]
            Self::Serve(_) => true,
            _ => false,
        }
    }
}

/// The crate's version and the file format's, as `--version` prints them.
const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (.bril format 2, plugin ABI 1.0)"
);

static ENGLISH: OnceLock<&'static [u8]> = OnceLock::new();

static INVOCATION: OnceLock<Vec<OsString>> = OnceLock::new();

/// Run the command line of this process. `english` is the model used if none is given.
pub fn main(english: Option<&'static [u8]>) -> ExitCode {
    ExitCode::from(run(english, Vec::new(), std::env::args_os().collect()))
}

/// Run a command line, the name of the program first, and return the exit code. Invalid arguments, `--help` and
/// `--version` end the process. `invocation` is the command that starts the program, if that is not the executable of this
/// process: for example `python -m brillm`.
pub fn run(
    english: Option<&'static [u8]>,
    invocation: Vec<OsString>,
    command_line: Vec<OsString>,
) -> u8 {
    let _ = INVOCATION.set(invocation);
    if let Some(english) = english {
        let _ = ENGLISH.set(english);
    }
    #[cfg(any(feature = "plugin", feature = "serve"))]
    log::install();
    let arguments = parse(&command_line);
    if let Err(error) = threads::choose(arguments.threads, &command_line) {
        say_error(format_args!("brillm: {error}"));
        return FAILURE;
    }
    arguments.plugins.keep();
    let divides = matches!(
        arguments.command,
        Command::Train(_) | Command::Eval(_) | Command::Generate(_)
    );
    let refused = match divides {
        true => Ok(()),
        false => ranks::refuse_launcher(),
    };
    let refused = refused.and_then(|()| match arguments.command.takes_plugins() {
        true => Ok(()),
        false => plugin_options::refuse(),
    });
    let outcome = refused.and_then(|()| match arguments.command {
        Command::Generate(command) => command.run(),
        #[cfg(feature = "transformer")]
        Command::Chat(command) => command.run(),
        Command::Train(command) => command.run(),
        Command::Init(command) => command.run(),
        Command::Eval(command) => command.run(),
        Command::Baseline(command) => command.run(),
        Command::Fit(command) => command.run(),
        Command::Learn(command) => command.run(),
        Command::Forget(command) => command.run(),
        Command::Trace(command) => command.run(),
        Command::Explain(command) => command.run(),
        Command::Inspect(command) => command.run(),
        Command::Export(command) => command.run(),
        Command::Import(command) => command.run(),
        #[cfg(feature = "transformer")]
        Command::Convert(command) => command.run(),
        Command::Quantize(command) => command.run(),
        Command::Grow(command) => command.run(),
        Command::Plan(command) => command.run(),
        Command::Plot(command) => command.run(),
        Command::Bench(command) => command.run(),
        Command::Corpus(command) => command.run(),
        #[cfg(feature = "plugin")]
        Command::Plugin(command) => command.run(&arguments.plugins),
        #[cfg(feature = "gpu")]
        Command::Devices(command) => command.run(),
        Command::Compare(command) => command.run(),
        Command::Probe(command) => command.run(),
        #[cfg(feature = "serve")]
        Command::Serve(command) => command.run(&arguments.plugins),
        #[cfg(feature = "transformer")]
        Command::Classify(command) => command.run(),
        #[cfg(feature = "transformer")]
        Command::Embed(command) => command.run(),
        Command::Completions(command) => command.run(),
        Command::Man(command) => command.run(),
    });
    let outcome = outcome.and_then(|()| ranks::finish());
    #[cfg(feature = "gpu")]
    backend::say_kernel_times();
    match outcome {
        Ok(()) if interrupted().load(Ordering::Relaxed) => INTERRUPTED,
        Ok(()) => SUCCESS,
        // The reader of our output has closed the pipe, as `head` does: not an error.
        Err(error) if error.is_broken_pipe() => {
            // Other ranks may wait for this one.
            ranks::end(SUCCESS);
            SUCCESS
        }
        Err(error) if error.kind() == ErrorKind::Cancelled => INTERRUPTED,
        Err(error) => {
            ranks::fail(&error, FAILURE);
            FAILURE
        }
    }
}

/// Parse the command line. Values of options may be negative numbers, so that these are reported as invalid values.
fn parse(command_line: &[OsString]) -> Arguments {
    fn numeric(command: clap::Command) -> clap::Command {
        command
            .mut_args(|option| {
                let takes = !option.is_positional() && option.get_action().takes_values();
                option.allow_negative_numbers(takes)
            })
            .mut_subcommands(numeric)
    }
    let mut command = numeric(Arguments::command());
    command
        .try_get_matches_from_mut(command_line)
        .and_then(|matches| {
            Arguments::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
        })
        .unwrap_or_else(|error| expected(&error).unwrap_or(error).exit())
}

/// Reword an invalid number: state what was expected instead of how the standard library failed.
fn expected(error: &clap::Error) -> Option<clap::Error> {
    use std::error::Error as _;
    let source = error.source()?;
    let expected = if source.is::<std::num::ParseIntError>() {
        "a whole number of at least 0".to_string()
    } else if source.is::<std::num::ParseFloatError>() {
        "a number".to_string()
    } else if source.is::<std::net::AddrParseError>() {
        "an IP address, for example 127.0.0.1".to_string()
    } else {
        let text = source.to_string();
        let (_, range) = text.split_once(" is not in ")?;
        range.replace("..=", " to ")
    };
    let value = error.get(ContextKind::InvalidValue)?;
    let option = error.get(ContextKind::InvalidArg)?;
    Some(clap::Error::raw(
        error.kind(),
        format!(
            "invalid value '{value}' for '{option}': expected {expected}\n\nFor more information, try '--help'.\n"
        ),
    ))
}

/// Return the executable of the program and its arguments before those of the command line.
#[cfg(any(feature = "plugin", all(unix, feature = "transformer")))]
fn program() -> Result<(std::path::PathBuf, &'static [OsString])> {
    match INVOCATION
        .get()
        .and_then(|invocation| invocation.split_first())
    {
        Some((program, arguments)) => Ok((program.into(), arguments)),
        None => std::env::current_exe()
            .map(|program| (program, &[][..]))
            .map_err(|error| Error::io(error, "this program")),
    }
}

/// Set by Ctrl-C after a command has called [`catch_interrupt`].
fn interrupted() -> &'static Arc<AtomicBool> {
    static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    FLAG.get_or_init(Arc::default)
}

/// Check that the folder of a file to be written exists, before the work whose result it gets.
///
/// # Errors
/// [`ErrorKind::Io`].
fn check_folder(file: &Path) -> Result<()> {
    let folder = file.parent().filter(|one| !one.as_os_str().is_empty());
    match folder {
        Some(folder) if !folder.is_dir() => {
            let what = "the folder of the file to be written does not exist";
            Err(Error::new(ErrorKind::Io, what)
                .at(file.display())
                .advice(format!("create the folder {}", folder.display())))
        }
        _ => Ok(()),
    }
}

/// Let Ctrl-C set [`interrupted`] instead of ending the process; a second Ctrl-C ends it.
fn catch_interrupt() -> Result<()> {
    ctrlc::set_handler(|| {
        if interrupted().swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(INTERRUPTED));
        }
    })
    .map_err(|error| {
        Error::new(ErrorKind::Resource, "cannot install the Ctrl-C handler").because(error)
    })
}

/// Open the graph at `path`, or the built-in model.
fn open_model(path: Option<&Path>) -> Result<Model> {
    match (path, ENGLISH.get()) {
        (Some(path), _) => Engine::open(path, Verify::Lazy)?.graph(),
        (None, Some(english)) => Model::from_bytes(Bytes::of_program(english)),
        (None, None) => Err(Error::new(
            ErrorKind::Input,
            "no model is given, and this build has no built-in model",
        )
        .advice("pass --model FILE.bril")),
    }
}

/// Open the graph or transformer at `path` and verify all its checksums, for commands that write a model from it.
fn open_whole(path: &Path) -> Result<Engine> {
    Engine::open(path, Verify::Whole)
}

/// Compute the checksum of the model at `path` or of the built-in one; none above 4 GiB.
fn fingerprint(path: Option<&Path>) -> Result<Option<String>> {
    let Some(path) = path else {
        return Ok(ENGLISH
            .get()
            .map(|bytes| crate::run::fingerprint_of_bytes(bytes)));
    };
    let large = path
        .metadata()
        .is_ok_and(|data| data.is_file() && data.len() > crate::run::FINGERPRINTED);
    if large {
        Ok(None)
    } else {
        crate::run::fingerprint(path).map(Some)
    }
}

/// Print a line on standard error. There is nowhere to report that it is closed.
fn say_error(text: impl std::fmt::Display) {
    drop(writeln!(std::io::stderr(), "{text}"));
}

/// Print a warning on standard error.
fn warn(text: &str) {
    say_error(format_args!("brillm: {text}"));
}

/// Open the graph or transformer at `path`, or the built-in model.
fn open_engine(path: Option<&Path>) -> Result<Engine> {
    match path {
        Some(path) => Engine::open(path, Verify::Lazy),
        None => open_model(None).map(Engine::Graph),
    }
}

/// Open the model at `path`, or the built-in one, for several ranks: a graph of own edges is mapped, so that a rank reads only
/// what it uses of it.
fn open_over(ranks: &dyn Ranks, path: Option<&Path>) -> Result<Engine> {
    match path.filter(|path| ranks.size() > 1 && !Engine::is_transformer(path)) {
        Some(path) => Ok(Engine::from(&Model::open(path, Verify::Touched)?)),
        None => open_engine(path),
    }
}

/// Compute what identifies the model at `path`, or the built-in one, among ranks. Edges that they hold in parts are not read.
fn fingerprint_over(
    sequences: &SequenceRanks,
    path: Option<&Path>,
    model: &Model,
) -> Result<String> {
    match path.filter(|_| sequences.are_divided()) {
        Some(path) => crate::run::fingerprint_of_head(path),
        None => Ok(model.mechanism().fingerprint()),
    }
}

/// Print a line on standard output.
fn say(text: impl std::fmt::Display) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").map_err(|error| Error::io(error, "standard output"))
}

/// Print text without a line end and flush it.
fn stream(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Error::io(error, "standard output"))
}

/// Print a value as one line of JSONL.
fn say_json_line(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string(value).map_err(|error| {
        Error::new(ErrorKind::Numeric, "the result cannot be written as JSON").because(error)
    })?;
    say(text)
}

/// Print a value as a JSON document.
fn say_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|error| {
        Error::new(ErrorKind::Numeric, "the result cannot be written as JSON").because(error)
    })?;
    say(text)
}
