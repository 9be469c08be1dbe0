//! `brillm forget`: take back a text that a model has learned.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::Result;

/// Take back a text that a model has learned with `brillm learn`.
///
/// Counts, edges and longer walks are then exactly those of a model that never learned the text. The nodes and edges that it
/// trained get their old weights back, bit for bit if no later text trained them too; else the difference that the text made
/// is subtracted from them. Its new nodes are removed if no later text uses them or has nodes after them. A model that has forgotten all its texts has the
/// bytes that it had before the first.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  brillm forget taught.bril --record book
  brillm forget taught.bril --record 1 --out without.bril")]
pub(super) struct Arguments {
    /// Model: a .bril file.
    model: PathBuf,
    /// Record to take back: its number, from 1, or its name, as `brillm inspect` lists them.
    #[arg(long, value_name = "RECORD")]
    record: String,
    /// Model to write [default: the model itself].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        if let Some(out) = &self.out {
            super::check_folder(out)?;
        }
        let model = super::open_whole(&self.model)?.graph()?;
        let locate = |error: crate::Error| error.at(self.model.display());
        let index = model.record_index(&self.record).map_err(locate)?;
        let (model, forgotten) = model.forget(index).map_err(locate)?;
        let out = self.out.as_ref().unwrap_or(&self.model);
        model.save(out)?;
        if self.json {
            return super::say_json(&json!({
                "model": out.display().to_string(),
                "record": forgotten.record,
                "restored_rows": forgotten.restored,
                "subtracted_rows": forgotten.subtracted,
                "removed_nodes": forgotten.removed_nodes,
                "kept_nodes": forgotten.kept_nodes,
                "removed_edges": forgotten.removed_edges,
                "records": model.records().len(),
            }));
        }
        super::say(format!(
            "{}: forgot {:?}: {} edges and {} nodes removed, {} rows restored, {} rows changed by the difference",
            out.display(),
            forgotten.record.name,
            forgotten.removed_edges,
            forgotten.removed_nodes,
            forgotten.restored,
            forgotten.subtracted,
        ))?;
        match forgotten.kept_nodes {
            0 => Ok(()),
            count => super::say(format!(
                "{count} nodes stay, since a later text uses them or has nodes after them; they belong to the next record now"
            )),
        }
    }
}
