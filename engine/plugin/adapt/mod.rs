//! From the tables of plugins to the engine's traits: one file a family of hooks.
//!
//! Every answer is checked before anything of it is used, and then used whole.

mod cache;
mod choice;
mod corpus;
mod graph;
mod learning;
mod probe;
mod subject;

use std::ffi::c_void;
use std::sync::Arc;

use brillm_abi as abi;

use crate::hook::{Hooks, Shader};
use crate::plugin::instance::Instance;
use crate::plugin::{HOOKS, library};
use crate::{Error, ErrorKind, Result};

/// The index of a hook.
const fn index(hook: &str) -> usize {
    let mut place = 0;
    while place < HOOKS.len() {
        if same(HOOKS[place], hook) {
            return place;
        }
        place += 1;
    }
    panic!("there is no such hook")
}

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut place = 0;
    while place < a.len() {
        if a[place] != b[place] {
            return false;
        }
        place += 1;
    }
    true
}

/// Numbers to read. `[…]`
fn tensor(values: &[f32], shape: &[usize]) -> abi::brl_tensor {
    view(
        values.as_ptr().cast(),
        abi::BRL_F32,
        values.is_empty(),
        shape,
    )
}

/// Bytes to read. `[T]`
fn bytes(values: &[u8]) -> abi::brl_tensor {
    view(
        values.as_ptr().cast(),
        abi::BRL_U8,
        values.is_empty(),
        &[values.len()],
    )
}

fn view(ptr: *const c_void, dtype: u32, empty: bool, shape: &[usize]) -> abi::brl_tensor {
    let mut tensor = abi::brl_tensor {
        ptr: if empty { std::ptr::null() } else { ptr },
        dtype,
        rank: shape.len() as u32,
        shape: [0; 4],
        stride: [0; 4],
    };
    let mut step = 1;
    for (axis, &size) in shape.iter().enumerate().rev() {
        tensor.shape[axis] = size as u64;
        tensor.stride[axis] = step;
        step *= size as i64;
    }
    tensor
}

fn ids(values: &[u32]) -> abi::brl_ids {
    abi::brl_ids {
        ptr: values.as_ptr(),
        len: values.len() as u64,
    }
}

const fn size<T>() -> u64 {
    size_of::<T>() as u64
}

/// A hook and the instance that answers it.
struct Asked<T> {
    instance: Arc<Instance>,
    table: T,
}

// SAFETY: tables hold numbers and `[instance]` functions of a library that stays loaded; the instance lets one call at
// a time through.
unsafe impl<T> Send for Asked<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Asked<T> {}

/// Finds the table of a hook where the plugin answers it.
fn find<T: Copy>(instance: &Arc<Instance>, hook: &str) -> Option<Asked<T>> {
    let table = instance.code.table_of::<T>(hook)?;
    Some(Asked {
        instance: instance.clone(),
        table,
    })
}

fn lacks(instance: &Instance, hook: &str, function: &str) -> Error {
    Error::new(
        ErrorKind::Plugin,
        format!("its table of {hook} has no function {function}"),
    )
    .at(format!("plugin {}", instance.id()))
}

/// Puts an instance into the hooks of a run.
///
/// # Errors
/// [`ErrorKind::Configuration`] when two plugins answer a question that only one may; [`ErrorKind::Plugin`] for a
/// table without its function.
pub(crate) fn install(instance: &Arc<Instance>, hooks: &mut Hooks) -> Result<()> {
    let twice = |hook: &str| {
        Error::new(
            ErrorKind::Configuration,
            format!("another plugin answers {hook} already, which only one may"),
        )
        .at(format!("plugin {}", instance.id()))
    };
    cache::install(instance, hooks, &twice)?;
    choice::install(instance, hooks, &twice)?;
    learning::install(instance, hooks, &twice)?;
    corpus::install(instance, hooks, &twice)?;
    probe::install(instance, hooks)?;
    graph::install(instance, hooks, &twice)?;
    for hook in super::SHADER_HOOKS {
        if let Some(table) = instance
            .code
            .table_of::<abi::brl_wgsl>(&format!("wgsl/1:{hook}"))
        {
            // SAFETY: the strings are constants of a library that stays loaded.
            let (source, entry_point) = unsafe {
                (
                    library::text(table.source),
                    library::text(table.entry_point),
                )
            };
            let shader = Shader {
                hook: hook.to_string(),
                source,
                entry_point,
                workgroup: u32::try_from(table.workgroup).unwrap_or(0),
            };
            #[cfg(feature = "gpu")]
            super::shader::validate(&shader)
                .map_err(|error| error.at(format!("plugin {}", instance.id())))?;
            if instance.code.table_of::<abi::brl_edge>(hook).is_none() {
                return Err(Error::new(
                    ErrorKind::Plugin,
                    format!("it has a shader for {hook} and does not answer {hook}"),
                )
                .at(format!("plugin {}", instance.id())));
            }
            hooks.shaders.push(shader);
        }
    }
    Ok(())
}
