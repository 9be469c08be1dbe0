// Declarations and functions shared by softmax_own.wgsl and softmax_composed.wgsl: the softmax loss of a row of logits.
// After: workgroup.wgsl, activation.wgsl, and the batch_*.wgsl of the edges.
//
// A row of logits is read once, changed in workgroup memory, and its gradient written once, where workgroup memory holds V
// numbers (16 KB for 4,000 nodes). The products before and after it do go through memory: to compute the logits again
// instead of storing them would take a third more arithmetic, while storing them takes six accesses of V numbers a row, at
// a million rows a second a fiftieth of what an H200 moves. By reasoning; not measured on a GPU.

// Numbers of a row in workgroup memory; 1 where rows stay in the workspace.
override ROW_LOGITS: u32 = 1u;

struct Parameters {
    at: Batch,
    first: u32,        // the first row of this run; of own edges its position in `order`
    learn: u32,        // whether gradients are wanted
    walks: u32,        // composed edges: where each row's pairs (target, bits of a lift) of longer walks begin [B · T + 1]
    weight: f32,       // 1 / rows of the batch
}

@group(0) @binding(0) var<uniform> P: Parameters;
// Workspace; offsets in P.at.
@group(0) @binding(1) var<storage, read_write> floats: array<f32>;
// Lists; offsets in P.at.
@group(0) @binding(2) var<storage, read> integers: array<u32>;
// Blocks of parameters; offsets in P.at.
@group(0) @binding(3) var<storage, read> values: array<f32>;
// [V + 1] first edge of each node, then [E] targets.
@group(0) @binding(4) var<storage, read> graph: array<u32>;
// [E]: edge rows, 0 for the shared edge.
@group(0) @binding(5) var<storage, read> edge_rows: array<u32>;
// [1 + folds, V] −ln p1(v), then [1 + folds, E] lifts.
@group(0) @binding(6) var<storage, read> prior: array<f32>;

var<workgroup> row_logits: array<f32, ROW_LOGITS>;

// Logit `i` of the row that this workgroup works on, whose logits begin at `logits` in the workspace.
fn logit_at(logits: u32, i: u32) -> f32 {
    if ROW_LOGITS > 1u {
        return row_logits[i];
    }
    return floats[logits + i];
}

fn put_logit(logits: u32, i: u32, value: f32) {
    if ROW_LOGITS > 1u {
        row_logits[i] = value;
    } else {
        floats[logits + i] = value;
    }
}

// Store the gradient of a logit, which later kernels read.
fn put_slope(logits: u32, i: u32, value: f32) {
    if ROW_LOGITS > 1u {
        row_logits[i] = value;
    }
    floats[logits + i] = value;
}

// A row of the batch: the next token of one position of a sequence.
struct Prediction {
    row: u32,
    source: u32,       // its node
    next: u32,         // the true target
    resistance: u32,   // in prior: −ln p1(v) of its fold [V]
    lifts: u32,        // in prior: of its fold [E]
    prior_weight: f32, // γ + the weight of its node; 0 without prior
}

fn prediction_of(row: u32) -> Prediction {
    let sequence = row / P.at.steps;
    let token = P.at.tokens + sequence * (P.at.steps + 1u) + row % P.at.steps;
    let source = integers[token];
    let fold = integers[P.at.folds + sequence];
    var prior_weight = 0.0;
    if P.at.uses_prior == 1u {
        prior_weight = values[P.at.scalars + 1u] + values[P.at.prior_weight + source];
    }
    return Prediction(
        row,
        source,
        integers[token + 1u],
        fold * P.at.nodes_count,
        P.at.lifts + fold * P.at.edges_count,
        prior_weight,
    );
}

// Replace `count` logits by exp(logit − max) and return their sum; the nats of the true one, number `truth`, go to
// the row: −ln p = max − logit + ln Σ exp(logit − max). Logits were written before a `wait`.
fn exponentials(row: u32, logits: u32, count: u32, truth: u32, thread: u32) -> f32 {
    var top = -3.4e38;
    for (var i = thread; i < count; i += WORKGROUP) {
        top = max(top, logit_at(logits, i));
    }
    top = max_all(top, thread);
    let true_logit = logit_at(logits, truth);
    workgroupBarrier();
    var part = 0.0;
    for (var i = thread; i < count; i += WORKGROUP) {
        let e = natural_exp(logit_at(logits, i) - top);
        put_logit(logits, i, e);
        part += e;
    }
    let total = sum_all(part, thread);
    if thread == 0u {
        floats[P.at.rows + 4u * row + 3u] = top - true_logit + log(total);
    }
    return total;
}

// Store the row's gradients of ln α and of its prior weight, from the parts of all threads.
fn put_row_gradients(row: u32, d_alpha: f32, d_prior_weight: f32, thread: u32) {
    let total_alpha = sum_all(d_alpha, thread);
    let total_prior_weight = sum_all(d_prior_weight, thread);
    if thread == 0u {
        floats[P.at.rows + 4u * row] = total_alpha;
        floats[P.at.rows + 4u * row + 1u] = total_prior_weight;
    }
}
