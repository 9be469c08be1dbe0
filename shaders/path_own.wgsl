// Own edges in training: signals along the true paths, step by step, and back. One workgroup a sequence.
// After: activation.wgsl. Twins: engine/learn/own/path.rs, engine/learn/own/backward.rs.
// Row b · T + i holds the i-th arrival of sequence b and the signal that flows into its hop i.

override WORKGROUP: u32 = 32u;
// 0 position, 1 decay, 2 gated.
override BLEND: u32 = 0u;
override D: u32 = 32u;
override W: u32 = 32u;
override BANKS: u32 = 1u;

struct Parameters {
    steps: u32,        // T
    step: u32,         // i
    buffer: u32,       // buffer of edges that is bound
    edges: u32,        // in edges: where its rows begin
    tokens: u32,       // in integers: [B, T + 1]
    walked: u32,       // in integers: buffer and row of the edge each row walks [B · T, 2]
    start: u32,        // in values: [V, W]
    decay: u32,        // in values: [G]
    gate: u32,         // in values: [V, G]
    gate_signal: u32,  // in values: [D, G]
    mix: u32,          // in values: [1 + K, W]
    level: f32,        // what the start signal is
    first: u32,        // in floats: position row 0 [W]
    table: u32,        // in floats: position row of each hop [T, W]
    weights: u32,      // in floats: λ of the position blend [T]
    before: u32,       // in floats: [B · T, W]
    signal: u32,       // in floats: [B · T, W]
    banks: u32,        // in floats: [B · T, G]
    lambda: u32,       // in floats: [B · T, G]
    input: u32,        // in floats: [B · T, W]
    mask: u32,         // in floats: [B · T, W]
    kept: u32,         // in floats: input as the energies see it [B · T, W]
    d_input: u32,
    d_before: u32,
    d_gate: u32,       // in floats: [B · T, G]
    d_banks: u32,      // in floats: [B, G]
}

@group(0) @binding(0) var<uniform> P: Parameters;
// One row of numbers: arrays at the places that P names, with the shapes given there.
@group(0) @binding(1) var<storage, read_write> floats: array<f32>;
// One row of integers: arrays at the places that P names, with the shapes given there.
@group(0) @binding(2) var<storage, read> integers: array<u32>;
// One row of parameters: blocks at the places that P names, with the shapes given there.
@group(0) @binding(3) var<storage, read> values: array<f32>;
// [rows, D + 1, W]: matrix and bias of each edge of a buffer.
@group(0) @binding(4) var<storage, read> edges: array<f32>;

// What arrives at step i through the edge walked before it, where that edge lies in this buffer.
@compute @workgroup_size(WORKGROUP)
fn preactivation(@builtin(workgroup_id) at: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = at.x * P.steps + P.step;
    let before = row - 1u;
    if integers[P.walked + 2u * before] != P.buffer {
        return;
    }
    let edge = P.edges + integers[P.walked + 2u * before + 1u] * (D + 1u) * W;
    for (var j = thread; j < W; j += WORKGROUP) {
        var z = edges[edge + D * W + j] + floats[P.table + (P.step - 1u) * W + j];
        for (var k = 0u; k < D; k += 1u) {
            z = fma(floats[P.input + before * W + k], edges[edge + k * W + j], z);
        }
        floats[P.before + row * W + j] = z;
    }
}

@compute @workgroup_size(WORKGROUP)
fn node_update(@builtin(workgroup_id) at: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = at.x * P.steps + P.step;
    let node = integers[P.tokens + at.x * (P.steps + 1u) + P.step];
    let g = BANKS * W;
    for (var j = thread; j < W; j += WORKGROUP) {
        let i = row * W + j;
        if P.step == 0u {
            var z = 0.0;
            if j < D {
                z = P.level + values[P.start + node * W + j] + floats[P.first + j];
            }
            floats[P.before + i] = z;
        }
        floats[P.signal + i] = gelu_with_derivative(floats[P.before + i]).x;
    }
    storageBarrier();
    workgroupBarrier();
    for (var j = thread; j < g; j += WORKGROUP) {
        let i = row * g + j;
        let c = floats[P.signal + row * W + j % W];
        var earlier = 0.0;
        if P.step > 0u {
            earlier = floats[P.banks + i - g];
        }
        var lambda = 0.0;
        if BLEND == 0u {
            // The start flows into the first hop and is not remembered.
            if P.step == 0u {
                floats[P.banks + i] = 0.0;
                continue;
            }
            lambda = floats[P.weights + P.step - 1u];
        } else {
            var gate = values[P.decay + j];
            if BLEND == 2u {
                gate += values[P.gate + node * g + j];
                for (var k = 0u; k < D; k += 1u) {
                    gate = fma(floats[P.signal + row * W + k], values[P.gate_signal + k * g + j], gate);
                }
            }
            lambda = sigmoid(gate);
        }
        floats[P.lambda + i] = lambda;
        floats[P.banks + i] = fma(lambda, earlier - c, c);
    }
    storageBarrier();
    workgroupBarrier();
    for (var j = thread; j < W; j += WORKGROUP) {
        let i = row * W + j;
        var input = floats[P.signal + i];
        if BLEND == 0u {
            if P.step > 0u {
                input = floats[P.banks + i];
            }
        } else {
            input *= values[P.mix + j];
            for (var bank = 0u; bank < BANKS; bank += 1u) {
                input += values[P.mix + (1u + bank) * W + j] * floats[P.banks + row * g + bank * W + j];
            }
        }
        floats[P.input + i] = input;
        floats[P.kept + i] = input * floats[P.mask + i];
    }
}

// Adds what the next arrival sends back through the edge walked to it, where it lies in this buffer.
@compute @workgroup_size(WORKGROUP)
fn arrive_back(@builtin(workgroup_id) at: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = at.x * P.steps + P.step;
    if integers[P.walked + 2u * row] != P.buffer {
        return;
    }
    let edge = P.edges + integers[P.walked + 2u * row + 1u] * (D + 1u) * W;
    for (var k = thread; k < D; k += WORKGROUP) {
        var sum = 0.0;
        for (var j = 0u; j < W; j += 1u) {
            sum = fma(floats[P.d_before + (row + 1u) * W + j], edges[edge + k * W + j], sum);
        }
        floats[P.d_input + row * W + k] += sum;
    }
}

@compute @workgroup_size(WORKGROUP)
fn reach_back(@builtin(workgroup_id) at: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = at.x * P.steps + P.step;
    let g = BANKS * W;
    let last = P.step + 1u == P.steps;
    for (var j = thread; j < W; j += WORKGROUP) {
        let i = row * W + j;
        let d_x = floats[P.d_input + i];
        let c = floats[P.signal + i];
        if BLEND == 0u {
            if P.step == 0u {
                floats[P.d_before + i] = d_x;
                floats[P.d_gate + i] = 0.0;
                continue;
            }
        }
        var d_signal = 0.0;
        if BLEND != 0u {
            d_signal = d_x * values[P.mix + j];
        }
        for (var bank = 0u; bank < BANKS; bank += 1u) {
            let b = bank * W + j;
            var d_bank = 0.0;
            if !last {
                d_bank = floats[P.d_banks + at.x * g + b];
            }
            if BLEND == 0u {
                d_bank += d_x;
            } else {
                d_bank = fma(d_x, values[P.mix + (1u + bank) * W + j], d_bank);
            }
            let lambda = floats[P.lambda + row * g + b];
            var earlier = 0.0;
            if P.step > 0u {
                earlier = floats[P.banks + (row - 1u) * g + b];
            }
            var d_lambda = d_bank * (earlier - c);
            d_signal = fma(d_bank, 1.0 - lambda, d_signal);
            floats[P.d_banks + at.x * g + b] = d_bank * lambda;
            if BLEND != 0u {
                d_lambda *= lambda * (1.0 - lambda);
            }
            floats[P.d_gate + row * g + b] = d_lambda;
        }
        floats[P.d_before + i] = d_signal;
    }
    storageBarrier();
    workgroupBarrier();
    for (var k = thread; k < W; k += WORKGROUP) {
        let i = row * W + k;
        var d_signal = floats[P.d_before + i];
        if BLEND == 2u && k < D {
            for (var j = 0u; j < g; j += 1u) {
                d_signal = fma(floats[P.d_gate + row * g + j], values[P.gate_signal + k * g + j], d_signal);
            }
        }
        floats[P.d_before + i] = d_signal * gelu_with_derivative(floats[P.before + i]).y;
    }
}
