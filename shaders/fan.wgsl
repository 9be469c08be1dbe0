// Own edges in training: energies of fans, and their gradients with respect to signals and edges.
// After: workgroup.wgsl, activation.wgsl, adamw_step.wgsl, batch_own.wgsl.
// CPU: engine/kernel/fan.rs, engine/learn/own/fan.rs, engine/learn/own/edge_weights.rs.
// An item is one edge with the rows of the batch at its source. Slopes are computed again where they are needed, which
// is cheaper than storing them.
//
// How the threads are kept busy, by reasoning; it has not been measured on a GPU: SIDE threads work on the columns of an edge
// for four rows at a time, so that a number of an edge is loaded once for the four, and a workgroup whose edges are narrow has
// several such slots. Threads wait for each other once for 4 · SLOTS rows, not once a row.

override D: u32 = 32u;
override W: u32 = 32u;
// Columns of an edge whose gradient one workgroup sums, and (D + 1) times as many.
override COLUMNS: u32 = 32u;
override NUMBERS: u32 = 1056u;
// Threads of a slot, a power of two; slots of a workgroup; D and W times as many.
override SIDE: u32 = 32u;
override SLOTS: u32 = 2u;
override INPUTS: u32 = 64u;
override SLOPES: u32 = 64u;
// Inner indices whose sums over columns a thread keeps at once.
const RUN: u32 = 32u;

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

// Four rows of each slot. [SLOTS, 4]
var<workgroup> row_of: array<u32, 4u * WORKGROUP>;
// dE / E of each of them, or 2 dE of squares.
var<workgroup> slope_of: array<f32, 4u * WORKGROUP>;
// 1 where the path of the row walks the edge.
var<workgroup> walks_of: array<u32, 4u * WORKGROUP>;
// kept of the four rows of each slot, and input of those that walk the edge. [SLOTS, D]
var<workgroup> kept_of: array<vec4<f32>, INPUTS>;
var<workgroup> input_of: array<vec4<f32>, INPUTS>;
// dz of four rows by their energies, and by the paths through the edge. [SLOTS, W]
var<workgroup> slopes: array<vec4<f32>, SLOPES>;
var<workgroup> returned: array<vec4<f32>, SLOPES>;
// The gradient of COLUMNS columns. [D + 1, COLUMNS]
var<workgroup> gradient: array<f32, NUMBERS>;
var<workgroup> sums_of: array<vec4<f32>, WORKGROUP>;

// Σ_j W_e dz of the inner indices of a run, for a column.
var<private> run: array<vec4<f32>, 8>;

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

// The sum over the columns of each slot. Every thread must reach it.
fn sum_columns(value: vec4<f32>, thread: u32) -> vec4<f32> {
    workgroupBarrier();
    sums_of[thread] = value;
    workgroupBarrier();
    for (var distance = SIDE / 2u; distance > 0u; distance /= 2u) {
        if thread % SIDE < distance {
            sums_of[thread] += sums_of[thread + distance];
        }
        workgroupBarrier();
    }
    return sums_of[thread - thread % SIDE];
}

// Load four rows of each slot, from position `first` of the order on, and their kept signals. Rows after the last, `end`,
// have signals of zero. Every thread must reach it.
fn load_rows(first: u32, end: u32, thread: u32) {
    let slot = thread / SIDE;
    let column = thread % SIDE;
    workgroupBarrier();
    for (var m = column; m < 4u; m += SIDE) {
        let i = first + 4u * slot + m;
        row_of[4u * slot + m] = integers[P.at.order + min(i, end - 1u)];
    }
    workgroupBarrier();
    for (var k = column; k < D; k += SIDE) {
        var four = vec4(0.0);
        for (var m = 0u; m < 4u; m += 1u) {
            if first + 4u * slot + m < end {
                four[m] = floats[P.at.kept + row_of[4u * slot + m] * W + k];
            }
        }
        kept_of[slot * D + k] = four;
    }
    workgroupBarrier();
}

// z_j = kept · W_e + b_e + position row of the four rows of a slot.
fn preactivations(slot: u32, edge: u32, j: u32) -> vec4<f32> {
    var z = vec4(edges[edge + D * W + j]);
    for (var m = 0u; m < 4u; m += 1u) {
        z[m] += floats[P.at.positions + row_of[4u * slot + m] % P.at.steps * W + j];
    }
    for (var k = 0u; k < D; k += 1u) {
        z = fma(kept_of[slot * D + k], vec4(edges[edge + k * W + j]), z);
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
    let slot = thread / SIDE;
    let column = thread % SIDE;
    let end = item.first + item.count;
    for (var first = item.first; first < end; first += 4u * SLOTS) {
        load_rows(first, end, thread);
        var part = vec4(0.0);
        for (var j = column; j < W; j += SIDE) {
            let c = gelu4(preactivations(slot, item.edge, j));
            part = fma(c, c, part);
        }
        let squares = sum_columns(part, thread);
        for (var m = column; m < 4u; m += SIDE) {
            if first + 4u * slot + m < end {
                let square = squares[m];
                let energy = select(sqrt(square), square, P.at.squared == 1u);
                let row = row_of[4u * slot + m];
                floats[P.at.energies + integers[P.at.starts + row] + item.number] = energy;
            }
        }
    }
}

// d_input of the rows at the fans of this buffer, Σ over edges of (W_e dz) ⊙ mask: one workgroup a row. A slot takes every
// SLOTS-th edge; its columns are added up after all edges, so that nothing waits between two edges.
@compute @workgroup_size(WORKGROUP)
fn signals(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = integers[P.at.order + group.x];
    let first = integers[P.fans + 2u * group.x];
    let count = integers[P.fans + 2u * group.x + 1u];
    if count == 0u && P.add == 1u {
        return;
    }
    let slot = thread / SIDE;
    let column = thread % SIDE;
    for (var k = thread; k < D; k += WORKGROUP) {
        kept_of[k] = vec4(floats[P.at.kept + row * W + k]);
    }
    workgroupBarrier();
    for (var k0 = 0u; k0 < D; k0 += RUN) {
        for (var i = 0u; i < RUN / 4u; i += 1u) {
            run[i] = vec4(0.0);
        }
        for (var index = first + slot; index < first + count; index += SLOTS) {
            let item = item_of(index);
            // dE / E, so that dz = slope · c ⊙ GELU'(z).
            let slope = floats[P.at.energies + integers[P.at.starts + row] + item.number];
            for (var j = column; j < W; j += SIDE) {
                var z = edges[item.edge + D * W + j] + floats[P.at.positions + row % P.at.steps * W + j];
                for (var k = 0u; k < D; k += 1u) {
                    z = fma(kept_of[k].x, edges[item.edge + k * W + j], z);
                }
                let c = gelu_with_derivative(z);
                add_run(item.edge + j, k0, slope * c.x * c.y);
            }
        }
        for (var i = 0u; i < RUN / 4u; i += 1u) {
            let sum = sum_columns(run[i], thread);
            // The first thread adds the slots up, in their order.
            if thread == 0u {
                var all = sum;
                for (var s = 1u; s < SLOTS; s += 1u) {
                    all += sums_of[s * SIDE];
                }
                for (var m = 0u; m < 4u; m += 1u) {
                    let k = k0 + 4u * i + m;
                    if k < D {
                        let to = row * W + k;
                        let before = select(0.0, floats[P.at.d_input + to], P.add == 1u);
                        floats[P.at.d_input + to] = fma(all[m], floats[P.at.mask + to], before);
                    }
                }
            }
        }
    }
    if P.add == 0u {
        for (var k = D + thread; k < W; k += WORKGROUP) {
            floats[P.at.d_input + row * W + k] = 0.0;
        }
    }
}

// run_k += W_kj dz_j of the inner indices from k0 on; `at` is the offset of column j of the edge.
fn add_run(at: u32, k0: u32, dz: f32) {
    for (var i = 0u; i < RUN / 4u; i += 1u) {
        let k = k0 + 4u * i;
        var four = vec4(0.0);
        for (var m = 0u; m < 4u; m += 1u) {
            if k + m < D {
                four[m] = edges[at + (k + m) * W];
            }
        }
        run[i] = fma(vec4(dz), four, run[i]);
    }
}

// Load the slopes of the rows of a slot, and the input of those whose path walks the edge. Every thread must reach it.
fn load_slopes(item: Item, first: u32, end: u32, thread: u32) {
    let slot = thread / SIDE;
    let column = thread % SIDE;
    for (var m = column; m < 4u; m += SIDE) {
        let i = 4u * slot + m;
        let row = row_of[i];
        let present = first + i < end;
        let slope = floats[P.at.energies + integers[P.at.starts + row] + item.number];
        slope_of[i] = select(0.0, slope, present);
        let walks = present
            && integers[P.at.walked + 2u * row] == P.buffer
            && integers[P.at.walked + 2u * row + 1u] == item.edge_row
            && row % P.at.steps + 1u < P.at.steps;
        walks_of[i] = u32(walks);
    }
    workgroupBarrier();
    for (var k = column; k < D; k += SIDE) {
        var four = vec4(0.0);
        for (var m = 0u; m < 4u; m += 1u) {
            if walks_of[4u * slot + m] == 1u {
                four[m] = floats[P.at.input + row_of[4u * slot + m] * W + k];
            }
        }
        input_of[slot * D + k] = four;
    }
}

// dz of the rows of a slot for the columns from column0 on: by their energies, and back along the paths.
fn put_slopes(item: Item, column0: u32, thread: u32) {
    let slot = thread / SIDE;
    for (var c = thread % SIDE; c < COLUMNS; c += SIDE) {
        let j = column0 + c;
        var dz = vec4(0.0);
        var back = vec4(0.0);
        if j < W {
            let z = preactivations(slot, item.edge, j);
            for (var m = 0u; m < 4u; m += 1u) {
                let i = 4u * slot + m;
                let value = gelu_with_derivative(z[m]);
                dz[m] = slope_of[i] * value.x * value.y;
                if walks_of[i] == 1u {
                    back[m] = floats[P.at.d_before + (row_of[i] + 1u) * W + j];
                }
            }
        }
        slopes[slot * W + c] = dz;
        returned[slot * W + c] = back;
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
    let end = item.first + item.count;
    for (var i = thread; i < NUMBERS; i += WORKGROUP) {
        gradient[i] = 0.0;
    }
    // Rows at a time: dW += kept dzᵀ + input d_nextᵀ, db += dz + d_next, where d_next comes back along a path.
    for (var first = item.first; first < end; first += 4u * SLOTS) {
        load_rows(first, end, thread);
        load_slopes(item, first, end, thread);
        put_slopes(item, column0, thread);
        workgroupBarrier();
        for (var n = thread; n < NUMBERS; n += WORKGROUP) {
            let k = n / COLUMNS;
            let c = n % COLUMNS;
            var sum = gradient[n];
            for (var s = 0u; s < SLOTS; s += 1u) {
                let i = 4u * s;
                let walks = (walks_of[i] | walks_of[i + 1u] | walks_of[i + 2u] | walks_of[i + 3u]) == 1u;
                if k == D {
                    sum += dot(slopes[s * W + c] + returned[s * W + c], vec4(1.0));
                } else {
                    sum += dot(kept_of[s * D + k], slopes[s * W + c]);
                    if walks {
                        sum += dot(input_of[s * D + k], returned[s * W + c]);
                    }
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
