// Own residuals of composed edges: δ_e = r_e + (x B) C_e adds to the output of the source, for the energies of a
// fan's own edges and for the chosen edge. After: element.wgsl, sequences.wgsl, fans.wgsl, fan_edges.wgsl.
// CPU: `Residuals` of engine/signal/composed.rs. A row of `words` is r_e [W], then the RANK rows of C_e [W].

override WORKGROUP: u32 = 32u;
override W: u32 = 32u;
override BLENDED: u32 = 64u;    // (1 + K) W
override RANK: u32 = 0u;

struct Parameters {
    at: Sequences,
    blocks: Blocks,
    buffer: u32,     // number of the bound buffer of fans
}

@group(0) @binding(0) var<uniform> P: Parameters;
// Workspace; offsets in P.at.
@group(0) @binding(1) var<storage, read_write> floats: array<f32>;
// State and lists of sequences; offsets in P.at.
@group(0) @binding(2) var<storage, read> integers: array<u32>;
// Numbers of nodes and small blocks; offsets in P.blocks.
@group(0) @binding(8) var<storage, read> values: array<f32>;

// The sequence that a workgroup takes.
fn sequence_of(group: u32) -> u32 {
    return integers[P.at.members + P.buffer * P.at.count + group];
}

// A number of a residual row, without its scale.
fn cell(row: u32, index: u32) -> f32 {
    return widen(words[row * (1u + RANK) * W / PER_WORD + index / PER_WORD])[index % PER_WORD];
}

// δ_j of an edge.
fn delta(row: u32, scale: f32, projected: u32, j: u32) -> f32 {
    var rho = 0.0;
    for (var r = 0u; r < RANK; r += 1u) {
        rho = fma(floats[projected + r], cell(row, (1u + r) * W + j), rho);
    }
    return scale * (rho + cell(row, j));
}

// x B of every sequence of this buffer: one workgroup a sequence.
@compute @workgroup_size(WORKGROUP)
fn project(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let start = sequence_of(group.x) * P.at.stride;
    for (var r = thread; r < RANK; r += WORKGROUP) {
        var sum = 0.0;
        for (var i = 0u; i < BLENDED; i += 1u) {
            sum = fma(floats[P.at.blended + start + i], values[P.blocks.residual_in + i * RANK + r], sum);
        }
        floats[P.at.projected + start + r] = sum;
    }
}

// E = ‖h + β + δ_e‖² of the own edges of each sequence's fan: one workgroup a sequence, its threads take edges in turn.
@compute @workgroup_size(WORKGROUP)
fn energies(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let b = sequence_of(group.x);
    let start = b * P.at.stride;
    let node = integers[P.at.nodes + b];
    let first_edge_row = locations[4u * node + 3u];
    for (var edge = graph[node] + thread; edge < graph[node + 1u]; edge += WORKGROUP) {
        let edge_row = edge_rows[edge];
        if edge_row == 0u {
            continue;
        }
        let row = row_of(node, edge_row);
        let beta = P.blocks.beta + target_of(edge) * W;
        let scale = scale_of(row);
        var energy = 0.0;
        for (var j = 0u; j < W; j += 1u) {
            let z = floats[P.at.output + start + j] + values[beta + j] + delta(row, scale, P.at.projected + start, j);
            energy = fma(z, z, energy);
        }
        floats[P.at.energies + b * P.at.energies_stride + 1u + edge_row - first_edge_row] = energy;
    }
}

// Add δ of the chosen edge to the output of its source: one workgroup a sequence.
@compute @workgroup_size(WORKGROUP)
fn preactivation(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let b = sequence_of(group.x);
    let start = b * P.at.stride;
    let node = integers[P.at.nodes + b];
    let target_node = integers[P.at.next + b];
    if target_node == NONE {
        return;
    }
    let edge_row = find_edge_row(node, target_node);
    if edge_row == 0u {
        return;
    }
    let row = row_of(node, edge_row);
    for (var j = thread; j < W; j += WORKGROUP) {
        floats[P.at.output + start + j] += delta(row, scale_of(row), P.at.projected + start, j);
    }
}
