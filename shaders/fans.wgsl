// Bindings 3 to 5, and functions: where the own edges of each node lie. The buffers of fans themselves follow the
// kernel's other bindings: engine/kernel/gpu/fans.rs writes their declarations (`words_0`, `words_1` and so on) and `word`
// or `fetch`, which read the buffer with a given number. After: element.wgsl, sequences.wgsl.

// [V, 4]: location of each node's fan: buffer (or ABSENT), first row in it, own edges, first edge row.
@group(0) @binding(3) var<storage, read> locations: array<u32>;
// [buffers, P.fans.rows]: scales of int8 rows; one dummy otherwise.
@group(0) @binding(4) var<storage, read> scales: array<f32>;
// Rows [V + 1] of the first edge of each node, then of each edge its target [E], edge row [E] (0 for the shared edge) and
// two lifts [E, 2] as bits: how far its log probability lies above an unlisted one's, and what its residual adds to ‖β‖².
// Then the target of each edge row. Then the walks longer than an edge: the number of their lengths, and for each length
// the offsets of five arrays (engine/graph/path_level.rs: rows, nodes, fans, targets, lifts).
@group(0) @binding(5) var<storage, read> graph: array<u32>;

// Words of 4 bytes of a run of W numbers of a row, padded to whole words of 16 bytes.
override ROW: u32 = 32u;

// Buffer of a fan that is not on the device.
const ABSENT: u32 = 0xffffffffu;

// The factor of the numbers of row `row` of buffer number `buffer`.
fn scale_of(buffer: u32, row: u32) -> f32 {
    if ELEMENT == 2u {
        return scales[buffer * P.fans.rows + row];
    }
    return 1.0;
}

// Whether the bound buffers include this one.
fn is_bound(buffer: u32) -> bool {
    return buffer - P.fans.first < P.fans.bound;
}

fn target_of(edge: u32) -> u32 {
    return graph[P.at.nodes_count + 1u + edge];
}

// The edge row of an edge; 0 for the shared edge.
fn edge_row_of(edge: u32) -> u32 {
    return graph[P.at.nodes_count + 1u + P.at.edges_count + edge];
}

// Lift 0 or 1 of an edge.
fn lift_of(edge: u32, number: u32) -> f32 {
    return bitcast<f32>(graph[P.at.nodes_count + 1u + 2u * P.at.edges_count + 2u * edge + number]);
}

// The row of an edge of `node` in its buffer.
fn row_of(node: u32, edge_row: u32) -> u32 {
    return locations[4u * node + 1u] + edge_row - locations[4u * node + 3u];
}

// The edge row of node → target_node, by binary search in the fan; 0 for the shared edge.
fn find_edge_row(node: u32, target_node: u32) -> u32 {
    var low = graph[node];
    var high = graph[node + 1u];
    while low < high {
        let middle = (low + high) / 2u;
        if target_of(middle) < target_node {
            low = middle + 1u;
        } else {
            high = middle;
        }
    }
    if low >= graph[node + 1u] || target_of(low) != target_node {
        return 0u;
    }
    return edge_row_of(low);
}
