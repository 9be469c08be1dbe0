//! `brillm bench`: decoding against memory bandwidth, training in tokens per CPU-second.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use cpu_time::ProcessTime;
use serde_json::{Value, json};

use crate::graph::{GraphBuilder, NodeId, TokenGraph};
use crate::kernel::element::Element;
use crate::kernel::random::Random;
use crate::kernel::simd::Level;
use crate::learn::batch::{BatchSampler, Order};
use crate::learn::edge_trainer::EdgeTrainer;
use crate::learn::prior::Prior;
use crate::learn::recipe::Train;
use crate::measure::DecodeBench;
use crate::run::Engine;
use crate::signal::Profile;
use crate::text::read_ids;
use crate::{Error, ErrorKind, Result};

/// Nodes of the bench's graphs.
pub(super) const NODES: usize = 4000;

/// Measure the speed of decoding and training on this machine.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  brillm bench
  brillm bench --model models/stories260K --batch 1,8 --json
  brillm bench --backend gpu --skip-train
  brillm bench --backend gpu --skip-train --storage f16 --edge-mib 33000")]
pub(super) struct Arguments {
    /// Token ids to train on: a .u16 or .u32 file [default: synthetic Zipf text].
    #[arg(long, value_name = "FILE")]
    pub(super) train: Option<PathBuf>,
    /// Measure this model instead of synthetic ones: a .bril or .gguf file, or a folder with config.json.
    #[arg(long, value_name = "PATH", conflicts_with = "train")]
    model: Option<PathBuf>,
    /// Batch sizes for decoding with a transformer.
    #[arg(
        long,
        default_value = "1,8,32",
        value_delimiter = ',',
        value_name = "N,…"
    )]
    batch: Vec<usize>,
    /// Prompt length in tokens, for a transformer [default: half of its context].
    #[arg(long, value_name = "N")]
    prompt: Option<usize>,
    /// New tokens per sequence, for a transformer [default: a quarter of its context].
    #[arg(long, value_name = "N")]
    tokens: Option<usize>,
    /// Size of the synthetic edge weights, in MiB.
    #[arg(long, default_value_t = 1024, value_name = "MIB")]
    pub(super) edge_mib: usize,
    /// Time to measure each row, in seconds.
    #[arg(long, default_value_t = 3.0, value_name = "SECONDS")]
    pub(super) seconds: f64,
    /// Batch sizes for decoding a graph on a GPU.
    #[cfg(feature = "gpu")]
    #[arg(long = "gpu-batch", value_delimiter = ',', default_values_t = [1, 16, 256], value_name = "N,…")]
    pub(super) batches: Vec<usize>,
    /// Storage of the edges of a graph on a GPU.
    #[cfg(feature = "gpu")]
    #[arg(
        long,
        value_delimiter = ',',
        default_values = ["f32", "f16", "i8"],
        value_parser = ["f32", "f16", "i8"],
        value_name = "ELEMENT,…"
    )]
    pub(super) storage: Vec<String>,
    /// Do not measure decoding.
    #[arg(long)]
    pub(super) skip_decode: bool,
    /// Do not measure training.
    #[arg(long)]
    pub(super) skip_train: bool,
    #[command(flatten)]
    backend: super::backend::BackendArguments,
    /// Print the result as JSON.
    #[arg(long)]
    pub(super) json: bool,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        self.backend.check()?;
        if let Some(path) = &self.model {
            return self.opened(path);
        }
        // With --backend auto the CPU is measured, so that its figures can be compared with those of --backend gpu.
        #[cfg(feature = "gpu")]
        if self.backend.choice().is_forced()
            && let Some(device) = self.backend.device()?
        {
            return self.on_device(&device);
        }
        let mut report = json!({
            "simd": Level::current().name(),
            "memory_gb_per_s": Value::Null,
            "decode": [],
            "train": [],
            "published": {
                "authors_decode_ms_per_token": [14.0, 44.0],
                "authors_train_tokens_per_cpu_second": [37.0, 48.0],
            },
        });
        if !self.skip_decode {
            self.decode(&mut report)?;
        }
        if !self.skip_train {
            self.train(&mut report)?;
        }
        if self.json {
            return super::say_json(&report);
        }
        Ok(())
    }

    /// Measures an opened model: one flow of either path, batches and learning of a transformer.
    fn opened(&self, path: &std::path::Path) -> Result<()> {
        let engine = Engine::open(path, Default::default())?;
        let all = rayon::current_num_threads();
        let memory = DecodeBench::new(32, NODES, self.edge_mib.min(256))?.read_speed(all, 5);
        self.line(format!(
            "memory bandwidth, {all} thread(s): {memory:.1} GB/s"
        ))?;
        let mut report = json!({
            "model": engine.name(),
            "parameters": engine.parameters(),
            "threads": all,
            "memory_gb_per_s": memory,
        });
        let one = |speed: &crate::run::FlowSpeed| {
            let gb = speed.bytes_per_token as f64 * speed.tokens_per_second / 1e9;
            format!(
                "one sequence: {:.0} tokens/s, {} bytes of weights per token ({gb:.2} GB/s), {} bytes of state",
                speed.tokens_per_second, speed.bytes_per_token, speed.state_bytes
            )
        };
        if engine.is_causal() {
            let speed = engine.flow_speed(&[0], self.seconds)?;
            self.line(one(&speed))?;
            report["flow"] = json!(speed);
        }
        #[cfg(feature = "transformer")]
        if let Some(model) = engine.as_transformer() {
            self.batches(&engine, model, path, &mut report)?;
        }
        if self.json {
            super::say_json(&report)
        } else {
            Ok(())
        }
    }

    #[cfg(feature = "transformer")]
    fn batches(
        &self,
        engine: &Engine,
        model: &crate::transformer::Transformer,
        path: &std::path::Path,
        report: &mut Value,
    ) -> Result<()> {
        use crate::transformer::{Network, Weights, batch_speed, folder, training_pass};
        let Some(network) = model.network() else {
            return Ok(());
        };
        let shape = network.configuration();
        let mut rows = Vec::new();
        if !self.skip_decode && shape.causal() {
            let prompt = self.prompt.unwrap_or(shape.context / 2).max(1);
            let new = self.tokens.unwrap_or(shape.context / 4).max(1);
            self.line(format!(
                "{:>6} {:>8} {:>14} {:>10} {:>10} {:>14}",
                "batch", "prompt", "prefill tok/s", "tok/s", "ms/step", "KV live bytes"
            ))?;
            let hooks = super::plugin_options::hooks()?;
            let hooked = super::plugin_options::hooked(engine, &hooks, 0)?;
            for &batch in &self.batch {
                let row = batch_speed(network, hooked.adapter(), batch, prompt, new)?;
                self.line(format!(
                    "{:>6} {:>8} {:>14.0} {:>10.0} {:>10.3} {:>14}",
                    row.batch,
                    row.prompt,
                    row.prefill_tokens_per_second,
                    row.tokens_per_second,
                    row.ms_per_step,
                    row.kv_live_bytes
                ))?;
                rows.push(row);
            }
        }
        report["batches"] = json!(rows);
        let mut learning = Vec::new();
        if !self.skip_train {
            let named = folder::read_weights(path)?
                .iter()
                .map(|(name, tensor)| {
                    let variable = candle_core::Var::from_tensor(tensor)?;
                    Ok((name.to_string(), variable.into_inner()))
                })
                .collect::<Result<Vec<_>>>()?;
            let network = Network::new(shape.clone(), &Weights::new(named)?)?;
            for (batch, steps) in [(32, 32), (8, shape.context.min(256))] {
                training_pass(&network, batch, steps)?;
                let begun = ProcessTime::now();
                let mut tokens = 0;
                while begun.elapsed() < Duration::from_secs_f64(self.seconds.max(0.05)) {
                    tokens += training_pass(&network, batch, steps)?;
                }
                let speed = tokens as f64 / begun.elapsed().as_secs_f64();
                self.line(format!(
                    "training, {batch} x {steps}: {speed:.0} tokens per CPU-second (without the optimiser)"
                ))?;
                learning.push(json!({
                    "profile": model.name(), "batch": batch, "steps": steps, "tokens_per_cpu_second": speed,
                }));
            }
        }
        report["train"] = json!(learning);
        Ok(())
    }

    pub(super) fn line(&self, text: String) -> Result<()> {
        if self.json { Ok(()) } else { super::say(text) }
    }

    fn decode(&self, report: &mut Value) -> Result<()> {
        let bench = DecodeBench::new(32, NODES, self.edge_mib)?;
        let all = rayon::current_num_threads();
        let mut counts = vec![1, all];
        counts.dedup();
        let pool = |threads: usize| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .map_err(|error| {
                    Error::new(ErrorKind::Resource, "threads cannot be started").because(error)
                })
        };
        let mut memory = serde_json::Map::new();
        for &threads in &counts {
            let speed = pool(threads)?.install(|| bench.read_speed(threads, 5));
            memory.insert(threads.to_string(), json!(speed));
            self.line(format!(
                "memory bandwidth, {threads} thread(s): {speed:.1} GB/s ({})",
                Level::current().name()
            ))?;
            report["memory_gb_per_s"] = json!(speed);
        }
        report["memory_gb_per_s_by_threads"] = Value::Object(memory);
        self.line(format!(
            "{:>8} {:>8} {:>8} {:>10} {:>8} {:>10}",
            "storage", "threads", "edges", "ms/token", "GB/s", "of memory"
        ))?;
        let mut rows = Vec::new();
        for element in [Element::F32, Element::F16, Element::I8] {
            let table = bench.table(element)?;
            for &threads in &counts {
                let row = pool(threads)?.install(|| bench.decode(&table, threads, self.seconds));
                self.line(format!(
                    "{:>8} {:>8} {:>8} {:>10.3} {:>8.1} {:>10.2}",
                    row.storage,
                    row.threads,
                    row.edges,
                    row.ms_per_token,
                    row.gb_per_s,
                    row.fraction_of_memory
                ))?;
                rows.push(row);
            }
        }
        self.line(
            "for comparison: the authors' code on a similar graph took 14 to 44 ms/token on another machine".into(),
        )?;
        report["decode"] = json!(rows);
        Ok(())
    }

    fn train(&self, report: &mut Value) -> Result<()> {
        let (text, source) = match &self.train {
            Some(path) => (read_ids(path, Some(NODES))?, path.display().to_string()),
            None => (zipf(600_000), "Zipf text".to_string()),
        };
        let mut builder = GraphBuilder::new(NODES);
        builder.walk(text.iter().copied())?;
        let graph = builder.build()?;
        let fan = weighted_fan(&graph, &text);
        self.line(format!(
            "{source}: {} own edges, token-weighted fan {fan:.0}",
            graph.own_edges()
        ))?;
        report["train_text"] =
            json!({"source": source, "own_edges": graph.own_edges(), "token_weighted_fan": fan});
        self.line(format!(
            "{:>10} {:>10} {:>24}",
            "profile", "batch", "tokens per CPU-second"
        ))?;
        let mut rows = Vec::new();
        for batch in [32, 64, 128, 256] {
            let speed = self.learn(&Profile::reference(32), &graph, &text, batch, 30);
            rows.push(self.row("reference", batch, speed?)?);
        }
        let mut bare = graph.clone();
        bare.set_own_minimum(u32::MAX);
        for (name, profile, batch) in [
            ("sifu", Profile::sifu(128), 32),
            ("layered", Profile::layered(128), 64),
        ] {
            let speed = self.learn(&profile, &bare, &text, batch, 30)?;
            rows.push(self.row(name, batch, speed)?);
        }
        self.line("for comparison: the authors' code reached 37 to 48 tokens per CPU-second on another machine".into())?;
        report["train"] = json!(rows);
        Ok(())
    }

    fn row(&self, profile: &str, batch: usize, speed: f64) -> Result<Value> {
        self.line(format!("{profile:>10} {batch:>7}x30 {speed:>24.0}"))?;
        Ok(json!({"profile": profile, "batch": batch, "steps": 30, "tokens_per_cpu_second": speed}))
    }

    /// Predicted tokens per second of process CPU time, after a warm-up step that touches the memory.
    fn learn(
        &self,
        profile: &Profile,
        graph: &TokenGraph,
        text: &[u32],
        batch: usize,
        steps: usize,
    ) -> Result<f64> {
        let train = Train {
            batch,
            steps,
            clip: 0.0,
            rate: 1e-3,
            weight_decay: 0.0,
            ..Train::default()
        };
        let mut learner = EdgeTrainer::new(profile, graph, 0.0, 1);
        // What a run does once is not its speed: the moments' pages are touched before the clock starts.
        for moments in learner.moments() {
            moments.first.fill(0.0);
            moments.second.fill(0.0);
        }
        let prior = Prior::new(graph, &[]);
        let sampler = BatchSampler::new(1, text.len(), steps, batch, 1500, 0);
        let mut order = Order::default();
        let mut step = 0;
        let mut one = |learner: &mut EdgeTrainer| -> Result<usize> {
            let batch = sampler.batch(text, step, &mut order);
            step += 1;
            learner
                .learn(graph, &prior, &batch, &train, step)
                .map(|(loss, _)| loss.tokens)
        };
        for _ in 0..2 {
            one(&mut learner)?;
        }
        let begun = ProcessTime::now();
        let mut tokens = 0;
        while begun.elapsed() < Duration::from_secs_f64(self.seconds.max(0.05)) {
            tokens += one(&mut learner)?;
        }
        Ok(tokens as f64 / begun.elapsed().as_secs_f64())
    }
}

/// Text whose tokens are Zipf-distributed and whose bigrams repeat, so that fans are as wide as English ones.
pub(super) fn zipf(length: usize) -> Vec<u32> {
    let mut random = Random::new(11);
    let weights: Vec<f64> = (0..NODES).map(|rank| 1.0 / (rank as f64 + 2.7)).collect();
    let sums: Vec<f64> = weights
        .iter()
        .scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        })
        .collect();
    let total = sums[NODES - 1];
    let mut text: Vec<u32> = Vec::with_capacity(length);
    while text.len() < length {
        // Half of the text repeats a phrase of what came before, as text does.
        if text.len() > 1000 && random.uniform() < 0.1 {
            let start = random.below(text.len() as u64 - 8) as usize;
            text.extend_from_within(start..start + 8);
        } else {
            let at = random.uniform() * total;
            text.push(sums.partition_point(|&sum| sum < at).min(NODES - 1) as u32);
        }
    }
    text
}

fn weighted_fan(graph: &TokenGraph, text: &[u32]) -> f64 {
    text.iter()
        .map(|&node| graph.fan(NodeId(node)).len() as f64)
        .sum::<f64>()
        / text.len() as f64
}
