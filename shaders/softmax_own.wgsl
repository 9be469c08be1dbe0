// The softmax of own edges, its loss and its gradient, one workgroup a row: over classes where nothing but energy
// counts, over all V targets, or over sampled candidates. Rows are taken in the order of their nodes.
// After: workgroup.wgsl, activation.wgsl, batch_own.wgsl, softmax.wgsl. CPU: engine/learn/own/softmax.rs.

fn alpha() -> f32 {
    if P.at.uses_prior == 1u {
        return exp(values[P.at.scalars]);
    }
    return 1.0;
}

// Where a row's energies begin.
fn start_of(row: u32) -> u32 {
    return P.at.energies + integers[P.at.starts + row];
}

// Energies of a row: the shared edge's, then those of own edges.
fn count_of(row: u32) -> u32 {
    return 1u + integers[P.at.counts + row];
}

// −ln p(node | source), up to a term that is the same for every node, of candidate i.
fn resistance_of(prediction: Prediction, i: u32, node: u32) -> f32 {
    var sum = prior[prediction.resistance + node];
    let edge = integers[P.at.candidate_edges + prediction.row * P.at.candidates_count + i];
    if edge != NONE {
        sum -= prior[prediction.lifts + edge];
    }
    return sum;
}

// Turn the gradients of the logits, summed by edge behind the row's energies, into what fan.wgsl needs of each
// energy: dE / E, or 2 dE of squares. Stores the gradients of ln α and of the prior weight.
fn finish(row: u32, d_prior_weight: f32, thread: u32) {
    let start = start_of(row);
    let count = count_of(row);
    let a = alpha();
    var d_alpha = 0.0;
    for (var edge = thread; edge < count; edge += WORKGROUP) {
        let energy = floats[start + edge];
        let slope = floats[start + count + edge];
        d_alpha = fma(slope * energy, a, d_alpha);
        var result = 2.0 * slope * a;
        if P.at.squared == 0u {
            result = select(0.0, slope * a / energy, energy > 0.0);
        }
        floats[start + edge] = result;
    }
    put_row_gradients(row, d_alpha, d_prior_weight, thread);
}

// Classes: each own edge, and the shared edge once for each of the other targets.
@compute @workgroup_size(WORKGROUP)
fn classes(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = integers[P.at.order + P.first + group.x];
    let start = start_of(row);
    let count = count_of(row);
    let a = alpha();
    let times = f32(P.at.nodes_count + 1u - count);
    var top = floats[start];
    for (var edge = thread; edge < count; edge += WORKGROUP) {
        top = max(top, floats[start + edge]);
    }
    top = max_all(top, thread);
    var part = 0.0;
    for (var edge = thread; edge < count; edge += WORKGROUP) {
        part += select(1.0, times, edge == 0u) * natural_exp(a * (floats[start + edge] - top));
    }
    let total = sum_all(part, thread);
    let chosen = integers[P.at.chosen + row];
    if thread == 0u {
        floats[P.at.rows + 4u * row + 3u] = a * (top - floats[start + chosen]) + log(total);
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
fn targets(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = integers[P.at.order + P.first + group.x];
    let prediction = prediction_of(row);
    let start = start_of(row);
    let count = count_of(row);
    let logits = P.at.logits + group.x * P.at.nodes_count;
    let first_edge_row = integers[P.at.first_edge_rows + row];
    let a = alpha();
    // The shared edge's α E for every target, + bias − prior weight · resistance.
    let shared_logit = a * floats[start];
    for (var v = thread; v < P.at.nodes_count; v += WORKGROUP) {
        var logit = shared_logit;
        if P.at.has_bias == 1u {
            logit += values[P.at.bias + v];
        }
        if P.at.uses_prior == 1u {
            logit -= prediction.prior_weight * prior[prediction.resistance + v];
        }
        put_logit(logits, v, logit);
    }
    wait();
    // Edges of the fan: their resistance is lower by the lift, own edges have their own energy.
    let first = graph[prediction.source];
    let last = graph[prediction.source + 1u];
    for (var edge = first + thread; edge < last; edge += WORKGROUP) {
        var more = 0.0;
        if P.at.uses_prior == 1u {
            more = prediction.prior_weight * prior[prediction.lifts + edge];
        }
        if edge_rows[edge] > 0u {
            more += a * floats[start + 1u + edge_rows[edge] - first_edge_row] - shared_logit;
        }
        let v = graph[P.at.nodes_count + 1u + edge];
        put_logit(logits, v, logit_at(logits, v) + more);
    }
    wait();
    let total = exponentials(row, logits, P.at.nodes_count, prediction.next, thread);
    if P.learn == 0u {
        return;
    }
    // d logit = (p − [v is true]) · weight
    let scale = P.weight / total;
    var d_prior_weight = 0.0;
    var all = 0.0;
    for (var v = thread; v < P.at.nodes_count; v += WORKGROUP) {
        var slope = logit_at(logits, v) * scale;
        if v == prediction.next {
            slope -= P.weight;
        }
        put_slope(logits, v, slope);
        all += slope;
        if P.at.uses_prior == 1u {
            d_prior_weight -= slope * prior[prediction.resistance + v];
        }
    }
    wait();
    // Slopes of own edges, and the rest of the sum for the shared one.
    var own = 0.0;
    for (var edge = first + thread; edge < last; edge += WORKGROUP) {
        let slope = logit_at(logits, graph[P.at.nodes_count + 1u + edge]);
        if P.at.uses_prior == 1u {
            d_prior_weight += slope * prior[prediction.lifts + edge];
        }
        if edge_rows[edge] > 0u {
            own += slope;
            floats[start + count + 1u + edge_rows[edge] - first_edge_row] = slope;
        }
    }
    let others = sum_all(all - own, thread);
    if thread == 0u {
        floats[start + count] = others;
    }
    wait();
    finish(row, d_prior_weight, thread);
}

// Sampled candidates, the true one first.
@compute @workgroup_size(WORKGROUP)
fn candidates(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = integers[P.at.order + P.first + group.x];
    let prediction = prediction_of(row);
    let start = start_of(row);
    let count = count_of(row);
    let listed = row * P.at.candidates_count;
    // Logits of candidates are kept for all rows: gradients of biases are collected from them.
    let logits = P.at.logits + listed;
    let a = alpha();
    for (var i = thread; i < P.at.candidates_count; i += WORKGROUP) {
        let node = integers[P.at.candidates + listed + i];
        var logit = a * floats[start + integers[P.at.numbers + listed + i]];
        if P.at.has_bias == 1u {
            logit += values[P.at.bias + node];
        }
        if P.at.uses_prior == 1u {
            logit -= prediction.prior_weight * resistance_of(prediction, i, node);
        }
        floats[logits + i] = logit;
    }
    wait();
    let total = exponentials(row, logits, P.at.candidates_count, 0u, thread);
    if P.learn == 0u {
        return;
    }
    for (var edge = thread; edge < count; edge += WORKGROUP) {
        floats[start + count + edge] = 0.0;
    }
    var d_prior_weight = 0.0;
    for (var i = thread; i < P.at.candidates_count; i += WORKGROUP) {
        let slope = floats[logits + i] / total * P.weight - select(0.0, P.weight, i == 0u);
        floats[logits + i] = slope;
        if P.at.uses_prior == 1u {
            d_prior_weight -= slope * resistance_of(prediction, i, integers[P.at.candidates + listed + i]);
        }
    }
    wait();
    // Many candidates share the shared edge: one thread adds them up in their order.
    if thread == 0u {
        for (var i = 0u; i < P.at.candidates_count; i += 1u) {
            floats[start + count + integers[P.at.numbers + listed + i]] += floats[logits + i];
        }
    }
    wait();
    finish(row, d_prior_weight, thread);
}
