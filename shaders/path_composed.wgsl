// Composed edges in training: signals along the true path of each sequence, and back. One workgroup a sequence.
// After: workgroup.wgsl, activation.wgsl, blend.wgsl, blend_back.wgsl, batch_composed.wgsl.
// CPU: engine/learn/composed/forward.rs, engine/learn/composed/backward.rs.

override RANK: u32 = 0u;
// Whether edges have own residuals, and their rank.
override RESIDUAL: u32 = 0u;
override RESIDUAL_RANK: u32 = 0u;

struct Parameters {
    at: Batch,
    epsilon: f32,      // added to the mean square of z
    kappa: f32,        // factor of the parameter κ
}

@group(0) @binding(0) var<uniform> P: Parameters;
// Workspace; offsets in P.at.
@group(0) @binding(1) var<storage, read_write> floats: array<f32>;
// Lists; offsets in P.at.
@group(0) @binding(2) var<storage, read> integers: array<u32>;
// Blocks of parameters; offsets in P.at.
@group(0) @binding(3) var<storage, read> values: array<f32>;

// Steps 0 … T − 1.
@compute @workgroup_size(WORKGROUP)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let g = BANKS * W;
    let x = W + g;
    let kappa = P.kappa * values[P.at.scalars + 2u];
    for (var step = 0u; step < P.at.steps; step += 1u) {
        let row = group.x * P.at.steps + step;
        let node = integers[P.at.tokens + group.x * (P.at.steps + 1u) + step];
        // z = β + h of the step before + δ of the edge between.
        var part = 0.0;
        for (var j = thread; j < W; j += WORKGROUP) {
            var z = values[P.at.beta + node * W + j];
            if step > 0u {
                z += floats[P.at.output + (row - 1u) * W + j];
                if RESIDUAL == 1u {
                    let edge_row = integers[P.at.edge_rows + row - 1u];
                    if edge_row > 0u {
                        let edge = P.at.residual + (edge_row - 1u) * (1u + RESIDUAL_RANK) * W + j;
                        z += values[edge];
                        for (var r = 0u; r < RESIDUAL_RANK; r += 1u) {
                            z = fma(floats[P.at.projected + (row - 1u) * RESIDUAL_RANK + r], values[edge + (1u + r) * W], z);
                        }
                    }
                }
            }
            floats[P.at.preactivation + row * W + j] = z;
            part = fma(z, z, part);
        }
        let inverse = 1.0 / sqrt(sum_all(part, thread) / f32(D) + P.epsilon);
        if thread == 0u {
            floats[P.at.inverse + row] = inverse;
        }
        // c = GELU(gain ⊙ z / rms(z) + 10κ mask ⊙ β)
        for (var j = thread; j < W; j += WORKGROUP) {
            let i = row * W + j;
            let before = values[P.at.gain + j] * floats[P.at.preactivation + i] * inverse
                + kappa * floats[P.at.mask_node + i] * values[P.at.beta + node * W + j];
            floats[P.at.before + i] = before;
            let c = gelu_with_derivative(before).x;
            floats[P.at.signal + i] = c;
            floats[P.at.blended + row * x + j] = c;
        }
        wait();
        // bank ← c + λ (bank − c); x holds the banks doubled.
        for (var j = thread; j < g; j += WORKGROUP) {
            var lambda: f32;
            if BLEND == POSITION {
                lambda = floats[P.at.positions + step];
            } else {
                var node_gate = 0.0;
                if BLEND == GATED {
                    node_gate = values[P.at.gate + node * g + j];
                }
                lambda = blend_weight(P.at.decay, P.at.gate_signal, node_gate, P.at.signal + row * W, j);
            }
            floats[P.at.lambda + row * g + j] = lambda;
            let c = floats[P.at.signal + row * W + j % W];
            var bank = 0.0;
            if step > 0u {
                bank = 0.5 * floats[P.at.blended + (row - 1u) * x + W + j];
            }
            floats[P.at.blended + row * x + W + j] = 2.0 * fma(lambda, bank - c, c);
        }
        wait();
        // x L and x B, a thread for each column of either.
        for (var r = thread; r < RANK + RESIDUAL_RANK; r += WORKGROUP) {
            var sum = 0.0;
            if r < RANK {
                for (var i = 0u; i < x; i += 1u) {
                    sum = fma(floats[P.at.blended + row * x + i], values[P.at.low_in + i * RANK + r], sum);
                }
                floats[P.at.low + row * RANK + r] = sum;
                floats[P.at.scaled + row * RANK + r] = sum * values[P.at.low_scale + node * RANK + r];
            } else {
                let q = r - RANK;
                for (var i = 0u; i < x; i += 1u) {
                    sum = fma(floats[P.at.blended + row * x + i], values[P.at.residual_in + i * RESIDUAL_RANK + q], sum);
                }
                floats[P.at.projected + row * RESIDUAL_RANK + q] = sum;
            }
        }
        wait();
        // h = (x M) ⊙ scale + offset + (x L ⊙ low scale) N
        for (var j = thread; j < W; j += WORKGROUP) {
            let i = row * W + j;
            var sum = 0.0;
            for (var k = 0u; k < x; k += 1u) {
                sum = fma(floats[P.at.blended + row * x + k], values[P.at.mix + k * W + j], sum);
            }
            floats[P.at.mixed + i] = sum;
            var output = sum * values[P.at.scale + node * W + j] + values[P.at.offset + node * W + j];
            for (var r = 0u; r < RANK; r += 1u) {
                output = fma(floats[P.at.scaled + row * RANK + r], values[P.at.low_out + r * W + j], output);
            }
            floats[P.at.output + i] = output;
            floats[P.at.kept + i] = output * floats[P.at.mask_out + i];
        }
        wait();
    }
}

// Steps T − 1 … 0.
@compute @workgroup_size(WORKGROUP)
fn backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let g = BANKS * W;
    let x = W + g;
    let kappa = P.kappa * values[P.at.scalars + 2u];
    let d_banks = P.at.d_banks + group.x * g;
    let d_blended = P.at.d_blended + group.x * x;
    for (var j = thread; j < g; j += WORKGROUP) {
        floats[d_banks + j] = 0.0;
    }
    for (var back_step = 0u; back_step < P.at.steps; back_step += 1u) {
        let step = P.at.steps - 1u - back_step;
        let row = group.x * P.at.steps + step;
        let node = integers[P.at.tokens + group.x * (P.at.steps + 1u) + step];
        // Gradient of h: through the logits, and through the next step's z. α scales logits: d ln α = d kept · kept.
        var along_alpha = 0.0;
        for (var j = thread; j < W; j += WORKGROUP) {
            let i = row * W + j;
            let d_kept = floats[P.at.d_output + i];
            along_alpha = fma(d_kept, floats[P.at.kept + i], along_alpha);
            var d_output = d_kept * floats[P.at.mask_out + i];
            if back_step > 0u {
                d_output += floats[P.at.d_preactivation + i + W];
            }
            floats[P.at.d_output + i] = d_output;
            floats[P.at.d_mixed + i] = d_output * values[P.at.scale + node * W + j];
        }
        let d_alpha = sum_all(along_alpha, thread);
        wait();
        // Gradients of x L and of the low scale.
        for (var r = thread; r < RANK; r += WORKGROUP) {
            var sum = 0.0;
            for (var j = 0u; j < W; j += 1u) {
                sum = fma(floats[P.at.d_output + row * W + j], values[P.at.low_out + r * W + j], sum);
            }
            floats[P.at.d_low + row * RANK + r] = sum * values[P.at.low_scale + node * RANK + r];
            floats[P.at.d_low_scale + row * RANK + r] = sum * floats[P.at.low + row * RANK + r];
        }
        wait();
        // Gradient of x = d_mixed Mᵀ + d_low Lᵀ + d_projected Bᵀ.
        for (var i = thread; i < x; i += WORKGROUP) {
            var sum = 0.0;
            for (var j = 0u; j < W; j += 1u) {
                sum = fma(floats[P.at.d_mixed + row * W + j], values[P.at.mix + i * W + j], sum);
            }
            for (var r = 0u; r < RANK; r += 1u) {
                sum = fma(floats[P.at.d_low + row * RANK + r], values[P.at.low_in + i * RANK + r], sum);
            }
            for (var r = 0u; r < RESIDUAL_RANK; r += 1u) {
                sum = fma(
                    floats[P.at.d_projected + row * RESIDUAL_RANK + r],
                    values[P.at.residual_in + i * RESIDUAL_RANK + r],
                    sum,
                );
            }
            floats[d_blended + i] = sum;
        }
        wait();
        // Through the banks into c. A thread takes a column of c with the same column of every bank: no two threads write
        // the same number.
        for (var j = thread; j < W; j += WORKGROUP) {
            let c = floats[P.at.signal + row * W + j];
            var d_signal = floats[d_blended + j];
            for (var bank = 0u; bank < BANKS; bank += 1u) {
                let b = bank * W + j;
                let d_bank = floats[d_banks + b] + 2.0 * floats[d_blended + W + b];
                let lambda = floats[P.at.lambda + row * g + b];
                var earlier = 0.0;
                if step > 0u {
                    earlier = 0.5 * floats[P.at.blended + (row - 1u) * x + W + b];
                }
                d_signal = bank_back(d_bank, lambda, earlier, c, d_signal, d_banks + b, P.at.d_gate + row * g + b);
            }
            floats[P.at.d_before + row * W + j] = d_signal;
        }
        wait();
        // Through GELU, with the gradients of gain and κ.
        var along = 0.0;
        var d_kappa = 0.0;
        let inverse = floats[P.at.inverse + row];
        for (var k = thread; k < W; k += WORKGROUP) {
            let i = row * W + k;
            let d_signal = gates_back(P.at.d_gate + row * g, P.at.gate_signal, floats[P.at.d_before + i], k);
            let d_before = d_signal * gelu_with_derivative(floats[P.at.before + i]).y;
            floats[P.at.d_before + i] = d_before;
            let z = floats[P.at.preactivation + i];
            along += z * values[P.at.gain + k] * d_before;
            d_kappa += d_before * floats[P.at.mask_node + i] * values[P.at.beta + node * W + k];
            floats[P.at.d_gain + i] = d_before * z * inverse;
        }
        // y = g ⊙ z · r with r = (mean z² + ε)^(-1/2): dz = r g ⊙ dy − z r³ (z · (g ⊙ dy)) / D.
        let pull = sum_all(along, thread) * inverse * inverse * inverse / f32(D);
        let total_kappa = sum_all(d_kappa, thread);
        if thread == 0u {
            floats[P.at.rows + row * 4u] += d_alpha;
            floats[P.at.rows + row * 4u + 2u] = P.kappa * total_kappa;
        }
        for (var j = thread; j < W; j += WORKGROUP) {
            let i = row * W + j;
            let d_before = floats[P.at.d_before + i];
            let d_preactivation = inverse * values[P.at.gain + j] * d_before - floats[P.at.preactivation + i] * pull;
            floats[P.at.d_preactivation + i] = d_preactivation;
            floats[P.at.d_target + i] = d_preactivation + kappa * floats[P.at.mask_node + i] * d_before;
        }
        wait();
        if RESIDUAL == 1u && step > 0u {
            let edge_row = integers[P.at.edge_rows + row - 1u];
            if edge_row > 0u {
                // δ of the edge = r_e + (x B) C_e: the gradient of x B of the row before.
                for (var r = thread; r < RESIDUAL_RANK; r += WORKGROUP) {
                    let edge = P.at.residual + ((edge_row - 1u) * (1u + RESIDUAL_RANK) + 1u + r) * W;
                    var sum = floats[P.at.d_projected + (row - 1u) * RESIDUAL_RANK + r];
                    for (var j = 0u; j < W; j += 1u) {
                        sum = fma(values[edge + j], floats[P.at.d_preactivation + row * W + j], sum);
                    }
                    floats[P.at.d_projected + (row - 1u) * RESIDUAL_RANK + r] = sum;
                }
            }
        }
        wait();
    }
}
