//! Where a command runs: `--backend` and `--adapter`.

use clap::Args;

#[cfg(feature = "gpu")]
use crate::run::BackendChoice;
use crate::{Error, ErrorKind, Result};

/// The backend a command runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Backend {
    /// A real graphics processor where there is one, else the processor.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// The best graphics processor, else a software adapter.
    Gpu,
}

/// Where to run.
#[derive(Args, Clone, Debug)]
pub(super) struct BackendArguments {
    /// Where to run.
    #[arg(long, value_enum, default_value_t)]
    backend: Backend,
    /// The adapter to run on: its number or words of its name, as `brillm devices` lists them.
    #[arg(long, value_name = "NAME")]
    adapter: Option<String>,
    /// Memory of the adapter that edges may take in decoding, in MiB; the others come in as paths reach them.
    #[arg(long, value_name = "MIB")]
    device_memory: Option<u64>,
    /// The shape of the kernels that read edges, lanes or thread; by adapter otherwise.
    #[arg(long, value_name = "SHAPE")]
    kernels: Option<String>,
}

impl BackendArguments {
    /// Refuses what this build cannot do.
    pub(super) fn check(&self) -> Result<()> {
        let of_device = [
            ("--adapter", self.adapter.is_some()),
            ("--device-memory", self.device_memory.is_some()),
            ("--kernels", self.kernels.is_some()),
        ];
        if self.backend == Backend::Cpu
            && let Some((option, _)) = of_device.iter().find(|(_, given)| *given)
        {
            return Err(Error::new(
                ErrorKind::Configuration,
                format!("{option} and --backend cpu contradict each other"),
            )
            .advice("leave one of them out"));
        }
        let wanted = self.backend == Backend::Gpu
            || self.adapter.is_some()
            || self.device_memory.is_some()
            || self.kernels.is_some();
        if wanted && cfg!(not(feature = "gpu")) {
            return Err(
                Error::new(ErrorKind::Unsupported, "this build has no GPU backend")
                    .advice("use --backend cpu or auto, or build with the feature `gpu`"),
            );
        }
        Ok(())
    }

    /// What is asked for.
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
            ..Default::default()
        })
    }

    /// The model's mechanism on the device, where one is used.
    #[cfg(feature = "gpu")]
    pub(super) fn put(
        &self,
        model: &crate::Model,
        hooks: &crate::hook::Hooks,
    ) -> Result<Option<std::sync::Arc<crate::signal::DeviceMechanism>>> {
        self.check()?;
        if !hooks.flow_on_device() {
            // Plugins without shaders see every step where it is taken.
            return match self.choice().is_forced() {
                false => Ok(None),
                true => Err(Error::new(
                    ErrorKind::Unsupported,
                    "plugins without shaders are asked on the processor",
                )
                .advice("leave --plugin out, or use --backend cpu or auto")),
            };
        }
        crate::run::mechanism_on(
            &self.choice(),
            self.options()?,
            model.mechanism(),
            hooks,
            &mut super::warn,
        )
    }

    /// The device, where one is used.
    #[cfg(feature = "gpu")]
    pub(super) fn device(&self) -> Result<Option<crate::kernel::gpu::Device>> {
        self.check()?;
        crate::run::device_for(&self.choice(), self.options()?, &mut super::warn)
    }
}
