// Bindings 6 and 7: the edges of the graph. Used by preactivation.wgsl and residual.wgsl. After: sequences.wgsl,
// fans.wgsl.

// [V + 1] first edge of each node, then [E] targets.
@group(0) @binding(6) var<storage, read> graph: array<u32>;
// [E]: edge rows, 0 for the shared edge.
@group(0) @binding(7) var<storage, read> edge_rows: array<u32>;

fn target_of(edge: u32) -> u32 {
    return graph[P.at.nodes_count + 1u + edge];
}

// The row of an edge of `node` in this buffer.
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
    return edge_rows[low];
}
