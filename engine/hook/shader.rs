//! `wgsl/1:<hook>`: another hook's function as a shader.

/// WGSL source of the same function as a hook's, to run where the data is.
///
/// The function on the processor is the meaning, the shader a way to be faster: it is validated, compared with
/// the function on the processor, and only then used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shader {
    /// The hook whose function it is, for example `edge/1`.
    pub hook: String,
    /// The module.
    pub source: String,
    /// Its compute entry point.
    pub entry_point: String,
    /// Invocations in a workgroup, as the module declares.
    pub workgroup: u32,
}
