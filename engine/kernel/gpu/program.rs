//! Programs: recorded dispatches that are submitted together.

use std::collections::HashMap;
use std::sync::Arc;

use super::device::{Buffer, Device, Purpose};
use super::pipeline::Pipeline;
use crate::{Error, ErrorKind, Result};

/// Bytes between the parameters of two dispatches: a multiple of 256, the largest alignment that adapters require.
const STRIDE: usize = 512;

/// Number of workgroups of a dispatch.
#[derive(Clone, Debug)]
pub enum Size {
    /// This many in each dimension.
    Direct(u32, u32, u32),
    /// As a kernel wrote to a buffer, at this byte offset.
    Indirect(Buffer, u64),
}

pub(super) enum Step {
    Dispatch(Dispatch),
    Clear(Buffer),
}

pub(super) struct Dispatch {
    pub(super) pipeline: Arc<Pipeline>,
    bindings: wgpu::BindGroup,
    /// Offset of its parameters; none for a plugin's shader.
    parameters: Option<u32>,
    size: Size,
    /// Bytes that it reads and writes, each once; 0 where nothing says how many.
    pub(super) bytes: u64,
}

impl Dispatch {
    /// Record the dispatch in a pass whose pipeline is set.
    pub(super) fn encode(&self, pass: &mut wgpu::ComputePass<'_>) {
        pass.set_bind_group(0, &self.bindings, self.parameters.as_slice());
        match &self.size {
            Size::Direct(x, y, z) => pass.dispatch_workgroups(*x, *y, *z),
            Size::Indirect(buffer, offset) => {
                pass.dispatch_workgroups_indirect(&buffer.raw, *offset);
            }
        }
    }
}

/// Recorded dispatches with their parameters.
pub struct Program {
    pub(super) device: Device,
    parameters: Vec<u8>,
    uniforms: Buffer,
    groups: HashMap<Vec<u64>, wgpu::BindGroup>,
    pub(super) steps: Vec<Step>,
    written: bool,
}

/// Workgroups of `threads` threads for so many numbers, in two dimensions, since one may be too small.
pub fn spread(device: &Device, numbers: usize, threads: u32) -> Size {
    let groups = numbers.div_ceil(threads.max(1) as usize) as u32;
    let x = groups.min(device.workgroups());
    Size::Direct(x, groups.div_ceil(x.max(1)), 1)
}

/// Bind the parameters, at an offset that a dispatch sets, then `buffers`.
fn bind(
    device: &Device,
    pipeline: &Pipeline,
    uniforms: &Buffer,
    buffers: &[&Buffer],
) -> wgpu::BindGroup {
    let uniform = wgpu::BindGroupEntry {
        binding: 0,
        resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: &uniforms.raw,
            offset: 0,
            size: wgpu::BufferSize::new(STRIDE as u64),
        }),
    };
    let others = (1..).zip(buffers);
    let others = others.map(|(binding, buffer)| wgpu::BindGroupEntry {
        binding,
        resource: buffer.raw.as_entire_binding(),
    });
    let entries: Vec<wgpu::BindGroupEntry<'_>> = std::iter::once(uniform).chain(others).collect();
    device.raw().create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &pipeline.layout,
        entries: &entries,
    })
}

impl Program {
    /// Create an empty program of at most `most` dispatches.
    ///
    /// # Errors
    /// As [`Device::buffer`].
    pub fn new(device: &Device, most: usize) -> Result<Self> {
        let uniforms = device.buffer(
            (most * STRIDE) as u64,
            Purpose::Parameters,
            "parameters of kernels",
        )?;
        Ok(Self {
            device: device.clone(),
            parameters: Vec::new(),
            uniforms,
            groups: HashMap::new(),
            steps: Vec::new(),
            written: false,
        })
    }

    /// Remove all dispatches; bind groups are kept.
    pub fn clear(&mut self) {
        self.parameters.clear();
        self.steps.clear();
        self.written = false;
    }

    /// Record a dispatch. `parameters` are those of the kernel's uniform block, `buffers` its other bindings.
    ///
    /// # Errors
    /// [`ErrorKind::Resource`] when the program is full, or a dispatch is larger than the adapter allows.
    pub fn dispatch<P: bytemuck::NoUninit>(
        &mut self,
        pipeline: &Arc<Pipeline>,
        parameters: &P,
        buffers: &[&Buffer],
        size: Size,
    ) -> Result<()> {
        let bytes = bytemuck::bytes_of(parameters);
        if !self.fits(&size)? {
            return Ok(());
        }
        let start = self.parameters.len();
        if (start + STRIDE) as u64 > self.uniforms.bytes() || bytes.len() > STRIDE {
            return Err(Error::new(
                ErrorKind::Resource,
                "too many dispatches in one program",
            ));
        }
        self.parameters.extend_from_slice(bytes);
        self.parameters.resize(start + STRIDE, 0);
        // A bind group is reused in other dispatches with the same buffers: the parameters are at a dynamic offset.
        let mut key = vec![pipeline.id];
        key.extend(buffers.iter().map(|buffer| buffer.id));
        let bindings = self
            .groups
            .entry(key)
            .or_insert_with(|| bind(&self.device, pipeline, &self.uniforms, buffers))
            .clone();
        self.steps.push(Step::Dispatch(Dispatch {
            pipeline: pipeline.clone(),
            bindings,
            parameters: Some(start as u32),
            size,
            bytes: 0,
        }));
        self.written = false;
        Ok(())
    }

    /// Note how many bytes the dispatch recorded last reads and writes, each once, for the table of times.
    pub fn note_bytes(&mut self, bytes: u64) {
        if let Some(Step::Dispatch(dispatch)) = self.steps.last_mut() {
            dispatch.bytes = bytes;
        }
    }

    /// Record a dispatch of a plugin's shader: ranges of buffers in the order of its bindings, each with its first
    /// byte and its bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Resource`] when it is larger than the adapter allows.
    pub(super) fn dispatch_ranges(
        &mut self,
        pipeline: &Arc<Pipeline>,
        ranges: &[(&Buffer, u64, u64)],
        size: Size,
    ) -> Result<()> {
        if !self.fits(&size)? {
            return Ok(());
        }
        let entries: Vec<wgpu::BindGroupEntry<'_>> = ranges
            .iter()
            .enumerate()
            .map(|(index, &(buffer, offset, bytes))| wgpu::BindGroupEntry {
                binding: index as u32,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: &buffer.raw,
                    offset,
                    size: wgpu::BufferSize::new(bytes),
                }),
            })
            .collect();
        let bindings = self
            .device
            .raw()
            .create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout: &pipeline.layout,
                entries: &entries,
            });
        self.steps.push(Step::Dispatch(Dispatch {
            pipeline: pipeline.clone(),
            bindings,
            parameters: None,
            size,
            bytes: 0,
        }));
        Ok(())
    }

    /// Whether there is anything to dispatch; an error for more workgroups than the adapter allows.
    fn fits(&self, size: &Size) -> Result<bool> {
        let Size::Direct(x, y, z) = *size else {
            return Ok(true);
        };
        if x.max(y).max(z) > self.device.workgroups() {
            return Err(Error::new(
                ErrorKind::Resource,
                format!(
                    "a dispatch of {x} x {y} x {z} workgroups is larger than the adapter allows"
                ),
            )
            .advice("use a smaller batch or model, or --backend cpu"));
        }
        Ok(x.min(y).min(z) > 0)
    }

    /// Record that a buffer is set to zero.
    pub fn zero(&mut self, buffer: &Buffer) {
        self.steps.push(Step::Clear(buffer.clone()));
    }

    /// Number of recorded steps.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether nothing is recorded.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Submit all steps `times` times, as one submission.
    ///
    /// # Errors
    /// As [`Device::check`].
    pub fn submit(&mut self, times: usize) -> Result<()> {
        let device = self.device.clone();
        if let Some(sums) = &device.inner.times {
            return self.submit_timed(times, sums);
        }
        let encoder = self.encode(times);
        self.device.queue().submit([encoder.finish()]);
        self.device.check()
    }

    /// Submit as [`Self::submit`] does, and read `count` numbers at a byte offset back in the same submission.
    ///
    /// # Errors
    /// As [`Device::check`].
    pub fn submit_and_read<T: bytemuck::Pod>(
        &mut self,
        times: usize,
        buffer: &Buffer,
        offset: u64,
        count: usize,
    ) -> Result<Vec<T>> {
        let device = self.device.clone();
        if let Some(sums) = &device.inner.times {
            self.submit_timed(times, sums)?;
            return device.read(buffer, offset, count);
        }
        let bytes = (count * size_of::<T>()) as u64;
        let landing = self.device.landing(bytes)?;
        let mut encoder = self.encode(times);
        encoder.copy_buffer_to_buffer(&buffer.raw, offset, &landing.raw, 0, bytes);
        self.device.queue().submit([encoder.finish()]);
        self.device.collect(landing, bytes)
    }

    /// Write the parameters of the dispatches, unless they are on the device.
    pub(super) fn write_parameters(&mut self) {
        if !self.written {
            self.device.write(&self.uniforms, 0, &self.parameters);
            self.written = true;
        }
    }

    fn encode(&mut self, times: usize) -> wgpu::CommandEncoder {
        self.write_parameters();
        let mut encoder = self
            .device
            .raw()
            .create_command_encoder(&Default::default());
        let mut last = None;
        let mut pass: Option<wgpu::ComputePass<'static>> = None;
        for step in (0..times).flat_map(|_| &self.steps) {
            let dispatch = match step {
                Step::Clear(buffer) => {
                    drop(pass.take());
                    encoder.clear_buffer(&buffer.raw, 0, None);
                    continue;
                }
                Step::Dispatch(dispatch) => dispatch,
            };
            let open = pass.get_or_insert_with(|| {
                last = None;
                encoder
                    .begin_compute_pass(&Default::default())
                    .forget_lifetime()
            });
            // Changing the pipeline is slow on some drivers.
            if last != Some(dispatch.pipeline.id) {
                open.set_pipeline(&dispatch.pipeline.raw);
                last = Some(dispatch.pipeline.id);
            }
            dispatch.encode(open);
        }
        drop(pass);
        encoder
    }
}
