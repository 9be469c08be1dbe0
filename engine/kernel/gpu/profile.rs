//! Times of kernels, by timestamps of the device at the beginning and the end of each dispatch.
//!
//! Each dispatch has a pass of its own while times are measured, so that the sum exceeds the time of the same program
//! without a profile by what passes cost.

use std::collections::HashMap;
use std::sync::Mutex;

use super::device::{Device, locked};
use super::pipeline::Pipeline;
use super::program::{Program, Step};
use crate::{Error, ErrorKind, Result};

/// Dispatches of one submission: two timestamps each, and a query set holds 4,096.
const DISPATCHES: usize = wgpu::QUERY_SET_MAX_QUERIES as usize / 2;

/// Time of a kernel in all dispatches so far.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct KernelTime {
    /// Its name, with its constants.
    pub kernel: String,
    /// Number of dispatches.
    pub calls: u64,
    /// Microseconds of all of them.
    pub microseconds: f64,
    /// Gigabytes read and written per second, where it is known how many.
    pub gb_per_s: Option<f64>,
    /// Part of the time of all kernels.
    pub share: f64,
}

/// Dispatches, nanoseconds and bytes by kernel.
pub(super) type Times = Mutex<HashMap<String, (u64, f64, u64)>>;

/// Prepare to measure times.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for an adapter without timestamps.
pub(super) fn begin(features: wgpu::Features) -> Result<Times> {
    if features.contains(wgpu::Features::TIMESTAMP_QUERY) {
        return Ok(Times::default());
    }
    Err(Error::new(
        ErrorKind::Unsupported,
        "the adapter has no timestamps to measure kernels with",
    )
    .advice("remove --profile, or use another --adapter"))
}

impl Device {
    /// Return the times of all kernels so far, the slowest first; none unless the device was opened to measure them.
    pub fn kernel_times(&self) -> Option<Vec<KernelTime>> {
        let times = locked(self.inner.times.as_ref()?);
        let all: f64 = times.values().map(|time| time.1).sum();
        let mut list: Vec<KernelTime> = times
            .iter()
            .map(|(kernel, &(calls, nanoseconds, bytes))| KernelTime {
                kernel: kernel.clone(),
                calls,
                microseconds: nanoseconds / 1e3,
                gb_per_s: (bytes > 0 && nanoseconds > 0.0).then(|| bytes as f64 / nanoseconds),
                share: nanoseconds / all.max(f64::MIN_POSITIVE),
            })
            .collect();
        list.sort_by(|a, b| b.microseconds.total_cmp(&a.microseconds));
        Some(list)
    }

    /// Whether the device measures times.
    pub fn is_timed(&self) -> bool {
        self.inner.times.is_some()
    }

    /// Add bytes that dispatches of a kernel read and wrote, where only their results say how many.
    pub fn add_kernel_bytes(&self, pipeline: &Pipeline, bytes: u64) {
        if let Some(times) = &self.inner.times {
            locked(times).entry(pipeline.name.clone()).or_default().2 += bytes;
        }
    }
}

impl Program {
    /// Submit all steps `times` times, with a timestamp before and after each dispatch.
    ///
    /// # Errors
    /// As [`Device::check`].
    pub(super) fn submit_timed(&mut self, times: usize, sums: &Times) -> Result<()> {
        self.write_parameters();
        let steps: Vec<&Step> = (0..times).flat_map(|_| &self.steps).collect();
        for steps in steps.chunks(DISPATCHES) {
            self.submit_chunk(steps, sums)?;
        }
        Ok(())
    }

    fn submit_chunk(&self, steps: &[&Step], sums: &Times) -> Result<()> {
        let device = &self.device;
        let count = steps.len() as u32 * 2;
        let bytes = u64::from(count) * 8;
        let set = device.raw().create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("times of kernels"),
            ty: wgpu::QueryType::Timestamp,
            count,
        });
        let resolved = device.raw().create_buffer(&wgpu::BufferDescriptor {
            label: Some("times of kernels"),
            size: bytes,
            usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        let landing = device.landing(bytes)?;
        let mut encoder = device.raw().create_command_encoder(&Default::default());
        let mut names = Vec::with_capacity(steps.len());
        for step in steps {
            let dispatch = match step {
                Step::Clear(buffer) => {
                    encoder.clear_buffer(&buffer.raw, 0, None);
                    continue;
                }
                Step::Dispatch(dispatch) => dispatch,
            };
            let first = names.len() as u32 * 2;
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: None,
                timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                    query_set: &set,
                    beginning_of_pass_write_index: Some(first),
                    end_of_pass_write_index: Some(first + 1),
                }),
            });
            pass.set_pipeline(&dispatch.pipeline.raw);
            dispatch.encode(&mut pass);
            names.push((&dispatch.pipeline.name, dispatch.bytes));
        }
        let used = names.len() as u32 * 2;
        if used > 0 {
            encoder.resolve_query_set(&set, 0..used, &resolved, 0);
            encoder.copy_buffer_to_buffer(&resolved, 0, &landing.raw, 0, u64::from(used) * 8);
        }
        device.queue().submit([encoder.finish()]);
        device.check()?;
        let stamps: Vec<u64> = device.collect(landing, u64::from(used) * 8)?;
        let period = f64::from(device.queue().get_timestamp_period());
        let mut sums = locked(sums);
        for ((name, bytes), pair) in names.into_iter().zip(stamps.chunks_exact(2)) {
            let sum = sums.entry(name.clone()).or_default();
            sum.0 += 1;
            // A driver may reset its clock between two passes.
            sum.1 += pair[1].saturating_sub(pair[0]) as f64 * period;
            sum.2 += bytes;
        }
        Ok(())
    }
}
