// A node of composed edges makes of what arrives what leaves it. One workgroup a lane.
// After: activation.wgsl. Twin: `node_update` of engine/signal/composed.rs.

override WORKGROUP: u32 = 32u;
// 0 position, 1 decay, 2 gated.
override BLEND: u32 = 0u;
override D: u32 = 32u;
override W: u32 = 32u;
override BANKS: u32 = 1u;
override RANK: u32 = 0u;

struct Parameters {
    sequence: u32,         // floats between lanes
    signal: u32,       // in floats: [B, W]
    banks: u32,        // in floats: [B, K W]
    output: u32,      // in floats: [B, W], what arrives; then what leaves
    blended: u32,      // in floats: [B, (1 + K) W]
    low: u32,          // in floats: [B, R]
    gathered: u32,     // in floats: target, scale, offset, gate, low scale of the nodes reached
    lambda: u32,       // in floats: decays of the position blend for each hop of this call [B, span]
    span: u32,
    kappa: f32,        // 10 κ
    gain: u32,         // in values: [W]
    decay: u32,        // in values: [K W]
    gate_signal: u32,  // in values: [D, K W]
    mix: u32,          // in values: [(1 + K) W, W]
    low_in: u32,       // in values: [(1 + K) W, R]
    low_out: u32,      // in values: [R, W]
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
var<workgroup> sums: array<f32, WORKGROUP>;

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
    let x = W + g;
    let rows = P.gathered + start;
    var part = 0.0;
    for (var j = thread; j < W; j += WORKGROUP) {
        let z = floats[P.output + start + j] + floats[rows + j];
        floats[P.output + start + j] = z;
        part = fma(z, z, part);
    }
    sums[thread] = part;
    workgroupBarrier();
    for (var node_update = WORKGROUP / 2u; node_update > 0u; node_update /= 2u) {
        if thread < node_update {
            sums[thread] += sums[thread + node_update];
        }
        workgroupBarrier();
    }
    let inverse = 1.0 / sqrt(sums[0] / f32(D) + 1e-6);
    for (var j = thread; j < W; j += WORKGROUP) {
        let z = floats[P.output + start + j];
        let before = values[P.gain + j] * z * inverse + P.kappa * floats[rows + j];
        floats[P.signal + start + j] = gelu_with_derivative(before).x;
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
                gate += floats[rows + 3u * W + j];
                for (var k = 0u; k < D; k += 1u) {
                    gate = fma(floats[P.signal + start + k], values[P.gate_signal + k * g + j], gate);
                }
            }
            lambda = sigmoid(gate);
        }
        let c = floats[P.signal + start + j % W];
        let bank = fma(lambda, floats[P.banks + start + j] - c, c);
        floats[P.banks + start + j] = bank;
        floats[P.blended + start + W + j] = 2.0 * bank;
        if j < W {
            floats[P.blended + start + j] = c;
        }
    }
    storageBarrier();
    workgroupBarrier();
    let low_scale = rows + 3u * W + select(0u, g, BLEND == 2u);
    for (var r = thread; r < RANK; r += WORKGROUP) {
        var sum = 0.0;
        for (var i = 0u; i < x; i += 1u) {
            sum = fma(floats[P.blended + start + i], values[P.low_in + i * RANK + r], sum);
        }
        floats[P.low + start + r] = sum * floats[low_scale + r];
    }
    storageBarrier();
    workgroupBarrier();
    for (var j = thread; j < W; j += WORKGROUP) {
        var sum = 0.0;
        for (var i = 0u; i < x; i += 1u) {
            sum = fma(floats[P.blended + start + i], values[P.mix + i * W + j], sum);
        }
        sum = sum * floats[rows + W + j] + floats[rows + 2u * W + j];
        for (var r = 0u; r < RANK; r += 1u) {
            sum = fma(floats[P.low + start + r], values[P.low_out + r * W + j], sum);
        }
        floats[P.output + start + j] = sum;
    }
    storageBarrier();
    workgroupBarrier();
    if thread == 0u {
        move_on(sequence);
    }
}
