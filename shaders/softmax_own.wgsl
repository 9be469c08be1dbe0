// The softmax of own edges, its loss and its gradient, one workgroup a row: over classes where nothing but
// energy counts, over all V targets, or over listed candidates.
// After: activation.wgsl. Twin: engine/learn/own/softmax.rs.

override WORKGROUP: u32 = 64u;

struct Parameters {
    nodes_count: u32,  // V
    edges_count: u32,  // E
    steps: u32,        // T
    first: u32,        // the first row of this run
    tokens: u32,       // in integers: [B, T + 1]
    folds: u32,        // in integers: [B]
    starts: u32,       // in integers: where each row's energies begin [B · T]
    counts: u32,       // in integers: own edges of each row that are scored [B · T]
    chosen: u32,       // in integers: number of the true edge in each row's fan, 0 for the shared one [B · T]
    first_rows: u32,  // in integers: first own slot of each row's source [B · T]
    candidates: u32,   // in integers: targets of each row, the true one first [B · T, listed]
    numbers: u32,      // in integers: their edges' numbers in the fan [B · T, listed]
    places: u32,       // in integers: their edges in the graph, NONE for unlisted ones [B · T, listed]
    listed: u32,
    energies: u32,     // in floats: shared edge first, then own ones; later dE / E, or 2 dE of squares
    logits: u32,       // in floats: [rows of this run, V or listed]
    rows: u32,         // in floats: [B · T, 4]: gradients of ln α and γ, –, nats
    bias: u32,         // in values: [V]
    has_bias: u32,
    prior_weight: u32,        // in values: [V]
    scalars: u32,      // in values: ln α, γ
    uses_prior: u32,
    lifts: u32,        // in prior: [1 + folds, E], after [1 + folds, V]
    learn: u32,
    squared: u32,
    weight: f32,       // 1 / rows of the batch
}

const NONE: u32 = 0xffffffffu;

@group(0) @binding(0) var<uniform> P: Parameters;
// One row of numbers: arrays at the places that P names, with the shapes given there.
@group(0) @binding(1) var<storage, read_write> floats: array<f32>;
// One row of integers: arrays at the places that P names, with the shapes given there.
@group(0) @binding(2) var<storage, read> integers: array<u32>;
// One row of parameters: blocks at the places that P names, with the shapes given there.
@group(0) @binding(3) var<storage, read> values: array<f32>;
// [V + 1] offsets of the fans, then [E] targets.
@group(0) @binding(4) var<storage, read> graph: array<u32>;
// [E]: own slots of the edges, 0 for the shared one.
@group(0) @binding(5) var<storage, read> edge_rows: array<u32>;
// [1 + folds, V] −ln p1(v), then [1 + folds, E] lifts.
@group(0) @binding(6) var<storage, read> prior: array<f32>;

var<workgroup> sums: array<f32, WORKGROUP>;

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

fn top_all(value: f32, thread: u32) -> f32 {
    workgroupBarrier();
    sums[thread] = value;
    workgroupBarrier();
    for (var node_update = WORKGROUP / 2u; node_update > 0u; node_update /= 2u) {
        if thread < node_update {
            sums[thread] = max(sums[thread], sums[thread + node_update]);
        }
        workgroupBarrier();
    }
    return sums[0];
}

fn wait() {
    storageBarrier();
    workgroupBarrier();
}

fn alpha() -> f32 {
    if P.uses_prior == 1u {
        return exp(values[P.scalars]);
    }
    return 1.0;
}

// Turns the gradient of each score sum into what the fan kernels want of each energy, and counts ln α's.
fn finish(row: u32, d_trust: f32, thread: u32) {
    let start = P.energies + integers[P.starts + row];
    let count = 1u + integers[P.counts + row];
    // The slopes stand behind the energies of the row.
    var d_alpha = 0.0;
    let a = alpha();
    for (var edge = thread; edge < count; edge += WORKGROUP) {
        let energy = floats[start + edge];
        let slope = floats[start + count + edge];
        d_alpha = fma(slope * energy, a, d_alpha);
        var result = 2.0 * slope * a;
        if P.squared == 0u {
            result = select(0.0, slope * a / energy, energy > 0.0);
        }
        floats[start + edge] = result;
    }
    let total_alpha = sum_all(d_alpha, thread);
    let total_trust = sum_all(d_trust, thread);
    if thread == 0u {
        floats[P.rows + 4u * row] = total_alpha;
        floats[P.rows + 4u * row + 1u] = total_trust;
    }
}

// Classes: every own edge, and the shared one for all other targets.
@compute @workgroup_size(WORKGROUP)
fn classes(@builtin(workgroup_id) at: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = P.first + at.x;
    let start = P.energies + integers[P.starts + row];
    let count = 1u + integers[P.counts + row];
    let a = alpha();
    let times = f32(P.nodes_count + 1u - count);
    var top = floats[start];
    for (var edge = thread; edge < count; edge += WORKGROUP) {
        top = max(top, floats[start + edge]);
    }
    top = top_all(top, thread);
    var part = 0.0;
    for (var edge = thread; edge < count; edge += WORKGROUP) {
        part += select(1.0, times, edge == 0u) * natural_exp(a * (floats[start + edge] - top));
    }
    let total = sum_all(part, thread);
    let chosen = integers[P.chosen + row];
    if thread == 0u {
        floats[P.rows + 4u * row + 3u] = a * (top - floats[start + chosen]) + log(total);
    }
    if P.learn == 0u {
        return;
    }
    for (var edge = thread; edge < count; edge += WORKGROUP) {
        let e = select(1.0, times, edge == 0u) * natural_exp(a * (floats[start + edge] - top));
        floats[start + count + edge] = e / total * P.weight - select(0.0, P.weight, edge == chosen);
    }
    wait();
    finish(row, 0.0, thread);
}

// All V targets.
@compute @workgroup_size(WORKGROUP)
fn targets(@builtin(workgroup_id) at: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = P.first + at.x;
    let start = P.energies + integers[P.starts + row];
    let count = 1u + integers[P.counts + row];
    let sequence = row / P.steps;
    let token = P.tokens + sequence * (P.steps + 1u) + row % P.steps;
    let source = integers[token];
    let next = integers[token + 1u];
    let fold = integers[P.folds + sequence];
    let logits = P.logits + at.x * P.nodes_count;
    let resistance = fold * P.nodes_count;
    let lifts = P.lifts + fold * P.edges_count;
    let a = alpha();
    let shared_logit = a * floats[start];
    var prior_weight = 0.0;
    if P.uses_prior == 1u {
        prior_weight = values[P.scalars + 1u] + values[P.prior_weight + source];
    }
    for (var v = thread; v < P.nodes_count; v += WORKGROUP) {
        var logit = shared_logit;
        if P.has_bias == 1u {
            logit += values[P.bias + v];
        }
        if P.uses_prior == 1u {
            logit -= prior_weight * prior[resistance + v];
        }
        floats[logits + v] = logit;
    }
    wait();
    let first = graph[source];
    let last = graph[source + 1u];
    for (var edge = first + thread; edge < last; edge += WORKGROUP) {
        var more = 0.0;
        if P.uses_prior == 1u {
            more = prior_weight * prior[lifts + edge];
        }
        if edge_rows[edge] > 0u {
            more += a * floats[start + 1u + edge_rows[edge] - integers[P.first_rows + row]] - shared_logit;
        }
        floats[logits + graph[P.nodes_count + 1u + edge]] += more;
    }
    wait();
    var top = -3.4e38;
    for (var v = thread; v < P.nodes_count; v += WORKGROUP) {
        top = max(top, floats[logits + v]);
    }
    top = top_all(top, thread);
    let reached = floats[logits + next];
    workgroupBarrier();
    var part = 0.0;
    for (var v = thread; v < P.nodes_count; v += WORKGROUP) {
        let e = natural_exp(floats[logits + v] - top);
        floats[logits + v] = e;
        part += e;
    }
    let total = sum_all(part, thread);
    if thread == 0u {
        floats[P.rows + 4u * row + 3u] = top - reached + log(total);
    }
    if P.learn == 0u {
        return;
    }
    let scale = P.weight / total;
    var d_trust = 0.0;
    var all = 0.0;
    for (var v = thread; v < P.nodes_count; v += WORKGROUP) {
        var slope = floats[logits + v] * scale;
        if v == next {
            slope -= P.weight;
        }
        floats[logits + v] = slope;
        all += slope;
        if P.uses_prior == 1u {
            d_trust -= slope * prior[resistance + v];
        }
    }
    wait();
    var own = 0.0;
    for (var edge = first + thread; edge < last; edge += WORKGROUP) {
        let slope = floats[logits + graph[P.nodes_count + 1u + edge]];
        if P.uses_prior == 1u {
            d_trust += slope * prior[lifts + edge];
        }
        if edge_rows[edge] > 0u {
            own += slope;
            floats[start + count + 1u + edge_rows[edge] - integers[P.first_rows + row]] = slope;
        }
    }
    let others = sum_all(all - own, thread);
    if thread == 0u {
        floats[start + count] = others;
    }
    wait();
    finish(row, d_trust, thread);
}

// Candidates, the true one first.
@compute @workgroup_size(WORKGROUP)
fn candidates(@builtin(workgroup_id) at: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = P.first + at.x;
    let start = P.energies + integers[P.starts + row];
    let count = 1u + integers[P.counts + row];
    let sequence = row / P.steps;
    let source = integers[P.tokens + sequence * (P.steps + 1u) + row % P.steps];
    let fold = integers[P.folds + sequence];
    // Scores of candidates are kept for all rows: biases are collected from them.
    let logits = P.logits + row * P.listed;
    let a = alpha();
    var prior_weight = 0.0;
    if P.uses_prior == 1u {
        prior_weight = values[P.scalars + 1u] + values[P.prior_weight + source];
    }
    var top = -3.4e38;
    for (var i = thread; i < P.listed; i += WORKGROUP) {
        let node = integers[P.candidates + row * P.listed + i];
        var logit = a * floats[start + integers[P.numbers + row * P.listed + i]];
        if P.has_bias == 1u {
            logit += values[P.bias + node];
        }
        if P.uses_prior == 1u {
            logit -= prior_weight * resistance_of(row, i, node, fold);
        }
        floats[logits + i] = logit;
        top = max(top, logit);
    }
    top = top_all(top, thread);
    wait();
    let reached = floats[logits];
    workgroupBarrier();
    var part = 0.0;
    for (var i = thread; i < P.listed; i += WORKGROUP) {
        let e = natural_exp(floats[logits + i] - top);
        floats[logits + i] = e;
        part += e;
    }
    let total = sum_all(part, thread);
    if thread == 0u {
        floats[P.rows + 4u * row + 3u] = top - reached + log(total);
    }
    if P.learn == 0u {
        return;
    }
    for (var edge = thread; edge < count; edge += WORKGROUP) {
        floats[start + count + edge] = 0.0;
    }
    var d_trust = 0.0;
    for (var i = thread; i < P.listed; i += WORKGROUP) {
        let slope = floats[logits + i] / total * P.weight - select(0.0, P.weight, i == 0u);
        floats[logits + i] = slope;
        if P.uses_prior == 1u {
            let node = integers[P.candidates + row * P.listed + i];
            d_trust -= slope * resistance_of(row, i, node, fold);
        }
    }
    wait();
    // Many candidates share the shared edge: one thread adds them up in their order.
    if thread == 0u {
        for (var i = 0u; i < P.listed; i += 1u) {
            floats[start + count + integers[P.numbers + row * P.listed + i]] += floats[logits + i];
        }
    }
    wait();
    finish(row, d_trust, thread);
}

// −ln p(node | source) up to what is the same for every node.
fn resistance_of(row: u32, i: u32, node: u32, fold: u32) -> f32 {
    var sum = prior[fold * P.nodes_count + node];
    let edge = integers[P.places + row * P.listed + i];
    if edge != NONE {
        sum -= prior[P.lifts + fold * P.edges_count + edge];
    }
    return sum;
}
