// Functions shared by hop.wgsl and node_layered.wgsl: move a sequence to its next node. After: sequences.wgsl, running.wgsl.

// Whether sequence b makes no hop: it has ended, the submission is halted, or no node could be chosen, which ends
// it. The same value in all threads.
fn stays(b: u32, thread: u32) -> bool {
    if thread == 0u {
        skipped = integers[HALTED] | integers[P.at.done + b];
        if skipped == 0u && integers[P.at.next + b] == NONE {
            integers[P.at.done + b] = 1u;
            skipped = 1u;
        }
    }
    return workgroupUniformLoad(&skipped) != 0u;
}

// Number of the hop that sequence b makes: its row in `lambda` and `table`.
fn hop_of(b: u32) -> u32 {
    return b * P.at.capacity + integers[P.at.emitted + b];
}

// Make the chosen node the current one: record it for the host and in the penalty window, and end at a stop.
fn advance(b: u32) {
    let node = integers[P.at.next + b];
    let earlier = P.at.earlier + 3u * b;
    integers[earlier + 2u] = integers[earlier + 1u];
    integers[earlier + 1u] = integers[earlier];
    integers[earlier] = integers[P.at.nodes + b];
    integers[P.at.nodes + b] = node;
    integers[P.at.steps + b] += 1u;
    integers[P.at.emitted_tokens + hop_of(b)] = node;
    integers[P.at.emitted + b] += 1u;
    if P.at.window > 0u {
        let recent = P.at.recent + b * (1u + P.at.window);
        let count = integers[recent];
        if count < P.at.window {
            integers[recent + 1u + count] = node;
            integers[recent] = count + 1u;
        } else {
            // The oldest node leaves the full window.
            for (var i = 1u; i < P.at.window; i += 1u) {
                integers[recent + i] = integers[recent + i + 1u];
            }
            integers[recent + P.at.window] = node;
        }
    }
    for (var i = 0u; i < P.at.stops_count; i += 1u) {
        if integers[P.at.stops + i] == node {
            integers[P.at.done + b] = 1u;
        }
    }
}
