// Functions: from energies to the next node. Logits of all V nodes, penalties, then the node with the largest logit, a
// sampled node, or the `top_k` best with their normaliser. One workgroup a sequence.
// After: activation.wgsl, random.wgsl, element.wgsl, sequences.wgsl, workgroup.wgsl, fans.wgsl, composed_energy.wgsl.
// CPU: engine/signal/mechanism.rs (logits), engine/path/sampling.rs.

// 0 own edges, 1 composed edges, 2 layered edges.
override FORM: u32 = 0u;

// Choose the next node; only compute logits; list the `top_k` best.
const CHOOSE: u32 = 0u;
const LOGITS: u32 = 1u;
const LIST: u32 = 2u;

// Threads whose sums are added up together where a draw looks for its thread.
const RUN: u32 = 16u;

var<workgroup> best_nodes: array<u32, WORKGROUP>;
// Sums of RUN threads each.
var<workgroup> runs: array<f32, 64>;
var<workgroup> is_chosen: u32;

// The node with the largest logit of all threads; the lowest node among equals. The logit stays in partials[0].
fn best_all(logit: f32, node: u32, thread: u32) -> u32 {
    workgroupBarrier();
    partials[thread] = logit;
    best_nodes[thread] = node;
    workgroupBarrier();
    for (var distance = WORKGROUP / 2u; distance > 0u; distance /= 2u) {
        if thread < distance {
            let other = thread + distance;
            let equal = partials[other] == partials[thread];
            if partials[other] > partials[thread] || (equal && best_nodes[other] < best_nodes[thread]) {
                partials[thread] = partials[other];
                best_nodes[thread] = best_nodes[other];
            }
        }
        workgroupBarrier();
    }
    return best_nodes[0];
}

// Sum a value over the threads before this one.
fn before_all(value: f32, thread: u32) -> f32 {
    workgroupBarrier();
    partials[thread] = value;
    workgroupBarrier();
    var before = 0.0;
    for (var other = 0u; other < thread; other += 1u) {
        before += partials[other];
    }
    return before;
}

// Map a float to an unsigned number of the same order: negative ones have all bits inverted, others the sign bit set.
fn ordered(value: f32) -> u32 {
    let bits = bitcast<u32>(value);
    return select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
}

// The largest ordered number T such that the values of at least T count, or weigh, as much as `wanted`: found bit by
// bit from the highest, without sorting.
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

// Set to `off` what lies below `bound`, and of the values equal to it all but the first `ties` by node.
fn cut(logits: u32, low: u32, high: u32, bound: u32, ties: f32, off: f32, thread: u32) {
    var equal = 0.0;
    for (var v = low; v < high; v += 1u) {
        if ordered(floats[logits + v]) == bound {
            equal += 1.0;
        }
    }
    var before = before_all(equal, thread);
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

// How much the values above `bound` count, or weigh.
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

// A logit with what does not come from energy: + bias − prior weight · resistance.
fn with_prior(energy_logit: f32, v: u32, prior_weight: f32) -> f32 {
    var logit = energy_logit;
    if P.choice.has_bias == 1u {
        logit += values[P.blocks.bias + v];
    }
    if P.choice.has_resistance == 1u {
        logit -= prior_weight * values[P.blocks.resistance + v];
    }
    return logit;
}

// Add what each longer walk that ends at the node lifts. A walk is found below the walk one node shorter, by the node that
// it begins with.
fn add_walks(b: u32, node: u32, logits: u32, prior_weight: f32, thread: u32) {
    let header = P.at.walks;
    var parent = node;
    var found = true;
    for (var level = 0u; level < graph[header]; level += 1u) {
        let arrays = header + 1u + 5u * level;
        let rows = graph[arrays];
        let nodes = graph[arrays + 1u];
        let begin = integers[P.at.earlier + 3u * b + level];
        var low = 0u;
        var high = 0u;
        if found {
            low = graph[rows + parent];
            high = graph[rows + parent + 1u];
        }
        let end = high;
        while low < high {
            let middle = (low + high) / 2u;
            if graph[nodes + middle] < begin {
                low = middle + 1u;
            } else {
                high = middle;
            }
        }
        found = low < end && graph[nodes + min(low, max(end, 1u) - 1u)] == begin;
        if found {
            parent = low;
            let fans = graph[arrays + 2u];
            let last = graph[fans + low + 1u];
            for (var entry = graph[fans + low] + thread; entry < last; entry += WORKGROUP) {
                let lift = bitcast<f32>(graph[graph[arrays + 4u] + entry]);
                floats[logits + graph[graph[arrays + 3u] + entry]] += prior_weight * lift;
            }
        }
        // The next walk may lift the same targets.
        wait();
    }
}

// The logits of all V nodes.
fn all_logits(b: u32, node: u32, logits: u32, own: u32, thread: u32) {
    let v_count = P.at.nodes_count;
    var square = 0.0;
    if FORM > 0u {
        square = output_square(b, thread);
    }
    var prior_weight = 0.0;
    if P.choice.has_resistance == 1u {
        prior_weight = values[P.blocks.prior_weight + node];
    }
    // α E of the shared edge; of composed edges α (E − ‖β‖² − ‖h‖²), which leaves 2 α h·β.
    for (var v = thread; v < v_count; v += WORKGROUP) {
        var logit: f32;
        if FORM == 0u {
            logit = P.choice.alpha * floats[own];
        } else {
            logit = P.choice.alpha * (composed_energy(b, v, square) - values[P.blocks.target_norm2 + v] - square);
        }
        floats[logits + v] = with_prior(logit, v, prior_weight);
    }
    wait();
    // Edges of the fan: energies of own edges replace the common one, seen edges have a lower resistance.
    let first_edge_row = locations[4u * node + 3u];
    for (var edge = graph[node] + thread; edge < graph[node + 1u]; edge += WORKGROUP) {
        let target_node = target_of(edge);
        let edge_row = edge_row_of(edge);
        if P.choice.has_own == 1u && edge_row > 0u {
            let energy = floats[own + 1u + edge_row - first_edge_row];
            var logit: f32;
            if FORM == 0u {
                logit = P.choice.alpha * energy;
            } else {
                logit = P.choice.alpha * (energy - values[P.blocks.target_norm2 + target_node] - square);
                logit -= P.choice.alpha * lift_of(edge, 1u);
            }
            floats[logits + target_node] = with_prior(logit, target_node, prior_weight);
        }
        if P.choice.has_resistance == 1u {
            floats[logits + target_node] += prior_weight * lift_of(edge, 0u);
        }
    }
    wait();
    add_walks(b, node, logits, prior_weight, thread);
}

// Set the logits of banned nodes to the lowest number.
fn ban(logits: u32, thread: u32) {
    for (var i = thread; i < P.at.banned_count; i += WORKGROUP) {
        floats[logits + integers[P.at.banned + i]] = LOWEST;
    }
}

// Subtract the repetition penalty from the nodes of the penalty window, once each.
fn penalise(b: u32, logits: u32, thread: u32) {
    let recent = P.at.recent + b * (1u + P.at.window);
    for (var i = thread; i < integers[recent]; i += WORKGROUP) {
        let node = integers[recent + 1u + i];
        var again = false;
        for (var j = 0u; j < i; j += 1u) {
            again = again || integers[recent + 1u + j] == node;
        }
        if !again && floats[logits + node] > LOWEST {
            floats[logits + node] -= P.choice.penalty;
        }
    }
}

// Leave the `top_k` largest values, the first by node among equals; set the others to `off`.
fn keep_top_k(logits: u32, low: u32, high: u32, off: f32, thread: u32) {
    let bound = threshold(logits, low, high, f32(min(P.choice.top_k, P.at.nodes_count)), false, thread);
    let above = count_above(logits, low, high, bound, false, thread);
    cut(logits, low, high, bound, f32(P.choice.top_k) - above, off, thread);
}

// Mode LIST: the normaliser over everything but self-loops, then the `top_k` best nodes that are not banned.
fn list(b: u32, logits: u32, low: u32, high: u32, top: f32, thread: u32) {
    var part = 0.0;
    for (var v = low; v < high; v += 1u) {
        let logit = floats[logits + v];
        if logit > LOWEST {
            part += natural_exp(logit - top);
        }
    }
    let total = sum_all(part, thread);
    if thread == 0u {
        floats[P.at.normalisers + b] = top + log(total);
    }
    ban(logits, thread);
    wait();
    keep_top_k(logits, low, high, LOWEST, thread);
    // Each thread writes what is left of its nodes behind what the threads before it write: in the order of nodes.
    var mine = 0.0;
    for (var v = low; v < high; v += 1u) {
        mine += select(0.0, 1.0, floats[logits + v] > LOWEST);
    }
    var position = u32(before_all(mine, thread));
    for (var v = low; v < high; v += 1u) {
        if floats[logits + v] > LOWEST {
            integers[P.at.listed + b * P.choice.top_k + position] = v;
            floats[P.at.listed_logits + b * P.choice.top_k + position] = floats[logits + v];
            position += 1u;
        }
    }
    if thread == WORKGROUP - 1u {
        integers[P.at.next + b] = position;
    }
}

// Sum this thread's values.
fn own_sum(logits: u32, low: u32, high: u32) -> f32 {
    var sum = 0.0;
    for (var v = low; v < high; v += 1u) {
        sum += floats[logits + v];
    }
    return sum;
}

// Sample a node from the softmax at the temperature, cut by min_p, top_k and top_p in this order; `best` has the
// largest logit, `top`.
fn sample(b: u32, logits: u32, low: u32, high: u32, top: f32, best: u32, thread: u32) {
    let inverse = 1.0 / P.choice.temperature;
    // Before normalisation the best node has e^0 = 1: min_p compares with it.
    for (var v = low; v < high; v += 1u) {
        let logit = floats[logits + v];
        let p = select(0.0, natural_exp((logit - top) * inverse), logit > LOWEST);
        floats[logits + v] = select(p, 0.0, P.choice.min_p > 0.0 && p < P.choice.min_p);
    }
    if P.choice.top_k > 0u && P.choice.top_k < P.at.nodes_count {
        keep_top_k(logits, low, high, 0.0, thread);
    }
    var part = own_sum(logits, low, high);
    var total = sum_all(part, thread);
    if P.choice.top_p < 1.0 {
        let wanted = P.choice.top_p * total;
        let bound = threshold(logits, low, high, wanted, true, thread);
        let above = count_above(logits, low, high, bound, true, thread);
        // Of the values equal to the bound, as many as reach `wanted`.
        let each = bitcast<f32>(bound & 0x7fffffffu);
        let ties = max(ceil((wanted - above) / max(each, 1e-38)), 1.0);
        cut(logits, low, high, bound, ties, 0.0, thread);
        part = own_sum(logits, low, high);
        total = sum_all(part, thread);
    }
    workgroupBarrier();
    partials[thread] = part;
    workgroupBarrier();
    // In two steps: one thread that walks along all sums would take longer than everything before it.
    if thread < (WORKGROUP + RUN - 1u) / RUN {
        var sum = 0.0;
        for (var i = thread * RUN; i < min((thread + 1u) * RUN, WORKGROUP); i += 1u) {
            sum += partials[i];
        }
        runs[thread] = sum;
    }
    workgroupBarrier();
    if thread == 0u {
        let state = add64(vec2(integers[P.at.random + 2u * b], integers[P.at.random + 2u * b + 1u]), GOLDEN);
        integers[P.at.random + 2u * b] = state.x;
        integers[P.at.random + 2u * b + 1u] = state.y;
        // 24 of the 53 bits that the CPU draws: the f32 sums have no more.
        var left = f32(mix64(state).y >> 8u) * 5.9604644775390625e-8 * total;
        // The run of threads that the draw falls into, the thread whose nodes it falls into, then the node.
        var run = 0u;
        for (; run + 1u < (WORKGROUP + RUN - 1u) / RUN; run += 1u) {
            if left < runs[run] {
                break;
            }
            left -= runs[run];
        }
        var owner = run * RUN;
        for (; owner + 1u < min((run + 1u) * RUN, WORKGROUP); owner += 1u) {
            if left < partials[owner] {
                break;
            }
            left -= partials[owner];
        }
        var chosen = best;
        let owned = nodes_of(owner);
        for (var v = owned.x; v < owned.y; v += 1u) {
            let p = floats[logits + v];
            if p > 0.0 {
                chosen = v;
                left -= p;
                if left < 0.0 {
                    break;
                }
            }
        }
        integers[P.at.next + b] = chosen;
    }
}

// The nodes [low, high) that a thread takes: consecutive ones, so that threads in order are nodes in order.
fn nodes_of(thread: u32) -> vec2<u32> {
    let each = (P.at.nodes_count + WORKGROUP - 1u) / WORKGROUP;
    let low = min(thread * each, P.at.nodes_count);
    return vec2(low, min(low + each, P.at.nodes_count));
}

// Take the best of what the energy kernel found among the targets of own edges, if it is better than all other targets,
// which have the energy of the shared edge. Whether it is; the same value in all threads.
fn choose_top(b: u32, own: u32, thread: u32) -> bool {
    var top = LOWEST;
    var top_node = NONE;
    for (var i = thread; i < P.at.across; i += WORKGROUP) {
        let logit = floats[P.at.tops + b * P.at.across + i];
        let node = integers[P.at.top_nodes + b * P.at.across + i];
        if logit > top || (logit == top && node < top_node) {
            top = logit;
            top_node = node;
        }
    }
    let best = best_all(top, top_node, thread);
    if thread == 0u {
        // Of equal logits the lowest node is chosen, which may be one without an own edge.
        is_chosen = select(0u, 1u, best != NONE && partials[0] > P.choice.alpha * floats[own]);
        if is_chosen == 1u {
            integers[P.at.next + b] = best;
        }
    }
    return workgroupUniformLoad(&is_chosen) == 1u;
}

// Choose the next node of sequence b, list the best, or only compute its logits, as P.choice.mode says.
fn choose(b: u32, thread: u32) {
    let node = integers[P.at.nodes + b];
    let logits = P.at.logits + b * P.at.nodes_count;
    let own = P.at.energies + b * P.at.energies_stride;
    if P.choice.has_tops == 1u {
        if choose_top(b, own, thread) {
            return;
        }
    }
    if P.choice.scored == 0u {
        all_logits(b, node, logits, own, thread);
    }
    if P.choice.mode == LOGITS {
        return;
    }
    if P.choice.self_loops == 0u && thread == 0u {
        floats[logits + node] = LOWEST;
    }
    wait();
    // The normaliser of a list counts banned nodes; a choice leaves them out first.
    if P.choice.mode == CHOOSE {
        ban(logits, thread);
        if P.choice.penalty != 0.0 {
            penalise(b, logits, thread);
        }
        wait();
    }
    var top = LOWEST;
    var top_node = NONE;
    for (var v = thread; v < P.at.nodes_count; v += WORKGROUP) {
        let logit = floats[logits + v];
        if logit > top {
            top = logit;
            top_node = v;
        }
    }
    let best = best_all(top, top_node, thread);
    top = partials[0];
    let low = nodes_of(thread).x;
    let high = nodes_of(thread).y;
    if P.choice.mode == LIST {
        list(b, logits, low, high, top, thread);
    } else if P.choice.temperature == 0.0 || best == NONE {
        if thread == 0u {
            integers[P.at.next + b] = best;
        }
    } else {
        sample(b, logits, low, high, top, best, thread);
    }
}
