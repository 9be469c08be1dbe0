// Functions: the sequences at one node, so that an edge is read once for all of them. A workgroup finds them by itself, by
// looking at the nodes of all B sequences: that takes less time than a dispatch that sorts them before, since a dispatch
// waits until the one before it has ended. After: sequences.wgsl, fans.wgsl. Every thread must reach each call.

// Sequences that fit into `members`.
override CAPACITY: u32 = 64u;

// A bit for each sequence at the node: at most 1,024. Workgroup memory begins with zeros.
var<workgroup> at_node: array<atomic<u32>, 32>;
// The sequences at the node, in the order of their numbers. [B]
var<workgroup> members: array<u32, CAPACITY>;
var<workgroup> missing: atomic<u32>;
// Node of the members, and their number.
var<workgroup> found: vec2<u32>;

// Whether a sequence takes part in the hop.
fn is_alive(b: u32) -> bool {
    return integers[P.at.done + b] == 0u;
}

// A fan that is not on the device halts the submission: no dispatch does anything until the host has uploaded it. Each
// workgroup finds that out from the nodes, and notes it for the kernels after this one.
fn note_missing(thread: u32) {
    if P.fans.paged == 0u {
        return;
    }
    for (var b = thread; b < P.at.count; b += WORKGROUP) {
        if is_alive(b) && locations[4u * integers[P.at.nodes + b]] == ABSENT {
            atomicStore(&missing, 1u);
        }
    }
}

// Node of sequence b; NONE if it takes no part in the hop. The same value in all threads.
fn node_of(b: u32, thread: u32) -> u32 {
    note_missing(thread);
    workgroupBarrier();
    if thread == 0u {
        let halt = atomicLoad(&missing) == 1u;
        if halt {
            integers[HALTED] = 1u;
        }
        let takes_part = is_alive(b) && integers[HALTED] == 0u && !halt;
        found = vec2(select(NONE, integers[P.at.nodes + b], takes_part), 0u);
    }
    return workgroupUniformLoad(&found).x;
}

// Node, and number, of the sequences at the node of sequence b, if b is the first of them and nothing is missing; else
// their number is 0. They are in `members` then. The same value in all threads.
fn members_of(b: u32, thread: u32) -> vec2<u32> {
    let node = integers[P.at.nodes + b];
    let takes_part = is_alive(b) && integers[HALTED] == 0u;
    note_missing(thread);
    for (var other = thread; other < P.at.count && takes_part; other += WORKGROUP) {
        if is_alive(other) && integers[P.at.nodes + other] == node {
            atomicOr(&at_node[other / 32u], 1u << (other % 32u));
        }
    }
    workgroupBarrier();
    // The order is that of numbers, whichever thread comes first: a member's position is how many come before it.
    for (var other = thread; other < P.at.count && takes_part; other += WORKGROUP) {
        let word = atomicLoad(&at_node[other / 32u]);
        if ((word >> (other % 32u)) & 1u) == 1u {
            var position = countOneBits(word & ((1u << (other % 32u)) - 1u));
            for (var i = 0u; i < other / 32u; i += 1u) {
                position += countOneBits(atomicLoad(&at_node[i]));
            }
            members[position] = other;
        }
    }
    workgroupBarrier();
    if thread == 0u {
        let halt = atomicLoad(&missing) == 1u;
        if halt {
            integers[HALTED] = 1u;
        }
        var count = 0u;
        if takes_part && !halt && members[0] == b {
            for (var i = 0u; i < (P.at.count + 31u) / 32u; i += 1u) {
                count += countOneBits(atomicLoad(&at_node[i]));
            }
        }
        found = vec2(node, count);
    }
    return workgroupUniformLoad(&found);
}
