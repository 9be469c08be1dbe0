// Energies of composed edges with own residuals, E = ‖h + β + δ_e‖², of the own edges of each sequence's fan, and the x B
// that they are formed of. One workgroup a sequence. After: workgroup.wgsl, element.wgsl, sequences.wgsl, fans.wgsl,
// members.wgsl, the declarations of the buffers of fans, delta.wgsl. CPU: `Residuals` of engine/signal/composed.rs.

override W: u32 = 32u;
override BLENDED: u32 = 64u;    // (1 + K) W

struct Parameters {
    at: Sequences,
    blocks: Blocks,
    fans: FanTable,
}

@group(0) @binding(0) var<uniform> P: Parameters;
// Workspace; offsets in P.at.
@group(0) @binding(1) var<storage, read_write> floats: array<f32>;
// State and lists of sequences; offsets in P.at.
@group(0) @binding(2) var<storage, read_write> integers: array<u32>;
// Numbers of nodes and small blocks; offsets in P.blocks.
@group(0) @binding(6) var<storage, read> values: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn energies(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let b = group.x;
    let node = node_of(b, thread);
    if node == NONE {
        return;
    }
    let number = locations[4u * node];
    if !is_bound(number) {
        return;
    }
    let start = b * P.at.stride;
    let projected = P.at.projected + start;
    for (var r = thread; r < RESIDUAL; r += WORKGROUP) {
        var sum = 0.0;
        for (var i = 0u; i < BLENDED; i += 1u) {
            sum = fma(floats[P.at.blended + start + i], values[P.blocks.residual_in + i * RESIDUAL + r], sum);
        }
        floats[projected + r] = sum;
    }
    wait();
    let first_edge_row = locations[4u * node + 3u];
    for (var edge = graph[node] + thread; edge < graph[node + 1u]; edge += WORKGROUP) {
        let edge_row = edge_row_of(edge);
        if edge_row == 0u {
            continue;
        }
        let row = row_of(node, edge_row);
        let beta = P.blocks.beta + target_of(edge) * W;
        let scale = scale_of(number, row);
        var energy = 0.0;
        for (var j = 0u; j < W; j += 1u) {
            let z = floats[P.at.output + start + j] + values[beta + j] + delta(number, row, scale, projected, j);
            energy = fma(z, z, energy);
        }
        floats[P.at.energies + b * P.at.energies_stride + 1u + edge_row - first_edge_row] = energy;
    }
}
