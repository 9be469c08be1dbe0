//! `brillm trace`: show and export every step of a generation.

use std::path::{Path, PathBuf};

use clap::Args;

use super::prompt::PromptArguments;
use crate::run::trace::{
    EdgeKind, Entry, EntryKind, Step, Theme, Trace, TraceFormat, TraceRequest, Tracing,
};
use crate::{Error, ErrorKind, Result};

/// Candidates recorded for each step.
const LISTED: usize = 24;

/// Candidates printed for each step.
const PRINTED: usize = 8;

/// Show each step of a generation: candidates, energies, probabilities and contributions.
///
/// A candidate's edge is `own` (with parameters of its own), `seen` (in the training text, with shared parameters) or
/// `shared` (not in the training text). `N×WALK +X`: the training text has the walk and then this token N times, which adds X
/// nats to its logit. Contributions are what each earlier token adds to the signal of the chosen token, along that signal: with
/// those of the source, the bias and the target they add up to its norm. They are exact, given the gates; with several layers
/// those of tokens are of the last layer, and what the layers before it add is one sum. Entropy is in nats.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
#[command(mut_arg("prompt", |prompt| prompt.required_unless_present_any(["prompt_ids", "open", "image", "audio"])))]
#[command(mut_arg("temperature", |temperature| temperature.help("Sampling temperature; 0 always takes the most probable token [default: 0]")))]
pub(super) struct Arguments {
    #[command(flatten)]
    prompt: PromptArguments,
    /// Record and print all candidates [default: record 24 and print the 8 most probable].
    #[arg(long, conflicts_with = "open")]
    all: bool,
    /// Continue past the model's stop tokens.
    #[arg(long, conflicts_with = "open")]
    ignore_eos: bool,
    /// Show a trace exported as .json or .svg instead of a new one.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prompt", "prompt_ids"])]
    open: Option<PathBuf>,
    /// Write the trace to FILE; the extension sets the format: .json, .svg, .dot, .graphml, .gexf or .csv; may be repeated.
    #[arg(long, value_name = "FILE")]
    export: Vec<PathBuf>,
    /// Colours of an exported SVG: light or dark.
    #[arg(long, value_name = "THEME", default_value = "light")]
    theme: Theme,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let formats = self
            .export
            .iter()
            .map(|path| format_of(path))
            .collect::<Result<Vec<_>>>()?;
        let (trace, printed) = match &self.open {
            Some(path) => {
                let trace = Trace::open(path)?;
                let mut steps = trace.steps.iter();
                let printed = steps.try_for_each(|step| self.say(&trace, step));
                (trace, printed)
            }
            None => self.trace()?,
        };
        for (path, format) in self.export.iter().zip(formats) {
            let text = trace.export(format, self.theme)?;
            brillm_file::write(path, text).map_err(Error::io_at(path))?;
        }
        printed?;
        if self.prompt.json {
            super::say_json(&trace)
        } else {
            Ok(())
        }
    }

    /// Print a step, unless the whole trace is printed as JSON.
    fn say(&self, trace: &Trace, step: &Step) -> Result<()> {
        if self.prompt.json {
            return Ok(());
        }
        say(trace, step, if self.all { usize::MAX } else { PRINTED })
    }

    /// Generate, and print the steps. What is exported is whole where the reader of the output has closed the pipe.
    fn trace(&self) -> Result<(Trace, Result<()>)> {
        let (engine, ids) = self.prompt.open()?;
        let engine = engine.forward()?;
        let seed = self.prompt.choice.seed;
        let request = TraceRequest::new(ids)
            .tokens(self.prompt.length())
            .candidates(if self.all { usize::MAX } else { LISTED })
            .sampling(self.prompt.sampling(0.0))
            .start_signal(self.prompt.start.clone())
            .recall(self.prompt.recall(&engine)?)
            .ignore_eos(self.ignore_eos);
        let hooks = super::plugin_options::hooks()?;
        super::catch_interrupt()?;
        let hooked = super::plugin_options::hooked(&engine, &hooks, seed)?;
        let mut tracing = Tracing::begin_on(&hooked, request)?.cancel(super::interrupted().clone());
        tracing.trace_mut().model.sha256 = super::fingerprint(self.prompt.model.as_deref())?;
        #[cfg(feature = "gpu")]
        if let Some(device) = self.prompt.backend.upload(&engine, &hooks)? {
            // The device chooses tokens; the candidates shown are computed on the CPU.
            tracing.use_device(device, self.prompt.backend.choice().is_forced())?;
        }
        let mut printed = Ok(());
        while printed.is_ok() || !self.export.is_empty() {
            let Some(traced) = tracing.advance()? else {
                break;
            };
            if printed.is_ok() {
                printed = self.say(tracing.trace(), &traced.step);
            }
        }
        let mut trace = tracing.into_trace();
        let mut record = serde_json::json!({});
        super::plugin_options::note(&mut record, seed)?;
        if let Some(plugins) = record.get_mut("plugins") {
            trace.plugins = plugins.take();
        }
        if let Some(probes) = record.get_mut("probes") {
            trace.probes = probes.take();
        }
        if !self.prompt.json {
            super::plugin_options::say_reports(seed)?;
        }
        Ok((trace, printed))
    }
}

/// Shown below `brillm trace --help`.
const EXAMPLES: &str = "\
Examples:
  brillm trace \"Once upon a\" --tokens 5
  brillm trace \"Once upon a\" --tokens 5 --export path.svg --export path.json
  brillm trace --open path.json --theme dark --export path.svg";

fn format_of(path: &Path) -> Result<TraceFormat> {
    let ending = path.extension().unwrap_or_default().to_string_lossy();
    if ending.is_empty() {
        return Err(Error::new(
            ErrorKind::Input,
            "the file name has no extension that sets the format",
        )
        .at(path.display())
        .advice("use .json, .svg, .dot, .graphml, .gexf or .csv"));
    }
    ending
        .parse()
        .map_err(|error: Error| error.at(path.display()))
}

/// Print a step.
fn say(trace: &Trace, step: &Step, printed: usize) -> Result<()> {
    let name = |id: u32| {
        let listed = step.candidates.iter().find(|one| one.id == id);
        listed.map(|one| one.display.as_str()).or_else(|| {
            let before = trace.tokens.iter().find(|token| token.id == id);
            before.map(|token| token.display.as_str())
        })
    };
    let shown = |id: u32| name(id).map_or_else(|| format!("#{id}"), str::to_string);
    super::say(format!(
        "{} → {}   entropy {:.2}{}",
        shown(step.source),
        shown(step.chosen),
        step.entropy,
        if step.forced { "   forced" } else { "" }
    ))?;
    for (index, one) in step.candidates.iter().enumerate() {
        if index >= printed && one.id != step.chosen {
            continue;
        }
        // The walks of the training text that make the candidate likelier than its edge alone.
        let walks = one.walks.iter().map(|walk| {
            let nodes: Vec<String> = walk.nodes.iter().map(|&id| shown(id)).collect();
            format!("  {}×{} {:+.2}", walk.count, nodes.join(" "), walk.lift)
        });
        // What earlier occurrences of the candidate add to its probability.
        let recall = one.recall.as_ref().map(|recall| {
            let positions = recall.positions.iter().take(2);
            let positions: Vec<String> = positions.map(|one| one.position.to_string()).collect();
            let share = 100.0 * recall.share;
            format!("  recall {share:.2} % (position {})", positions.join(", "))
        });
        super::say(format!(
            "    {:6.2} %  energy {:8.4}  {} {}{}{}",
            100.0 * one.probability,
            one.energy,
            match one.edge {
                Some(EdgeKind::Own) => "own   ",
                Some(EdgeKind::Seen) => "seen  ",
                Some(EdgeKind::Shared) => "shared",
                None => "",
            },
            one.display,
            walks.collect::<String>(),
            recall.unwrap_or_default()
        ))?;
    }
    let Some(contributions) = &step.contributions else {
        return Ok(());
    };
    let mut tokens: Vec<_> = contributions.entries.iter().collect();
    tokens.retain(|entry| entry.position.is_some());
    tokens.sort_by(|a, b| b.value.abs().total_cmp(&a.value.abs()));
    let pushes: Vec<String> = tokens
        .iter()
        .take(PRINTED)
        .filter_map(|entry| {
            let token = trace.tokens.get(entry.position?)?;
            Some(format!("{} {:+.3}", token.display, entry.value))
        })
        .collect();
    // Without these the tokens would seem to explain everything.
    let rest = contributions.entries.iter().filter_map(|entry| {
        let name = match entry.kind {
            EntryKind::Token => return None,
            EntryKind::Bias => "bias",
            EntryKind::Position => "position",
            EntryKind::Source => "source",
            EntryKind::Target => "target",
            EntryKind::Layers => "earlier layers, not split by token (approximate)",
        };
        Some(format!("; {name} {:+.3}", entry.value))
    });
    let mut kinds = contributions.entries.iter().map(|entry| entry.kind);
    let exact = match kinds.any(|kind| kind == EntryKind::Layers) {
        true => "contributions",
        false => "exact contributions",
    };
    super::say(format!(
        "    {exact} to a signal of norm {:.3}: {}{}{}",
        contributions.norm,
        pushes.join("  "),
        others(tokens.get(PRINTED..).unwrap_or_default()),
        rest.collect::<String>()
    ))
}

/// Return the sum of the contributions of tokens that are not printed.
fn others(entries: &[&Entry]) -> String {
    match entries.len() {
        0 => String::new(),
        count => {
            let sum: f64 = entries.iter().map(|entry| entry.value).sum();
            format!("; {count} other tokens {sum:+.3}")
        }
    }
}
