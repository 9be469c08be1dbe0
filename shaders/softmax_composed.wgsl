// The exact softmax of composed edges over all V targets, its loss and its gradient. One workgroup a row.
// After: activation.wgsl. Twin: engine/learn/composed/score.rs.

override WORKGROUP: u32 = 64u;
// Whether edges have own residuals.
override RESIDUAL: u32 = 0u;

struct Parameters {
    nodes_count: u32,  // V
    edges_count: u32,  // E
    steps: u32,        // T
    first: u32,        // the first row of this run
    tokens: u32,       // in integers: [B, T + 1]
    folds: u32,        // in integers: [B]
    first_rows: u32,  // in integers: first own slot of each row's source [B · T]
    edge_starts: u32,  // in integers: where each row's own edges begin in `extra` [B · T]
    logits: u32,       // in floats: kept · β, then the gradient of the scores [rows of this run, V]
    extra: u32,        // in floats: energies that residuals add; then their gradients
    rows: u32,         // in floats: [B · T, 4]: gradients of ln α and γ, of κ, nats
    bias: u32,         // in values: [V]
    prior_weight: u32,        // in values: [V]
    scalars: u32,      // in values: ln α, γ, κ
    lifts: u32,        // in prior: [1 + folds, E], after [1 + folds, V]
    uses_prior: u32,
    learn: u32,
    weight: f32,       // 1 / rows of the batch
}

@group(0) @binding(0) var<uniform> P: Parameters;
// One row of numbers: arrays at the places that P names, with the shapes given there.
@group(0) @binding(1) var<storage, read_write> floats: array<f32>;
// One row of integers: arrays at the places that P names, with the shapes given there.
@group(0) @binding(2) var<storage, read> integers: array<u32>;
// One row of parameters: blocks at the places that P names, with the shapes given there.
@group(0) @binding(3) var<storage, read> values: array<f32>;
// [V + 1] offsets of the fans, then [E] targets.
@group(0) @binding(4) var<storage, read> graph: array<u32>;
// [E]: own slots of the edges, 0 for none.
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

@compute @workgroup_size(WORKGROUP)
fn softmax(@builtin(workgroup_id) at: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = P.first + at.x;
    let sequence = row / P.steps;
    let token = P.tokens + sequence * (P.steps + 1u) + row % P.steps;
    let source = integers[token];
    let next = integers[token + 1u];
    let fold = integers[P.folds + sequence];
    let logits = P.logits + at.x * P.nodes_count;
    let resistance = fold * P.nodes_count;
    let lifts = P.lifts + fold * P.edges_count;
    let alpha = exp(values[P.scalars]);
    var prior_weight = 0.0;
    if P.uses_prior == 1u {
        prior_weight = values[P.scalars + 1u] + values[P.prior_weight + source];
    }
    for (var v = thread; v < P.nodes_count; v += WORKGROUP) {
        var logit = 2.0 * alpha * floats[logits + v] + values[P.bias + v];
        if P.uses_prior == 1u {
            logit -= prior_weight * prior[resistance + v];
        }
        floats[logits + v] = logit;
    }
    storageBarrier();
    workgroupBarrier();
    let first = graph[source];
    let last = graph[source + 1u];
    for (var edge = first + thread; edge < last; edge += WORKGROUP) {
        let node = graph[P.nodes_count + 1u + edge];
        var more = 0.0;
        if P.uses_prior == 1u {
            more = prior_weight * prior[lifts + edge];
        }
        if RESIDUAL == 1u && edge_rows[edge] > 0u {
            let extra = P.extra + integers[P.edge_starts + row] + edge_rows[edge] - integers[P.first_rows + row];
            more += alpha * floats[extra];
        }
        floats[logits + node] += more;
    }
    storageBarrier();
    workgroupBarrier();
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
    for (var v = thread; v < P.nodes_count; v += WORKGROUP) {
        var slope = floats[logits + v] * scale;
        if v == next {
            slope -= P.weight;
        }
        floats[logits + v] = slope;
        if P.uses_prior == 1u {
            d_trust -= slope * prior[resistance + v];
        }
    }
    storageBarrier();
    workgroupBarrier();
    var d_alpha = 0.0;
    for (var edge = first + thread; edge < last; edge += WORKGROUP) {
        let slope = floats[logits + graph[P.nodes_count + 1u + edge]];
        if P.uses_prior == 1u {
            d_trust += slope * prior[lifts + edge];
        }
        if RESIDUAL == 1u && edge_rows[edge] > 0u {
            let extra = P.extra + integers[P.edge_starts + row] + edge_rows[edge] - integers[P.first_rows + row];
            d_alpha += slope * alpha * floats[extra];
            // dE: what each residual's energy gets.
            floats[extra] = slope * alpha;
        }
    }
    let total_trust = sum_all(d_trust, thread);
    let total_alpha = sum_all(d_alpha, thread);
    if thread == 0u {
        floats[P.rows + 4u * row] = total_alpha;
        floats[P.rows + 4u * row + 1u] = total_trust;
    }
}
