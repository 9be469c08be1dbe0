//! Choice of the backend: the CPU or a device.

use std::sync::Arc;

use crate::hook::Hooks;
use crate::kernel::gpu::{Adapter, AdapterChoice, Device, DeviceOptions};
use crate::signal::{DeviceMechanism, Mechanism};
use crate::{Error, Result};

/// Requested backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BackendChoice {
    /// A GPU where there is one that works, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The best GPU, else a software adapter with a warning.
    Gpu,
    /// The adapter with this index or name.
    Adapter(String),
}

impl BackendChoice {
    /// Whether failure of the device is an error rather than a reason to use the CPU.
    pub fn is_forced(&self) -> bool {
        matches!(self, Self::Gpu | Self::Adapter(_))
    }
}

/// Open the device of a choice; `None` for the CPU. Passes warnings for the user to `warn`.
///
/// # Errors
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) when a device was requested by name or kind and there is none.
pub fn device_for(
    choice: &BackendChoice,
    options: DeviceOptions,
    warn: &mut dyn FnMut(&str),
) -> Result<Option<Device>> {
    let wanted = match choice {
        BackendChoice::Cpu => return Ok(None),
        BackendChoice::Auto => AdapterChoice::Real,
        BackendChoice::Gpu => AdapterChoice::Any,
        BackendChoice::Adapter(name) => AdapterChoice::Named(name.clone()),
    };
    let opened = Adapter::choose(&wanted).and_then(|adapter| {
        if *choice == BackendChoice::Gpu && !adapter.report().kind.is_real() {
            warn(&format!(
                "found no GPU; using {}, which computes on the CPU and is slower than --backend cpu",
                adapter.report()
            ));
        }
        Device::open(&adapter, options)
    });
    match opened {
        Ok(device) => Ok(Some(device)),
        Err(error) if choice.is_forced() => Err(error),
        // Having no adapter is common, and no reason for a warning.
        Err(_) => Ok(None),
    }
}

/// Upload a mechanism to the device of a choice, with the shaders of these hooks; `None` for the CPU.
///
/// # Errors
/// As [`device_for`]; errors of the upload, where a device was requested.
pub fn mechanism_on(
    choice: &BackendChoice,
    options: DeviceOptions,
    mechanism: &Arc<Mechanism>,
    hooks: &Hooks,
    warn: &mut dyn FnMut(&str),
) -> Result<Option<Arc<DeviceMechanism>>> {
    let Some(device) = device_for(choice, options, warn)? else {
        return Ok(None);
    };
    let uploaded = DeviceMechanism::upload(&device, mechanism.clone())
        .and_then(|on_device| on_device.with_hooks(hooks));
    match uploaded {
        Ok(mechanism) => Ok(Some(Arc::new(mechanism))),
        Err(error) if choice.is_forced() => Err(error),
        Err(error) => {
            warn(&taken_over(&error));
            Ok(None)
        }
    }
}

/// The warning when the CPU takes over.
pub(crate) fn taken_over(error: &Error) -> String {
    format!("continuing on the CPU: {error}")
}
