// Own residuals of composed edges in training: their energies, and the way back.
// Twin: engine/learn/residual.rs. A group is the rows of a batch that stand at one node.

override WORKGROUP: u32 = 32u;
override W: u32 = 32u;
override RANK: u32 = 0u;

struct Parameters {
    order: u32,        // in integers: rows of the batch by source [B · T]
    items: u32,        // in integers: [items, 4]: first place in order, rows, own row (slot − 1), target
    items_count: u32,
    fans: u32,         // in integers: of each place in order, its first item and own edges [B · T, 2]
    edge_starts: u32,  // in integers: where each row's own edges begin in `extra` [B · T]
    edge_rows: u32,        // in integers: residual row of the edge each row walks to its next token, + 1 [B · T]
    steps: u32,        // T
    extra: u32,        // in floats: energies that residuals add; then their gradients
    kept: u32,         // in floats: [B · T, W]
    projected: u32,    // in floats: [B · T, R]
    d_kept: u32,       // in floats: [B · T, W]
    d_projected: u32,  // in floats: [B · T, R]
    d_arrival: u32,    // in floats: [B · T, W]
    rows: u32,         // in floats: [B · T, 4]: gradients of ln α and γ, of κ, nats
    d_beta: u32,       // in floats: what each item sends to its target [items, W]
    residual: u32,     // in values and gradients: [own, (1 + R) W]
    beta: u32,         // in values: [V, W]
}

@group(0) @binding(0) var<uniform> P: Parameters;
// One row of numbers: arrays at the places that P names, with the shapes given there.
@group(0) @binding(1) var<storage, read_write> floats: array<f32>;
// One row of integers: arrays at the places that P names, with the shapes given there.
@group(0) @binding(2) var<storage, read> integers: array<u32>;
// One row of parameters: blocks at the places that P names, with the shapes given there.
@group(0) @binding(3) var<storage, read> values: array<f32>;
// Gradients of `values`, each at its parameter's place.
@group(0) @binding(4) var<storage, read_write> gradients: array<f32>;

fn rho(edge: u32, row: u32, j: u32) -> f32 {
    var sum = 0.0;
    for (var r = 0u; r < RANK; r += 1u) {
        sum = fma(floats[P.projected + row * RANK + r], values[edge + (1u + r) * W + j], sum);
    }
    return sum;
}

var<workgroup> sums: array<f32, WORKGROUP>;

// One thread an item.
@compute @workgroup_size(WORKGROUP)
fn energies(
    @builtin(workgroup_id) at: vec3<u32>,
    @builtin(num_workgroups) size: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let item = (at.y * size.x + at.x) * WORKGROUP + thread;
    if item >= P.items_count {
        return;
    }
    let first = integers[P.items + 4u * item];
    let edge = P.residual + integers[P.items + 4u * item + 2u] * (1u + RANK) * W;
    let beta = P.beta + integers[P.items + 4u * item + 3u] * W;
    for (var place = first; place < first + integers[P.items + 4u * item + 1u]; place += 1u) {
        let row = integers[P.order + place];
        var energy = 0.0;
        for (var j = 0u; j < W; j += 1u) {
            let bias = values[edge + j];
            let turned = rho(edge, row, j);
            energy += 2.0 * (floats[P.kept + row * W + j] * (turned + bias) + (values[beta + j] + bias) * turned)
                + turned * turned;
        }
        let within = item - integers[P.fans + 2u * place];
        floats[P.extra + integers[P.edge_starts + row] + within] = energy;
    }
}

// Adds to the gradient of what is kept, and sets that of x B: one workgroup a row.
@compute @workgroup_size(WORKGROUP)
fn signals(@builtin(workgroup_id) at: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let place = at.x;
    let row = integers[P.order + place];
    let first = integers[P.fans + 2u * place];
    let count = integers[P.fans + 2u * place + 1u];
    var counted = 0.0;
    for (var j = thread; j < W; j += WORKGROUP) {
        var sum = 0.0;
        for (var within = 0u; within < count; within += 1u) {
            let edge = P.residual + integers[P.items + 4u * (first + within) + 2u] * (1u + RANK) * W;
            let slope = 2.0 * floats[P.extra + integers[P.edge_starts + row] + within];
            sum = fma(slope, rho(edge, row, j) + values[edge + j], sum);
        }
        floats[P.d_kept + row * W + j] += sum;
        counted = fma(sum, floats[P.kept + row * W + j], counted);
    }
    // What is sent to α through d_kept is counted by the softmax already: the walk back will count it again.
    sums[thread] = counted;
    workgroupBarrier();
    if thread == 0u {
        var total = 0.0;
        for (var i = 0u; i < WORKGROUP; i += 1u) {
            total += sums[i];
        }
        floats[P.rows + 4u * row] -= total;
    }
    for (var r = thread; r < RANK; r += WORKGROUP) {
        var sum = 0.0;
        for (var within = 0u; within < count; within += 1u) {
            let item = P.items + 4u * (first + within);
            let edge = P.residual + integers[item + 2u] * (1u + RANK) * W;
            let beta = P.beta + integers[item + 3u] * W;
            let slope = 2.0 * floats[P.extra + integers[P.edge_starts + row] + within];
            var along = 0.0;
            for (var j = 0u; j < W; j += 1u) {
                let z = floats[P.kept + row * W + j] + values[beta + j] + values[edge + j] + rho(edge, row, j);
                along = fma(values[edge + (1u + r) * W + j], z, along);
            }
            sum = fma(slope, along, sum);
        }
        floats[P.d_projected + row * RANK + r] = sum;
    }
}

// The gradient of each own edge, by its energies and by the paths that walk it: one workgroup an item.
@compute @workgroup_size(WORKGROUP)
fn edges(
    @builtin(workgroup_id) at: vec3<u32>,
    @builtin(num_workgroups) size: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let item = at.y * size.x + at.x;
    if item >= P.items_count {
        return;
    }
    let first = integers[P.items + 4u * item];
    let own = integers[P.items + 4u * item + 2u];
    let place_of = P.residual + own * (1u + RANK) * W;
    let beta = P.beta + integers[P.items + 4u * item + 3u] * W;
    for (var j = thread; j < W; j += WORKGROUP) {
        var d_bias = 0.0;
        var d_beta = 0.0;
        for (var r = 0u; r < RANK; r += 1u) {
            gradients[place_of + (1u + r) * W + j] = 0.0;
        }
        for (var place = first; place < first + integers[P.items + 4u * item + 1u]; place += 1u) {
            let row = integers[P.order + place];
            let within = item - integers[P.fans + 2u * place];
            let slope = 2.0 * floats[P.extra + integers[P.edge_starts + row] + within];
            let turned = rho(place_of, row, j);
            let h = floats[P.kept + row * W + j];
            d_bias = fma(slope, h + turned, d_bias);
            d_beta = fma(slope, turned, d_beta);
            var d_rho = slope * (h + values[beta + j] + values[place_of + j] + turned);
            // The path that walks this edge: δ reached the next arrival.
            if integers[P.edge_rows + row] == own + 1u && row % P.steps + 1u < P.steps {
                let back = floats[P.d_arrival + (row + 1u) * W + j];
                d_bias += back;
                d_rho += back;
            }
            for (var r = 0u; r < RANK; r += 1u) {
                gradients[place_of + (1u + r) * W + j] += floats[P.projected + row * RANK + r] * d_rho;
            }
        }
        gradients[place_of + j] = d_bias;
        if RANK > 0u {
            floats[P.d_beta + item * W + j] = d_beta;
        }
    }
}
