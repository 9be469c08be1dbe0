//! Which backend a caller gets: the processor, or a device.

use std::sync::Arc;

use crate::hook::Hooks;
use crate::kernel::gpu::{Adapter, AdapterChoice, Device, DeviceOptions};
use crate::signal::{DeviceMechanism, Mechanism};
use crate::{Error, Result};

/// The backend that is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BackendChoice {
    /// A real graphics processor where there is one that works, else the processor.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// The best graphics processor, else a software adapter with a warning.
    Gpu,
    /// The adapter that this names, whatever it is.
    Adapter(String),
}

impl BackendChoice {
    /// Whether a device that fails is an error, rather than a reason to use the processor.
    pub fn is_forced(&self) -> bool {
        matches!(self, Self::Gpu | Self::Adapter(_))
    }
}

/// Opens the device that a choice comes to; `None` for the processor. `warn` is told what the user should know.
///
/// # Errors
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) when a device was asked for by name or kind and
/// there is none.
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
                "no graphics processor can be used: {} computes on the processor, and is slower than --backend cpu",
                adapter.report()
            ));
        }
        Device::open(&adapter, options)
    });
    match opened {
        Ok(device) => Ok(Some(device)),
        Err(error) if choice.is_forced() => Err(error),
        // No adapter is the usual case on a machine without one, and no reason for a warning.
        Err(_) => Ok(None),
    }
}

/// Puts a mechanism on the device that a choice comes to, with the shaders of these hooks; `None` for the
/// processor.
///
/// # Errors
/// As [`device_for`]; what putting it there runs into, where a device was asked for.
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

/// What is said when the processor takes over.
pub(crate) fn taken_over(error: &Error) -> String {
    format!("the processor takes over: {error}")
}
