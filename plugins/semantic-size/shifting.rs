//! An intervention: one node's bias is shifted along the direction of size, and the energies are read again.

use brillm_plugin::{HostModel, Result, State};

/// Shifts, in deviations of the words' own places along the direction.
pub(crate) const STEPS: [f64; 5] = [-2.0, -1.0, 0.0, 1.0, 2.0];

/// What shifting one node did in one context.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Shifted {
    pub prompt: String,
    pub word: String,
    pub node: u32,
    /// Energy at the node for each step, and −ln p of the word.
    pub energies: [f64; 5],
    pub resistances: [f64; 5],
    /// Other nodes whose energy moved by any bit, over all steps.
    pub others_moved: usize,
    /// E(+1) + E(−1) − 2 E(0) over 2 δ²: 1 where the energy is the square of a linear function, as on composed edges.
    pub curvature: f64,
}

/// Shifts a word's node after a prompt by `step · deviation · direction`.
pub(crate) fn shift(
    subject: &mut HostModel,
    prompt: &str,
    word: &str,
    node: u32,
    direction: &[f64],
    deviation: f64,
) -> Result<Shifted> {
    let nodes = subject.shape().nodes;
    let mut energies = [0.0; 5];
    let mut resistances = [0.0; 5];
    let mut all: Vec<Vec<f32>> = Vec::new();
    for ((energy, resistance), step) in energies.iter_mut().zip(&mut resistances).zip(STEPS) {
        let delta: Vec<f32> = direction
            .iter()
            .map(|x| (x * deviation * step) as f32)
            .collect();
        subject.shift(node, &delta)?;
        let seen = subject.states(State::Energy, prompt)?;
        let last = &seen[seen.len().saturating_sub(nodes)..];
        *energy = f64::from(last.get(node as usize).copied().unwrap_or(f32::NAN));
        *resistance = subject.resist(prompt, &format!(" {word}"))?.iter().sum();
        all.push(last.to_vec());
    }
    subject.shift(node, &[])?;
    let moved = |other: &[f32]| {
        other
            .iter()
            .zip(&all[2])
            .enumerate()
            .filter(|(at, (a, b))| *at != node as usize && a.to_bits() != b.to_bits())
            .count()
    };
    Ok(Shifted {
        prompt: prompt.to_string(),
        word: word.to_string(),
        node,
        others_moved: all.iter().map(|other| moved(other)).sum(),
        curvature: (energies[3] + energies[1] - 2.0 * energies[2])
            / (2.0 * deviation * deviation).max(1e-300),
        energies,
        resistances,
    })
}
