//! Validates the WGSL of plugins before it is used.
//!
//! Bindings of a shader of `edge/1`, in group 0: 0 energies, read; 1 counts, read; 2 resistance, read and write; 3 a
//! uniform of four words: source, step, V, 0.

use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{AddressSpace, ShaderStage, StorageAccess};

use crate::hook::Shader;
use crate::{Error, ErrorKind, Result};

/// Check that a module is valid WGSL with the entry point and bindings of its hook.
///
/// # Errors
/// [`ErrorKind::Plugin`], with the line of the error or the difference.
pub fn validate(shader: &Shader) -> Result<()> {
    let invalid =
        |what: String| Error::new(ErrorKind::Plugin, what).at(format!("wgsl/1:{}", shader.hook));
    let module = naga::front::wgsl::parse_str(&shader.source)
        .map_err(|error| invalid(error.emit_to_string(&shader.source)))?;
    Validator::new(ValidationFlags::all(), Capabilities::empty())
        .validate(&module)
        .map_err(|error| invalid(error.emit_to_string(&shader.source)))?;
    let entry = module
        .entry_points
        .iter()
        .find(|entry| entry.name == shader.entry_point)
        .ok_or_else(|| invalid(format!("it has no entry point {}", shader.entry_point)))?;
    if entry.stage != ShaderStage::Compute || entry.workgroup_size != [shader.workgroup, 1, 1] {
        return Err(invalid(format!(
            "{} is not a compute entry point with a workgroup of {}",
            shader.entry_point, shader.workgroup
        )));
    }
    let expected = [
        (
            0,
            AddressSpace::Storage {
                access: StorageAccess::LOAD,
            },
        ),
        (
            1,
            AddressSpace::Storage {
                access: StorageAccess::LOAD,
            },
        ),
        (
            2,
            AddressSpace::Storage {
                access: StorageAccess::LOAD | StorageAccess::STORE,
            },
        ),
        (3, AddressSpace::Uniform),
    ];
    for (_, variable) in module.global_variables.iter() {
        let Some(binding) = variable.binding else {
            continue;
        };
        let fits = binding.group == 0
            && expected
                .iter()
                .any(|(index, space)| *index == binding.binding && *space == variable.space);
        if !fits {
            return Err(invalid(format!(
                "group {}, binding {} is not a binding of {}",
                binding.group, binding.binding, shader.hook
            )));
        }
    }
    Ok(())
}
