// A node of own edges: output h = blend of the signal c = GELU(z) with the banks; then the sequence moves on.
// One workgroup a sequence. After: workgroup.wgsl, activation.wgsl, blend.wgsl, sequences.wgsl, advance.wgsl.
// CPU: `forward` of engine/kernel/own.rs.

struct Parameters {
    at: Sequences,
    blocks: Blocks,
    has_table: u32,    // whether hops add position rows
}

@compute @workgroup_size(WORKGROUP)
fn node_update(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let b = group.x;
    if stays(b, thread) {
        return;
    }
    let start = b * P.at.stride;
    let signal = start + P.at.signal;
    let banks = start + P.at.banks;
    let hop = hop_of(b);
    // c = GELU(z)
    for (var j = thread; j < W; j += WORKGROUP) {
        floats[signal + j] = gelu_with_derivative(floats[start + P.at.preactivation + j]).x;
    }
    wait();
    // bank ← c + λ (bank − c)
    for (var j = thread; j < BANKS * W; j += WORKGROUP) {
        var lambda: f32;
        if BLEND == POSITION {
            lambda = floats[P.at.lambda + hop];
        } else {
            var node_gate = 0.0;
            if BLEND == GATED {
                node_gate = floats[start + P.at.gathered + j];
            }
            lambda = blend_weight(P.blocks.decay, P.blocks.gate_signal, node_gate, signal, j);
        }
        let c = floats[signal + j % W];
        floats[banks + j] = fma(lambda, floats[banks + j] - c, c);
    }
    wait();
    // h = mix₀ ⊙ c + Σ mix ⊙ bank; in position blends the bank itself.
    for (var j = thread; j < W; j += WORKGROUP) {
        var output = floats[banks + j];
        if BLEND != POSITION {
            output = values[P.blocks.mix + j] * floats[signal + j];
            for (var bank = 0u; bank < BANKS; bank += 1u) {
                output += values[P.blocks.mix + (1u + bank) * W + j] * floats[banks + bank * W + j];
            }
        }
        floats[start + P.at.output + j] = output;
        if P.has_table == 1u {
            floats[start + P.at.base + j] = floats[P.at.table + hop * W + j];
        }
    }
    wait();
    if thread == 0u {
        advance(b);
    }
}
