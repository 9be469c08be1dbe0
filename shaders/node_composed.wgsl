// A node of composed edges: from what arrives, its output h = (x M) ⊙ scale + offset + ((x L) ⊙ low scale) N with
// x = (c, 2 · banks) and c = GELU(gain ⊙ z / rms(z) + 10κ β); then the sequence moves on.
// One workgroup a sequence. After: workgroup.wgsl, activation.wgsl, blend.wgsl, sequences.wgsl, advance.wgsl.
// CPU: `forward` of engine/kernel/composed.rs.

override RANK: u32 = 0u;

struct Parameters {
    at: Sequences,     // `gathered`: β, scale, offset, gate and low scale of the next node
    blocks: Blocks,
    kappa: f32,        // 10 κ
    epsilon: f32,      // added to the mean square of z
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
    let blended = start + P.at.blended;
    let output = start + P.at.output;
    let g = BANKS * W;
    let x = W + g;
    // Rows of the node, one after another.
    let beta = start + P.at.gathered;
    let scale = beta + W;
    let offset = scale + W;
    let gate = offset + W;
    let low_scale = gate + select(0u, g, BLEND == GATED);
    // z = h + β, and its mean square.
    var part = 0.0;
    for (var j = thread; j < W; j += WORKGROUP) {
        let z = floats[output + j] + floats[beta + j];
        floats[output + j] = z;
        part = fma(z, z, part);
    }
    let inverse = 1.0 / sqrt(sum_all(part, thread) / f32(D) + P.epsilon);
    for (var j = thread; j < W; j += WORKGROUP) {
        let before = values[P.blocks.gain + j] * floats[output + j] * inverse + P.kappa * floats[beta + j];
        floats[signal + j] = gelu_with_derivative(before).x;
    }
    wait();
    // bank ← c + λ (bank − c); x = (c, 2 · banks)
    let hop = hop_of(b);
    for (var j = thread; j < g; j += WORKGROUP) {
        var lambda: f32;
        if BLEND == POSITION {
            lambda = floats[P.at.lambda + hop];
        } else {
            var node_gate = 0.0;
            if BLEND == GATED {
                node_gate = floats[gate + j];
            }
            lambda = blend_weight(P.blocks.decay, P.blocks.gate_signal, node_gate, signal, j);
        }
        let c = floats[signal + j % W];
        let bank = fma(lambda, floats[banks + j] - c, c);
        floats[banks + j] = bank;
        floats[blended + W + j] = 2.0 * bank;
        if j < W {
            floats[blended + j] = c;
        }
    }
    wait();
    // low = (x L) ⊙ low scale
    for (var r = thread; r < RANK; r += WORKGROUP) {
        var sum = 0.0;
        for (var i = 0u; i < x; i += 1u) {
            sum = fma(floats[blended + i], values[P.blocks.low_in + i * RANK + r], sum);
        }
        floats[start + P.at.low + r] = sum * floats[low_scale + r];
    }
    wait();
    // h = (x M) ⊙ scale + offset + low N
    for (var j = thread; j < W; j += WORKGROUP) {
        var sum = 0.0;
        for (var i = 0u; i < x; i += 1u) {
            sum = fma(floats[blended + i], values[P.blocks.mix + i * W + j], sum);
        }
        sum = sum * floats[scale + j] + floats[offset + j];
        for (var r = 0u; r < RANK; r += 1u) {
            sum = fma(floats[start + P.at.low + r], values[P.blocks.low_out + r * W + j], sum);
        }
        floats[output + j] = sum;
    }
    wait();
    if thread == 0u {
        advance(b);
    }
}
