//! Options for the backend of a command: `--backend` and `--adapter`.

use clap::Args;

#[cfg(feature = "gpu")]
use crate::run::BackendChoice;
use crate::{Error, ErrorKind, Result};

/// Backend of a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Backend {
    /// A GPU if there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The best GPU, else a software adapter.
    Gpu,
}

/// Backend options.
#[derive(Args, Clone, Debug)]
pub(super) struct BackendArguments {
    /// Backend to run on.
    #[arg(long, value_enum, default_value_t)]
    backend: Backend,
    /// Adapter to run on: its index or a part of its name, as listed by `brillm devices`.
    #[arg(long, value_name = "NAME")]
    adapter: Option<String>,
    /// Memory limit for edges on the adapter while decoding, in MiB; edges beyond it are uploaded when a path needs them
    /// [default: no limit].
    #[arg(long, value_name = "MIB")]
    device_memory: Option<u64>,
    /// Kernel shape for reading edges: `lanes` (a group of threads per edge) or `thread` (one thread per edge)
    /// [default: chosen for the adapter].
    #[arg(long, value_name = "SHAPE")]
    kernels: Option<String>,
    /// Measure the time of every kernel on the adapter, and print a table at the end.
    #[arg(long)]
    profile: bool,
}

impl BackendArguments {
    /// Check that the options fit together and that this build supports them.
    pub(super) fn check(&self) -> Result<()> {
        let of_device = [
            ("--adapter", self.adapter.is_some()),
            ("--device-memory", self.device_memory.is_some()),
            ("--kernels", self.kernels.is_some()),
            ("--profile", self.profile),
        ];
        if self.backend == Backend::Cpu
            && let Some((option, _)) = of_device.iter().find(|(_, given)| *given)
        {
            return Err(Error::new(
                ErrorKind::Configuration,
                format!("{option} contradicts --backend cpu"),
            )
            .advice("remove one of them"));
        }
        let wanted = self.backend == Backend::Gpu
            || self.adapter.is_some()
            || self.device_memory.is_some()
            || self.kernels.is_some()
            || self.profile;
        if wanted && cfg!(not(feature = "gpu")) {
            return Err(
                Error::new(ErrorKind::Unsupported, "this build has no GPU backend")
                    .advice("use --backend cpu or auto, or build with the feature `gpu`"),
            );
        }
        Ok(())
    }

    /// Whether the CPU may be used: neither a GPU nor an adapter was asked for.
    pub(super) fn allows_cpu(&self) -> bool {
        self.backend != Backend::Gpu && self.adapter.is_none()
    }

    /// Check that the model runs on the requested backend.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a transformer on a GPU.
    pub(super) fn check_model(&self, engine: &crate::Engine) -> Result<()> {
        self.check()?;
        if !self.allows_cpu() && engine.as_graph().is_none() {
            return Err(
                Error::new(ErrorKind::Unsupported, "transformers run on the CPU only")
                    .at(engine.name())
                    .advice("use --backend cpu or auto"),
            );
        }
        Ok(())
    }

    /// The requested backend.
    #[cfg(feature = "gpu")]
    pub(super) fn choice(&self) -> BackendChoice {
        match (self.backend, &self.adapter) {
            (_, Some(name)) => BackendChoice::Adapter(name.clone()),
            (Backend::Auto, None) => BackendChoice::Auto,
            (Backend::Cpu, None) => BackendChoice::Cpu,
            (Backend::Gpu, None) => BackendChoice::Gpu,
        }
    }

    #[cfg(feature = "gpu")]
    fn options(&self) -> Result<crate::kernel::gpu::DeviceOptions> {
        Ok(crate::kernel::gpu::DeviceOptions {
            shape: self.kernels.as_deref().map(str::parse).transpose()?,
            fan_bytes: self
                .device_memory
                .map(|mebibytes| mebibytes.saturating_mul(1 << 20)),
            profile: self.profile,
            ..Default::default()
        })
    }

    /// Upload a graph to the device, where one is used; transformers run on the CPU.
    #[cfg(feature = "gpu")]
    pub(super) fn upload(
        &self,
        engine: &crate::Engine,
        hooks: &crate::hook::Hooks,
    ) -> Result<Option<std::sync::Arc<crate::signal::DeviceMechanism>>> {
        self.check_model(engine)?;
        let Some(model) = engine.as_graph() else {
            return Ok(None);
        };
        if !hooks.flow_on_device() {
            // Plugins without shaders are called at every step, which a device does not stop for.
            if !self.choice().is_forced() {
                return Ok(None);
            }
            return Err(Error::new(
                ErrorKind::Unsupported,
                "plugins without shaders run on the CPU only",
            )
            .advice("remove --plugin, or pass --backend cpu or auto"));
        }
        let uploaded = crate::run::mechanism_on(
            &self.choice(),
            self.options()?,
            model.mechanism(),
            hooks,
            &mut super::warn,
        )?;
        if let Some(uploaded) = uploaded.as_ref().filter(|_| self.profile) {
            keep(uploaded.device());
        }
        Ok(uploaded)
    }

    /// Open the device; `None` for the CPU.
    #[cfg(feature = "gpu")]
    pub(super) fn device(&self) -> Result<Option<crate::kernel::gpu::Device>> {
        self.check()?;
        let device = crate::run::device_for(&self.choice(), self.options()?, &mut super::warn)?;
        if let Some(device) = device.as_ref().filter(|_| self.profile) {
            keep(device);
        }
        Ok(device)
    }
}

/// The device whose kernels are measured.
#[cfg(feature = "gpu")]
static PROFILED: std::sync::Mutex<Option<crate::kernel::gpu::Device>> = std::sync::Mutex::new(None);

#[cfg(feature = "gpu")]
fn keep(device: &crate::kernel::gpu::Device) {
    if let Ok(mut profiled) = PROFILED.lock() {
        *profiled = Some(device.clone());
    }
}

/// Print the times of the kernels of --profile on standard error.
#[cfg(feature = "gpu")]
pub(super) fn say_kernel_times() {
    // Taken out: a device stores its compiled kernels when its last handle is dropped.
    let device = PROFILED.lock().ok().and_then(|mut device| device.take());
    let Some(times) = device.and_then(|device| device.kernel_times()) else {
        return;
    };
    let calls: u64 = times.iter().map(|time| time.calls).sum();
    let all: f64 = times.iter().map(|time| time.microseconds).sum();
    super::say_error(format_args!(
        "{:>10} {:>10} {:>12} {:>8} {:>7}  kernel",
        "calls", "µs each", "ms", "GB/s", "share"
    ));
    for time in &times {
        super::say_error(format_args!(
            "{:>10} {:>10.2} {:>12.2} {:>8} {:>6.1}%  {}",
            time.calls,
            time.microseconds / time.calls.max(1) as f64,
            time.microseconds / 1e3,
            // Unknown where the bytes depend on the path.
            time.gb_per_s
                .map_or_else(|| "-".into(), |speed| format!("{speed:.2}")),
            100.0 * time.share,
            time.kernel
        ));
    }
    super::say_error(format_args!(
        "{calls:>10} {:>10} {:>12.2}                   all",
        "",
        all / 1e3
    ));
}
