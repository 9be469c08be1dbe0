//! The graphics adapters of a machine, their capabilities, and the choice among them.

use crate::{Error, ErrorKind, Result};

/// Storage buffers that the kernel with the most of them binds.
const STORAGE_BUFFERS: u32 = 8;
/// Threads of the largest workgroup.
pub(super) const THREADS: u32 = 64;

/// Kind of an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AdapterKind {
    /// A GPU with its own memory.
    Discrete,
    /// A GPU that shares the memory of the CPU.
    Integrated,
    /// A GPU in a virtual machine.
    Virtual,
    /// Not reported by the driver.
    Unknown,
    /// The CPU: correct and slow, never chosen by default.
    Software,
}

impl AdapterKind {
    fn of(info: &wgpu::AdapterInfo) -> Self {
        let name = info.name.to_lowercase();
        let software = [
            "llvmpipe",
            "softpipe",
            "swiftshader",
            "lavapipe",
            "basic render",
        ];
        if software.iter().any(|known| name.contains(known)) {
            return Self::Software;
        }
        match info.device_type {
            wgpu::DeviceType::DiscreteGpu => Self::Discrete,
            wgpu::DeviceType::IntegratedGpu => Self::Integrated,
            wgpu::DeviceType::VirtualGpu => Self::Virtual,
            wgpu::DeviceType::Cpu => Self::Software,
            wgpu::DeviceType::Other => Self::Unknown,
        }
    }

    /// Whether it is a GPU, as opposed to software on the CPU.
    pub fn is_real(self) -> bool {
        self != Self::Software
    }
}

/// One adapter, as `brillm devices` lists it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct AdapterReport {
    /// Its index in the list, accepted by `--adapter`.
    pub index: usize,
    /// Name in the driver.
    pub name: String,
    /// `vulkan`, `metal`, `dx12` or `gl`.
    pub backend: &'static str,
    /// Kind.
    pub kind: AdapterKind,
    /// Driver and version.
    pub driver: String,
    /// Bytes of a buffer that a kernel can bind at most.
    pub binding_bytes: u64,
    /// Bytes of a buffer at most.
    pub buffer_bytes: u64,
    /// Storage buffers that a kernel can bind at most.
    pub storage_buffers: u32,
    /// Threads of a workgroup at most.
    pub workgroup_threads: u32,
    /// Size of the smallest and the largest subgroup; none where kernels cannot use them.
    pub subgroups: Option<[u32; 2]>,
    /// Whether compiled pipelines can be stored on disk.
    pub pipeline_cache: bool,
    /// Whether it has 16-bit arithmetic, which the kernels do not need.
    pub f16_arithmetic: bool,
    /// Kernels that are used on it: `lanes with subgroups`, `lanes` or `thread`.
    pub kernels: &'static str,
    /// Why it cannot be used.
    pub refused: Option<String>,
}

/// An adapter that can be opened.
pub struct Adapter {
    pub(super) raw: wgpu::Adapter,
    report: AdapterReport,
}

impl std::fmt::Debug for Adapter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.report.fmt(formatter)
    }
}

/// Choice of an adapter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AdapterChoice {
    /// The best GPU; an error where there is none.
    #[default]
    Real,
    /// The best GPU, else a software adapter.
    Any,
    /// The one with this index, or the first whose backend, name and driver contain all these words.
    Named(String),
}

impl Adapter {
    /// List all adapters, the most suitable first.
    pub fn all() -> Vec<Self> {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
        // Our own kernels compute dispatch sizes within the limits; checking them again on the device would double
        // the dispatches of a step.
        descriptor
            .flags
            .remove(wgpu::InstanceFlags::VALIDATION_INDIRECT_CALL);
        let instance = wgpu::Instance::new(descriptor);
        let wanted = wgpu::Backends::VULKAN
            | wgpu::Backends::METAL
            | wgpu::Backends::DX12
            | wgpu::Backends::GL;
        let mut all: Vec<Self> = pollster::block_on(instance.enumerate_adapters(wanted))
            .into_iter()
            .map(Self::examined)
            .collect();
        all.sort_by_key(|adapter| {
            let report = &adapter.report;
            (
                report.refused.is_some(),
                report.kind,
                report.backend == "gl",
            )
        });
        for (index, adapter) in all.iter_mut().enumerate() {
            adapter.report.index = index;
        }
        all
    }

    /// Whether this machine may have a GPU. Cheap: loads no driver, which takes a while and may write to standard error.
    fn may_be_real() -> bool {
        // On Linux a GPU has a device file: of the kernel's drivers, NVIDIA's, WSL's, or those of phones.
        let known = ["renderD", "nvidia", "dxg", "kgsl", "mali", "pvr"];
        !cfg!(target_os = "linux")
            || ["/dev", "/dev/dri"]
                .iter()
                .filter_map(|folder| std::fs::read_dir(folder).ok())
                .flatten()
                .flatten()
                .any(|entry| {
                    let name = entry.file_name();
                    known
                        .iter()
                        .any(|known| name.to_string_lossy().starts_with(known))
                })
    }

    /// Find the chosen adapter.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] when there is none, with the adapters found and the reasons for refusing them.
    pub fn choose(choice: &AdapterChoice) -> Result<Self> {
        if *choice == AdapterChoice::Real && !Self::may_be_real() {
            return Err(
                Error::new(ErrorKind::Unsupported, "this machine has no GPU")
                    .advice("use --backend cpu, or run `brillm devices` for the list"),
            );
        }
        let all = Self::all();
        let found: Vec<String> = all
            .iter()
            .map(|adapter| adapter.report.to_string())
            .collect();
        let fits = |adapter: &Self| match choice {
            AdapterChoice::Real => {
                adapter.report.kind.is_real() && adapter.report.refused.is_none()
            }
            AdapterChoice::Any => adapter.report.refused.is_none(),
            AdapterChoice::Named(name) => adapter.report.is_named(name),
        };
        let Some(adapter) = all.into_iter().find(fits) else {
            let what = match (choice, found.is_empty()) {
                (_, true) => "no graphics driver is installed".to_string(),
                (AdapterChoice::Named(name), _) => {
                    format!("no adapter matches {name:?}; found: {}", found.join("; "))
                }
                (AdapterChoice::Real, _) => {
                    format!("no GPU can be used; found: {}", found.join("; "))
                }
                (AdapterChoice::Any, _) => {
                    format!("no adapter can be used; found: {}", found.join("; "))
                }
            };
            return Err(Error::new(ErrorKind::Unsupported, what)
                .advice("use --backend cpu, or run `brillm devices` for the list"));
        };
        match &adapter.report.refused {
            Some(reason) => Err(Error::new(ErrorKind::Unsupported, reason.clone())
                .at(format!("adapter {}", adapter.report))
                .advice("use --backend cpu, or run `brillm devices` for the list")),
            None => Ok(adapter),
        }
    }

    fn examined(raw: wgpu::Adapter) -> Self {
        let (info, limits, features) = (raw.get_info(), raw.limits(), raw.features());
        let kind = AdapterKind::of(&info);
        let subgroups = features
            .contains(wgpu::Features::SUBGROUP)
            .then_some([info.subgroup_min_size, info.subgroup_max_size]);
        let report = AdapterReport {
            index: 0,
            name: info.name.clone(),
            backend: match info.backend {
                wgpu::Backend::Vulkan => "vulkan",
                wgpu::Backend::Metal => "metal",
                wgpu::Backend::Dx12 => "dx12",
                wgpu::Backend::Gl => "gl",
                _ => "other",
            },
            kind,
            driver: format!("{} {}", info.driver, info.driver_info)
                .trim()
                .to_string(),
            binding_bytes: limits.max_storage_buffer_binding_size,
            buffer_bytes: limits.max_buffer_size,
            storage_buffers: limits.max_storage_buffers_per_shader_stage,
            workgroup_threads: limits.max_compute_invocations_per_workgroup,
            subgroups,
            pipeline_cache: features.contains(wgpu::Features::PIPELINE_CACHE),
            f16_arithmetic: features.contains(wgpu::Features::SHADER_F16),
            kernels: match (kind.is_real(), subgroups) {
                (false, _) => "thread",
                (true, Some(_)) => "lanes with subgroups",
                (true, None) => "lanes",
            },
            refused: refusal(&raw, &limits),
        };
        Self { raw, report }
    }

    /// Description and capabilities of the adapter.
    pub fn report(&self) -> &AdapterReport {
        &self.report
    }
}

/// Find why the kernels cannot run on an adapter, if they cannot.
fn refusal(raw: &wgpu::Adapter, limits: &wgpu::Limits) -> Option<String> {
    let flags = raw.get_downlevel_capabilities().flags;
    let lacks = |flag, what: &str| (!flags.contains(flag)).then(|| format!("it has no {what}"));
    lacks(wgpu::DownlevelFlags::COMPUTE_SHADERS, "compute shaders")
        .or_else(|| {
            lacks(
                wgpu::DownlevelFlags::INDIRECT_EXECUTION,
                "indirect dispatches",
            )
        })
        .or_else(|| {
            let flag = wgpu::DownlevelFlags::SHADER_F16_IN_F32;
            lacks(flag, "conversion of 16-bit numbers")
        })
        .or_else(|| {
            (limits.max_storage_buffers_per_shader_stage < STORAGE_BUFFERS).then(|| {
                format!(
                    "its kernels can bind {} storage buffers, {STORAGE_BUFFERS} are needed",
                    limits.max_storage_buffers_per_shader_stage
                )
            })
        })
        .or_else(|| {
            (limits.max_compute_invocations_per_workgroup < THREADS).then(|| {
                format!(
                    "its workgroups have {} threads, {THREADS} are needed",
                    limits.max_compute_invocations_per_workgroup
                )
            })
        })
}

impl AdapterReport {
    fn is_named(&self, name: &str) -> bool {
        if let Ok(index) = name.parse::<usize>() {
            return self.index == index;
        }
        let own = format!("{} {} {}", self.backend, self.name, self.driver).to_lowercase();
        name.to_lowercase()
            .split_whitespace()
            .all(|word| own.contains(word))
    }
}

impl std::fmt::Display for AdapterReport {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            AdapterKind::Discrete => "discrete",
            AdapterKind::Integrated => "integrated",
            AdapterKind::Virtual => "virtual",
            AdapterKind::Unknown => "unknown kind",
            AdapterKind::Software => "software",
        };
        write!(formatter, "{} ({}, {kind})", self.name, self.backend)
    }
}
