// From energies to the next node: logits of all V nodes, penalties, then the node with the largest logit, a sampled
// node, or the `top_k` best with their normaliser. One workgroup a sequence.
// After: activation.wgsl, random.wgsl, sequences.wgsl, workgroup.wgsl, running.wgsl, composed_energy.wgsl.
// CPU: engine/signal/mechanism.rs (logits), engine/path/sampling.rs.

// 0 own edges, 1 composed or layered edges.
override FORM: u32 = 0u;

struct Parameters {
    at: Sequences,
    blocks: Blocks,
    has_bias: u32,
    has_resistance: u32,
    has_own: u32,      // whether `energies` counts (own edges, or composed ones with residuals)
    alpha: f32,
    temperature: f32,
    top_k: u32,
    top_p: f32,
    min_p: f32,
    penalty: f32,      // ln of the repetition penalty; 0 for none
    self_loops: u32,
    mode: u32,         // CHOOSE, LOGITS or LIST
    scored: u32,       // whether the logits are there already
}

// Choose the next node; only compute logits; list the `top_k` best.
const CHOOSE: u32 = 0u;
const LOGITS: u32 = 1u;
const LIST: u32 = 2u;

const LOWEST: f32 = -3.4028234e38;

@group(0) @binding(0) var<uniform> P: Parameters;
// Workspace; offsets in P.at.
@group(0) @binding(1) var<storage, read_write> floats: array<f32>;
// State of sequences; offsets in P.at.
@group(0) @binding(2) var<storage, read_write> integers: array<u32>;
// [V + 1] first edge of each node, then [E] targets; then the walks longer than an edge: the number of their lengths, and
// for each length the offsets of five arrays (engine/graph/path_level.rs: rows, nodes, fans, targets, lifts).
@group(0) @binding(3) var<storage, read> graph: array<u32>;
// [E]: edge rows, 0 for the shared edge.
@group(0) @binding(4) var<storage, read> edge_rows: array<u32>;
// [E, 2]: how far an edge's log probability lies above an unlisted one's; what its residual adds to ‖β‖².
@group(0) @binding(5) var<storage, read> lifts: array<f32>;
// Numbers of nodes; offsets in P.blocks.
@group(0) @binding(6) var<storage, read> values: array<f32>;
// [V, 4]: location of each node's fan: buffer, first row in it, own edges, first edge row.
@group(0) @binding(7) var<storage, read> locations: array<u32>;

var<workgroup> best_nodes: array<u32, WORKGROUP>;

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
    if P.has_bias == 1u {
        logit += values[P.blocks.bias + v];
    }
    if P.has_resistance == 1u {
        logit -= prior_weight * values[P.blocks.resistance + v];
    }
    return logit;
}

// Add what each longer walk that ends at the node lifts. A walk is found below the walk one node shorter, by the node that
// it begins with.
fn add_walks(b: u32, node: u32, logits: u32, prior_weight: f32, thread: u32) {
    let header = P.at.nodes_count + 1u + graph[P.at.nodes_count];
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
fn all_logits(b: u32, node: u32, logits: u32, own: u32, low: u32, high: u32, thread: u32) {
    let v_count = P.at.nodes_count;
    var square = 0.0;
    if FORM == 1u {
        square = output_square(b, thread);
    }
    var prior_weight = 0.0;
    if P.has_resistance == 1u {
        prior_weight = values[P.blocks.prior_weight + node];
    }
    // α E of the shared edge; of composed edges α (E − ‖β‖² − ‖h‖²), which leaves 2 α h·β.
    for (var v = low; v < high; v += 1u) {
        var logit: f32;
        if FORM == 0u {
            logit = P.alpha * floats[own];
        } else {
            logit = P.alpha * (composed_energy(b, v, square) - values[P.blocks.target_norm2 + v] - square);
        }
        floats[logits + v] = with_prior(logit, v, prior_weight);
    }
    wait();
    // Edges of the fan: energies of own edges replace the common one, seen edges have a lower resistance.
    let first_edge_row = locations[4u * node + 3u];
    for (var edge = graph[node] + thread; edge < graph[node + 1u]; edge += WORKGROUP) {
        let target_node = graph[v_count + 1u + edge];
        let edge_row = edge_rows[edge];
        if P.has_own == 1u && edge_row > 0u {
            let energy = floats[own + 1u + edge_row - first_edge_row];
            var logit: f32;
            if FORM == 0u {
                logit = P.alpha * energy;
            } else {
                logit = P.alpha * (energy - values[P.blocks.target_norm2 + target_node] - square);
                logit -= P.alpha * lifts[2u * edge + 1u];
            }
            floats[logits + target_node] = with_prior(logit, target_node, prior_weight);
        }
        if P.has_resistance == 1u {
            floats[logits + target_node] += prior_weight * lifts[2u * edge];
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
            floats[logits + node] -= P.penalty;
        }
    }
}

// Leave the `top_k` largest values, the first by node among equals; set the others to `off`.
fn keep_top_k(logits: u32, low: u32, high: u32, off: f32, thread: u32) {
    let bound = threshold(logits, low, high, f32(min(P.top_k, P.at.nodes_count)), false, thread);
    let above = count_above(logits, low, high, bound, false, thread);
    cut(logits, low, high, bound, f32(P.top_k) - above, off, thread);
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
            integers[P.at.listed + b * P.top_k + position] = v;
            floats[P.at.listed_logits + b * P.top_k + position] = floats[logits + v];
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
    let inverse = 1.0 / P.temperature;
    // Before normalisation the best node has e^0 = 1: min_p compares with it.
    for (var v = low; v < high; v += 1u) {
        let logit = floats[logits + v];
        let p = select(0.0, natural_exp((logit - top) * inverse), logit > LOWEST);
        floats[logits + v] = select(p, 0.0, P.min_p > 0.0 && p < P.min_p);
    }
    if P.top_k > 0u && P.top_k < P.at.nodes_count {
        keep_top_k(logits, low, high, 0.0, thread);
    }
    var part = own_sum(logits, low, high);
    var total = sum_all(part, thread);
    if P.top_p < 1.0 {
        let wanted = P.top_p * total;
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
    if thread == 0u {
        let state = add64(vec2(integers[P.at.random + 2u * b], integers[P.at.random + 2u * b + 1u]), GOLDEN);
        integers[P.at.random + 2u * b] = state.x;
        integers[P.at.random + 2u * b + 1u] = state.y;
        // 24 of the 53 bits that the CPU draws: the f32 sums have no more.
        var left = f32(mix64(state).y >> 8u) * 5.9604644775390625e-8 * total;
        // The thread whose nodes the draw falls into, then the node.
        var owner = 0u;
        for (; owner + 1u < WORKGROUP; owner += 1u) {
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

@compute @workgroup_size(WORKGROUP)
fn choose(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let b = group.x;
    if is_over(b, thread) {
        return;
    }
    let node = integers[P.at.nodes + b];
    let logits = P.at.logits + b * P.at.nodes_count;
    let own = P.at.energies + b * P.at.energies_stride;
    let low = nodes_of(thread).x;
    let high = nodes_of(thread).y;
    if P.scored == 0u {
        all_logits(b, node, logits, own, low, high, thread);
    }
    if P.mode == LOGITS {
        return;
    }
    if P.self_loops == 0u && thread == 0u {
        floats[logits + node] = LOWEST;
    }
    wait();
    // The normaliser of a list counts banned nodes; a choice leaves them out first.
    if P.mode == CHOOSE {
        ban(logits, thread);
        if P.penalty != 0.0 {
            penalise(b, logits, thread);
        }
        wait();
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
    top = partials[0];
    if P.mode == LIST {
        list(b, logits, low, high, top, thread);
    } else if P.temperature == 0.0 || best == NONE {
        if thread == 0u {
            integers[P.at.next + b] = best;
        }
    } else {
        sample(b, logits, low, high, top, best, thread);
    }
}
