// Functions: reductions over a workgroup. Every thread of the workgroup must reach each call.

// Threads of a workgroup: a power of two.
override WORKGROUP: u32 = 64u;

var<workgroup> partials: array<f32, WORKGROUP>;

// Make writes to buffers and to workgroup memory visible to the whole workgroup.
fn wait() {
    storageBarrier();
    workgroupBarrier();
}

// Sum a value over all threads.
fn sum_all(value: f32, thread: u32) -> f32 {
    // The result of an earlier reduction may still be read.
    workgroupBarrier();
    partials[thread] = value;
    workgroupBarrier();
    for (var distance = WORKGROUP / 2u; distance > 0u; distance /= 2u) {
        if thread < distance {
            partials[thread] += partials[thread + distance];
        }
        workgroupBarrier();
    }
    return partials[0];
}

// Find the largest value of all threads.
fn max_all(value: f32, thread: u32) -> f32 {
    workgroupBarrier();
    partials[thread] = value;
    workgroupBarrier();
    for (var distance = WORKGROUP / 2u; distance > 0u; distance /= 2u) {
        if thread < distance {
            partials[thread] = max(partials[thread], partials[thread + distance]);
        }
        workgroupBarrier();
    }
    return partials[0];
}
