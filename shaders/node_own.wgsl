// A node of own edges makes of what arrives what leaves it: activation, gates, blend, mix; the lane moves on.
// One workgroup a lane. After: activation.wgsl. Twins: engine/signal/own.rs, engine/signal/blend.rs.

override WORKGROUP: u32 = 32u;
// 0 position, 1 decay, 2 gated.
override BLEND: u32 = 0u;
override D: u32 = 32u;
override W: u32 = 32u;
override BANKS: u32 = 1u;

struct Parameters {
    sequence: u32,         // floats between lanes
    signal: u32,       // in floats: [B, W]
    banks: u32,        // in floats: [B, K W]
    output: u32,      // in floats: [B, W]
    preactivation: u32,      // in floats: [B, W]
    base: u32,         // in floats: position rows of the next hop [B, W]
    gathered: u32,     // in floats: gate rows of the nodes reached [B, K W]
    lambda: u32,       // in floats: decays of the position blend for each hop of this call [B, span]
    table: u32,        // in floats: position rows that each hop of this call leaves [B, span, W]; when has_table
    has_table: u32,
    span: u32,
    decay: u32,        // in values: [K W]
    gate_signal: u32,  // in values: [D, K W]
    mix: u32,          // in values: [1 + K, W]
    nodes: u32,        // in integers [B]
    next: u32,         // in integers [B]
    steps: u32,        // in integers: hops taken [B]
    done: u32,         // in integers [B]
    halted: u32,       // in integers
    emitted: u32,      // in integers: new nodes of each lane in this submission [B]
    emitted_tokens: u32,       // in integers: the new nodes [B, capacity]
    capacity: u32,
    recent: u32,       // in integers: penalty windows [B, 1 + window]
    window: u32,
    stops: u32,        // in integers: nodes that end a lane
    stops_count: u32,
}

const NONE: u32 = 0xffffffffu;

@group(0) @binding(0) var<uniform> P: Parameters;
// One row of numbers: arrays at the places that P names, with the shapes given there.
@group(0) @binding(1) var<storage, read_write> floats: array<f32>;
// One row of integers: arrays at the places that P names, with the shapes given there.
@group(0) @binding(2) var<storage, read_write> integers: array<u32>;
// One row of parameters: blocks at the places that P names, with the shapes given there.
@group(0) @binding(3) var<storage, read> values: array<f32>;

var<workgroup> stop: u32;

// The lane stands at its next node: notes it for the host and for the penalty window.
fn move_on(sequence: u32) {
    let node = integers[P.next + sequence];
    integers[P.nodes + sequence] = node;
    integers[P.steps + sequence] += 1u;
    let emitted = integers[P.emitted + sequence];
    integers[P.emitted_tokens + sequence * P.capacity + emitted] = node;
    integers[P.emitted + sequence] = emitted + 1u;
    if P.window > 0u {
        let recent = P.recent + sequence * (1u + P.window);
        let count = integers[recent];
        if count < P.window {
            integers[recent + 1u + count] = node;
            integers[recent] = count + 1u;
        } else {
            for (var i = 1u; i < P.window; i += 1u) {
                integers[recent + i] = integers[recent + i + 1u];
            }
            integers[recent + P.window] = node;
        }
    }
    for (var i = 0u; i < P.stops_count; i += 1u) {
        if integers[P.stops + i] == node {
            integers[P.done + sequence] = 1u;
        }
    }
}

@compute @workgroup_size(WORKGROUP)
fn node_update(@builtin(workgroup_id) at: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let sequence = at.x;
    if thread == 0u {
        var ends = integers[P.halted] | integers[P.done + sequence];
        if ends == 0u && integers[P.next + sequence] == NONE {
            // No node is left to choose.
            integers[P.done + sequence] = 1u;
            ends = 1u;
        }
        stop = ends;
    }
    if workgroupUniformLoad(&stop) != 0u {
        return;
    }
    let start = sequence * P.sequence;
    let g = BANKS * W;
    for (var j = thread; j < W; j += WORKGROUP) {
        floats[P.signal + start + j] = gelu_with_derivative(floats[P.preactivation + start + j]).x;
    }
    storageBarrier();
    workgroupBarrier();
    let hop = sequence * P.span + integers[P.emitted + sequence];
    for (var j = thread; j < g; j += WORKGROUP) {
        var lambda: f32;
        if BLEND == 0u {
            lambda = floats[P.lambda + hop];
        } else {
            var gate = values[P.decay + j];
            if BLEND == 2u {
                gate += floats[P.gathered + start + j];
                for (var k = 0u; k < D; k += 1u) {
                    gate = fma(floats[P.signal + start + k], values[P.gate_signal + k * g + j], gate);
                }
            }
            lambda = sigmoid(gate);
        }
        let c = floats[P.signal + start + j % W];
        let bank = floats[P.banks + start + j];
        floats[P.banks + start + j] = fma(lambda, bank - c, c);
    }
    storageBarrier();
    workgroupBarrier();
    for (var j = thread; j < W; j += WORKGROUP) {
        if BLEND == 0u {
            floats[P.output + start + j] = floats[P.banks + start + j];
        } else {
            var sum = values[P.mix + j] * floats[P.signal + start + j];
            for (var bank = 0u; bank < BANKS; bank += 1u) {
                sum += values[P.mix + (1u + bank) * W + j] * floats[P.banks + start + bank * W + j];
            }
            floats[P.output + start + j] = sum;
        }
        if P.has_table == 1u {
            floats[P.base + start + j] = floats[P.table + hop * W + j];
        }
    }
    storageBarrier();
    workgroupBarrier();
    if thread == 0u {
        move_on(sequence);
    }
}
