// The softmax over positions as running averages, and its gradient. After: workgroup.wgsl, activation.wgsl.
// CPU: engine/kernel/position.rs.

struct Parameters {
    logits: u32,       // in values and gradients: [count]
    count: u32,
    steps: u32,        // T
    lambda: u32,       // in floats: λ of each step [T]
    gates: u32,        // in floats: gradients of λ [B · T, columns]
    columns: u32,
    sequences: u32,    // B
    shift: u32,        // the first step that is blended
    d_lambda: u32,     // in floats: their sums, from step `shift` [T]
}

@group(0) @binding(0) var<uniform> P: Parameters;
// Workspace; offsets in P.
@group(0) @binding(1) var<storage, read_write> floats: array<f32>;
// Blocks of parameters; offsets in P.
@group(0) @binding(2) var<storage, read> values: array<f32>;
// Gradients of `values`, at the same offsets.
@group(0) @binding(3) var<storage, read_write> gradients: array<f32>;

// λ_t = Z_{t−1} / Z_t with Z_t = Σ_{i ≤ t} exp(logit_i): one thread, T steps.
@compute @workgroup_size(1)
fn weights() {
    var top = values[P.logits];
    for (var i = 1u; i < P.count; i += 1u) {
        top = max(top, values[P.logits + i]);
    }
    var total = 0.0;
    for (var step = 0u; step < P.steps; step += 1u) {
        let before = total;
        total += natural_exp(values[P.logits + min(step, P.count - 1u)] - top);
        floats[P.lambda + step] = before / total;
    }
}

// Σ over sequences and columns of the gradients of λ: one workgroup a step.
@compute @workgroup_size(WORKGROUP)
fn gather(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let step = group.x + P.shift;
    var sum = 0.0;
    for (var i = thread; i < P.sequences * P.columns; i += WORKGROUP) {
        let row = i / P.columns * P.steps + step;
        if step < P.steps {
            sum += floats[P.gates + row * P.columns + i % P.columns];
        }
    }
    let total = sum_all(sum, thread);
    if thread == 0u {
        floats[P.d_lambda + group.x] = total;
    }
}

// The gradient of logit j through λ_j and every later λ.
fn logit_back(j: u32) -> f32 {
    var sum = 0.0;
    var weight = 1.0;
    for (var step = j; step < P.steps; step += 1u) {
        let lambda = floats[P.lambda + step];
        var change = -lambda;
        if step > j {
            weight *= lambda;
            change = 1.0 - lambda;
        }
        sum += floats[P.d_lambda + step] * weight * (1.0 - floats[P.lambda + j]) * change;
    }
    return sum;
}

// Gradients of the logits, one thread a logit; steps beyond the last logit use it.
@compute @workgroup_size(WORKGROUP)
fn back(@builtin(global_invocation_id) id: vec3<u32>) {
    let j = id.x;
    if j >= min(P.count, P.steps) {
        return;
    }
    var sum = logit_back(j);
    if j == P.count - 1u {
        for (var later = P.count; later < P.steps; later += 1u) {
            sum += logit_back(later);
        }
    }
    // Parts of a batch add up.
    gradients[P.logits + j] += sum;
}
