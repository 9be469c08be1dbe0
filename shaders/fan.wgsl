// Own edges in training: energies of fans, and their gradients with respect to signals and edges.
// After: workgroup.wgsl, activation.wgsl, adamw_step.wgsl, batch_own.wgsl.
// CPU: engine/kernel/fan.rs, engine/learn/own/fan.rs, engine/learn/own/edge_weights.rs.
// An item is one edge with the rows of the batch at its source. Slopes are computed again where they are needed, which
// is cheaper than storing them.

override D: u32 = 32u;
override W: u32 = 32u;
// Columns of an edge whose gradient one workgroup sums, and (D + 1) times as many.
override COLUMNS: u32 = 32u;
override NUMBERS: u32 = 1056u;

struct Parameters {
    at: Batch,
    update: Update,
    buffer: u32,       // number of the bound buffer of edges
    edges: u32,        // in edges: offset of its rows
    items: u32,        // in integers: [items, 4]: first position in `order`, rows, row of the edge, its number in the fan
    items_count: u32,
    fans: u32,         // in integers: of each position in `order`, its first item and their number [B · T, 2]
    add: u32,          // whether `signals` adds to `d_input`
    result: u32,       // in floats: result of `edges_back`
    mode: u32,         // of `edges_back`: SQUARES, UPDATE, PARTIAL or STORE
}

// Results of `edges_back`: sums of squares of gradients; AdamW in place; gradients in the workspace; gradients in a
// buffer of their own, bound as `first_moments`.
const SQUARES: u32 = 0u;
const UPDATE: u32 = 1u;
const PARTIAL: u32 = 2u;
const STORE: u32 = 3u;

@group(0) @binding(0) var<uniform> P: Parameters;
// Workspace; offsets in P.at.
@group(0) @binding(1) var<storage, read_write> floats: array<f32>;
// Lists; offsets in P.at.
@group(0) @binding(2) var<storage, read> integers: array<u32>;
// [rows, D + 1, W]: matrix and bias of each edge of a buffer.
@group(0) @binding(3) var<storage, read_write> edges: array<f32>;
// [rows, D + 1, W]
@group(0) @binding(4) var<storage, read_write> first_moments: array<f32>;
// [rows, D + 1, W]
@group(0) @binding(5) var<storage, read_write> second_moments: array<f32>;

// dz of the edge by its energy, and of the path through it. [W] and [COLUMNS]
var<workgroup> slopes: array<f32, W>;
var<workgroup> returned: array<f32, COLUMNS>;
// The gradient of COLUMNS columns. [D + 1, COLUMNS]
var<workgroup> gradient: array<f32, NUMBERS>;

struct Item {
    first: u32,
    count: u32,
    edge_row: u32,
    number: u32,
    edge: u32,         // in edges: offset of its row
}

fn item_of(index: u32) -> Item {
    let i = P.items + 4u * index;
    let edge_row = integers[i + 2u];
    return Item(integers[i], integers[i + 1u], edge_row, integers[i + 3u], P.edges + edge_row * (D + 1u) * W);
}

// z_j = kept · W_e + b_e + position row of a row of the batch.
fn preactivation(row: u32, edge: u32, j: u32) -> f32 {
    var z = edges[edge + D * W + j] + floats[P.at.positions + row % P.at.steps * W + j];
    for (var k = 0u; k < D; k += 1u) {
        z = fma(floats[P.at.kept + row * W + k], edges[edge + k * W + j], z);
    }
    return z;
}

// E = ‖GELU(z)‖, or its square, for every row of an item: one workgroup an item.
@compute @workgroup_size(WORKGROUP)
fn energies(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) size: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let index = group.y * size.x + group.x;
    if index >= P.items_count {
        return;
    }
    let item = item_of(index);
    for (var i = item.first; i < item.first + item.count; i += 1u) {
        let row = integers[P.at.order + i];
        var part = 0.0;
        for (var j = thread; j < W; j += WORKGROUP) {
            let c = gelu_with_derivative(preactivation(row, item.edge, j)).x;
            part = fma(c, c, part);
        }
        let square = sum_all(part, thread);
        if thread == 0u {
            let energy = select(sqrt(square), square, P.at.squared == 1u);
            floats[P.at.energies + integers[P.at.starts + row] + item.number] = energy;
        }
    }
}

// d_input of the rows at the fans of this buffer, Σ over edges of (W_e dz) ⊙ mask: one workgroup a row.
@compute @workgroup_size(WORKGROUP)
fn signals(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = integers[P.at.order + group.x];
    let first = integers[P.fans + 2u * group.x];
    let count = integers[P.fans + 2u * group.x + 1u];
    if P.add == 0u {
        for (var k = thread; k < W; k += WORKGROUP) {
            floats[P.at.d_input + row * W + k] = 0.0;
        }
    }
    for (var index = first; index < first + count; index += 1u) {
        let item = item_of(index);
        // dE / E, so that dz = slope · c ⊙ GELU'(z).
        let slope = floats[P.at.energies + integers[P.at.starts + row] + item.number];
        workgroupBarrier();
        for (var j = thread; j < W; j += WORKGROUP) {
            let c = gelu_with_derivative(preactivation(row, item.edge, j));
            slopes[j] = slope * c.x * c.y;
        }
        workgroupBarrier();
        for (var k = thread; k < D; k += WORKGROUP) {
            var sum = 0.0;
            for (var j = 0u; j < W; j += 1u) {
                sum = fma(slopes[j], edges[item.edge + k * W + j], sum);
            }
            let i = row * W + k;
            floats[P.at.d_input + i] = fma(sum, floats[P.at.mask + i], floats[P.at.d_input + i]);
        }
    }
}

// The gradient of each item's edge, by its energies and by the paths through it, and what `mode` does with it: one
// workgroup an item and a run of columns.
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
    let column0 = group.z * COLUMNS;
    for (var i = thread; i < NUMBERS; i += WORKGROUP) {
        gradient[i] = 0.0;
    }
    // Row by row: dW += kept dzᵀ + input d_nextᵀ, db += dz + d_next, where d_next comes back along a path.
    for (var i = item.first; i < item.first + item.count; i += 1u) {
        let row = integers[P.at.order + i];
        let slope = floats[P.at.energies + integers[P.at.starts + row] + item.number];
        let walks = integers[P.at.walked + 2u * row] == P.buffer
            && integers[P.at.walked + 2u * row + 1u] == item.edge_row
            && row % P.at.steps + 1u < P.at.steps;
        workgroupBarrier();
        for (var c = thread; c < COLUMNS; c += WORKGROUP) {
            let j = column0 + c;
            var dz = 0.0;
            var back = 0.0;
            if j < W {
                let value = gelu_with_derivative(preactivation(row, item.edge, j));
                dz = slope * value.x * value.y;
                if walks {
                    back = floats[P.at.d_before + (row + 1u) * W + j];
                }
            }
            slopes[c] = dz;
            returned[c] = back;
        }
        workgroupBarrier();
        for (var n = thread; n < NUMBERS; n += WORKGROUP) {
            let k = n / COLUMNS;
            let c = n % COLUMNS;
            var sum = gradient[n];
            if k == D {
                sum += slopes[c] + returned[c];
            } else {
                sum = fma(floats[P.at.kept + row * W + k], slopes[c], sum);
                if walks {
                    sum = fma(floats[P.at.input + row * W + k], returned[c], sum);
                }
            }
            gradient[n] = sum;
        }
    }
    workgroupBarrier();
    if P.mode == SQUARES {
        var part = 0.0;
        for (var i = thread; i < NUMBERS; i += WORKGROUP) {
            part = fma(gradient[i], gradient[i], part);
        }
        let square = sum_all(part, thread);
        if thread == 0u {
            floats[P.result + index * size.z + group.z] = square;
        }
        return;
    }
    for (var i = thread; i < NUMBERS; i += WORKGROUP) {
        let j = column0 + i % COLUMNS;
        if j >= W {
            continue;
        }
        let within = i / COLUMNS * W + j;
        let to = item.edge + within;
        if P.mode == PARTIAL {
            floats[P.result + index * (D + 1u) * W + within] = gradient[i];
        } else if P.mode == STORE {
            first_moments[to] = gradient[i];
        } else if may_update() {
            let moved = adamw(edges[to], first_moments[to], second_moments[to], gradient[i]);
            edges[to] = moved.x;
            first_moments[to] = moved.y;
            second_moments[to] = moved.z;
        }
    }
}
