// The softmax over positions as running averages, and back. Twin: engine/kernel/position.rs.
// After: activation.wgsl.

override WORKGROUP: u32 = 64u;

struct Parameters {
    logits: u32,       // in values and gradients: [count]
    count: u32,
    steps: u32,        // T
    lambda: u32,       // in floats: λ of each arrival [T]
    gates: u32,        // in floats: gradients of λ [B · T, columns]
    columns: u32,
    sequences: u32,    // B
    shift: u32,        // the arrival at step `shift` is the first one that is blended
    d_lambda: u32,     // in floats: their sums [T]
}

@group(0) @binding(0) var<uniform> P: Parameters;
// One row of numbers: arrays at the places that P names, with the shapes given there.
@group(0) @binding(1) var<storage, read_write> floats: array<f32>;
// One row of parameters: blocks at the places that P names, with the shapes given there.
@group(0) @binding(2) var<storage, read> values: array<f32>;
// Gradients of `values`, each at its parameter's place.
@group(0) @binding(3) var<storage, read_write> gradients: array<f32>;

var<workgroup> sums: array<f32, WORKGROUP>;

// λ_t = Z_{t−1} / Z_t: one thread, T steps.
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
fn gather(@builtin(workgroup_id) at: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let step = at.x + P.shift;
    var sum = 0.0;
    for (var i = thread; i < P.sequences * P.columns; i += WORKGROUP) {
        let row = i / P.columns * P.steps + step;
        if step < P.steps {
            sum += floats[P.gates + row * P.columns + i % P.columns];
        }
    }
    sums[thread] = sum;
    workgroupBarrier();
    for (var node_update = WORKGROUP / 2u; node_update > 0u; node_update /= 2u) {
        if thread < node_update {
            sums[thread] += sums[thread + node_update];
        }
        workgroupBarrier();
    }
    if thread == 0u {
        floats[P.d_lambda + at.x] = sums[0];
    }
}

// What position j gets through every later λ.
fn share(j: u32) -> f32 {
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

// One thread a position; those beyond the last logit count for it.
@compute @workgroup_size(WORKGROUP)
fn back(@builtin(global_invocation_id) at: vec3<u32>) {
    let j = at.x;
    if j >= min(P.count, P.steps) {
        return;
    }
    var sum = share(j);
    if j == P.count - 1u {
        for (var later = P.count; later < P.steps; later += 1u) {
            sum += share(later);
        }
    }
    gradients[P.logits + j] = sum;
}
