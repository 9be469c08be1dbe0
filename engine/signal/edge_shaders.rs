//! Plugins' shaders of `edge/1`: compiled for a device, and compared with the functions of their hooks.

use std::sync::Arc;

use crate::graph::NodeId;
use crate::hook::{Answer, Call, Edge, Fan, Hooks, Shader};
use crate::kernel::gpu::resist::{EdgeShader, ShaderBuffers};
use crate::kernel::gpu::{Buffer, Device, Program};
use crate::signal::{Mechanism, Start};
use crate::{Error, ErrorKind, Result};

/// Largest difference of a shader's resistance from the function's, relative to 1 or the resistance.
const TOLERANCE: f32 = 1e-5;
/// Sequence number of the comparison's calls, which no run uses.
const SEQUENCE: u64 = u64::MAX;

/// The shaders of a run.
pub(crate) struct EdgeShaders {
    /// In the order of the run's configuration.
    pub chain: Vec<EdgeShader>,
    /// First edge of each node `[V + 1]`, then of each edge its target `[E]`, edge row `[E]` and count `[E]`.
    pub edges: Buffer,
}

impl EdgeShaders {
    /// Compile the shaders of the hooks of `edge/1`; `None` without such hooks.
    ///
    /// # Errors
    /// [`ErrorKind::Plugin`] for a shader whose results differ from its function's; errors of the device.
    pub fn compile(device: &Device, mechanism: &Mechanism, hooks: &Hooks) -> Result<Option<Self>> {
        if hooks.edge.is_empty() {
            return Ok(None);
        }
        let Some(pairs) = hooks.edge_shaders() else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "a plugin with the hook edge/1 has no shader",
            )
            .advice("use --backend cpu or auto"));
        };
        let graph = mechanism.graph();
        let counts = (0..graph.nodes() as u32)
            .flat_map(|node| graph.fan(NodeId(node)).counts.iter().copied());
        let edges: Vec<u32> = graph
            .rows()
            .iter()
            .chain(graph.targets())
            .chain(graph.edge_rows())
            .copied()
            .chain(counts)
            .collect();
        let mut chain = Vec::new();
        for (index, (edge, shader)) in pairs.into_iter().enumerate() {
            let Shader {
                source,
                entry_point,
                ..
            } = shader;
            let compiled = EdgeShader::compile(device, source, entry_point, shader.workgroup)
                .and_then(|compiled| {
                    compare(device, mechanism, edge, &compiled)?;
                    Ok(compiled)
                });
            chain.push(compiled.map_err(|error| {
                error.at(format!("wgsl/1:{}, number {}", shader.hook, index + 1))
            })?);
        }
        Ok(Some(Self {
            chain,
            edges: device.upload(&edges, "the graph of shaders")?,
        }))
    }
}

/// Compare a shader with its function at the first node, the last, and the one with the widest fan.
fn compare(
    device: &Device,
    mechanism: &Mechanism,
    edge: &Arc<dyn Edge>,
    shader: &EdgeShader,
) -> Result<()> {
    let (graph, v) = (mechanism.graph(), mechanism.nodes());
    let buffers = ShaderBuffers::new(device, 1, v)?;
    let mut program = Program::new(device, 1)?;
    buffers.dispatch(&mut program, shader, 0)?;
    let widest = (0..v as u32).max_by_key(|&node| graph.fan(NodeId(node)).len());
    let (mut energies, mut logits) = (vec![0.0; v], vec![0.0; v]);
    for (step, source) in [Some(0), widest, Some(v as u32 - 1)]
        .into_iter()
        .flatten()
        .enumerate()
    {
        let flow = mechanism.begin(source, &Start::Profile)?;
        mechanism.energies(&flow, &mut energies)?;
        mechanism.logits(&flow, &energies, &mut logits);
        let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        // As in a run: hooks see resistances above the least, −ln p + const = top − logit.
        let before: Vec<f32> = logits.iter().map(|logit| top - logit).collect();
        let own = graph.fan(NodeId(source));
        let fan = Fan {
            source,
            energies: &energies,
            targets: own.targets,
            counts: own.counts,
        };
        let mut expected = before.clone();
        let call = Call::new(0, SEQUENCE, step as u64);
        if edge.resist(&call, &fan, &mut expected)? == Answer::Declined {
            expected.copy_from_slice(&before);
        }
        // A shader reads a count for each of the V nodes, the function a list of counted edges.
        let mut counts = vec![0u32; v];
        for (&target, &count) in own.targets.iter().zip(own.counts) {
            counts[target as usize] = count;
        }
        buffers.write(device, [source, step as u32], &energies, &counts, &before);
        let found: Vec<f32> = program.submit_and_read(1, &buffers.resistances, 0, v)?;
        let differs = found.iter().zip(&expected).position(|(found, expected)| {
            // Infinite resistances are equal, but their difference is NaN: equality is tested too.
            let near = (found - expected).abs() <= TOLERANCE * expected.abs().max(1.0);
            found != expected && !near
        });
        if let Some(node) = differs {
            return Err(Error::new(
                ErrorKind::Plugin,
                format!(
                    "the shader computes a resistance of {} for the edge {source} to {node}, its function {}",
                    found[node], expected[node]
                ),
            )
            .advice("make both compute the same, or use --backend cpu"));
        }
    }
    Ok(())
}
