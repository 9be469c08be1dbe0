// From energies to the next node: scores of all V nodes, penalties, then the likeliest, a draw, or the K
// likeliest with their normaliser. One workgroup a lane.
// After: activation.wgsl, random.wgsl. Twins: engine/signal/mechanism.rs (scores), engine/path/sampling.rs.

override WORKGROUP: u32 = 64u;
// 0 own edges, 1 composed edges.
override FORM: u32 = 0u;

struct Parameters {
    nodes_count: u32,  // V
    sequence: u32,         // floats between lanes
    output: u32,      // in floats: [B, W]
    width: u32,        // W
    energies: u32,     // in floats: own edges' energies [B, 1 + F], rows `stride` apart
    stride: u32,
    dots: u32,         // in floats: h·β of composed edges [B, V]
    logits: u32,       // in floats: [B, V]
    probabilities: u32,// in floats: normalisers [B]
    nodes: u32,        // in integers: where each lane stands [B]
    done: u32,         // in integers [B]
    halted: u32,       // in integers
    next: u32,         // in integers: the choice [B]
    random: u32,       // in integers: state of each lane's stream [B, 2]
    recent: u32,       // in integers: penalty windows [B, 1 + window]: how many, then nodes
    window: u32,
    banned: u32,       // in integers: nodes that are never chosen [banned_count]
    banned_count: u32,
    bias: u32,         // in values: [V], when has_bias
    has_bias: u32,
    resistance: u32,   // in values: −ln p1(v) [V], when has_resistance
    has_resistance: u32,
    prior_weight: u32,        // in values: γ + trust of each node [V]
    target_norm2: u32,      // in values: ‖β_v‖² [V] of composed edges
    has_own: u32,      // whether `energies` counts (own edges, or composed ones with residuals)
    alpha: f32,
    temperature: f32,
    top_k: u32,
    top_p: f32,
    min_p: f32,
    penalty: f32,      // ln of the repetition penalty; 0 for none
    self_loops: u32,
    mode: u32,         // 0 chooses, 1 only scores, 2 lists the `top_k` likeliest
    listed: u32,       // in integers: the list [B, top_k], and their scores in floats at `listed_logits`
    listed_logits: u32,
    scored: u32,       // whether the scores are there already
}

const NONE: u32 = 0xffffffffu;
const LOWEST: f32 = -3.4028234e38;

@group(0) @binding(0) var<uniform> P: Parameters;
// One row of numbers: arrays at the places that P names, with the shapes given there.
@group(0) @binding(1) var<storage, read_write> floats: array<f32>;
// One row of integers: arrays at the places that P names, with the shapes given there.
@group(0) @binding(2) var<storage, read_write> integers: array<u32>;
// [V + 1] offsets of the fans, then [E] targets.
@group(0) @binding(3) var<storage, read> graph: array<u32>;
// [E]: own slots of the edges, 0 for the shared one.
@group(0) @binding(4) var<storage, read> edge_rows: array<u32>;
// [E, 2]: how far an edge's log probability lies above an unlisted one's; rest of its residual.
@group(0) @binding(5) var<storage, read> lifts: array<f32>;
// Numbers of nodes, by the offsets above.
@group(0) @binding(6) var<storage, read> values: array<f32>;
// [V, 4]: buffer, first row in it, own edges and first own slot of each node's fan.
@group(0) @binding(7) var<storage, read> places: array<u32>;

var<workgroup> sums: array<f32, WORKGROUP>;
var<workgroup> places_: array<u32, WORKGROUP>;
var<workgroup> stop: u32;

fn sum_all(value: f32, thread: u32) -> f32 {
    workgroupBarrier();
    sums[thread] = value;
    workgroupBarrier();
    for (var node_update = WORKGROUP / 2u; node_update > 0u; node_update /= 2u) {
        if thread < node_update {
            sums[thread] += sums[thread + node_update];
        }
        workgroupBarrier();
    }
    return sums[0];
}

// The best of all threads' (score, node); the lowest node among equals.
fn best_all(logit: f32, node: u32, thread: u32) -> u32 {
    workgroupBarrier();
    sums[thread] = logit;
    places_[thread] = node;
    workgroupBarrier();
    for (var node_update = WORKGROUP / 2u; node_update > 0u; node_update /= 2u) {
        if thread < node_update {
            let other = thread + node_update;
            if sums[other] > sums[thread] || (sums[other] == sums[thread] && places_[other] < places_[thread]) {
                sums[thread] = sums[other];
                places_[thread] = places_[other];
            }
        }
        workgroupBarrier();
    }
    return places_[0];
}

// Unsigned numbers in the order of floats.
fn ordered(value: f32) -> u32 {
    let bits = bitcast<u32>(value);
    return select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
}

// The largest ordered number T for which those of at least T count, or weigh, as much as `wanted`.
fn threshold(logits: u32, low: u32, high: u32, wanted: f32, weigh: bool, thread: u32) -> u32 {
    var found = 0u;
    for (var bit = 0x80000000u; bit > 0u; bit >>= 1u) {
        let candidate = found | bit;
        var sum = 0.0;
        for (var v = low; v < high; v += 1u) {
            let value = floats[logits + v];
            if ordered(value) >= candidate {
                sum += select(1.0, value, weigh);
            }
        }
        if sum_all(sum, thread) >= wanted {
            found = candidate;
        }
    }
    return found;
}

// Sets to `off` what lies below T, and of the equals of T all but the first `ties` by node.
fn cut(logits: u32, low: u32, high: u32, bound: u32, ties: f32, off: f32, thread: u32) {
    var equal = 0.0;
    for (var v = low; v < high; v += 1u) {
        if ordered(floats[logits + v]) == bound {
            equal += 1.0;
        }
    }
    workgroupBarrier();
    sums[thread] = equal;
    workgroupBarrier();
    var before = 0.0;
    for (var other = 0u; other < thread; other += 1u) {
        before += sums[other];
    }
    for (var v = low; v < high; v += 1u) {
        let bits = ordered(floats[logits + v]);
        if bits == bound {
            if before >= ties {
                floats[logits + v] = off;
            }
            before += 1.0;
        } else if bits < bound {
            floats[logits + v] = off;
        }
    }
}

fn count_above(logits: u32, low: u32, high: u32, bound: u32, weigh: bool, thread: u32) -> f32 {
    var sum = 0.0;
    for (var v = low; v < high; v += 1u) {
        let value = floats[logits + v];
        if ordered(value) > bound {
            sum += select(1.0, value, weigh);
        }
    }
    return sum_all(sum, thread);
}

// The scores of all V nodes.
fn all_logits(sequence: u32, node: u32, logits: u32, own: u32, low: u32, high: u32, thread: u32) {
    let v_count = P.nodes_count;
    var square = 0.0;
    if FORM == 1u {
        var part = 0.0;
        for (var j = thread; j < P.width; j += WORKGROUP) {
            let h = floats[P.output + sequence * P.sequence + j];
            part = fma(h, h, part);
        }
        square = sum_all(part, thread);
    }
    var prior_weight = 0.0;
    if P.has_resistance == 1u {
        prior_weight = values[P.prior_weight + node];
    }
    for (var v = low; v < high; v += 1u) {
        var logit: f32;
        if FORM == 0u {
            logit = P.alpha * floats[own];
        } else {
            let rest = values[P.target_norm2 + v];
            let energy = max(square + 2.0 * floats[P.dots + sequence * v_count + v] + rest, 0.0);
            logit = P.alpha * (energy - rest - square);
        }
        if P.has_bias == 1u {
            logit += values[P.bias + v];
        }
        if P.has_resistance == 1u {
            logit -= prior_weight * values[P.resistance + v];
        }
        floats[logits + v] = logit;
    }
    storageBarrier();
    workgroupBarrier();
    let first = graph[node];
    let last = graph[node + 1u];
    let first_row = places[4u * node + 3u];
    for (var edge = first + thread; edge < last; edge += WORKGROUP) {
        let target_node = graph[v_count + 1u + edge];
        let edge_row = edge_rows[edge];
        if P.has_own == 1u && edge_row > 0u {
            let energy = floats[own + 1u + edge_row - first_row];
            var logit: f32;
            if FORM == 0u {
                logit = P.alpha * energy;
            } else {
                logit = P.alpha * (energy - values[P.target_norm2 + target_node] - square);
                logit -= P.alpha * lifts[2u * edge + 1u];
            }
            if P.has_bias == 1u {
                logit += values[P.bias + target_node];
            }
            if P.has_resistance == 1u {
                logit -= prior_weight * values[P.resistance + target_node];
            }
            floats[logits + target_node] = logit;
        }
        if P.has_resistance == 1u {
            floats[logits + target_node] += prior_weight * lifts[2u * edge];
        }
    }
    storageBarrier();
    workgroupBarrier();
}

@compute @workgroup_size(WORKGROUP)
fn choose(@builtin(workgroup_id) at: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let sequence = at.x;
    if thread == 0u {
        stop = integers[P.halted] | integers[P.done + sequence];
    }
    if workgroupUniformLoad(&stop) != 0u {
        return;
    }
    let v_count = P.nodes_count;
    let node = integers[P.nodes + sequence];
    let logits = P.logits + sequence * v_count;
    let own = P.energies + sequence * P.stride;
    let chunk = (v_count + WORKGROUP - 1u) / WORKGROUP;
    let low = min(thread * chunk, v_count);
    let high = min(low + chunk, v_count);

    if P.scored == 0u {
        all_logits(sequence, node, logits, own, low, high, thread);
    }
    if P.mode == 1u {
        return;
    }
    if P.self_loops == 0u && thread == 0u {
        floats[logits + node] = LOWEST;
    }
    storageBarrier();
    workgroupBarrier();
    if P.mode == 0u {
        // The normaliser of a list is over everything but self-loops; a choice leaves bans out first.
        for (var i = thread; i < P.banned_count; i += WORKGROUP) {
            floats[logits + integers[P.banned + i]] = LOWEST;
        }
        if P.penalty != 0.0 {
            let recent = P.recent + sequence * (1u + P.window);
            let count = integers[recent];
            for (var i = thread; i < count; i += WORKGROUP) {
                let penalised = integers[recent + 1u + i];
                var again = false;
                for (var j = 0u; j < i; j += 1u) {
                    again = again || integers[recent + 1u + j] == penalised;
                }
                if !again && floats[logits + penalised] > LOWEST {
                    floats[logits + penalised] -= P.penalty;
                }
            }
        }
        storageBarrier();
        workgroupBarrier();
    }
    var top = LOWEST;
    var top_node = NONE;
    for (var v = low; v < high; v += 1u) {
        let logit = floats[logits + v];
        if logit > top {
            top = logit;
            top_node = v;
        }
    }
    let best = best_all(top, top_node, thread);
    workgroupBarrier();
    top = sums[0];

    if P.mode == 2u {
        var part = 0.0;
        for (var v = low; v < high; v += 1u) {
            let logit = floats[logits + v];
            if logit > LOWEST {
                part += natural_exp(logit - top);
            }
        }
        let total = sum_all(part, thread);
        if thread == 0u {
            floats[P.probabilities + sequence] = top + log(total);
        }
        for (var i = thread; i < P.banned_count; i += WORKGROUP) {
            floats[logits + integers[P.banned + i]] = LOWEST;
        }
        storageBarrier();
        workgroupBarrier();
        let bound = threshold(logits, low, high, f32(min(P.top_k, v_count)), false, thread);
        let above = count_above(logits, low, high, bound, false, thread);
        cut(logits, low, high, bound, f32(P.top_k) - above, LOWEST, thread);
        // The places of what is left, in the order of nodes.
        var mine = 0.0;
        for (var v = low; v < high; v += 1u) {
            mine += select(0.0, 1.0, floats[logits + v] > LOWEST);
        }
        workgroupBarrier();
        sums[thread] = mine;
        workgroupBarrier();
        var place = 0u;
        for (var other = 0u; other < thread; other += 1u) {
            place += u32(sums[other]);
        }
        for (var v = low; v < high; v += 1u) {
            if floats[logits + v] > LOWEST {
                integers[P.listed + sequence * P.top_k + place] = v;
                floats[P.listed_logits + sequence * P.top_k + place] = floats[logits + v];
                place += 1u;
            }
        }
        if thread == WORKGROUP - 1u {
            integers[P.next + sequence] = place;
        }
        return;
    }

    if P.temperature == 0.0 || best == NONE {
        if thread == 0u {
            integers[P.next + sequence] = best;
        }
        return;
    }
    var part = 0.0;
    let inverse = 1.0 / P.temperature;
    for (var v = low; v < high; v += 1u) {
        let logit = floats[logits + v];
        let p = select(0.0, natural_exp((logit - top) * inverse), logit > LOWEST);
        floats[logits + v] = p;
        part += p;
    }
    var total = sum_all(part, thread);
    if P.min_p > 0.0 {
        // The likeliest has e^0 = 1 before it is normalised.
        for (var v = low; v < high; v += 1u) {
            if floats[logits + v] < P.min_p {
                floats[logits + v] = 0.0;
            }
        }
    }
    if P.top_k > 0u && P.top_k < v_count {
        let bound = threshold(logits, low, high, f32(P.top_k), false, thread);
        let above = count_above(logits, low, high, bound, false, thread);
        cut(logits, low, high, bound, f32(P.top_k) - above, 0.0, thread);
    }
    part = 0.0;
    for (var v = low; v < high; v += 1u) {
        part += floats[logits + v];
    }
    total = sum_all(part, thread);
    if P.top_p < 1.0 {
        let wanted = P.top_p * total;
        let bound = threshold(logits, low, high, wanted, true, thread);
        let above = count_above(logits, low, high, bound, true, thread);
        let each = bitcast<f32>(bound & 0x7fffffffu);
        let ties = max(ceil((wanted - above) / max(each, 1e-38)), 1.0);
        cut(logits, low, high, bound, ties, 0.0, thread);
        part = 0.0;
        for (var v = low; v < high; v += 1u) {
            part += floats[logits + v];
        }
        total = sum_all(part, thread);
    }
    workgroupBarrier();
    sums[thread] = part;
    workgroupBarrier();
    if thread == 0u {
        let state = add64(vec2(integers[P.random + 2u * sequence], integers[P.random + 2u * sequence + 1u]), GOLDEN);
        integers[P.random + 2u * sequence] = state.x;
        integers[P.random + 2u * sequence + 1u] = state.y;
        let bits = mix64(state);
        // 24 of the 53 bits: the sums are no finer.
        var left = f32(bits.y >> 8u) * 5.9604644775390625e-8 * total;
        var piece = 0u;
        for (; piece + 1u < WORKGROUP; piece += 1u) {
            if left < sums[piece] {
                break;
            }
            left -= sums[piece];
        }
        var chosen = best;
        let from_node = min(piece * chunk, v_count);
        for (var v = from_node; v < min(from_node + chunk, v_count); v += 1u) {
            let p = floats[logits + v];
            if p > 0.0 {
                chosen = v;
                left -= p;
                if left < 0.0 {
                    break;
                }
            }
        }
        integers[P.next + sequence] = chosen;
    }
}
