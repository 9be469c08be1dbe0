// Which lanes read which fans next: sorts the lanes by node, groups them, and sizes the dispatches of every
// buffer of fans; a buffer that no lane needs gets a dispatch of none. One workgroup.

override WORKGROUP: u32 = 64u;

struct Parameters {
    lanes: u32,        // B
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
@group(0) @binding(1) var<storage, read_write> integers: array<u32>;
// [V, 4]: buffer (or ABSENT), first row in it, own edges and first own slot of each node's fan.
@group(0) @binding(2) var<storage, read> places: array<u32>;
// [buffers, 8]: workgroups of the energy kernel (3), 0, of the arrive kernel (3), 0.
@group(0) @binding(3) var<storage, read_write> dispatches: array<u32>;

var<workgroup> missing: atomic<u32>;

fn key(lane: u32) -> u32 {
    return select(integers[P.nodes + lane], NONE, integers[P.done + lane] == 1u);
}

@compute @workgroup_size(WORKGROUP)
fn plan(@builtin(local_invocation_index) thread: u32) {
    for (var lane = thread; lane < P.lanes; lane += WORKGROUP) {
        let node = key(lane);
        if node != NONE && places[4u * node] == ABSENT {
            atomicStore(&missing, 1u);
        }
        var rank = 0u;
        for (var other = 0u; other < P.lanes; other += 1u) {
            let theirs = key(other);
            if theirs < node || (theirs == node && other < lane) {
                rank += 1u;
            }
        }
        integers[P.order + rank] = lane;
    }
    storageBarrier();
    workgroupBarrier();
    let halt = atomicLoad(&missing) == 1u || integers[P.halted] == 1u;
    // Each buffer by one thread: there are few of both.
    for (var buffer = thread; buffer < P.buffers; buffer += WORKGROUP) {
        var groups = 0u;
        var members = 0u;
        var widest = 0u;
        var before = NONE;
        for (var place = 0u; place < P.lanes && !halt; place += 1u) {
            let lane = integers[P.order + place];
            let node = key(lane);
            if node == NONE || places[4u * node] != buffer {
                continue;
            }
            let groups_at = P.groups + 2u * (buffer * P.lanes + groups);
            if node == before {
                integers[groups_at - 1u] += 1u;
            } else {
                integers[groups_at] = place;
                integers[groups_at + 1u] = 1u;
                groups += 1u;
                widest = max(widest, places[4u * node + 2u] + 1u);
            }
            integers[P.members + buffer * P.lanes + members] = lane;
            members += 1u;
            before = node;
        }
        let at = 8u * buffer;
        dispatches[at] = (widest + P.edges - 1u) / P.edges;
        dispatches[at + 1u] = groups;
        dispatches[at + 2u] = min(groups, 1u);
        dispatches[at + 4u] = members;
        dispatches[at + 5u] = min(members, 1u);
        dispatches[at + 6u] = min(members, 1u);
    }
    workgroupBarrier();
    if thread == 0u && halt {
        integers[P.halted] = 1u;
    }
}
