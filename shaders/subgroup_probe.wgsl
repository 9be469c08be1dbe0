// Reports how this adapter fills subgroups, once when a device is opened.

// [64]: the size of the subgroup if the thread's position in it follows from its index, else 0.
@group(0) @binding(1) var<storage, read_write> sizes: array<u32>;

@compute @workgroup_size(64)
fn probe(
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_size) size: u32,
    @builtin(subgroup_invocation_id) position: u32,
) {
    // The neighbour by one bit must be the thread whose index differs in that bit.
    let neighbour = subgroupShuffleXor(thread, 1u);
    let ordered = position == thread % size && neighbour == (thread ^ 1u);
    sizes[thread] = select(0u, size, ordered);
}
