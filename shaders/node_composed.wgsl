// Functions: composed edges, the signal through the chosen edge where edges have own residuals, and the output of its node,
// h = (x M) ⊙ scale + offset + ((x L) ⊙ low scale) N with x = (c, 2 · banks) and c = GELU(gain ⊙ z / rms(z) + 10κ β).
// One workgroup a sequence. After: workgroup.wgsl, activation.wgsl, blend.wgsl, sequences.wgsl, fans.wgsl, delta.wgsl.
// Used by hop.wgsl. CPU: `forward` of engine/kernel/composed.rs.

// Rank of the nodes' low-rank matrices.
override RANK: u32 = 0u;

// Add δ of the chosen edge to the output of its source.
fn cross_composed(b: u32, thread: u32) {
    let node = integers[P.at.nodes + b];
    let target_node = integers[P.at.next + b];
    let number = locations[4u * node];
    if target_node == NONE || !is_bound(number) {
        return;
    }
    let edge_row = find_edge_row(node, target_node);
    if edge_row == 0u {
        return;
    }
    let start = b * P.at.stride;
    let row = row_of(node, edge_row);
    for (var j = thread; j < W; j += WORKGROUP) {
        floats[P.at.output + start + j] += delta(number, row, scale_of(number, row), P.at.projected + start, j);
    }
}

// The output of the chosen node. `gathered` holds its β, scale, offset, gate and low scale.
fn node_composed(b: u32, thread: u32) {
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
}
