//! An opened adapter: buffers, pipelines, submissions, and every fault as an error.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::adapter::{Adapter, AdapterReport, THREADS};
use super::pipeline::{Pipeline, PipelineStore};
use crate::{Error, ErrorKind, Result};

/// Bytes of one write to the device.
const PIECE: usize = 32 << 20;
/// Bytes that may be staged before they are waited for.
const STAGED: usize = 256 << 20;

/// The shape of the kernels that read edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelShape {
    /// Neighbouring threads read neighbouring words of an edge: what graphics processors want.
    Lanes,
    /// One thread an edge, no barriers: what software adapters want.
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
                format!("kernels have no shape {other:?}"),
            )
            .advice("give lanes or thread")),
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

/// What a caller may force; tests walk every path with it.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeviceOptions {
    /// The kernels' shape; by adapter otherwise.
    pub shape: Option<KernelShape>,
    /// Leaves subgroups out.
    pub without_subgroups: bool,
    /// The most bytes of a buffer of fans or rows; the adapter's limit otherwise.
    pub binding_bytes: Option<u64>,
    /// Bytes that fans may take on the device; all that they need otherwise.
    pub fan_bytes: Option<u64>,
}

/// A buffer on the device.
#[derive(Clone, Debug)]
pub struct Buffer {
    pub(super) raw: wgpu::Buffer,
    pub(super) id: u64,
    bytes: u64,
}

impl Buffer {
    /// Its size.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// What a buffer is for.
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
    /// Kernels write it, and shaders of plugins find their place in it.
    Question,
}

/// An opened adapter. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Device {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    raw: wgpu::Device,
    queue: wgpu::Queue,
    report: AdapterReport,
    options: DeviceOptions,
    /// Size of a subgroup whose threads are in order; 0 where kernels take workgroup memory.
    subgroup: u32,
    binding_bytes: u64,
    fault: Arc<Mutex<Option<Error>>>,
    pub(super) pipelines: Mutex<HashMap<String, Arc<Pipeline>>>,
    pub(super) cache: Option<PipelineStore>,
    /// Bytes written since the last submission that waited for them.
    staged: AtomicUsize,
    next_buffer: AtomicU64,
    readback: Mutex<Vec<Buffer>>,
}

impl std::fmt::Debug for Device {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Device({})", self.inner.report)
    }
}

/// A lock whose holder panicked still guards whole values here.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn fault_of(error: &wgpu::Error) -> Error {
    match error {
        wgpu::Error::OutOfMemory { .. } => {
            Error::new(ErrorKind::Resource, "the device's memory is exhausted")
                .advice("use a smaller batch, a model in f16 or int8, or --backend cpu")
        }
        other => Error::new(
            ErrorKind::Unsupported,
            format!("the device refused: {other}"),
        )
        .advice("use --backend cpu, and report this with the output of `brillm devices`"),
    }
}

impl Device {
    /// Opens an adapter with the features and limits it has.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] when the driver refuses.
    pub fn open(adapter: &Adapter, options: DeviceOptions) -> Result<Self> {
        let report = adapter.report().clone();
        let wanted = wgpu::Features::SUBGROUP | wgpu::Features::PIPELINE_CACHE;
        let features = adapter.raw.features() & wanted;
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
        let fault: Arc<Mutex<Option<Error>>> = Arc::default();
        let noted = fault.clone();
        raw.on_uncaptured_error(Arc::new(move |error| {
            locked(&noted).get_or_insert_with(|| fault_of(&error));
        }));
        let noted = fault.clone();
        raw.set_device_lost_callback(move |reason, text| {
            // Dropping the last handle also says "destroyed", which is no fault.
            if reason != wgpu::DeviceLostReason::Destroyed {
                locked(&noted).get_or_insert_with(|| {
                    Error::new(ErrorKind::Resource, format!("the device was lost: {text}"))
                        .advice("its driver was reset or it ran out of memory: try again, or use --backend cpu")
                });
            }
        });
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
            fault,
            pipelines: Mutex::default(),
            cache,
            staged: AtomicUsize::new(0),
            next_buffer: AtomicU64::new(0),
            readback: Mutex::default(),
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

    /// What was forced.
    pub fn options(&self) -> &DeviceOptions {
        &self.inner.options
    }

    /// The shape of the kernels that read edges.
    pub fn shape(&self) -> KernelShape {
        let by_adapter = if self.inner.report.kind.is_real() {
            KernelShape::Lanes
        } else {
            KernelShape::Thread
        };
        self.inner.options.shape.unwrap_or(by_adapter)
    }

    /// Threads of a subgroup that kernels may use; 0 for none.
    pub fn subgroup(&self) -> u32 {
        self.inner.subgroup
    }

    /// Threads of a workgroup whose threads wait for each other: few where waiting is dear.
    pub fn workgroup(&self) -> u32 {
        if self.inner.report.kind.is_real() {
            THREADS
        } else {
            16
        }
    }

    /// Threads of a workgroup that sees all V nodes.
    pub fn wide_workgroup(&self) -> u32 {
        if self.inner.report.kind.is_real() {
            self.inner.report.workgroup_threads.min(256)
        } else {
            16
        }
    }

    /// The most bytes of a buffer that a kernel sees.
    pub fn binding_bytes(&self) -> u64 {
        self.inner.binding_bytes
    }

    /// The most workgroups in one dimension of a dispatch.
    pub fn workgroups(&self) -> u32 {
        self.inner.raw.limits().max_compute_workgroups_per_dimension
    }

    /// Bytes of memory that the workgroup of a kernel may share.
    pub fn workgroup_bytes(&self) -> u32 {
        self.inner.raw.limits().max_compute_workgroup_storage_size
    }

    /// A number that nothing else on this device has.
    pub(super) fn number(&self) -> u64 {
        self.inner.next_buffer.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn raw(&self) -> &wgpu::Device {
        &self.inner.raw
    }

    pub(super) fn queue(&self) -> &wgpu::Queue {
        &self.inner.queue
    }

    /// The first fault since the last call, if there was one.
    ///
    /// # Errors
    /// [`ErrorKind::Resource`] for exhausted memory or a lost device; [`ErrorKind::Unsupported`] otherwise.
    pub fn check(&self) -> Result<()> {
        match locked(&self.inner.fault).take() {
            Some(error) => Err(error.at(format!("adapter {}", self.inner.report))),
            None => Ok(()),
        }
    }

    /// A buffer of zeros.
    ///
    /// # Errors
    /// [`ErrorKind::Resource`] when it is larger than the adapter allows, or memory is exhausted.
    pub fn buffer(&self, bytes: u64, purpose: Purpose, what: &str) -> Result<Buffer> {
        let bytes = bytes.max(16).next_multiple_of(16);
        let most = self.inner.raw.limits().max_buffer_size;
        let bound = matches!(purpose, Purpose::Storage | Purpose::Question);
        if bytes > most || (bound && bytes > self.inner.report.binding_bytes) {
            return Err(Error::new(
                ErrorKind::Resource,
                format!(
                    "{what} takes {bytes} bytes, and a kernel of this adapter sees {} at most",
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
            Purpose::Question => copies | wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::UNIFORM,
        };
        let raw = self.inner.raw.create_buffer(&wgpu::BufferDescriptor {
            label: Some(what),
            size: bytes,
            usage,
            mapped_at_creation: false,
        });
        self.check().map_err(|error| error.at(what))?;
        let id = self.number();
        Ok(Buffer { raw, id, bytes })
    }

    /// A storage buffer with contents.
    ///
    /// # Errors
    /// As [`Self::buffer`].
    pub fn upload<T: bytemuck::NoUninit>(&self, values: &[T], what: &str) -> Result<Buffer> {
        let buffer = self.buffer(std::mem::size_of_val(values) as u64, Purpose::Storage, what)?;
        self.write(&buffer, 0, values);
        Ok(buffer)
    }

    /// Writes numbers at a byte offset, before whatever is submitted next. Offset and length are multiples of 4.
    pub fn write<T: bytemuck::NoUninit>(&self, buffer: &Buffer, offset: u64, values: &[T]) {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        if bytes.is_empty() {
            return;
        }
        // Pieces that are sent off in between, so that staging never doubles a model.
        for (index, piece) in bytes.chunks(PIECE).enumerate() {
            let at = offset + (index * PIECE) as u64;
            self.inner.queue.write_buffer(&buffer.raw, at, piece);
            let staged = &self.inner.staged;
            if staged.fetch_add(piece.len(), Ordering::Relaxed) + piece.len() > STAGED {
                staged.store(0, Ordering::Relaxed);
                self.inner.queue.submit([]);
                // What goes wrong is found by whoever submits next.
                let _ = self.inner.raw.poll(wgpu::PollType::wait_indefinitely());
            }
        }
    }

    /// Reads numbers back, after whatever was submitted before.
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

    /// A buffer that the host can read, of at least so many bytes.
    pub(super) fn landing(&self, bytes: u64) -> Result<Buffer> {
        let mut free = locked(&self.inner.readback);
        if let Some(place) = free.iter().position(|buffer| buffer.bytes >= bytes) {
            return Ok(free.swap_remove(place));
        }
        drop(free);
        self.buffer(
            bytes.next_power_of_two(),
            Purpose::Readback,
            "a buffer to read back",
        )
    }

    /// Waits until a landing buffer is filled, and takes what is in it.
    pub(super) fn collect<T: bytemuck::Pod>(&self, landing: Buffer, bytes: u64) -> Result<Vec<T>> {
        let slice = landing.raw.slice(0..bytes.max(4).next_multiple_of(4));
        let lost = |what: &str| {
            Error::new(
                ErrorKind::Resource,
                format!("the device does not answer: {what}"),
            )
            .at(format!("adapter {}", self.inner.report))
            .advice("its driver was reset or it ran out of memory: try again, or use --backend cpu")
        };
        let (send, receive) = std::sync::mpsc::channel();
        slice.map_async(wgpu::MapMode::Read, move |outcome| {
            // The receiver is gone only when this call has failed already.
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

    /// Copies as much of a buffer as the other holds, `times` over, and waits until it is done.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn copy(&self, from: &Buffer, to: &Buffer, times: usize) -> Result<()> {
        let mut encoder = self.inner.raw.create_command_encoder(&Default::default());
        for _ in 0..times {
            encoder.copy_buffer_to_buffer(&from.raw, 0, &to.raw, 0, from.bytes.min(to.bytes));
        }
        self.inner.queue.submit([encoder.finish()]);
        self.wait()
    }

    /// Gives the device back at once; whatever is asked of it afterwards is an error.
    pub fn destroy(&self) {
        self.inner.raw.destroy();
    }

    /// Waits until everything submitted is done.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn wait(&self) -> Result<()> {
        let polled = self.inner.raw.poll(wgpu::PollType::wait_indefinitely());
        self.check()?;
        polled.map(drop).map_err(|error| {
            Error::new(
                ErrorKind::Resource,
                format!("the device does not answer: {error}"),
            )
            .at(format!("adapter {}", self.inner.report))
        })
    }
}
