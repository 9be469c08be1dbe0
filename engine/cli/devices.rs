//! `brillm devices`: the graphics adapters of this machine.

use clap::Args;
use serde_json::json;

use crate::Result;
use crate::kernel::gpu::Adapter;

/// List graphics adapters with their limits, the kernels used on them, and why an adapter cannot be used.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  brillm devices
  brillm devices --json")]
pub(super) struct Arguments {
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let all = Adapter::all();
        let automatic = all
            .iter()
            .map(Adapter::report)
            .find(|report| report.kind.is_real() && report.refused.is_none());
        if self.json {
            let reports: Vec<_> = all.iter().map(Adapter::report).collect();
            return super::say_json(&json!({
                "adapters": reports,
                "automatic": automatic.map(|report| report.index),
            }));
        }
        if all.is_empty() {
            super::say("no graphics driver is installed; everything runs on the CPU")?;
        }
        for report in all.iter().map(Adapter::report) {
            super::say(format!("{}  {report}", report.index))?;
            super::say(format!("   driver     {}", report.driver))?;
            super::say(format!(
                "   limits     {} MiB per binding, {} MiB per buffer, {} storage buffers, {} threads per workgroup",
                report.binding_bytes >> 20,
                report.buffer_bytes >> 20,
                report.storage_buffers,
                report.workgroup_threads
            ))?;
            let subgroups = match report.subgroups {
                Some([low, high]) if low == high => format!("subgroups of {low}"),
                Some([low, high]) => format!("subgroups of {low} to {high}"),
                None => "no subgroups".to_string(),
            };
            let has = |yes: bool, what: &str| format!("{}{what}", if yes { "" } else { "no " });
            super::say(format!(
                "   features   {subgroups}, {}, {}",
                has(report.f16_arithmetic, "16-bit arithmetic"),
                has(report.pipeline_cache, "pipeline cache")
            ))?;
            match &report.refused {
                Some(reason) => super::say(format!("   refused    {reason}"))?,
                None => super::say(format!("   kernels    {}", report.kernels))?,
            }
        }
        super::say(match automatic {
            Some(report) => format!("--backend auto uses adapter {}", report.index),
            None => "--backend auto uses the CPU".to_string(),
        })
    }
}
