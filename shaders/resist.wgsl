// Resistances for the shaders of plugins, and back. `inputs` lays out the energies, counts and resistances of all V
// nodes as `wgsl/1:edge/1` binds them; `logits` turns the resistances that the shaders leave into logits.
// One workgroup a sequence. After: workgroup.wgsl, sequences.wgsl, running.wgsl, composed_energy.wgsl.
// CPU: `resist` of engine/path/hook_runner.rs.

// 0 own edges, 1 composed or layered edges.
override FORM: u32 = 0u;

struct Parameters {
    at: Sequences,
    blocks: Blocks,
    edges_count: u32,  // E
    span: u32,         // V rounded up to a multiple of 64: numbers between the arrays of two sequences
    has_own: u32,      // whether `energies` counts (own edges, or composed ones with residuals)
}

// Numbers before a sequence's arrays in `shader_inputs`: its node, step, V and 0, and unused ones up to 256 bytes.
const HEADER: u32 = 64u;

@group(0) @binding(0) var<uniform> P: Parameters;
// Workspace; offsets in P.at.
@group(0) @binding(1) var<storage, read_write> floats: array<f32>;
// State of sequences; offsets in P.at.
@group(0) @binding(2) var<storage, read_write> integers: array<u32>;
// [V + 1] first edge of each node, then of each edge its target [E], edge row [E] and count [E].
@group(0) @binding(3) var<storage, read> edges: array<u32>;
// Numbers of nodes; offsets in P.blocks.
@group(0) @binding(4) var<storage, read> values: array<f32>;
// [V, 4]: location of each node's fan: buffer, first row in it, own edges, first edge row.
@group(0) @binding(5) var<storage, read> locations: array<u32>;
// [B, 64 + 2 span]: header of each sequence, the bits of its energies, its counts.
@group(0) @binding(6) var<storage, read_write> shader_inputs: array<u32>;
// [B, span]: resistances.
@group(0) @binding(7) var<storage, read_write> resistances: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn inputs(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let b = group.x;
    if is_over(b, thread) {
        return;
    }
    let v_count = P.at.nodes_count;
    let node = integers[P.at.nodes + b];
    let own = P.at.energies + b * P.at.energies_stride;
    let header = b * (HEADER + 2u * P.span);
    let energies = header + HEADER;
    let counts = energies + P.span;
    var square = 0.0;
    if FORM == 1u {
        square = output_square(b, thread);
    }
    // Energy of the shared edge, or of composed edges, to every node; counts of edges that were never seen are 0.
    var top = LOWEST;
    for (var v = thread; v < v_count; v += WORKGROUP) {
        var energy: f32;
        if FORM == 0u {
            energy = floats[own];
        } else {
            energy = composed_energy(b, v, square);
        }
        shader_inputs[energies + v] = bitcast<u32>(energy);
        shader_inputs[counts + v] = 0u;
        top = max(top, floats[P.at.logits + b * v_count + v]);
    }
    // The header.
    if thread == 0u {
        shader_inputs[header] = node;
        shader_inputs[header + 1u] = integers[P.at.steps + b];
        shader_inputs[header + 2u] = v_count;
        shader_inputs[header + 3u] = 0u;
    }
    storageBarrier();
    top = max_all(top, thread);
    // The node's own edges.
    let first_edge_row = locations[4u * node + 3u];
    for (var edge = edges[node] + thread; edge < edges[node + 1u]; edge += WORKGROUP) {
        let listed = v_count + 1u + edge;
        let target_node = edges[listed];
        let edge_row = edges[listed + P.edges_count];
        shader_inputs[counts + target_node] = edges[listed + 2u * P.edges_count];
        if P.has_own == 1u && edge_row > 0u {
            shader_inputs[energies + target_node] = bitcast<u32>(floats[own + 1u + edge_row - first_edge_row]);
        }
    }
    // Resistance: how far a logit lies below the largest.
    for (var v = thread; v < v_count; v += WORKGROUP) {
        resistances[b * P.span + v] = top - floats[P.at.logits + b * v_count + v];
    }
}

@compute @workgroup_size(WORKGROUP)
fn logits(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let b = group.x;
    if is_over(b, thread) {
        return;
    }
    for (var v = thread; v < P.at.nodes_count; v += WORKGROUP) {
        let resistance = resistances[b * P.span + v];
        // NaN and −∞ by their bits: a compiler may assume that a comparison never sees NaN.
        let bits = bitcast<u32>(resistance);
        if (bits & 0x7fffffffu) > 0x7f800000u || bits == 0xff800000u {
            integers[INVALID] = 1u;
        }
        floats[P.at.logits + b * P.at.nodes_count + v] = max(-resistance, LOWEST);
    }
}
