//! Energies, logits and the likeliest next nodes, without a choice.

use super::Decoder;
use crate::Result;
use crate::graph::NodeId;
use crate::kernel::gpu::hop::Mode;
use crate::signal::EdgeForm;

/// A number for each node of each sequence. `[B][V]`
type OfNodes = Vec<Vec<f32>>;

/// The likeliest next nodes of one sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Nearest {
    /// ln Σ exp(logit) over all nodes that may follow.
    pub normaliser: f64,
    /// Logits and nodes, by node.
    pub nodes: Vec<(f32, u32)>,
}

impl Decoder {
    /// Run the program of a mode once and read `count` floats back from an offset.
    fn run_once(&mut self, mode: Mode, offset: u32, count: u32) -> Result<Vec<f32>> {
        let mut program = self.take(mode)?;
        self.write_sequences();
        self.write_integers(0, &[0u32; 4]);
        let mechanism = self.mechanism.clone();
        let mut fans = mechanism.fans();
        if let Some(fans) = &mut fans {
            self.upload_fans(fans)?;
        }
        let offset = u64::from(offset) * 4;
        let found = program.submit_and_read(1, &self.floats, offset, count as usize)?;
        self.programs[mode as usize] = Some(program);
        self.check_shaders()?;
        Ok(found)
    }

    /// Energies and logits of all V nodes as the next one of each sequence. `[B][V]`, `[B][V]`
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn look(&mut self) -> Result<(OfNodes, OfNodes)> {
        let (at, mechanism) = (self.at, self.mechanism.clone());
        let host = mechanism.mechanism();
        let (profile, graph, v) = (host.profile(), host.graph(), host.nodes());
        // Energies, dot products and logits follow each other in the buffer: one read returns all three.
        let all = self.run_once(Mode::Logits, at.energies, at.normalisers - at.energies)?;
        // h of composed edges, for ‖h‖².
        let records: Vec<f32> =
            mechanism
                .device()
                .read(&self.floats, 0, self.sequences * at.stride as usize)?;
        let (mut energies, mut logits) = (Vec::new(), Vec::new());
        for (b, &(node, ..)) in self.state.iter().enumerate() {
            let own = &all[b * at.energies_stride as usize..];
            // The energy of the shared edge, or ‖h + β‖² = ‖h‖² + 2 h·β + ‖β‖² of composed edges.
            let mut row = match profile.form {
                EdgeForm::Own => vec![own[0]; v],
                EdgeForm::Composed | EdgeForm::Layered => {
                    let start = (at.dots - at.energies) as usize + b * v;
                    let output = &records[b * at.stride as usize + at.output as usize..];
                    let square: f32 = output[..profile.width].iter().map(|h| h * h).sum();
                    all[start..start + v]
                        .iter()
                        .zip(&host.target_norm2)
                        .map(|(&dot, &norm2)| (square + 2.0 * dot + norm2).max(0.0))
                        .collect()
                }
            };
            // Own edges, or own residuals, replace the common energy.
            if mechanism.fan_buffers() > 0 {
                let fan = graph.fan(NodeId(node));
                let first = graph.own_slots(NodeId(node)).start;
                for (&target, &edge_row) in fan.targets.iter().zip(fan.edge_rows) {
                    if edge_row > 0 {
                        row[target as usize] = own[1 + edge_row as usize - first];
                    }
                }
            }
            energies.push(row);
            let start = (at.logits - at.energies) as usize + b * v;
            logits.push(all[start..start + v].to_vec());
        }
        Ok((energies, logits))
    }

    /// The likeliest next nodes of each sequence, as many as the decoder was created to list.
    ///
    /// Banned nodes count in the normaliser and are not listed.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn nearest(&mut self) -> Result<Vec<Nearest>> {
        let (at, sequences, list) = (self.at, self.sequences, self.list);
        // So do the normalisers and the listed logits.
        let floats = self.run_once(Mode::List, at.normalisers, at.lambda - at.normalisers)?;
        let integers = |offset: u32, count: usize| -> Result<Vec<u32>> {
            let device = self.mechanism.device();
            device.read(&self.integers, u64::from(offset) * 4, count)
        };
        let counts = integers(at.next, sequences)?;
        let nodes = integers(at.listed, sequences * list)?;
        let logits = &floats[(at.listed_logits - at.normalisers) as usize..];
        Ok((0..sequences)
            .map(|b| {
                let range = b * list..b * list + (counts[b] as usize).min(list);
                let listed = logits[range.clone()].iter().copied();
                Nearest {
                    normaliser: f64::from(floats[b]),
                    nodes: listed.zip(nodes[range].iter().copied()).collect(),
                }
            })
            .collect())
    }
}
