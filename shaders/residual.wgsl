// Own residuals of composed edges: energies of a fan's own edges, and what the chosen edge adds to the signal.
// After: element.wgsl. Twin: `Residual` of engine/signal/composed.rs.
// A residual row is its bias r_e [W], then its RANK rows of C_e [W].

override WORKGROUP: u32 = 32u;
override W: u32 = 32u;
override BLENDED: u32 = 64u;    // (1 + K) W
override RANK: u32 = 0u;

struct Parameters {
    nodes_count: u32,  // V
    sequence: u32,         // floats between lanes
    output: u32,      // in floats: [B, W]
    blended: u32,      // in floats: [B, (1 + K) W]
    projected: u32,    // in floats: x B [B, R]
    energies: u32,     // in floats: the result [B, 1 + F]
    stride: u32,
    input: u32,        // in values: B [(1 + K) W, R]
    beta: u32,         // in values: β [V, W], f32
    nodes: u32,        // in integers [B]
    next: u32,         // in integers [B]
    members: u32,      // in integers: lanes of this buffer
}

const NONE: u32 = 0xffffffffu;

@group(0) @binding(0) var<uniform> P: Parameters;
// One row of numbers: arrays at the places that P names, with the shapes given there.
@group(0) @binding(1) var<storage, read_write> floats: array<f32>;
// One row of integers: arrays at the places that P names, with the shapes given there.
@group(0) @binding(2) var<storage, read> integers: array<u32>;
// [V, 4]: buffer, first row in it, own edges and first own slot of each node's fan.
@group(0) @binding(3) var<storage, read> places: array<u32>;
// [rows, 1 + R, W]: residuals, row 0 is none.
@group(0) @binding(4) var<storage, read> words: array<u32>;
// [rows]: scales of int8 rows; one dummy otherwise.
@group(0) @binding(5) var<storage, read> scales: array<f32>;
// [V + 1] offsets of the fans, then [E] targets.
@group(0) @binding(6) var<storage, read> graph: array<u32>;
// [E]: own slots of the edges, 0 for the shared one.
@group(0) @binding(7) var<storage, read> edge_rows: array<u32>;
// Numbers of nodes and small blocks at the places that P names.
@group(0) @binding(8) var<storage, read> values: array<f32>;

// A number of a residual row, without its scale.
fn cell(row: u32, index: u32) -> f32 {
    return widen(words[row * (1u + RANK) * W / PER_WORD + index / PER_WORD])[index % PER_WORD];
}

fn scale_of(row: u32) -> f32 {
    if ELEMENT == 2u {
        return scales[row];
    }
    return 1.0;
}

// x B of every lane of this buffer: one workgroup a lane.
@compute @workgroup_size(WORKGROUP)
fn project(@builtin(workgroup_id) at: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let start = integers[P.members + at.x] * P.sequence;
    for (var r = thread; r < RANK; r += WORKGROUP) {
        var sum = 0.0;
        for (var i = 0u; i < BLENDED; i += 1u) {
            sum = fma(floats[P.blended + start + i], values[P.input + i * RANK + r], sum);
        }
        floats[P.projected + start + r] = sum;
    }
}

// δ_j of an edge: ρ_j + r_j, ρ = (x B) C_e.
fn delta(row: u32, scale: f32, projected: u32, j: u32) -> f32 {
    var rho = 0.0;
    for (var r = 0u; r < RANK; r += 1u) {
        rho = fma(floats[projected + r], cell(row, (1u + r) * W + j), rho);
    }
    return scale * (rho + cell(row, j));
}

// Energies of the own edges of each lane's fan: one workgroup a lane, its threads take edges in turn.
@compute @workgroup_size(WORKGROUP)
fn energies(@builtin(workgroup_id) at: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let sequence = integers[P.members + at.x];
    let start = sequence * P.sequence;
    let node = integers[P.nodes + sequence];
    let first = graph[node];
    let last = graph[node + 1u];
    let first_row = places[4u * node + 3u];
    for (var edge = first + thread; edge < last; edge += WORKGROUP) {
        let edge_row = edge_rows[edge];
        if edge_row == 0u {
            continue;
        }
        let row = places[4u * node + 1u] + edge_row - first_row;
        let beta = P.beta + graph[P.nodes_count + 1u + edge] * W;
        let scale = scale_of(row);
        var energy = 0.0;
        for (var j = 0u; j < W; j += 1u) {
            let z = floats[P.output + start + j] + values[beta + j] + delta(row, scale, P.projected + start, j);
            energy = fma(z, z, energy);
        }
        floats[P.energies + sequence * P.stride + 1u + edge_row - first_row] = energy;
    }
}

// Adds δ of the chosen edge to what leaves: one workgroup a lane.
@compute @workgroup_size(WORKGROUP)
fn preactivation(@builtin(workgroup_id) at: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let sequence = integers[P.members + at.x];
    let start = sequence * P.sequence;
    let node = integers[P.nodes + sequence];
    let target_node = integers[P.next + sequence];
    var low = graph[node];
    var high = graph[node + 1u];
    if target_node == NONE {
        return;
    }
    let first_row = places[4u * node + 3u];
    let last = high;
    while low < high {
        let middle = (low + high) / 2u;
        if graph[P.nodes_count + 1u + middle] < target_node {
            low = middle + 1u;
        } else {
            high = middle;
        }
    }
    if low >= last || graph[P.nodes_count + 1u + low] != target_node {
        return;
    }
    let edge_row = edge_rows[low];
    if edge_row == 0u {
        return;
    }
    let row = places[4u * node + 1u] + edge_row - first_row;
    for (var j = thread; j < W; j += WORKGROUP) {
        floats[P.output + start + j] += delta(row, scale_of(row), P.projected + start, j);
    }
}
