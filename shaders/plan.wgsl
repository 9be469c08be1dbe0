// Which lanes read which fans next: sorts the lanes by node, groups them, and sizes the dispatches of every
// buffer of fans; a buffer that no lane needs gets a dispatch of none. One workgroup.

override WORKGROUP: u32 = 64u;
// Lanes that workgroup memory has room for.
override ROOM: u32 = 64u;

struct Parameters {
    sequences: u32,        // B, at most ROOM
    buffers: u32,      // buffers of fans
    edges: u32,        // edges that one workgroup of the energy kernel scores
    nodes: u32,        // in integers: where each lane stands [B]
    done: u32,         // in integers: 1 for lanes that have ended [B]
    halted: u32,       // in integers: set to 1 when a fan is not on the device
    order: u32,        // in integers: lanes by node [B]
    groups: u32,       // in integers: groups of each buffer [buffers, B, 2]
    members: u32,      // in integers: lanes of each buffer [buffers, B]
}

const ABSENT: u32 = 0xffffffffu;
const NONE: u32 = 0xffffffffu;

@group(0) @binding(0) var<uniform> P: Parameters;
// One row of integers: arrays at the places that P names, with the shapes given there.
@group(0) @binding(1) var<storage, read_write> integers: array<u32>;
// [V, 4]: buffer (or ABSENT), first row in it, own edges and first own slot of each node's fan.
@group(0) @binding(2) var<storage, read> places: array<u32>;
// [buffers, 8]: workgroups of the energy kernel (3), 0, of the arrive kernel (3), 0.
@group(0) @binding(3) var<storage, read_write> dispatches: array<u32>;

var<workgroup> missing: atomic<u32>;
// Nodes of the lanes, NONE for those that have ended. [B]
var<workgroup> stands: array<u32, ROOM>;
// The same in their order, and the buffers of their fans. [B]
var<workgroup> sorted: array<u32, ROOM>;
var<workgroup> buffers: array<u32, ROOM>;

@compute @workgroup_size(WORKGROUP)
fn plan(@builtin(local_invocation_index) thread: u32) {
    for (var sequence = thread; sequence < P.sequences; sequence += WORKGROUP) {
        stands[sequence] = select(integers[P.nodes + sequence], NONE, integers[P.done + sequence] == 1u);
    }
    if thread == 0u && integers[P.halted] == 1u {
        atomicStore(&missing, 1u);
    }
    workgroupBarrier();
    for (var sequence = thread; sequence < P.sequences; sequence += WORKGROUP) {
        let node = stands[sequence];
        var rank = 0u;
        for (var other = 0u; other < P.sequences; other += 1u) {
            let theirs = stands[other];
            if theirs < node || (theirs == node && other < sequence) {
                rank += 1u;
            }
        }
        var buffer = NONE;
        if node != NONE {
            buffer = places[4u * node];
            if buffer == ABSENT {
                atomicStore(&missing, 1u);
            }
        }
        integers[P.order + rank] = sequence;
        sorted[rank] = node;
        buffers[rank] = buffer;
    }
    storageBarrier();
    workgroupBarrier();
    let halt = atomicLoad(&missing) == 1u;
    for (var place = thread; place < P.sequences && !halt; place += WORKGROUP) {
        let node = sorted[place];
        let buffer = buffers[place];
        if node == NONE {
            continue;
        }
        // Lanes, and groups, of this buffer that come before.
        var member = 0u;
        var group = 0u;
        for (var other = 0u; other < place; other += 1u) {
            if buffers[other] == buffer {
                member += 1u;
                if other == 0u || sorted[other - 1u] != sorted[other] {
                    group += 1u;
                }
            }
        }
        integers[P.members + buffer * P.sequences + member] = integers[P.order + place];
        if place == 0u || sorted[place - 1u] != node {
            var count = 1u;
            while place + count < P.sequences && sorted[place + count] == node {
                count += 1u;
            }
            let at = P.groups + 2u * (buffer * P.sequences + group);
            integers[at] = place;
            integers[at + 1u] = count;
        }
    }
    for (var buffer = thread; buffer < P.buffers; buffer += WORKGROUP) {
        var members = 0u;
        var groups = 0u;
        var widest = 0u;
        for (var place = 0u; place < P.sequences && !halt; place += 1u) {
            if buffers[place] == buffer {
                members += 1u;
                if place == 0u || sorted[place - 1u] != sorted[place] {
                    groups += 1u;
                    widest = max(widest, places[4u * sorted[place] + 2u] + 1u);
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
        integers[P.halted] = 1u;
    }
}
