// Signals of layered edges along true paths, one workgroup a row, and their gradients: what lies between the products
// and the memory. After: workgroup.wgsl, batch_layered.wgsl. CPU: engine/kernel/layered.rs, engine/learn/layered/.

// The row of a workgroup.
fn row_of(group: vec3<u32>, size: vec3<u32>) -> u32 {
    return group.y * size.x + group.x;
}

// Whether a layer is computed, rather than the read-out.
fn is_layer() -> bool {
    return P.layer < P.layers;
}

// Columns of `normals`.
fn normal_columns() -> u32 {
    return select(D, 2u * D, is_layer());
}

// Signal j that reaches a layer: 10 κ β of the node with dropout applied, then s + 2 σ(o) ⊙ A (c, 2 m) of the layer below.
fn signal_of(row: u32, b: u32, node: u32, j: u32) -> f32 {
    if P.layer == 0u {
        let level = P.kappa * values[P.scalars + 2u] * floats[P.mask_node + node];
        return level * floats[P.mask_input + b * W + j] * values[P.beta + node * W + j];
    }
    let gate = floats[P.below_edge + row * edge_columns() + blended_columns() + j];
    return floats[P.below_signals + row * D + j] + 2.0 * gate * floats[P.below_mixed + row * D + j];
}

// s, and n = g ⊙ s / rms(s), which the edge that leaves the node reads too.
@compute @workgroup_size(WORKGROUP)
fn normals(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) size: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = row_of(group, size);
    if row >= P.steps * P.sequences {
        return;
    }
    let b = row / P.steps;
    let step = row % P.steps;
    let node = integers[P.tokens + b * (P.steps + 1u) + step];
    var part = 0.0;
    for (var j = thread; j < D; j += WORKGROUP) {
        let s = signal_of(row, b, node, j);
        floats[P.signals + row * D + j] = s;
        part = fma(s, s, part);
    }
    let inverse = 1.0 / sqrt(sum_all(part, thread) / f32(D) + P.epsilon);
    if thread == 0u {
        floats[P.inverse + row] = inverse;
    }
    let columns = normal_columns();
    for (var j = thread; j < D; j += WORKGROUP) {
        let n = values[P.gain + j] * floats[P.signals + row * D + j] * inverse;
        floats[P.normals + row * columns + j] = n;
        if is_layer() {
            if step == 0u {
                floats[P.normals + row * columns + D + j] = floats[P.before + state_of(b) + j];
            }
            if step + 1u < P.steps {
                floats[P.normals + (row + 1u) * columns + D + j] = n;
            } else if P.carries == 1u {
                state[kept_from() + state_of(b) + j] = n;
            }
        }
    }
}

// h = (R n + a) with dropout applied.
@compute @workgroup_size(WORKGROUP)
fn leave(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) size: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = row_of(group, size);
    if row >= P.steps * P.sequences {
        return;
    }
    for (var j = thread; j < W; j += WORKGROUP) {
        var h = 0.0;
        if j < D {
            h = (floats[P.kept + row * W + j] + values[P.bias + j]) * floats[P.mask_output + row / P.steps * W + j];
        }
        floats[P.kept + row * W + j] = h;
    }
}

// The gradient of h from that of `kept`, and the part of ln α: h·dh of what the logits read.
@compute @workgroup_size(WORKGROUP)
fn leave_back(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) size: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = row_of(group, size);
    if row >= P.steps * P.sequences {
        return;
    }
    var part = 0.0;
    for (var j = thread; j < D; j += WORKGROUP) {
        let d_kept = floats[P.d_output + row * W + j];
        part = fma(d_kept, floats[P.kept + row * W + j], part);
        floats[P.d_output + row * W + j] = d_kept * floats[P.mask_output + row / P.steps * W + j];
    }
    let total = sum_all(part, thread);
    if thread == 0u {
        floats[P.rows + 4u * row] += total;
    }
}

// Gradients of s and of the gain: with r = 1/rms, ds = r g ⊙ dn − s r³ (s · (g ⊙ dn)) / D. That of the read-out sets
// `d_signals`, those of layers add to it.
@compute @workgroup_size(WORKGROUP)
fn normals_back(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) size: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = row_of(group, size);
    if row >= P.steps * P.sequences {
        return;
    }
    let columns = normal_columns();
    let inverse = floats[P.inverse + row];
    var part = 0.0;
    for (var j = thread; j < D; j += WORKGROUP) {
        let i = row * D + j;
        var d_normal = floats[P.d_normals + row * columns + j];
        // n of a node is also that of the source of the next edge.
        if is_layer() && row % P.steps + 1u < P.steps {
            d_normal += floats[P.d_normals + (row + 1u) * columns + D + j];
        }
        floats[P.d_gain + i] = d_normal * floats[P.signals + i] * inverse;
        part = fma(floats[P.signals + i] * values[P.gain + j], d_normal, part);
    }
    let pull = sum_all(part, thread) * inverse * inverse * inverse / f32(D);
    for (var j = thread; j < D; j += WORKGROUP) {
        let i = row * D + j;
        var d_normal = floats[P.d_normals + row * columns + j];
        var d_signal = 0.0;
        if is_layer() {
            d_signal = floats[P.d_signals + i];
            if row % P.steps + 1u < P.steps {
                d_normal += floats[P.d_normals + (row + 1u) * columns + D + j];
            }
        }
        d_signal += inverse * values[P.gain + j] * d_normal - floats[P.signals + i] * pull;
        floats[P.d_signals + i] = d_signal;
    }
}

// Gradients of A (c, 2 m) and of o: y enters s with 2 σ(o), and σ' = σ (1 − σ).
@compute @workgroup_size(WORKGROUP)
fn add_back(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) size: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = row_of(group, size);
    if row >= P.steps * P.sequences {
        return;
    }
    for (var j = thread; j < D; j += WORKGROUP) {
        let column = row * edge_columns() + blended_columns() + j;
        let gate = floats[P.edge + column];
        let d_mixed = 2.0 * gate * floats[P.d_signals + row * D + j];
        floats[P.d_mixed + row * D + j] = d_mixed;
        floats[P.d_edge + column] = d_mixed * floats[P.mixed + row * D + j] * (1.0 - gate);
    }
}

// Gradients of β and κ from that of s of the first layer.
@compute @workgroup_size(WORKGROUP)
fn enter_back(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) size: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = row_of(group, size);
    if row >= P.steps * P.sequences {
        return;
    }
    let b = row / P.steps;
    let node = integers[P.tokens + b * (P.steps + 1u) + row % P.steps];
    let factor = P.kappa * floats[P.mask_node + node];
    var part = 0.0;
    for (var j = thread; j < W; j += WORKGROUP) {
        var d_level = 0.0;
        if j < D {
            d_level = factor * floats[P.d_signals + row * D + j] * floats[P.mask_input + b * W + j];
        }
        part = fma(d_level, values[P.beta + node * W + j], part);
        floats[P.d_target + row * W + j] = d_level * values[P.scalars + 2u];
    }
    let total = sum_all(part, thread);
    if thread == 0u {
        floats[P.rows + 4u * row + 2u] = total;
    }
}
