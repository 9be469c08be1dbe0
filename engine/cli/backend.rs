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
}

impl BackendArguments {
    /// Refuses what this build cannot do.
    pub(super) fn check(&self) -> Result<()> {
        if self.backend == Backend::Cpu && self.adapter.is_some() {
            return Err(Error::new(
                ErrorKind::Configuration,
                "--adapter and --backend cpu contradict each other",
            )
            .advice("leave one of them out"));
        }
        let wanted = self.backend == Backend::Gpu || self.adapter.is_some();
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

    /// The model's mechanism on the device, where one is used.
    #[cfg(feature = "gpu")]
    pub(super) fn put(
        &self,
        model: &crate::Model,
        hooks: &crate::hook::Hooks,
    ) -> Result<Option<std::sync::Arc<crate::signal::DeviceMechanism>>> {
        self.check()?;
        if !hooks.is_empty() {
            // Plugins see every step where it is taken.
            return match self.choice().is_forced() {
                false => Ok(None),
                true => Err(Error::new(
                    ErrorKind::Unsupported,
                    "plugins are asked on the processor",
                )
                .advice("leave --plugin out, or use --backend cpu or auto")),
            };
        }
        crate::run::mechanism_on(&self.choice(), model.mechanism(), &mut super::warn)
    }

    /// The device, where one is used.
    #[cfg(feature = "gpu")]
    pub(super) fn device(&self) -> Result<Option<crate::kernel::gpu::Device>> {
        self.check()?;
        crate::run::device_for(&self.choice(), &mut super::warn)
    }
}
