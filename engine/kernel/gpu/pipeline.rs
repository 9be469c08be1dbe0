//! Kernels: WGSL sources with their entry points and bindings, and what they are compiled into.

/// How a kernel uses one binding; binding 0 holds its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A uniform block of parameters, at an offset of its own in every dispatch.
    Parameters,
    /// Read only.
    Read,
    /// Read and written.
    Write,
}

/// A kernel as it is written.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    /// The stem of its file in `shaders/`.
    pub name: &'static str,
    /// The files of functions it uses, in order, then its own.
    pub sources: &'static [&'static str],
    /// The entry point.
    pub entry: &'static str,
    /// Its bindings, in order from 0.
    pub bindings: &'static [Access],
}

impl Kernel {
    /// The module: the files end to end.
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
}

/// The text of a shader, by its stem.
macro_rules! shader {
    ($stem:literal) => {
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/shaders/",
            $stem,
            ".wgsl"
        ))
    };
}
pub(crate) use shader;
