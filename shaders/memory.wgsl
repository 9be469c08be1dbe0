// The memory of layered edges in training: c = GELU(p), λ = σ(q), m ← c + λ (m − c) along each sequence, and gradients.
// After: workgroup.wgsl, activation.wgsl, batch_layered.wgsl. CPU: `Memory` of engine/kernel/layered.rs.

// The number of a thread in a dispatch of two dimensions.
fn number_of(group: vec3<u32>, size: vec3<u32>, thread: u32) -> u32 {
    return (group.y * size.x + group.x) * WORKGROUP + thread;
}

// The state before the first step: the kept one where a sequence continues, else 0. One thread a number.
@compute @workgroup_size(WORKGROUP)
fn begin(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) size: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let number = number_of(group, size, thread);
    let b = number / (P.layers * (D + memory_columns()));
    if b >= P.sequences {
        return;
    }
    var value = 0.0;
    if integers[P.continued + b] == 1u {
        value = state[kept_from() + number];
    }
    floats[P.before + number] = value;
}

// p, λ and σ(o) with the bias of the edge, and c. One thread a column of a row.
@compute @workgroup_size(WORKGROUP)
fn activate(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) size: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let number = number_of(group, size, thread);
    let row = number / edge_columns();
    let column = number % edge_columns();
    if row >= P.steps * P.sequences {
        return;
    }
    let before = floats[P.edge + number] + values[P.bias + column];
    if column >= INNER {
        floats[P.edge + number] = sigmoid(before);
        return;
    }
    let c = gelu_with_derivative(before).x;
    floats[P.edge + number] = before;
    floats[P.signal + row * INNER + column] = c;
    let mask = floats[memory_mask(row / P.steps) + column];
    floats[P.blended + row * blended_columns() + column] = c * mask;
}

// m of all steps: one thread a column of a sequence.
@compute @workgroup_size(WORKGROUP)
fn scan(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) size: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let number = number_of(group, size, thread);
    let columns = memory_columns();
    let b = number / columns;
    let j = number % columns;
    if b >= P.sequences {
        return;
    }
    let mask = floats[memory_mask(b) + INNER + j];
    var m = floats[P.before + state_of(b) + D + j];
    for (var row = b * P.steps; row < (b + 1u) * P.steps; row += 1u) {
        let c = floats[P.signal + row * INNER + j % INNER];
        m = fma(floats[P.edge + row * edge_columns() + INNER + j], m - c, c);
        floats[P.banks + row * columns + j] = m;
        floats[P.blended + row * blended_columns() + INNER + j] = 2.0 * m * mask;
    }
    if P.carries == 1u {
        state[kept_from() + state_of(b) + D + j] = m;
    }
}

// Gradients of q, and of c through each bank, which replaces that of 2 m: one thread a column of a sequence. Nothing after
// the last step has a gradient: that of a continued sequence ends with its batch.
@compute @workgroup_size(WORKGROUP)
fn scan_back(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) size: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let number = number_of(group, size, thread);
    let columns = memory_columns();
    let b = number / columns;
    let j = number % columns;
    if b >= P.sequences {
        return;
    }
    let mask = floats[memory_mask(b) + INNER + j];
    let first = b * P.steps;
    var d_bank = 0.0;
    for (var left = P.steps; left > 0u; left -= 1u) {
        let row = first + left - 1u;
        let blended = P.d_blended + row * blended_columns() + INNER + j;
        d_bank = fma(2.0 * mask, floats[blended], d_bank);
        var earlier = floats[P.before + state_of(b) + D + j];
        if left > 1u {
            earlier = floats[P.banks + (row - 1u) * columns + j];
        }
        let c = floats[P.signal + row * INNER + j % INNER];
        let gate = row * edge_columns() + INNER + j;
        let lambda = floats[P.edge + gate];
        floats[P.d_edge + gate] = d_bank * (earlier - c) * lambda * (1.0 - lambda);
        floats[blended] = d_bank * (1.0 - lambda);
        d_bank *= lambda;
    }
}

// Gradients of p: one thread a column of a row.
@compute @workgroup_size(WORKGROUP)
fn activate_back(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) size: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let number = number_of(group, size, thread);
    let row = number / INNER;
    let j = number % INNER;
    if row >= P.steps * P.sequences {
        return;
    }
    let blended = P.d_blended + row * blended_columns() + j;
    var d_signal = floats[blended] * floats[memory_mask(row / P.steps) + j];
    for (var k = 1u; k <= BANKS; k += 1u) {
        d_signal += floats[blended + k * INNER];
    }
    let column = row * edge_columns() + j;
    floats[P.d_edge + column] = d_signal * gelu_with_derivative(floats[P.edge + column]).y;
}
