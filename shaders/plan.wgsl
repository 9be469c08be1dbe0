// Which sequences read which fans next: sorts the sequences by node, groups them, and sizes the dispatches of each
// buffer of fans; a buffer that no sequence needs gets none. One workgroup. After: sequences.wgsl.

override WORKGROUP: u32 = 64u;
// Sequences that fit into workgroup memory.
override ROOM: u32 = 64u;

struct Parameters {
    at: Sequences,
    buffers: u32,      // buffers of fans
    edges: u32,        // edges that one workgroup of the energy kernel takes
}

// Buffer of a fan that is not on the device.
const ABSENT: u32 = 0xffffffffu;

@group(0) @binding(0) var<uniform> P: Parameters;
// State and lists of sequences; offsets in P.at.
@group(0) @binding(1) var<storage, read_write> integers: array<u32>;
// [V, 4]: location of each node's fan: buffer (or ABSENT), first row in it, own edges, first edge row.
@group(0) @binding(2) var<storage, read> locations: array<u32>;
// [buffers, 8]: workgroups of the energy kernel (3), 0, of a kernel with one workgroup a sequence (3), 0.
@group(0) @binding(3) var<storage, read_write> dispatches: array<u32>;

var<workgroup> missing: atomic<u32>;
// Nodes of the sequences, NONE for those that have ended. [B]
var<workgroup> nodes: array<u32, ROOM>;
// The nodes in their order, and the buffers of their fans. [B]
var<workgroup> sorted: array<u32, ROOM>;
var<workgroup> buffers: array<u32, ROOM>;

@compute @workgroup_size(WORKGROUP)
fn plan(@builtin(local_invocation_index) thread: u32) {
    for (var b = thread; b < P.at.count; b += WORKGROUP) {
        nodes[b] = select(integers[P.at.nodes + b], NONE, integers[P.at.done + b] == 1u);
    }
    if thread == 0u && integers[HALTED] == 1u {
        atomicStore(&missing, 1u);
    }
    workgroupBarrier();
    // Sort by counting: the rank of a sequence is how many come before it, by node and then by number.
    for (var b = thread; b < P.at.count; b += WORKGROUP) {
        let node = nodes[b];
        var rank = 0u;
        for (var other = 0u; other < P.at.count; other += 1u) {
            let theirs = nodes[other];
            if theirs < node || (theirs == node && other < b) {
                rank += 1u;
            }
        }
        var buffer = NONE;
        if node != NONE {
            buffer = locations[4u * node];
            if buffer == ABSENT {
                atomicStore(&missing, 1u);
            }
        }
        integers[P.at.order + rank] = b;
        sorted[rank] = node;
        buffers[rank] = buffer;
    }
    storageBarrier();
    workgroupBarrier();
    // A missing fan halts the submission: no dispatch does anything until the host has uploaded it.
    let halt = atomicLoad(&missing) == 1u;
    for (var rank = thread; rank < P.at.count && !halt; rank += WORKGROUP) {
        let node = sorted[rank];
        let buffer = buffers[rank];
        if node == NONE {
            continue;
        }
        // Sequences, and groups, of this buffer that come before.
        var member = 0u;
        var group = 0u;
        for (var other = 0u; other < rank; other += 1u) {
            if buffers[other] == buffer {
                member += 1u;
                if other == 0u || sorted[other - 1u] != sorted[other] {
                    group += 1u;
                }
            }
        }
        integers[P.at.members + buffer * P.at.count + member] = integers[P.at.order + rank];
        if rank == 0u || sorted[rank - 1u] != node {
            var count = 1u;
            while rank + count < P.at.count && sorted[rank + count] == node {
                count += 1u;
            }
            let at = P.at.groups + 2u * (buffer * P.at.count + group);
            integers[at] = rank;
            integers[at + 1u] = count;
        }
    }
    // Workgroups of each buffer's dispatches.
    for (var buffer = thread; buffer < P.buffers; buffer += WORKGROUP) {
        var members = 0u;
        var groups = 0u;
        var widest = 0u;
        for (var rank = 0u; rank < P.at.count && !halt; rank += 1u) {
            if buffers[rank] == buffer {
                members += 1u;
                if rank == 0u || sorted[rank - 1u] != sorted[rank] {
                    groups += 1u;
                    widest = max(widest, locations[4u * sorted[rank] + 2u] + 1u);
                }
            }
        }
        let at = 8u * buffer;
        dispatches[at] = (widest + P.edges - 1u) / P.edges;
        dispatches[at + 1u] = groups;
        dispatches[at + 2u] = min(groups, 1u);
        dispatches[at + 4u] = members;
        dispatches[at + 5u] = min(members, 1u);
        dispatches[at + 6u] = min(members, 1u);
    }
    if thread == 0u && halt {
        integers[HALTED] = 1u;
    }
}
