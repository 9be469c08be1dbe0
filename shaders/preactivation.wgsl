// The signal of each lane through the matrix of the edge that was chosen, and its bias: what arrives.
// One workgroup a lane of this buffer of fans. After: element.wgsl. Twin: `hop` of engine/signal/own.rs.

override WORKGROUP: u32 = 32u;
override D: u32 = 32u;
override W: u32 = 32u;

struct Parameters {
    nodes_count: u32,  // V
    sequence: u32,         // floats between lanes
    output: u32,      // in floats: [B, W]
    base: u32,         // in floats: position rows [B, W]
    preactivation: u32,      // in floats: the result [B, W]
    nodes: u32,        // in integers: where each lane stands [B]
    next: u32,         // in integers: where it goes [B]
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
// [rows, D + 1, W]: matrix and bias of each edge, row 0 the shared one.
@group(0) @binding(4) var<storage, read> words: array<u32>;
// [rows]: scales of int8 edges; one dummy otherwise.
@group(0) @binding(5) var<storage, read> scales: array<f32>;
// [V + 1] offsets of the fans, then [E] targets.
@group(0) @binding(6) var<storage, read> graph: array<u32>;
// [E]: own slots of the edges, 0 for the shared one.
@group(0) @binding(7) var<storage, read> edge_rows: array<u32>;

// The row of the edge node → target in this buffer; 0 is the shared edge.
fn row_of(node: u32, target_node: u32) -> u32 {
    var low = graph[node];
    var high = graph[node + 1u];
    while low < high {
        let middle = (low + high) / 2u;
        if graph[P.nodes_count + 1u + middle] < target_node {
            low = middle + 1u;
        } else {
            high = middle;
        }
    }
    if low >= graph[node + 1u] || graph[P.nodes_count + 1u + low] != target_node || edge_rows[low] == 0u {
        return 0u;
    }
    return places[4u * node + 1u] + edge_rows[low] - places[4u * node + 3u];
}

@compute @workgroup_size(WORKGROUP)
fn preactivation(@builtin(workgroup_id) at: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row_words = W / PER_WORD;
    let sequence = integers[P.members + at.x];
    let target_node = integers[P.next + sequence];
    if target_node == NONE {
        return;
    }
    let row = row_of(integers[P.nodes + sequence], target_node);
    let matrix = row * (D + 1u) * row_words;
    var scale = 1.0;
    if ELEMENT == 2u {
        scale = scales[row];
    }
    for (var word = thread; word < row_words; word += WORKGROUP) {
        var z = widen(words[matrix + D * row_words + word]);
        for (var k = 0u; k < D; k += 1u) {
            z = fma(vec4(floats[P.output + sequence * P.sequence + k]), widen(words[matrix + k * row_words + word]), z);
        }
        for (var c = 0u; c < PER_WORD; c += 1u) {
            let column = sequence * P.sequence + word * PER_WORD + c;
            floats[P.preactivation + column] = fma(scale, z[c], floats[P.base + column]);
        }
    }
}
