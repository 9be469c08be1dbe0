// Functions: sums over the LANES neighbouring threads that share an edge, within a subgroup. Used where
// subgroup_probe.wgsl found that threads fill subgroups in order, and LANES divides the size.

override WORKGROUP: u32 = 64u;
// Threads that share an edge: a power of two, at most the size of a subgroup.
override LANES: u32 = 32u;

// Sum over the LANES threads of each thread. Every thread of the workgroup must reach it.
fn lanes_sum(value: vec4<f32>, thread: u32) -> vec4<f32> {
    var sum = value;
    for (var distance = LANES / 2u; distance > 0u; distance /= 2u) {
        sum += subgroupShuffleXor(sum, distance);
    }
    return sum;
}
