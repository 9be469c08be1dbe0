// Functions: how banks blend signals over time, bank ← c + λ (bank − c), forward and backward.
// The kernel declares `floats` and `values`. CPU: engine/kernel/blend.rs. After: activation.wgsl.

// POSITION: λ of each step is given. DECAY: λ = σ(decay). GATED: λ = σ(decay + gate of the node + signal · gate_signal).
override BLEND: u32 = 0u;
override D: u32 = 32u;
override W: u32 = 32u;
override BANKS: u32 = 1u;

const POSITION: u32 = 0u;
const DECAY: u32 = 1u;
const GATED: u32 = 2u;

// λ of bank column j. `decay` [K W] and `gate_signal` [D, K W] are offsets in values, `signal` [W] in floats;
// `node_gate` counts in gated blends only.
fn blend_weight(decay: u32, gate_signal: u32, node_gate: f32, signal: u32, j: u32) -> f32 {
    var gate = values[decay + j];
    if BLEND == GATED {
        gate += node_gate;
        for (var k = 0u; k < D; k += 1u) {
            gate = fma(floats[signal + k], values[gate_signal + k * BANKS * W + j], gate);
        }
    }
    return sigmoid(gate);
}
