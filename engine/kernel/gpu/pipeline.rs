//! Kernels: WGSL sources with entry point, parameters and bindings, and their compiled pipelines.
//!
//! A kernel is compiled once for each set of constants; where the adapter supports it, its machine code is stored in
//! the user's cache folder too.

use std::path::PathBuf;
use std::sync::Arc;

use super::adapter::Adapter;
use super::device::{Device, locked};
use crate::Result;

/// Use of a binding by a kernel; binding 0 holds its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A uniform block of parameters, at another offset in every dispatch.
    Uniform,
    /// Read only.
    Read,
    /// Read and written.
    Write,
}

impl Access {
    /// Describe a binding to wgpu; `dynamic` lets uniforms be at another offset in every dispatch.
    fn layout(self, binding: u32, dynamic: bool) -> wgpu::BindGroupLayoutEntry {
        wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: match self {
                    Self::Uniform => wgpu::BufferBindingType::Uniform,
                    Self::Read => wgpu::BufferBindingType::Storage { read_only: true },
                    Self::Write => wgpu::BufferBindingType::Storage { read_only: false },
                },
                has_dynamic_offset: dynamic && self == Self::Uniform,
                min_binding_size: None,
            },
            count: None,
        }
    }
}

/// Type of a member of a kernel's parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberType {
    /// `u32`
    U32,
    /// `f32`
    F32,
    /// `array<vec4<u32>, 2>`
    U32x8,
    /// A struct.
    Struct(&'static [Member]),
}

/// A member of a kernel's parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: &'static str,
    /// Its first byte.
    pub offset: usize,
    /// Its type.
    pub ty: MemberType,
}

/// A type that parameters of kernels are made of.
pub(super) trait Uniform: bytemuck::Pod {
    /// The type in WGSL.
    const TYPE: MemberType;
}

impl Uniform for u32 {
    const TYPE: MemberType = MemberType::U32;
}

impl Uniform for f32 {
    const TYPE: MemberType = MemberType::F32;
}

impl Uniform for [u32; 8] {
    const TYPE: MemberType = MemberType::U32x8;
}

/// Declare the parameters of a kernel: the members of the struct in its shader, in the same order, by type.
///
/// A test compares them with the shader. A struct within parameters fills a multiple of 16 bytes, as WGSL demands.
macro_rules! parameters {
    ($(#[$attribute:meta])* $name:ident { $($ty:ty: $($member:ident),+;)+ }) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
        #[repr(C)]
        #[allow(missing_docs, reason = "the shader explains the members")]
        pub struct $name {
            $($(pub $member: $ty,)+)+
        }

        impl $name {
            /// The members, as the shader declares them.
            pub const MEMBERS: &[$crate::kernel::gpu::Member] = &[$($($crate::kernel::gpu::Member {
                name: stringify!($member),
                offset: std::mem::offset_of!($name, $member),
                ty: <$ty as $crate::kernel::gpu::pipeline::Uniform>::TYPE,
            },)+)+];
        }

        impl $crate::kernel::gpu::pipeline::Uniform for $name {
            const TYPE: $crate::kernel::gpu::MemberType = $crate::kernel::gpu::MemberType::Struct($name::MEMBERS);
        }
    };
}
pub(super) use parameters;

/// A kernel in WGSL.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    /// The stem of its file in `shaders/`.
    pub name: &'static str,
    /// The texts of the files it consists of, in order, its own last.
    pub sources: &'static [&'static str],
    /// The entry point.
    pub entry: &'static str,
    /// The members of its parameters.
    pub parameters: &'static [Member],
    /// Its bindings, in order from 0.
    pub bindings: &'static [Access],
}

impl Kernel {
    /// Concatenate the files to a module.
    pub fn source(&self) -> String {
        self.sources.join("\n")
    }
}

/// A compiled kernel.
#[derive(Debug)]
pub struct Pipeline {
    pub(super) raw: wgpu::ComputePipeline,
    pub(super) layout: wgpu::BindGroupLayout,
    pub(super) id: u64,
    /// The kernel and its constants.
    pub(super) name: String,
}

/// The texts of shaders: by their stems, or an expression in parentheses.
macro_rules! shaders {
    (@ ($text:expr)) => { $text };
    (@ $stem:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $stem, ".wgsl"))
    };
    ($($part:tt),+ $(,)?) => {
        &[$($crate::kernel::gpu::pipeline::shaders!(@ $part)),+]
    };
}
pub(super) use shaders;

impl Device {
    /// Compile a kernel for these constants, on the first call with them.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) when the driver cannot compile it.
    pub fn pipeline(&self, kernel: &Kernel, constants: &[(&str, u32)]) -> Result<Arc<Pipeline>> {
        let mut name = format!("{}.{}", kernel.name, kernel.entry);
        for (constant, value) in constants {
            name.push_str(&format!(" {constant}={value}"));
        }
        // A kernel that reads fans is one of several, by the number of buffers that it binds.
        let key = format!("{name} of {}", kernel.bindings.len());
        let mut pipelines = locked(&self.inner.pipelines);
        if let Some(pipeline) = pipelines.get(&key) {
            return Ok(pipeline.clone());
        }
        let numbers: Vec<(&str, f64)> = constants
            .iter()
            .map(|&(name, value)| (name, f64::from(value)))
            .collect();
        let pipeline = self.compile(
            &name,
            kernel.source(),
            kernel.entry,
            kernel.bindings,
            &numbers,
            true,
        )?;
        pipelines.insert(key, pipeline.clone());
        Ok(pipeline)
    }

    /// Compile a plugin's shader; its parameters, if it has any, are a part of a buffer.
    ///
    /// # Errors
    /// As [`Self::pipeline`].
    pub(super) fn foreign(
        &self,
        source: &str,
        entry: &str,
        bindings: &[Access],
    ) -> Result<Arc<Pipeline>> {
        self.compile(entry, source.to_string(), entry, bindings, &[], false)
    }

    fn compile(
        &self,
        key: &str,
        source: String,
        entry: &str,
        bindings: &[Access],
        constants: &[(&str, f64)],
        dynamic: bool,
    ) -> Result<Arc<Pipeline>> {
        let entries: Vec<wgpu::BindGroupLayoutEntry> = (0..)
            .zip(bindings)
            .map(|(binding, access)| access.layout(binding, dynamic))
            .collect();
        let layout = self
            .raw()
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: Some(key),
                entries: &entries,
            });
        let module = self
            .raw()
            .create_shader_module(wgpu::ShaderModuleDescriptor {
                label: Some(key),
                source: wgpu::ShaderSource::Wgsl(source.into()),
            });
        let pipeline_layout = self
            .raw()
            .create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some(key),
                bind_group_layouts: &[Some(&layout)],
                immediate_size: 0,
            });
        let raw = self
            .raw()
            .create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(key),
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some(entry),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants,
                    zero_initialize_workgroup_memory: true,
                },
                cache: self.inner.cache.as_ref().map(|store| &store.cache),
            });
        self.check()
            .map_err(|error| error.at(format!("kernel {key}")))?;
        let id = self.new_id();
        Ok(Arc::new(Pipeline {
            raw,
            layout,
            id,
            name: key.to_string(),
        }))
    }
}

/// The stored machine code of an adapter's kernels, in the user's cache folder.
pub(super) struct PipelineStore {
    cache: wgpu::PipelineCache,
    path: PathBuf,
}

impl PipelineStore {
    /// Open the store of an adapter.
    pub(super) fn open(device: &wgpu::Device, adapter: &Adapter) -> Option<Self> {
        let folder = brillm_file::user_folder("XDG_CACHE_HOME", ".cache")?;
        let name = wgpu::util::pipeline_cache_key(&adapter.raw.get_info())?;
        // Drivers check their own version; ours is in the name.
        let path = folder
            .join("brillm")
            .join(concat!("pipelines-", env!("CARGO_PKG_VERSION")))
            .join(name);
        let data = std::fs::read(&path).ok();
        // SAFETY: the file was written by `Drop` above from `get_data` of a cache of the same adapter, whole or
        // not at all; the folder is the user's own, and `fallback` discards what the driver does not take.
        let cache = unsafe {
            device.create_pipeline_cache(&wgpu::PipelineCacheDescriptor {
                label: Some("brillm"),
                data: data.as_deref(),
                fallback: true,
            })
        };
        Some(Self { cache, path })
    }
}

impl Drop for PipelineStore {
    fn drop(&mut self) {
        // A cache that cannot be stored is compiled again next time.
        let path = &self.path;
        if let Some(data) = self.cache.get_data()
            && let Some(folder) = path.parent()
        {
            if let Err(error) = std::fs::create_dir_all(folder) {
                static ONCE: std::sync::Once = std::sync::Once::new();
                ONCE.call_once(|| {
                    let folder = folder.display();
                    tracing::info!("compiled kernels are not stored: {folder}: {error}");
                });
                return;
            }
            drop(brillm_file::write(path, data));
        }
    }
}
