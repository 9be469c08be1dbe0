// Functions: sums over the LANES neighbouring threads that share an edge, through workgroup memory.

override WORKGROUP: u32 = 64u;
// Threads that share an edge: a power of two, at most WORKGROUP.
override LANES: u32 = 32u;

var<workgroup> partial_sums: array<vec4<f32>, WORKGROUP>;

// Every thread of the workgroup must come here; each gets the sum of its own LANES.
fn lanes_sum(value: vec4<f32>, thread: u32) -> vec4<f32> {
    partial_sums[thread] = value;
    workgroupBarrier();
    for (var node_update = LANES / 2u; node_update > 0u; node_update /= 2u) {
        if thread % LANES < node_update {
            partial_sums[thread] += partial_sums[thread + node_update];
        }
        workgroupBarrier();
    }
    let sum = partial_sums[thread - thread % LANES];
    workgroupBarrier();
    return sum;
}
