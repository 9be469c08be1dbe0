// Functions: sums over the LANES neighbouring threads that share an edge, within a subgroup. Only taken where
// subgroup_probe.wgsl has seen that threads fill subgroups in their order, and LANES divides the size.

override WORKGROUP: u32 = 64u;
// Threads that share an edge: a power of two, at most the size of a subgroup.
override LANES: u32 = 32u;

// Every thread of the workgroup must come here; each gets the sum of its own LANES.
fn lanes_sum(value: vec4<f32>, thread: u32) -> vec4<f32> {
    var sum = value;
    for (var node_update = LANES / 2u; node_update > 0u; node_update /= 2u) {
        sum += subgroupShuffleXor(sum, node_update);
    }
    return sum;
}
