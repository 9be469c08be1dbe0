// Own edges in training: signals along the true paths, step by step, and back. One workgroup a sequence.
// After: workgroup.wgsl, activation.wgsl, blend.wgsl, blend_back.wgsl, batch_own.wgsl.
// CPU: engine/learn/own/path.rs, engine/learn/own/backward.rs.

struct Parameters {
    at: Batch,
    step: u32,         // i
    buffer: u32,       // number of the bound buffer of edges
    edges: u32,        // in edges: offset of its rows
    level: f32,        // the start signal of every column
}

@group(0) @binding(0) var<uniform> P: Parameters;
// Workspace; offsets in P.at.
@group(0) @binding(1) var<storage, read_write> floats: array<f32>;
// Lists; offsets in P.at.
@group(0) @binding(2) var<storage, read> integers: array<u32>;
// Blocks of parameters; offsets in P.at.
@group(0) @binding(3) var<storage, read> values: array<f32>;
// [rows, D + 1, W]: matrix and bias of each edge of a buffer.
@group(0) @binding(4) var<storage, read> edges: array<f32>;

// z = input · W_e + b_e + position row at step i > 0, for the rows whose edge lies in this buffer.
@compute @workgroup_size(WORKGROUP)
fn preactivation(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = group.x * P.at.steps + P.step;
    let before = row - 1u;
    if integers[P.at.walked + 2u * before] != P.buffer {
        return;
    }
    let edge = P.edges + integers[P.at.walked + 2u * before + 1u] * (D + 1u) * W;
    for (var j = thread; j < W; j += WORKGROUP) {
        var z = edges[edge + D * W + j] + floats[P.at.positions + (P.step - 1u) * W + j];
        for (var k = 0u; k < D; k += 1u) {
            z = fma(floats[P.at.input + before * W + k], edges[edge + k * W + j], z);
        }
        floats[P.at.before + row * W + j] = z;
    }
}

// The input of hop i: c = GELU(z), banks, blend, dropout.
@compute @workgroup_size(WORKGROUP)
fn node_update(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = group.x * P.at.steps + P.step;
    let node = integers[P.at.tokens + group.x * (P.at.steps + 1u) + P.step];
    let g = BANKS * W;
    for (var j = thread; j < W; j += WORKGROUP) {
        let i = row * W + j;
        if P.step == 0u {
            var z = 0.0;
            if j < D {
                z = P.level + values[P.at.start + node * W + j] + floats[P.at.first_position + j];
            }
            floats[P.at.before + i] = z;
        }
        floats[P.at.signal + i] = gelu_with_derivative(floats[P.at.before + i]).x;
    }
    wait();
    for (var j = thread; j < g; j += WORKGROUP) {
        let i = row * g + j;
        let c = floats[P.at.signal + row * W + j % W];
        var earlier = 0.0;
        if P.step > 0u {
            earlier = floats[P.at.banks + i - g];
        }
        var lambda = 0.0;
        if BLEND == POSITION {
            // The start flows into the first hop and is not remembered.
            if P.step == 0u {
                floats[P.at.banks + i] = 0.0;
                continue;
            }
            lambda = floats[P.at.weights + P.step - 1u];
        } else {
            var node_gate = 0.0;
            if BLEND == GATED {
                node_gate = values[P.at.gate + node * g + j];
            }
            lambda = blend_weight(P.at.decay, P.at.gate_signal, node_gate, P.at.signal + row * W, j);
        }
        floats[P.at.lambda + i] = lambda;
        floats[P.at.banks + i] = fma(lambda, earlier - c, c);
    }
    wait();
    for (var j = thread; j < W; j += WORKGROUP) {
        let i = row * W + j;
        var input = floats[P.at.signal + i];
        if BLEND == POSITION {
            if P.step > 0u {
                input = floats[P.at.banks + i];
            }
        } else {
            input *= values[P.at.mix + j];
            for (var bank = 0u; bank < BANKS; bank += 1u) {
                input += values[P.at.mix + (1u + bank) * W + j] * floats[P.at.banks + row * g + bank * W + j];
            }
        }
        floats[P.at.input + i] = input;
        floats[P.at.kept + i] = input * floats[P.at.mask + i];
    }
}

// d_input += W_e · dz of the next step, for the rows whose edge lies in this buffer.
@compute @workgroup_size(WORKGROUP)
fn preactivation_back(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = group.x * P.at.steps + P.step;
    if integers[P.at.walked + 2u * row] != P.buffer {
        return;
    }
    let edge = P.edges + integers[P.at.walked + 2u * row + 1u] * (D + 1u) * W;
    for (var k = thread; k < D; k += WORKGROUP) {
        var sum = 0.0;
        for (var j = 0u; j < W; j += 1u) {
            sum = fma(floats[P.at.d_before + (row + 1u) * W + j], edges[edge + k * W + j], sum);
        }
        floats[P.at.d_input + row * W + k] += sum;
    }
}

// From d_input to dz of step i, through blend, banks and GELU; gradients of the gates.
@compute @workgroup_size(WORKGROUP)
fn node_back(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = group.x * P.at.steps + P.step;
    let g = BANKS * W;
    let last = P.step + 1u == P.at.steps;
    for (var j = thread; j < W; j += WORKGROUP) {
        let i = row * W + j;
        let d_x = floats[P.at.d_input + i];
        let c = floats[P.at.signal + i];
        if BLEND == POSITION {
            if P.step == 0u {
                floats[P.at.d_before + i] = d_x;
                floats[P.at.d_gate + i] = 0.0;
                continue;
            }
        }
        var d_signal = 0.0;
        if BLEND != POSITION {
            d_signal = d_x * values[P.at.mix + j];
        }
        for (var bank = 0u; bank < BANKS; bank += 1u) {
            let b = bank * W + j;
            var d_bank = 0.0;
            if !last {
                d_bank = floats[P.at.d_banks + group.x * g + b];
            }
            if BLEND == POSITION {
                d_bank += d_x;
            } else {
                d_bank = fma(d_x, values[P.at.mix + (1u + bank) * W + j], d_bank);
            }
            let lambda = floats[P.at.lambda + row * g + b];
            var earlier = 0.0;
            if P.step > 0u {
                earlier = floats[P.at.banks + (row - 1u) * g + b];
            }
            let d_earlier = P.at.d_banks + group.x * g + b;
            d_signal = bank_back(d_bank, lambda, earlier, c, d_signal, d_earlier, P.at.d_gate + row * g + b);
        }
        floats[P.at.d_before + i] = d_signal;
    }
    wait();
    for (var k = thread; k < W; k += WORKGROUP) {
        let i = row * W + k;
        let d_signal = gates_back(P.at.d_gate + row * g, P.at.gate_signal, floats[P.at.d_before + i], k);
        floats[P.at.d_before + i] = d_signal * gelu_with_derivative(floats[P.at.before + i]).y;
    }
}
