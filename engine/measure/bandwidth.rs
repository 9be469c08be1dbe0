//! Bandwidth of a device's memory, measured by kernels.

use std::time::Instant;

use crate::Result;
use crate::kernel::gpu::bandwidth::{COPY, READ, WORD, WORKGROUP, dispatch};
use crate::kernel::gpu::{Buffer, Device, Kernel, Program, Purpose};

/// Workgroups of the kernels that are tried: few threads that loop, to many that read a few words.
const GROUPS: [u32; 4] = [512, 2048, 8192, 32_768];
/// Passes over the buffers in a submission, and submissions timed.
const PASSES: usize = 8;
const SUBMISSIONS: usize = 4;

/// Gigabytes that kernels read and copy per second.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Bandwidth {
    /// Read: each byte of a buffer once.
    pub read_gb_per_s: f64,
    /// Copied: bytes read plus bytes written.
    pub copy_gb_per_s: f64,
    /// Written by the host into a buffer of the device.
    pub upload_gb_per_s: f64,
}

impl Bandwidth {
    /// Measure with two buffers of `mebibytes`, which should exceed the device's caches: the best of several widths
    /// of the dispatch.
    ///
    /// Copies of the graphics interface (`copy_buffer_to_buffer`) do not show the bandwidth: on some drivers they take
    /// five times as long as a kernel.
    ///
    /// # Errors
    /// [`ErrorKind::Resource`](crate::ErrorKind::Resource) when the buffers do not fit.
    pub fn measure(device: &Device, mebibytes: u64) -> Result<Self> {
        let bytes = (mebibytes << 20).min(device.binding_bytes()) / WORD * WORD;
        let source = device.buffer(bytes, Purpose::Storage, "the buffer to read")?;
        let result = device.buffer(bytes, Purpose::Storage, "the buffer to write")?;
        let best = |kernel: &Kernel| -> Result<f64> {
            let mut best = f64::INFINITY;
            // One thread a word at most: each stores a sum.
            let most = (bytes / WORD / u64::from(WORKGROUP)).clamp(1, 65_535) as u32;
            for groups in GROUPS {
                let groups = groups.min(most).min(device.workgroups());
                let mut program = Program::new(device, 1)?;
                dispatch(device, &mut program, kernel, [&source, &result], groups)?;
                // The first submission compiles and touches the pages.
                program.submit(1)?;
                device.wait()?;
                for _ in 0..SUBMISSIONS {
                    let begun = Instant::now();
                    program.submit(PASSES)?;
                    device.wait()?;
                    best = best.min(begun.elapsed().as_secs_f64() / PASSES as f64);
                }
            }
            Ok(bytes as f64 / best / 1e9)
        };
        Ok(Self {
            upload_gb_per_s: upload(device, &result)?,
            read_gb_per_s: best(&READ)?,
            copy_gb_per_s: 2.0 * best(&COPY)?,
        })
    }
}

/// Gigabytes that the host writes into a buffer per second: the best of several times.
fn upload(device: &Device, buffer: &Buffer) -> Result<f64> {
    let numbers = vec![1u32; buffer.bytes() as usize / 4];
    let mut best = f64::INFINITY;
    for _ in 0..SUBMISSIONS {
        let begun = Instant::now();
        device.write(buffer, 0, &numbers);
        // What was written is on the device when something that was submitted after it has been read back.
        device.read::<u32>(buffer, 0, 1)?;
        best = best.min(begun.elapsed().as_secs_f64());
    }
    Ok(buffer.bytes() as f64 / best / 1e9)
}
