//! Looking before a choice: energies, scores, and the likeliest next nodes.

use super::Decoder;
use crate::Result;
use crate::graph::NodeId;
use crate::kernel::gpu::select::Mode;
use crate::signal::EdgeForm;

/// A number for each node, lane after lane. `[B][V]`
type OfNodes = Vec<Vec<f32>>;

/// The likeliest next nodes of one lane.
#[derive(Clone, Debug, PartialEq)]
pub struct Nearest {
    /// ln Σ e^score over all nodes that may follow.
    pub normaliser: f64,
    /// Scores and nodes, by node.
    pub nodes: Vec<(f32, u32)>,
}

impl Decoder {
    /// Energies and scores of all V nodes as the next one of each lane. `[B][V]`, `[B][V]`
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn look(&mut self) -> Result<(OfNodes, OfNodes)> {
        let at = self.at;
        let v = self.mechanism.mechanism().nodes();
        let mut program = self.take(Mode::Logits)?;
        self.write_sequences();
        self.write_integers(0, &[0u32; 4]);
        let mechanism = self.mechanism.clone();
        let mut fans = mechanism.fans();
        if let Some(fans) = &mut fans {
            self.bring(fans)?;
        }
        let count = (at.normalisers - at.energies) as usize;
        let all: Vec<f32> =
            program.submit_and_read(1, &self.floats, u64::from(at.energies) * 4, count)?;
        self.programs[Mode::Logits as usize] = Some(program);
        self.check_question()?;
        let signals: Vec<f32> =
            self.mechanism
                .device()
                .read(&self.floats, 0, self.sequences * at.sequence as usize)?;
        let (profile, graph) = (
            mechanism.mechanism().profile(),
            mechanism.mechanism().graph(),
        );
        let (mut energies, mut logits) = (Vec::new(), Vec::new());
        for (sequence, &(node, ..)) in self.state.iter().enumerate() {
            let own = &all[sequence * at.stride as usize..];
            let mut row = match profile.form {
                EdgeForm::Own => vec![own[0]; v],
                EdgeForm::Composed => {
                    let start = (at.dots - at.energies) as usize + sequence * v;
                    let record = &signals[sequence * at.sequence as usize + at.output as usize..];
                    let square: f32 = record[..profile.width].iter().map(|h| h * h).sum();
                    all[start..start + v]
                        .iter()
                        .zip(&mechanism.mechanism().target_norm2)
                        .map(|(&dot, &rest)| (square + 2.0 * dot + rest).max(0.0))
                        .collect()
                }
            };
            if fans.is_some() {
                let fan = graph.fan(NodeId(node));
                let first = graph.own_slots(NodeId(node)).start;
                for (&target, &edge_row) in fan.targets.iter().zip(fan.edge_rows) {
                    if edge_row > 0 {
                        row[target as usize] = own[1 + edge_row as usize - first];
                    }
                }
            }
            energies.push(row);
            let start = (at.logits - at.energies) as usize + sequence * v;
            logits.push(all[start..start + v].to_vec());
        }
        Ok((energies, logits))
    }

    /// The likeliest next nodes of each lane, as many as the decoder was made to list; banned nodes are in
    /// the normaliser and not in the list.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn nearest(&mut self) -> Result<Vec<Nearest>> {
        let (at, sequences, list) = (self.at, self.sequences, self.list);
        let mut program = self.take(Mode::List)?;
        self.write_sequences();
        self.write_integers(0, &[0u32; 4]);
        let mechanism = self.mechanism.clone();
        let mut fans = mechanism.fans();
        if let Some(fans) = &mut fans {
            self.bring(fans)?;
        }
        let count = (at.lambda - at.normalisers) as usize;
        let floats: Vec<f32> =
            program.submit_and_read(1, &self.floats, u64::from(at.normalisers) * 4, count)?;
        self.programs[Mode::List as usize] = Some(program);
        self.check_question()?;
        let device = self.mechanism.device();
        let counts: Vec<u32> = device.read(&self.integers, u64::from(at.next) * 4, sequences)?;
        let nodes: Vec<u32> =
            device.read(&self.integers, u64::from(at.listed) * 4, sequences * list)?;
        let logits = &floats[(at.listed_logits - at.normalisers) as usize..];
        Ok((0..sequences)
            .map(|sequence| {
                let range =
                    sequence * list..sequence * list + (counts[sequence] as usize).min(list);
                Nearest {
                    normaliser: f64::from(floats[sequence]),
                    nodes: logits[range.clone()]
                        .iter()
                        .copied()
                        .zip(nodes[range].iter().copied())
                        .collect(),
                }
            })
            .collect())
    }
}
