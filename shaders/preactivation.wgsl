// Own edges: the signal of each sequence through the matrix of its chosen edge, z = h W_e + b_e + position row.
// One workgroup a sequence of this buffer of fans. After: element.wgsl, sequences.wgsl, fans.wgsl, fan_edges.wgsl.
// CPU: `preactivations` of engine/kernel/fan.rs.

override WORKGROUP: u32 = 32u;
override D: u32 = 32u;
override W: u32 = 32u;

struct Parameters {
    at: Sequences,
    buffer: u32,     // number of the bound buffer of fans
}

@group(0) @binding(0) var<uniform> P: Parameters;
// Workspace; offsets in P.at.
@group(0) @binding(1) var<storage, read_write> floats: array<f32>;
// State and lists of sequences; offsets in P.at.
@group(0) @binding(2) var<storage, read> integers: array<u32>;

@compute @workgroup_size(WORKGROUP)
fn preactivation(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row_words = W / PER_WORD;
    let b = integers[P.at.members + P.buffer * P.at.count + group.x];
    let node = integers[P.at.nodes + b];
    let target_node = integers[P.at.next + b];
    if target_node == NONE {
        return;
    }
    let edge_row = find_edge_row(node, target_node);
    var row = 0u;
    if edge_row > 0u {
        row = row_of(node, edge_row);
    }
    let matrix = row * (D + 1u) * row_words;
    let start = b * P.at.stride;
    for (var word = thread; word < row_words; word += WORKGROUP) {
        var z = widen(words[matrix + D * row_words + word]);
        for (var k = 0u; k < D; k += 1u) {
            z = fma(vec4(floats[start + P.at.output + k]), widen(words[matrix + k * row_words + word]), z);
        }
        for (var c = 0u; c < PER_WORD; c += 1u) {
            let column = start + word * PER_WORD + c;
            floats[P.at.preactivation + column] = fma(scale_of(row), z[c], floats[P.at.base + column]);
        }
    }
}
