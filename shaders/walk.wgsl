// Composed edges in training: signals along the true path of every sequence, and back. One workgroup a sequence.
// After: activation.wgsl. Twins: engine/learn/composed/forward.rs, engine/learn/composed/backward.rs.
// Rows are numbered sequence by sequence: row = sequence · T + step.

override WORKGROUP: u32 = 64u;
// 0 position, 1 decay, 2 gated.
override BLEND: u32 = 0u;
override D: u32 = 32u;
override W: u32 = 32u;
override BANKS: u32 = 1u;
override RANK: u32 = 0u;
// Whether edges have own residuals, and their rank.
override RESIDUAL: u32 = 0u;
override RESIDUAL_RANK: u32 = 0u;

struct Parameters {
    steps: u32,        // T
    tokens: u32,       // in integers: [B, T + 1]
    edge_rows: u32,        // in integers: residual row of the edge each row walks to its next token, + 1; 0 for none [B · T]
    // In values: blocks of the model.
    beta: u32,         // [V, W]
    scale: u32,        // [V, W]
    offset: u32,       // [V, W]
    mix: u32,          // [X, W]
    gain: u32,         // [W]
    scalars: u32,      // ln α, γ, κ
    decay: u32,        // [G]
    gate: u32,         // [V, G]
    gate_signal: u32,  // [D, G]
    low_scale: u32,    // [V, R]
    low_in: u32,       // [X, R]
    low_out: u32,      // [R, W]
    residual: u32,     // [own, (1 + r) W]
    residual_in: u32,  // [X, r]
    // In floats: one row each of the batch.
    preactivation: u32,      // [B · T, W]
    inverse: u32,      // [B · T]
    before: u32,       // [B · T, W]
    signal: u32,       // [B · T, W]
    blended: u32,      // [B · T, X]
    lambda: u32,       // [B · T, G]
    mixed: u32,        // [B · T, W]
    low: u32,          // [B · T, R], x B before the node's scale
    scaled: u32,       // [B · T, R], after it
    output: u32,      // [B · T, W]
    kept: u32,         // [B · T, W]
    mask_node: u32,    // [B · T, W]
    mask_out: u32,     // [B · T, W]
    projected: u32,    // [B · T, r]
    positions: u32,    // λ of the position blend [T]
    // Gradients of the above, in floats.
    d_leaving: u32,    // first of what is kept, then of what leaves
    d_mixed: u32,
    d_low: u32,
    d_low_scale: u32,  // [B · T, R]
    d_gate: u32,       // [B · T, G]
    d_target: u32,     // [B · T, W]
    d_arrival: u32,    // [B · T, W]
    d_before: u32,     // [B · T, W]
    d_gain: u32,       // [B · T, W]
    d_projected: u32,  // [B · T, r]
    d_banks: u32,      // [B, G]
    d_blended: u32,    // [B, X]
    rows: u32,         // [B · T, 4]: gradients of ln α and γ, of κ, nats
}

@group(0) @binding(0) var<uniform> P: Parameters;
// One row of numbers: arrays at the places that P names, with the shapes given there.
@group(0) @binding(1) var<storage, read_write> floats: array<f32>;
// One row of integers: arrays at the places that P names, with the shapes given there.
@group(0) @binding(2) var<storage, read> integers: array<u32>;
// One row of parameters: blocks at the places that P names, with the shapes given there.
@group(0) @binding(3) var<storage, read> values: array<f32>;

var<workgroup> sums: array<f32, WORKGROUP>;

fn sum_all(value: f32, thread: u32) -> f32 {
    workgroupBarrier();
    sums[thread] = value;
    workgroupBarrier();
    for (var node_update = WORKGROUP / 2u; node_update > 0u; node_update /= 2u) {
        if thread < node_update {
            sums[thread] += sums[thread + node_update];
        }
        workgroupBarrier();
    }
    return sums[0];
}

fn wait() {
    storageBarrier();
    workgroupBarrier();
}

@compute @workgroup_size(WORKGROUP)
fn forward(@builtin(workgroup_id) at: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let g = BANKS * W;
    let x = W + g;
    let kappa = 10.0 * values[P.scalars + 2u];
    for (var step = 0u; step < P.steps; step += 1u) {
        let row = at.x * P.steps + step;
        let node = integers[P.tokens + at.x * (P.steps + 1u) + step];
        var part = 0.0;
        for (var j = thread; j < W; j += WORKGROUP) {
            var z = values[P.beta + node * W + j];
            if step > 0u {
                z += floats[P.output + (row - 1u) * W + j];
                if RESIDUAL == 1u {
                    let edge_row = integers[P.edge_rows + row - 1u];
                    if edge_row > 0u {
                        let edge = P.residual + (edge_row - 1u) * (1u + RESIDUAL_RANK) * W + j;
                        z += values[edge];
                        for (var r = 0u; r < RESIDUAL_RANK; r += 1u) {
                            z = fma(floats[P.projected + (row - 1u) * RESIDUAL_RANK + r], values[edge + (1u + r) * W], z);
                        }
                    }
                }
            }
            floats[P.preactivation + row * W + j] = z;
            part = fma(z, z, part);
        }
        let inverse = 1.0 / sqrt(sum_all(part, thread) / f32(D) + 1e-6);
        if thread == 0u {
            floats[P.inverse + row] = inverse;
        }
        for (var j = thread; j < W; j += WORKGROUP) {
            let i = row * W + j;
            let before = values[P.gain + j] * floats[P.preactivation + i] * inverse
                + kappa * floats[P.mask_node + i] * values[P.beta + node * W + j];
            floats[P.before + i] = before;
            let c = gelu_with_derivative(before).x;
            floats[P.signal + i] = c;
            floats[P.blended + row * x + j] = c;
        }
        wait();
        for (var j = thread; j < g; j += WORKGROUP) {
            var lambda: f32;
            if BLEND == 0u {
                lambda = floats[P.positions + step];
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
            floats[P.lambda + row * g + j] = lambda;
            let c = floats[P.signal + row * W + j % W];
            var bank = 0.0;
            if step > 0u {
                bank = 0.5 * floats[P.blended + (row - 1u) * x + W + j];
            }
            floats[P.blended + row * x + W + j] = 2.0 * fma(lambda, bank - c, c);
        }
        wait();
        for (var r = thread; r < RANK + RESIDUAL_RANK; r += WORKGROUP) {
            var sum = 0.0;
            if r < RANK {
                for (var i = 0u; i < x; i += 1u) {
                    sum = fma(floats[P.blended + row * x + i], values[P.low_in + i * RANK + r], sum);
                }
                floats[P.low + row * RANK + r] = sum;
                floats[P.scaled + row * RANK + r] = sum * values[P.low_scale + node * RANK + r];
            } else {
                let q = r - RANK;
                for (var i = 0u; i < x; i += 1u) {
                    sum = fma(floats[P.blended + row * x + i], values[P.residual_in + i * RESIDUAL_RANK + q], sum);
                }
                floats[P.projected + row * RESIDUAL_RANK + q] = sum;
            }
        }
        wait();
        for (var j = thread; j < W; j += WORKGROUP) {
            let i = row * W + j;
            var sum = 0.0;
            for (var k = 0u; k < x; k += 1u) {
                sum = fma(floats[P.blended + row * x + k], values[P.mix + k * W + j], sum);
            }
            floats[P.mixed + i] = sum;
            var output = sum * values[P.scale + node * W + j] + values[P.offset + node * W + j];
            for (var r = 0u; r < RANK; r += 1u) {
                output = fma(floats[P.scaled + row * RANK + r], values[P.low_out + r * W + j], output);
            }
            floats[P.output + i] = output;
            floats[P.kept + i] = output * floats[P.mask_out + i];
        }
        wait();
    }
}

@compute @workgroup_size(WORKGROUP)
fn backward(@builtin(workgroup_id) at: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let g = BANKS * W;
    let x = W + g;
    let kappa = 10.0 * values[P.scalars + 2u];
    let banks = P.d_banks + at.x * g;
    let blend = P.d_blended + at.x * x;
    for (var j = thread; j < g; j += WORKGROUP) {
        floats[banks + j] = 0.0;
    }
    for (var back_step = 0u; back_step < P.steps; back_step += 1u) {
        let step = P.steps - 1u - back_step;
        let row = at.x * P.steps + step;
        let node = integers[P.tokens + at.x * (P.steps + 1u) + step];
        var along_alpha = 0.0;
        for (var j = thread; j < W; j += WORKGROUP) {
            let i = row * W + j;
            let d_kept = floats[P.d_leaving + i];
            along_alpha = fma(d_kept, floats[P.kept + i], along_alpha);
            var d_leaving = d_kept * floats[P.mask_out + i];
            if back_step > 0u {
                d_leaving += floats[P.d_arrival + i + W];
            }
            floats[P.d_leaving + i] = d_leaving;
            floats[P.d_mixed + i] = d_leaving * values[P.scale + node * W + j];
        }
        let d_alpha = sum_all(along_alpha, thread);
        wait();
        for (var r = thread; r < RANK; r += WORKGROUP) {
            var sum = 0.0;
            for (var j = 0u; j < W; j += 1u) {
                sum = fma(floats[P.d_leaving + row * W + j], values[P.low_out + r * W + j], sum);
            }
            floats[P.d_low + row * RANK + r] = sum * values[P.low_scale + node * RANK + r];
            floats[P.d_low_scale + row * RANK + r] = sum * floats[P.low + row * RANK + r];
        }
        wait();
        for (var i = thread; i < x; i += WORKGROUP) {
            var sum = 0.0;
            for (var j = 0u; j < W; j += 1u) {
                sum = fma(floats[P.d_mixed + row * W + j], values[P.mix + i * W + j], sum);
            }
            for (var r = 0u; r < RANK; r += 1u) {
                sum = fma(floats[P.d_low + row * RANK + r], values[P.low_in + i * RANK + r], sum);
            }
            for (var r = 0u; r < RESIDUAL_RANK; r += 1u) {
                sum = fma(
                    floats[P.d_projected + row * RESIDUAL_RANK + r],
                    values[P.residual_in + i * RESIDUAL_RANK + r],
                    sum,
                );
            }
            floats[blend + i] = sum;
        }
        wait();
        // Column by column, so that no two threads meet: a column of the signal has one in every bank.
        for (var j = thread; j < W; j += WORKGROUP) {
            let c = floats[P.signal + row * W + j];
            var d_signal = floats[blend + j];
            for (var bank = 0u; bank < BANKS; bank += 1u) {
                let b = bank * W + j;
                var d_bank = floats[banks + b] + 2.0 * floats[blend + W + b];
                let lambda = floats[P.lambda + row * g + b];
                var earlier = 0.0;
                if step > 0u {
                    earlier = 0.5 * floats[P.blended + (row - 1u) * x + W + b];
                }
                var d_lambda = d_bank * (earlier - c);
                d_signal = fma(d_bank, 1.0 - lambda, d_signal);
                floats[banks + b] = d_bank * lambda;
                if BLEND != 0u {
                    d_lambda *= lambda * (1.0 - lambda);
                }
                floats[P.d_gate + row * g + b] = d_lambda;
            }
            floats[P.d_before + row * W + j] = d_signal;
        }
        wait();
        var along = 0.0;
        var d_kappa = 0.0;
        let inverse = floats[P.inverse + row];
        for (var k = thread; k < W; k += WORKGROUP) {
            let i = row * W + k;
            var d_signal = floats[P.d_before + i];
            if BLEND == 2u && k < D {
                for (var j = 0u; j < g; j += 1u) {
                    d_signal = fma(floats[P.d_gate + row * g + j], values[P.gate_signal + k * g + j], d_signal);
                }
            }
            let d_before = d_signal * gelu_with_derivative(floats[P.before + i]).y;
            floats[P.d_before + i] = d_before;
            let preactivation = floats[P.preactivation + i];
            along += preactivation * values[P.gain + k] * d_before;
            d_kappa += d_before * floats[P.mask_node + i] * values[P.beta + node * W + k];
            floats[P.d_gain + i] = d_before * preactivation * inverse;
        }
        // y = g ⊙ z · r with r = (mean z² + ε)^(-1/2): dz = r g ⊙ dy − z r³ (z · (g ⊙ dy)) / D.
        let pull = sum_all(along, thread) * inverse * inverse * inverse / f32(D);
        let total_kappa = sum_all(d_kappa, thread);
        if thread == 0u {
            floats[P.rows + row * 4u] += d_alpha;
            floats[P.rows + row * 4u + 2u] = 10.0 * total_kappa;
        }
        for (var j = thread; j < W; j += WORKGROUP) {
            let i = row * W + j;
            let d_before = floats[P.d_before + i];
            let d_arrival = inverse * values[P.gain + j] * d_before - floats[P.preactivation + i] * pull;
            floats[P.d_arrival + i] = d_arrival;
            floats[P.d_target + i] = d_arrival + kappa * floats[P.mask_node + i] * d_before;
        }
        wait();
        if RESIDUAL == 1u && step > 0u {
            let edge_row = integers[P.edge_rows + row - 1u];
            if edge_row > 0u {
                // What arrived came through the edge's own residual: back to x B of the row before.
                for (var r = thread; r < RESIDUAL_RANK; r += WORKGROUP) {
                    let edge = P.residual + ((edge_row - 1u) * (1u + RESIDUAL_RANK) + 1u + r) * W;
                    var sum = floats[P.d_projected + (row - 1u) * RESIDUAL_RANK + r];
                    for (var j = 0u; j < W; j += 1u) {
                        sum = fma(values[edge + j], floats[P.d_arrival + row * W + j], sum);
                    }
                    floats[P.d_projected + (row - 1u) * RESIDUAL_RANK + r] = sum;
                }
            }
        }
        wait();
    }
}
