//! `brillm bench --backend gpu`: decoding on a device relative to what its memory can read, and training relative to the CPU.

use std::time::Instant;

use serde_json::{Value, json};

use super::bench::{Arguments, NODES, zipf};
use crate::Result;
use crate::graph::{GraphBuilder, TokenGraph};
use crate::kernel::element::Element;
use crate::kernel::gpu::Device;
use crate::learn::batch::{BatchSampler, Order};
use crate::learn::device::DeviceTrainer;
use crate::learn::edge_trainer::EdgeTrainer;
use crate::learn::prior::Prior;
use crate::learn::recipe::Train;
use crate::measure::{Bandwidth, DeviceDecodeBench};
use crate::signal::Profile;
use crate::text::read_ids;

impl Arguments {
    /// Measure a device and report.
    pub(super) fn on_device(&self, device: &Device) -> Result<()> {
        let adapter = device.report();
        // Larger than the caches of a GPU (50 MB on an H200); a software adapter would take seconds.
        let mebibytes = if adapter.kind.is_real() { 1024 } else { 64 };
        let bandwidth = Bandwidth::measure(device, mebibytes)?;
        let mut report = json!({
            "adapter": adapter,
            "shape": device.shape().to_string(),
            "read_gb_per_s": bandwidth.read_gb_per_s,
            "copy_gb_per_s": bandwidth.copy_gb_per_s,
            "upload_gb_per_s": bandwidth.upload_gb_per_s,
            "decode": [],
            "train": [],
        });
        if !adapter.kind.is_real() {
            let warning = "this is a software adapter: the figures are not the speed of a GPU";
            report["warning"] = json!(warning);
            super::warn(warning);
        }
        self.line(format!(
            "{adapter}: kernels read {:.1} GB/s and copy {:.1} GB/s; the host writes {:.2} GB/s",
            bandwidth.read_gb_per_s, bandwidth.copy_gb_per_s, bandwidth.upload_gb_per_s
        ))?;
        if !self.skip_decode {
            report["decode"] = self.decode_on(device, &bandwidth)?;
        }
        if !self.skip_train {
            report["train"] = self.train_on(device)?;
        }
        if self.json {
            return super::say_json(&report);
        }
        Ok(())
    }

    fn decode_on(&self, device: &Device, bandwidth: &Bandwidth) -> Result<Value> {
        self.line(format!(
            "{:>8} {:>6} {:>10} {:>10} {:>8} {:>10} {:>10}",
            "storage", "batch", "fans", "ms/token", "GB/s", "of read", "dispatches"
        ))?;
        let mut all = Vec::new();
        for element in [Element::F32, Element::F16, Element::I8] {
            if !self.storage.iter().any(|name| name == element.name()) {
                continue;
            }
            let bench = DeviceDecodeBench::new(element, self.edge_mib)?;
            for row in bench.run(device, &self.batches, bandwidth, self.seconds)? {
                self.line(format!(
                    "{:>8} {:>6} {:>10.1} {:>10.4} {:>8.1} {:>10.2} {:>10}",
                    row.storage,
                    row.batch,
                    row.distinct_fans,
                    row.ms_per_token,
                    row.gb_per_s,
                    row.fraction_of_read,
                    row.dispatches
                ))?;
                // What pages in is bound by the way from the host.
                if let Some(speed) = row.page_in_gb_per_s {
                    let written = bandwidth.upload_gb_per_s;
                    let part = speed / written;
                    self.line(format!(
                        "{:>15} fans paged in at {speed:.2} GB/s, {part:.2} of what the host writes",
                        ""
                    ))?;
                }
                all.push(row);
            }
        }
        Ok(json!(all))
    }

    fn train_on(&self, device: &Device) -> Result<Value> {
        let text = match &self.train {
            Some(path) => read_ids(path, Some(NODES))?,
            None => zipf(600_000),
        };
        let mut builder = GraphBuilder::new(NODES);
        builder.walk(text.iter().copied())?;
        let graph = builder.build()?;
        let mut bare = graph.clone();
        bare.set_own_minimum(u32::MAX);
        self.line(format!(
            "{:>10} {:>10} {:>10} {:>14} {:>8}",
            "profile", "batch", "tokens/s", "CPU tokens/s", "ratio"
        ))?;
        let mut rows = Vec::new();
        for (name, profile, graph, batch) in [
            ("reference", Profile::reference(32), &graph, 256),
            ("sifu", Profile::sifu(128), &bare, 32),
            ("layered", Profile::layered(128), &bare, 64),
        ] {
            let (own, cpu) = self.learn_on(device, &profile, graph, &text, batch)?;
            self.line(format!(
                "{name:>10} {batch:>7}x30 {own:>10.0} {cpu:>14.0} {:>8.2}",
                own / cpu
            ))?;
            rows.push(json!({
                "profile": name,
                "batch": batch,
                "steps": 30,
                "tokens_per_second": own,
                "cpu_tokens_per_second": cpu,
                "cpu_threads": rayon::current_num_threads(),
                "ratio": own / cpu,
            }));
        }
        Ok(json!(rows))
    }

    /// Measure predictions per second on the device and on the CPU, after a step that warms up.
    fn learn_on(
        &self,
        device: &Device,
        profile: &Profile,
        graph: &TokenGraph,
        text: &[u32],
        batch: usize,
    ) -> Result<(f64, f64)> {
        let train = Train {
            batch,
            steps: 30,
            clip: 0.0,
            rate: 1e-3,
            weight_decay: 0.0,
            dropout: 0.0,
            ..Train::default()
        };
        let prior = Prior::new(graph, &[]);
        let sampler = BatchSampler::new(1, text.len(), 30, batch, 1500, 0);
        let mut learner = EdgeTrainer::new(profile, graph, 0.0, 1);
        let mut on_device =
            DeviceTrainer::new(device, profile, graph, &prior, &mut learner, &train, 1)?;
        let own = self.rate(|index, order| {
            let batch = sampler.batch(text, index, order);
            on_device
                .learn(graph, &batch, &train, index + 1)
                .map(|(loss, _)| loss.tokens)
        })?;
        let cpu = self.rate(|index, order| {
            let batch = sampler.batch(text, index, order);
            let (loss, _) = learner.learn(graph, &prior, &batch, &train, index + 1)?;
            Ok(loss.tokens)
        })?;
        Ok((own, cpu))
    }

    /// Measure predictions per second of a training step.
    fn rate(&self, mut step: impl FnMut(u64, &mut Order) -> Result<usize>) -> Result<f64> {
        let mut order = Order::default();
        step(0, &mut order)?;
        let (begun, mut tokens, mut index) = (Instant::now(), 0, 1);
        while tokens == 0 || begun.elapsed().as_secs_f64() < self.seconds {
            tokens += step(index, &mut order)?;
            index += 1;
        }
        Ok(tokens as f64 / begun.elapsed().as_secs_f64())
    }
}
