//! `brillm plan`: owners, memory and modelled speed of a training of own edges over ranks.

use std::path::PathBuf;

use clap::Args;

use crate::learn::plan::{PlanSettings, RunPlan};
use crate::run::TrainSource;
use crate::text::read_ids;
use crate::{Error, ErrorKind, Result};

/// Plan a training of own edges over several machines: which rank owns which edges, memory, balance and speed.
///
/// Times of a step come from a model of computing and of three networks; they are not measured. The text is encoded into
/// a temporary folder.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  brillm plan run.toml --ranks 8
  brillm plan run.toml --ranks 64 --simulate --json
  brillm plan run.toml --ranks 64 --simulate --set train.batch=4096 --visits requests.u16")]
pub(super) struct Arguments {
    /// Run file of a graph with own edges.
    #[arg(value_name = "RUN_FILE")]
    run_file: PathBuf,
    /// Number of ranks, one on each machine.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    ranks: u16,
    /// Cut fans that cost more than 1/(G · ranks) of all work; 0 cuts none [default: train.cut of the run file].
    #[arg(long, value_name = "G")]
    cut: Option<u16>,
    /// Cores of a rank that the times assume.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    cores: u16,
    /// Walk random batches of the text, and print the balance they have.
    #[arg(
        long,
        value_name = "BATCHES",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "20",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    simulate: Option<u32>,
    /// Balance the visits of other tokens than those of the text: a .u16 or .u32 file, for example of requests.
    #[arg(long, value_name = "FILE")]
    visits: Option<PathBuf>,
    /// Override a key of the run file, for example train.batch=4096; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    changes: Vec<String>,
    /// Folder that paths in the run file are relative to [default: the folder of the run file].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Print the plan as JSON.
    #[arg(long)]
    json: bool,
}

/// Ranks that are printed one by one; of more, the extremes.
const LISTED: usize = 16;
/// Cut fans that are printed.
const FANS: usize = 8;

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let source = TrainSource {
            sources: std::slice::from_ref(&self.run_file),
            changes: &self.changes,
            data: self.data.as_deref(),
            ..TrainSource::default()
        };
        if self.run_file.extension().is_none_or(|end| end != "toml") {
            let what = "a plan is made for a run file";
            let error = Error::new(ErrorKind::Input, what).at(self.run_file.display());
            return Err(error.advice("write one with `brillm init --out FILE.toml`"));
        }
        let source = source.prepare(&mut |_| {})?;
        let visits = self.visits.as_ref().map(|file| read_ids(file, None));
        let settings = PlanSettings {
            ranks: self.ranks.into(),
            cut: self.cut.map(usize::from),
            cores: self.cores.into(),
            batches: self.simulate.map_or(0, u64::from),
            visits: visits.transpose()?,
        };
        let folder = tempfile::tempdir()
            .map_err(|error| Error::io(error, std::env::temp_dir().display()))?;
        let plan = RunPlan::new(&source.recipe, &source.base, folder.path(), &settings)?;
        match self.json {
            true => super::say_json(&plan),
            false => say(&plan),
        }
    }
}

fn say(plan: &RunPlan) -> Result<()> {
    super::say(format!(
        "{} nodes, {} own edges, {} predictions a step, {} ranks",
        grouped(plan.nodes as u64),
        grouped(plan.own_edges as u64),
        grouped(plan.rows as u64),
        plan.ranks.len()
    ))?;
    super::say("\n rank   nodes  own edges      bytes   work")?;
    let line = |name: String, rank: &crate::learn::plan::RankPlan| {
        super::say(format!(
            "{name:>5} {:>7} {:>10} {:>10}  {:.3}",
            rank.nodes,
            rank.edges,
            bytes(rank.bytes),
            rank.work
        ))
    };
    if plan.ranks.len() <= LISTED {
        for (index, rank) in plan.ranks.iter().enumerate() {
            line(index.to_string(), rank)?;
        }
    } else {
        let by_edges = |rank: &&crate::learn::plan::RankPlan| rank.edges;
        for (name, rank) in [
            ("most", plan.ranks.iter().max_by_key(by_edges)),
            ("least", plan.ranks.iter().min_by_key(by_edges)),
        ] {
            rank.map_or(Ok(()), |rank| line(name.into(), rank))?;
        }
    }
    super::say(format!(
        "\nfullest rank: {:.3} of an equal share of edges, and {} that every rank holds",
        plan.fullest,
        bytes(plan.replicated_bytes)
    ))?;
    super::say(format!(
        "busiest rank: {:.3} of the mean work; {:.2} pieces for a visited fan",
        plan.imbalance, plan.pieces_a_visit
    ))?;
    if let Some(simulation) = &plan.simulation {
        super::say(format!(
            "in {} random batches: {:.3} of the mean work (worst {:.3}); {:.2} pieces for a visited fan; {:.1} % of hops cross",
            simulation.batches,
            simulation.imbalance,
            simulation.worst,
            simulation.pieces_a_visit,
            100.0 * simulation.crossing_hops
        ))?;
    }
    say_fans(plan)?;
    super::say(format!(
        "\na step, from a model (not measured), with {} cores for each rank and {:.0} bytes a token between ranks:",
        plan.cores, plan.bytes_a_token
    ))?;
    super::say(format!("  one rank: {:.4} s", plan.one_rank_seconds))?;
    for step in &plan.modelled_steps {
        super::say(format!(
            "  {:<21} {:.4} s, {} tokens/s, {:.1} times one rank",
            format!("{}:", step.network),
            step.seconds,
            grouped(step.tokens_per_second as u64),
            step.speed_up
        ))?;
    }
    Ok(())
}

fn say_fans(plan: &RunPlan) -> Result<()> {
    if plan.cut_fans.is_empty() {
        return super::say("no fan is cut");
    }
    super::say(format!(
        "\n{} fans are cut; the most expensive:\n  pieces  own edges  visits    work  token",
        plan.cut_fans.len()
    ))?;
    for fan in plan.cut_fans.iter().take(FANS) {
        super::say(format!(
            "  {:>6} {:>10} {:>6.2}% {:>6.2}%  {}",
            fan.pieces,
            fan.edges,
            100.0 * fan.visits,
            100.0 * fan.work,
            fan.token
        ))?;
    }
    Ok(())
}

/// Write a number of bytes in the largest decimal unit below it.
fn bytes(count: u64) -> String {
    let units = [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    let unit = units.iter().find(|(unit, _)| count as f64 >= *unit);
    unit.map_or(format!("{count} B"), |(unit, name)| {
        format!("{:.1} {name}", count as f64 / unit)
    })
}

/// Write a number with a comma after each three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    let groups: Vec<_> = groups.map(String::from_utf8_lossy).collect();
    groups.join(",")
}
