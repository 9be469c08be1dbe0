// Own edges in training: energies of fans, and the way back into signals and edges.
// After: activation.wgsl. Twins: engine/kernel/fan.rs, engine/learn/own/fan.rs, engine/learn/own/arena.rs.
// An item is one edge with the rows of the batch that stand at its source; slopes are formed again where they
// are needed, which is cheaper than to keep them.

override WORKGROUP: u32 = 32u;
override D: u32 = 32u;
override W: u32 = 32u;
// Columns of an edge that one workgroup brings together, and (D + 1) times as many.
override COLUMNS: u32 = 32u;
override NUMBERS: u32 = 1056u;

struct Parameters {
    steps: u32,        // T
    edges: u32,        // in edges: where the rows of this buffer begin
    order: u32,        // in integers: rows of the batch by source [B · T]
    items: u32,        // in integers: [items, 4]: first place in order, rows, row of the edge, its number in the fan
    items_count: u32,
    fans: u32,         // in integers: first item of each place in order, and how many [B · T, 2]
    starts: u32,       // in integers: where each row's energies begin [B · T]
    walked: u32,       // in integers: buffer and row of the edge each row walks [B · T, 2]
    buffer: u32,       // the buffer that is bound
    energies: u32,     // in floats: shared edge first, then own ones; later dE / E, or 2 dE of squares
    kept: u32,         // in floats: [B · T, W]
    input: u32,        // in floats: [B · T, W]
    mask: u32,         // in floats: [B · T, W]
    table: u32,        // in floats: position row of each hop [T, W]
    d_input: u32,      // in floats: [B · T, W]
    d_before: u32,     // in floats: [B · T, W]
    squared: u32,
    add: u32,          // whether `signals` adds to what is there
    result: u32,       // in floats: what `edges_back` writes
    mode: u32,         // of `edges_back`: 0 squares of gradients, 1 AdamW, 2 gradients into floats, 3 into the edges' own
    beta1: f32,
    beta2: f32,
    rate: f32,
    correction: f32,
    epsilon: f32,
    shrink: f32,
    scale: u32,        // in floats: what gradients are multiplied with; then 1 if anything may move
}

@group(0) @binding(0) var<uniform> P: Parameters;
// One row of numbers: arrays at the places that P names, with the shapes given there.
@group(0) @binding(1) var<storage, read_write> floats: array<f32>;
// One row of integers: arrays at the places that P names, with the shapes given there.
@group(0) @binding(2) var<storage, read> integers: array<u32>;
// [rows, D + 1, W]: matrix and bias of each edge of a buffer, and their moments.
@group(0) @binding(3) var<storage, read_write> edges: array<f32>;
// [rows, D + 1, W]
@group(0) @binding(4) var<storage, read_write> first_moments: array<f32>;
// [rows, D + 1, W]
@group(0) @binding(5) var<storage, read_write> second_moments: array<f32>;

var<workgroup> sums: array<f32, WORKGROUP>;
// dz of the edge, and of the path over it. [W] and [W]
var<workgroup> slopes: array<f32, W>;
var<workgroup> returned: array<f32, COLUMNS>;
// The gradient of COLUMNS columns. [D + 1, COLUMNS]
var<workgroup> gradient: array<f32, NUMBERS>;

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

// Column j of a row's signal through an edge, before activation.
fn preactivation(row: u32, edge: u32, j: u32) -> f32 {
    var z = edges[edge + D * W + j] + floats[P.table + row % P.steps * W + j];
    for (var k = 0u; k < D; k += 1u) {
        z = fma(floats[P.kept + row * W + k], edges[edge + k * W + j], z);
    }
    return z;
}

// Energies of every row of an item: one workgroup an item.
@compute @workgroup_size(WORKGROUP)
fn energies(
    @builtin(workgroup_id) at: vec3<u32>,
    @builtin(num_workgroups) size: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let item = at.y * size.x + at.x;
    if item >= P.items_count {
        return;
    }
    let first = integers[P.items + 4u * item];
    let count = integers[P.items + 4u * item + 1u];
    let edge = P.edges + integers[P.items + 4u * item + 2u] * (D + 1u) * W;
    let number = integers[P.items + 4u * item + 3u];
    for (var place = first; place < first + count; place += 1u) {
        let row = integers[P.order + place];
        var part = 0.0;
        for (var j = thread; j < W; j += WORKGROUP) {
            let c = gelu_with_derivative(preactivation(row, edge, j)).x;
            part = fma(c, c, part);
        }
        let square = sum_all(part, thread);
        if thread == 0u {
            floats[P.energies + integers[P.starts + row] + number] = select(sqrt(square), square, P.squared == 1u);
        }
    }
}

// What the fans of this buffer send back to the signals: one workgroup a row.
@compute @workgroup_size(WORKGROUP)
fn signals(@builtin(workgroup_id) at: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = integers[P.order + at.x];
    let first = integers[P.fans + 2u * at.x];
    let count = integers[P.fans + 2u * at.x + 1u];
    if P.add == 0u {
        for (var k = thread; k < W; k += WORKGROUP) {
            floats[P.d_input + row * W + k] = 0.0;
        }
    }
    for (var item = first; item < first + count; item += 1u) {
        let edge = P.edges + integers[P.items + 4u * item + 2u] * (D + 1u) * W;
        let number = integers[P.items + 4u * item + 3u];
        let slope = floats[P.energies + integers[P.starts + row] + number];
        workgroupBarrier();
        for (var j = thread; j < W; j += WORKGROUP) {
            let c = gelu_with_derivative(preactivation(row, edge, j));
            slopes[j] = slope * c.x * c.y;
        }
        workgroupBarrier();
        for (var k = thread; k < D; k += WORKGROUP) {
            var sum = 0.0;
            for (var j = 0u; j < W; j += 1u) {
                sum = fma(slopes[j], edges[edge + k * W + j], sum);
            }
            let i = row * W + k;
            floats[P.d_input + i] = fma(sum, floats[P.mask + i], floats[P.d_input + i]);
        }
    }
}

// The gradient of each item's edge, by its energies and by the paths that walk it: one workgroup an item and
// a run of columns.
@compute @workgroup_size(WORKGROUP)
fn edges_back(
    @builtin(workgroup_id) at: vec3<u32>,
    @builtin(num_workgroups) size: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let item = at.y * size.x + at.x;
    if item >= P.items_count {
        return;
    }
    let first = integers[P.items + 4u * item];
    let count = integers[P.items + 4u * item + 1u];
    let edge_row = integers[P.items + 4u * item + 2u];
    let number = integers[P.items + 4u * item + 3u];
    let edge = P.edges + edge_row * (D + 1u) * W;
    let column0 = at.z * COLUMNS;
    for (var i = thread; i < NUMBERS; i += WORKGROUP) {
        gradient[i] = 0.0;
    }
    for (var place = first; place < first + count; place += 1u) {
        let row = integers[P.order + place];
        let slope = floats[P.energies + integers[P.starts + row] + number];
        let walks = integers[P.walked + 2u * row] == P.buffer
            && integers[P.walked + 2u * row + 1u] == edge_row
            && row % P.steps + 1u < P.steps;
        workgroupBarrier();
        for (var c = thread; c < COLUMNS; c += WORKGROUP) {
            let j = column0 + c;
            var dz = 0.0;
            var back = 0.0;
            if j < W {
                let value = gelu_with_derivative(preactivation(row, edge, j));
                dz = slope * value.x * value.y;
                if walks {
                    back = floats[P.d_before + (row + 1u) * W + j];
                }
            }
            slopes[c] = dz;
            returned[c] = back;
        }
        workgroupBarrier();
        for (var i = thread; i < NUMBERS; i += WORKGROUP) {
            let k = i / COLUMNS;
            let c = i % COLUMNS;
            var sum = gradient[i];
            if k == D {
                sum += slopes[c] + returned[c];
            } else {
                sum = fma(floats[P.kept + row * W + k], slopes[c], sum);
                if walks {
                    sum = fma(floats[P.input + row * W + k], returned[c], sum);
                }
            }
            gradient[i] = sum;
        }
    }
    workgroupBarrier();
    if P.mode == 0u {
        var part = 0.0;
        for (var i = thread; i < NUMBERS; i += WORKGROUP) {
            part = fma(gradient[i], gradient[i], part);
        }
        let square = sum_all(part, thread);
        if thread == 0u {
            floats[P.result + item * size.z + at.z] = square;
        }
        return;
    }
    for (var i = thread; i < NUMBERS; i += WORKGROUP) {
        let j = column0 + i % COLUMNS;
        if j >= W {
            continue;
        }
        let within = i / COLUMNS * W + j;
        if P.mode == 2u {
            floats[P.result + item * (D + 1u) * W + within] = gradient[i];
        } else if P.mode == 3u {
            first_moments[edge + within] = gradient[i];
        } else if floats[P.scale + 1u] == 1.0 {
            let to = edge + within;
            let g = gradient[i] * floats[P.scale];
            let m = fma(P.beta1, first_moments[to], (1.0 - P.beta1) * g);
            let s = fma(P.beta2, second_moments[to], (1.0 - P.beta2) * g * g);
            first_moments[to] = m;
            second_moments[to] = s;
            edges[to] = edges[to] * P.shrink - P.rate * m / fma(sqrt(s), P.correction, P.epsilon);
        }
    }
}
