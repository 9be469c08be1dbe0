// Own residuals of composed edges in training: δ_e = r_e + ρ, ρ = (x B) C_e; what δ adds to energies ‖h + β‖²,
// and the gradients. After: workgroup.wgsl, batch_composed.wgsl. CPU: engine/learn/residual.rs.
// An item is an own edge with the rows of the batch at its source.

override W: u32 = 32u;
override RANK: u32 = 0u;

struct Parameters {
    at: Batch,
    order: u32,        // in integers: rows sorted by node [B · T]
    rows_count: u32,   // B · T
    items: u32,        // in integers: [items, 4]: first position in `order`, rows, residual row, target
    items_count: u32,
    fans: u32,         // in integers: of each position in `order`, its first item and own edges [B · T, 2]
    d_beta: u32,       // in floats: gradient of each item's target β [items, W]
}

@group(0) @binding(0) var<uniform> P: Parameters;
// Workspace; offsets in P.at.
@group(0) @binding(1) var<storage, read_write> floats: array<f32>;
// Lists; offsets in P.at.
@group(0) @binding(2) var<storage, read> integers: array<u32>;
// Blocks of parameters; offsets in P.at.
@group(0) @binding(3) var<storage, read> values: array<f32>;
// Gradients of `values`, at the same offsets.
@group(0) @binding(4) var<storage, read_write> gradients: array<f32>;

struct Item {
    first: u32,
    count: u32,
    residual_row: u32,
    edge: u32,         // in values: offset of its residual
    beta: u32,         // in values: β of its target [W]
}

fn item_of(index: u32) -> Item {
    let i = P.items + 4u * index;
    let residual_row = integers[i + 2u];
    let edge = P.at.residual + residual_row * (1u + RANK) * W;
    return Item(integers[i], integers[i + 1u], residual_row, edge, P.at.beta + integers[i + 3u] * W);
}

// ρ_j of an edge, for a row of the batch.
fn rho(edge: u32, row: u32, j: u32) -> f32 {
    var sum = 0.0;
    for (var r = 0u; r < RANK; r += 1u) {
        sum = fma(floats[P.at.projected + row * RANK + r], values[edge + (1u + r) * W + j], sum);
    }
    return sum;
}

// The energy that δ adds, without 2 β·r + ‖r‖²: 2 h·δ + 2 (β + r)·ρ + ‖ρ‖². Logits leave out ‖β + r‖² as they leave out
// ‖β‖². One thread an item.
@compute @workgroup_size(WORKGROUP)
fn energies(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) size: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let index = (group.y * size.x + group.x) * WORKGROUP + thread;
    if index >= P.items_count {
        return;
    }
    let item = item_of(index);
    for (var i = item.first; i < item.first + item.count; i += 1u) {
        let row = integers[P.order + i];
        var energy = 0.0;
        for (var j = 0u; j < W; j += 1u) {
            let bias = values[item.edge + j];
            let r = rho(item.edge, row, j);
            energy += 2.0 * (floats[P.at.kept + row * W + j] * (r + bias) + (values[item.beta + j] + bias) * r) + r * r;
        }
        let within = index - integers[P.fans + 2u * i];
        floats[P.at.extra + integers[P.at.edge_starts + row] + within] = energy;
    }
}

// Add to the gradient of `kept`, and set that of x B: one workgroup a row.
@compute @workgroup_size(WORKGROUP)
fn signals_back(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) size: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let position = group.y * size.x + group.x;
    if position >= P.rows_count {
        return;
    }
    let row = integers[P.order + position];
    let first = integers[P.fans + 2u * position];
    let count = integers[P.fans + 2u * position + 1u];
    var counted = 0.0;
    for (var j = thread; j < W; j += WORKGROUP) {
        var sum = 0.0;
        for (var within = 0u; within < count; within += 1u) {
            let edge = item_of(first + within).edge;
            let slope = 2.0 * floats[P.at.extra + integers[P.at.edge_starts + row] + within];
            sum = fma(slope, rho(edge, row, j) + values[edge + j], sum);
        }
        floats[P.at.d_output + row * W + j] += sum;
        counted = fma(sum, floats[P.at.kept + row * W + j], counted);
    }
    // The softmax counted this part of α's gradient already; the backward pass will count it again through d_kept.
    let total = sum_all(counted, thread);
    if thread == 0u {
        floats[P.at.rows + 4u * row] -= total;
    }
    for (var r = thread; r < RANK; r += WORKGROUP) {
        var sum = 0.0;
        for (var within = 0u; within < count; within += 1u) {
            let item = item_of(first + within);
            let slope = 2.0 * floats[P.at.extra + integers[P.at.edge_starts + row] + within];
            var along = 0.0;
            for (var j = 0u; j < W; j += 1u) {
                let h_and_beta = floats[P.at.kept + row * W + j] + values[item.beta + j];
                let z = h_and_beta + values[item.edge + j] + rho(item.edge, row, j);
                along = fma(values[item.edge + (1u + r) * W + j], z, along);
            }
            sum = fma(slope, along, sum);
        }
        floats[P.at.d_projected + row * RANK + r] = sum;
    }
}

// The gradient of each own residual, by its energies and by the paths through it: one workgroup an item.
@compute @workgroup_size(WORKGROUP)
fn edges_back(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) size: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let index = group.y * size.x + group.x;
    if index >= P.items_count {
        return;
    }
    let item = item_of(index);
    for (var j = thread; j < W; j += WORKGROUP) {
        var d_bias = 0.0;
        var d_beta = 0.0;
        for (var i = item.first; i < item.first + item.count; i += 1u) {
            let row = integers[P.order + i];
            let within = index - integers[P.fans + 2u * i];
            let slope = 2.0 * floats[P.at.extra + integers[P.at.edge_starts + row] + within];
            let r_j = rho(item.edge, row, j);
            let h = floats[P.at.kept + row * W + j];
            d_bias = fma(slope, h + r_j, d_bias);
            d_beta = fma(slope, r_j, d_beta);
            var d_rho = slope * (h + values[item.beta + j] + values[item.edge + j] + r_j);
            // A path takes this edge: δ was part of the next step's z.
            if integers[P.at.edge_rows + row] == item.residual_row + 1u && row % P.at.steps + 1u < P.at.steps {
                let back = floats[P.at.d_preactivation + (row + 1u) * W + j];
                d_bias += back;
                d_rho += back;
            }
            for (var r = 0u; r < RANK; r += 1u) {
                gradients[item.edge + (1u + r) * W + j] += floats[P.at.projected + row * RANK + r] * d_rho;
            }
        }
        // The parts of a batch add up.
        gradients[item.edge + j] += d_bias;
        if RANK > 0u {
            floats[P.d_beta + index * W + j] = d_beta;
        }
    }
}
