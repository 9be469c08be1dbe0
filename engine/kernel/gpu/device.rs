//! An opened adapter: buffers, transfers, and failures of the device as errors.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::adapter::{Adapter, AdapterReport};
use super::pipeline::{Pipeline, PipelineStore};
use super::profile::{self, Times};
use crate::{Error, ErrorKind, Result};

/// Bytes of one write to the device.
const WRITE: usize = 32 << 20;
/// Bytes that may be staged before the host waits for them.
const STAGED: usize = 256 << 20;

/// The shape of the kernels that read edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelShape {
    /// Neighbouring threads read neighbouring words of an edge: fast on GPUs.
    Lanes,
    /// One thread an edge, no barriers: fast on software adapters.
    Thread,
}

impl std::str::FromStr for KernelShape {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "lanes" => Ok(Self::Lanes),
            "thread" => Ok(Self::Thread),
            other => Err(Error::new(
                ErrorKind::Configuration,
                format!("invalid kernel shape {other:?}"),
            )
            .advice("use lanes or thread")),
        }
    }
}

impl std::fmt::Display for KernelShape {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Lanes => "lanes",
            Self::Thread => "thread",
        })
    }
}

/// Overrides of what the adapter decides; tests use them to cover every path.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeviceOptions {
    /// Shape of the kernels; by adapter if none.
    pub shape: Option<KernelShape>,
    /// Do not use subgroups.
    pub without_subgroups: bool,
    /// Bytes of a buffer of fans or rows at most; the adapter's limit if none.
    pub binding_bytes: Option<u64>,
    /// Bytes of all fans on the device at most; unlimited if none.
    pub fan_bytes: Option<u64>,
    /// Bytes of the workspace of a training batch at most; the adapter's limit if none.
    pub workspace_bytes: Option<u64>,
    /// Whether one kernel chooses and hops; by adapter if none.
    pub merged: Option<bool>,
    /// Storage buffers that a kernel binds at most; the adapter's limit if none.
    pub storage_buffers: Option<u32>,
    /// Measure the time of every kernel; see [`Device::kernel_times`].
    pub profile: bool,
}

/// A buffer on the device.
#[derive(Clone, Debug)]
pub struct Buffer {
    pub(super) raw: wgpu::Buffer,
    pub(super) id: u64,
    bytes: u64,
}

impl Buffer {
    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Use of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Kernels read and write it.
    Storage,
    /// Kernels write dispatch sizes into it.
    Dispatch,
    /// The host reads it.
    Readback,
    /// Parameters of kernels.
    Parameters,
    /// Kernels write it, and shaders of plugins bind parts of it as uniforms.
    ShaderInput,
}

/// An opened adapter. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Device {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) raw: wgpu::Device,
    queue: wgpu::Queue,
    pub(super) report: AdapterReport,
    pub(super) options: DeviceOptions,
    /// Size of a subgroup whose threads are in order; 0 where kernels use workgroup memory.
    pub(super) subgroup: u32,
    pub(super) binding_bytes: u64,
    error: Arc<Mutex<Option<Error>>>,
    pub(super) pipelines: Mutex<HashMap<String, Arc<Pipeline>>>,
    pub(super) cache: Option<PipelineStore>,
    /// Bytes written since the last submission that waited for them.
    staged: AtomicUsize,
    next_buffer: AtomicU64,
    readback: Mutex<Vec<Buffer>>,
    /// Times of kernels, where they are measured.
    pub(super) times: Option<Times>,
}

impl std::fmt::Debug for Device {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Device({})", self.inner.report)
    }
}

/// Lock a mutex; values stay consistent even if a holder panicked.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn error_of(error: &wgpu::Error) -> Error {
    match error {
        wgpu::Error::OutOfMemory { .. } => {
            Error::new(ErrorKind::Resource, "the device's memory is exhausted")
                .advice("use a smaller batch, a model in f16 or int8, or --backend cpu")
        }
        other => Error::new(
            ErrorKind::Unsupported,
            format!("the device reported an error: {other}"),
        )
        .advice("use --backend cpu, and report this with the output of `brillm devices`"),
    }
}

/// Record the first error of a device, or its loss.
fn first_error(raw: &wgpu::Device) -> Arc<Mutex<Option<Error>>> {
    let first: Arc<Mutex<Option<Error>>> = Arc::default();
    let noted = first.clone();
    raw.on_uncaptured_error(Arc::new(move |error| {
        locked(&noted).get_or_insert_with(|| error_of(&error));
    }));
    let noted = first.clone();
    raw.set_device_lost_callback(move |reason, text| {
        // "Destroyed" is reported for the last handle too, which is not an error.
        if reason != wgpu::DeviceLostReason::Destroyed {
            locked(&noted).get_or_insert_with(|| {
                Error::new(ErrorKind::Resource, format!("the device was lost: {text}")).advice(
                    "its driver was reset or it ran out of memory: try again, or use --backend cpu",
                )
            });
        }
    });
    first
}

impl Device {
    /// Open an adapter with all its limits.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] when the driver cannot open it.
    pub fn open(adapter: &Adapter, options: DeviceOptions) -> Result<Self> {
        let report = adapter.report().clone();
        let mut wanted = wgpu::Features::SUBGROUP | wgpu::Features::PIPELINE_CACHE;
        wanted.set(wgpu::Features::TIMESTAMP_QUERY, options.profile);
        let features = adapter.raw.features() & wanted;
        let times = options
            .profile
            .then(|| profile::begin(features))
            .transpose()
            .map_err(|error| error.at(format!("adapter {report}")))?;
        let request = adapter.raw.request_device(&wgpu::DeviceDescriptor {
            label: Some("brillm"),
            required_features: features,
            required_limits: adapter.raw.limits(),
            ..Default::default()
        });
        let (raw, queue) = pollster::block_on(request).map_err(|error| {
            Error::new(ErrorKind::Unsupported, "the adapter cannot be opened")
                .at(format!("adapter {report}"))
                .advice("use --backend cpu, or another --adapter")
                .because(error)
        })?;
        let error = first_error(&raw);
        let cache = features
            .contains(wgpu::Features::PIPELINE_CACHE)
            .then(|| PipelineStore::open(&raw, adapter))
            .flatten();
        let limits = raw.limits();
        let most = limits
            .max_storage_buffer_binding_size
            .min(limits.max_buffer_size)
            // Kernels index with 32 bits.
            .min(u64::from(u32::MAX));
        let binding_bytes = options.binding_bytes.map_or(most, |bytes| bytes.min(most)) / 16 * 16;
        let mut device = Inner {
            raw,
            queue,
            report,
            options,
            subgroup: 0,
            binding_bytes,
            error,
            pipelines: Mutex::default(),
            cache,
            staged: AtomicUsize::new(0),
            next_buffer: AtomicU64::new(0),
            readback: Mutex::default(),
            times,
        };
        if features.contains(wgpu::Features::SUBGROUP) && !options.without_subgroups {
            let probing = Self {
                inner: Arc::new(device),
            };
            let subgroup = super::reduce::probe(&probing)?;
            device = Arc::try_unwrap(probing.inner)
                .map_err(|_| Error::new(ErrorKind::Unsupported, "the device is in use"))?;
            device.subgroup = subgroup;
        }
        Ok(Self {
            inner: Arc::new(device),
        })
    }

    /// The adapter.
    pub fn report(&self) -> &AdapterReport {
        &self.inner.report
    }

    /// Overrides it was opened with.
    pub fn options(&self) -> &DeviceOptions {
        &self.inner.options
    }

    /// Create an id that is unique on this device.
    pub(super) fn new_id(&self) -> u64 {
        self.inner.next_buffer.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn raw(&self) -> &wgpu::Device {
        &self.inner.raw
    }

    pub(super) fn queue(&self) -> &wgpu::Queue {
        &self.inner.queue
    }

    /// Fail with the first error since the last call, if there was one.
    ///
    /// # Errors
    /// [`ErrorKind::Resource`] for exhausted memory or a lost device; [`ErrorKind::Unsupported`] otherwise.
    pub fn check(&self) -> Result<()> {
        match locked(&self.inner.error).take() {
            Some(error) => Err(error.at(format!("adapter {}", self.inner.report))),
            None => Ok(()),
        }
    }

    /// Create a buffer of zeros; `what` names it in errors.
    ///
    /// # Errors
    /// [`ErrorKind::Resource`] when it is larger than the adapter allows, or memory is exhausted.
    pub fn buffer(&self, bytes: u64, purpose: Purpose, what: &str) -> Result<Buffer> {
        // Kernels bind vec4s, so sizes are multiples of 16 bytes; empty buffers are not allowed.
        let bytes = bytes.max(16).next_multiple_of(16);
        let most = self.inner.raw.limits().max_buffer_size;
        let bound = matches!(purpose, Purpose::Storage | Purpose::ShaderInput);
        if bytes > most || (bound && bytes > self.inner.report.binding_bytes) {
            return Err(Error::new(
                ErrorKind::Resource,
                format!(
                    "{what} takes {bytes} bytes, and a kernel of this adapter can bind {} at most",
                    most.min(self.inner.report.binding_bytes)
                ),
            )
            .at(format!("adapter {}", self.inner.report))
            .advice("use a smaller batch or model, or --backend cpu"));
        }
        let copies = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let usage = match purpose {
            Purpose::Storage => copies | wgpu::BufferUsages::STORAGE,
            Purpose::Dispatch => {
                copies | wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::INDIRECT
            }
            Purpose::Readback => wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            Purpose::Parameters => wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            Purpose::ShaderInput => {
                copies | wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::UNIFORM
            }
        };
        let raw = self.inner.raw.create_buffer(&wgpu::BufferDescriptor {
            label: Some(what),
            size: bytes,
            usage,
            mapped_at_creation: false,
        });
        self.check().map_err(|error| error.at(what))?;
        let id = self.new_id();
        Ok(Buffer { raw, id, bytes })
    }

    /// Create a storage buffer with contents.
    ///
    /// # Errors
    /// As [`Self::buffer`].
    pub fn upload<T: bytemuck::NoUninit>(&self, values: &[T], what: &str) -> Result<Buffer> {
        let buffer = self.buffer(std::mem::size_of_val(values) as u64, Purpose::Storage, what)?;
        self.write(&buffer, 0, values);
        Ok(buffer)
    }

    /// Write numbers at a byte offset, before the next submission. Offset and length are multiples of 4.
    pub fn write<T: bytemuck::NoUninit>(&self, buffer: &Buffer, offset: u64, values: &[T]) {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        if bytes.is_empty() {
            return;
        }
        // In pieces that are submitted in between, so that staging never takes as much memory as a model.
        for (index, chunk) in bytes.chunks(WRITE).enumerate() {
            let at = offset + (index * WRITE) as u64;
            self.inner.queue.write_buffer(&buffer.raw, at, chunk);
            let staged = &self.inner.staged;
            if staged.fetch_add(chunk.len(), Ordering::Relaxed) + chunk.len() > STAGED {
                staged.store(0, Ordering::Relaxed);
                self.inner.queue.submit([]);
                // An error is reported by the next submission.
                let _ = self.inner.raw.poll(wgpu::PollType::wait_indefinitely());
            }
        }
    }

    /// Read numbers back, after all earlier submissions.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn read<T: bytemuck::Pod>(
        &self,
        buffer: &Buffer,
        offset: u64,
        count: usize,
    ) -> Result<Vec<T>> {
        let bytes = (count * size_of::<T>()) as u64;
        let mut encoder = self.inner.raw.create_command_encoder(&Default::default());
        let landing = self.landing(bytes)?;
        encoder.copy_buffer_to_buffer(&buffer.raw, offset, &landing.raw, 0, bytes);
        self.inner.queue.submit([encoder.finish()]);
        self.collect(landing, bytes)
    }

    /// Take a buffer of at least so many bytes that the host can read.
    pub(super) fn landing(&self, bytes: u64) -> Result<Buffer> {
        let mut free = locked(&self.inner.readback);
        if let Some(index) = free.iter().position(|buffer| buffer.bytes >= bytes) {
            return Ok(free.swap_remove(index));
        }
        drop(free);
        self.buffer(
            // Powers of two: a few buffers serve reads of all sizes.
            bytes.next_power_of_two(),
            Purpose::Readback,
            "a buffer to read back",
        )
    }

    /// Wait until a landing buffer is filled, and return its contents.
    pub(super) fn collect<T: bytemuck::Pod>(&self, landing: Buffer, bytes: u64) -> Result<Vec<T>> {
        let slice = landing.raw.slice(0..bytes.max(4).next_multiple_of(4));
        let lost = |what: &str| {
            Error::new(
                ErrorKind::Resource,
                format!("the device does not respond: {what}"),
            )
            .at(format!("adapter {}", self.inner.report))
            .advice("its driver was reset or it ran out of memory: try again, or use --backend cpu")
        };
        let (send, receive) = std::sync::mpsc::channel();
        slice.map_async(wgpu::MapMode::Read, move |outcome| {
            // The receiver is dropped only when this call has failed already.
            let _ = send.send(outcome);
        });
        let polled = self.inner.raw.poll(wgpu::PollType::wait_indefinitely());
        self.check()?;
        polled.map_err(|error| lost(&error.to_string()))?;
        receive
            .recv()
            .map_err(|error| lost(&error.to_string()))?
            .map_err(|error| lost(&error.to_string()))?;
        let values = {
            let view = slice
                .get_mapped_range()
                .map_err(|error| lost(&error.to_string()))?;
            bytemuck::pod_collect_to_vec(&view[..bytes as usize])
        };
        landing.raw.unmap();
        let mut free = locked(&self.inner.readback);
        if free.len() < 8 {
            free.push(landing);
        }
        Ok(values)
    }

    /// Destroy the device; every later use is an error.
    pub fn destroy(&self) {
        self.inner.raw.destroy();
    }

    /// Wait for all submissions.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn wait(&self) -> Result<()> {
        let polled = self.inner.raw.poll(wgpu::PollType::wait_indefinitely());
        self.check()?;
        polled.map(drop).map_err(|error| {
            Error::new(
                ErrorKind::Resource,
                format!("the device does not respond: {error}"),
            )
            .at(format!("adapter {}", self.inner.report))
        })
    }
}
