// Functions: own edges, the signal through the chosen edge, z = h W_e + b_e + position row, and the output of its node,
// h = blend of c = GELU(z) with the banks. One workgroup a sequence. After: workgroup.wgsl, activation.wgsl, blend.wgsl,
// element.wgsl, sequences.wgsl, fans.wgsl and the declarations of the buffers of fans. Used by hop.wgsl.
// CPU: `preactivations` of engine/kernel/fan.rs, `forward` of engine/kernel/own.rs.

var<workgroup> parts: array<vec4<f32>, WORKGROUP>;

// z of sequence b, from the edge to its chosen node. Each thread takes a word of the rows, and where there are more threads
// than words, some of the rows; the parts are added in the order of threads.
fn cross_own(b: u32, thread: u32) {
    let node = integers[P.at.nodes + b];
    let target_node = integers[P.at.next + b];
    let number = locations[4u * node];
    if target_node == NONE || !is_bound(number) {
        return;
    }
    let buffer = number - P.fans.first;
    let edge_row = find_edge_row(node, target_node);
    var row = 0u;
    if edge_row > 0u {
        row = row_of(node, edge_row);
    }
    let matrix = row * (D + 1u) * ROW;
    let start = b * P.at.stride;
    let row_words = W / PER_WORD;
    let span = min(row_words, WORKGROUP);
    let part = thread / span;
    let count = WORKGROUP / span;
    for (var first = 0u; first < row_words; first += span) {
        let at = first + thread % span;
        let takes = at < row_words && part < count;
        var z = vec4(0.0);
        if takes {
            if part == 0u {
                z = widen(word(buffer, matrix + D * ROW + at));
            }
            for (var k = part; k < D; k += count) {
                z = fma(vec4(floats[start + P.at.output + k]), widen(word(buffer, matrix + k * ROW + at)), z);
            }
        }
        parts[thread] = z;
        workgroupBarrier();
        if takes && part == 0u {
            for (var other = 1u; other < count; other += 1u) {
                z += parts[thread + other * span];
            }
            for (var c = 0u; c < PER_WORD; c += 1u) {
                let column = start + at * PER_WORD + c;
                floats[P.at.preactivation + column] = fma(scale_of(number, row), z[c], floats[P.at.base + column]);
            }
        }
        workgroupBarrier();
    }
}

// The output of the chosen node.
fn node_own(b: u32, thread: u32) {
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
}
