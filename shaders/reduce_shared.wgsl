// Functions: sums over the LANES neighbouring threads that share an edge, through workgroup memory.

override WORKGROUP: u32 = 64u;
// Threads that share an edge: a power of two, at most WORKGROUP.
override LANES: u32 = 32u;

var<workgroup> partial_sums: array<vec4<f32>, WORKGROUP>;

// Sum over the LANES threads of each thread. Every thread of the workgroup must reach it.
fn lanes_sum(value: vec4<f32>, thread: u32) -> vec4<f32> {
    partial_sums[thread] = value;
    workgroupBarrier();
    for (var distance = LANES / 2u; distance > 0u; distance /= 2u) {
        if thread % LANES < distance {
            partial_sums[thread] += partial_sums[thread + distance];
        }
        workgroupBarrier();
    }
    let sum = partial_sums[thread - thread % LANES];
    workgroupBarrier();
    return sum;
}
