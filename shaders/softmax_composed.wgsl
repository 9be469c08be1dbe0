// The exact softmax of composed and layered edges over all V targets, its loss and its gradient. One workgroup a row.
// After: workgroup.wgsl, activation.wgsl, batch_composed.wgsl, softmax.wgsl. CPU: engine/learn/readout.rs.

// Whether edges have own residuals.
override RESIDUAL: u32 = 0u;

// Where the energy that an edge's own residual adds lies, for a row.
fn extra_of(row: u32, edge: u32) -> u32 {
    return P.at.extra + integers[P.at.edge_starts + row] + edge_rows[edge] - integers[P.at.first_edge_rows + row];
}

@compute @workgroup_size(WORKGROUP)
fn softmax(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = P.first + group.x;
    let prediction = prediction_of(row);
    let logits = P.at.logits + group.x * P.at.nodes_count;
    let alpha = exp(values[P.at.scalars]);
    // α (E − ‖h‖² − ‖β_v‖²) = 2 α h·β_v, + bias − prior weight · resistance.
    for (var v = thread; v < P.at.nodes_count; v += WORKGROUP) {
        var logit = 2.0 * alpha * floats[logits + v] + values[P.at.bias + v];
        if P.at.uses_prior == 1u {
            logit -= prediction.prior_weight * prior[prediction.resistance + v];
        }
        put_logit(logits, v, logit);
    }
    wait();
    // Edges of the fan: their resistance is lower by the lift, own residuals add α · energy.
    let first = graph[prediction.source];
    let last = graph[prediction.source + 1u];
    for (var edge = first + thread; edge < last; edge += WORKGROUP) {
        var more = 0.0;
        if P.at.uses_prior == 1u {
            more = prediction.prior_weight * prior[prediction.lifts + edge];
        }
        if RESIDUAL == 1u && edge_rows[edge] > 0u {
            more += alpha * floats[extra_of(row, edge)];
        }
        let v = graph[P.at.nodes_count + 1u + edge];
        put_logit(logits, v, logit_at(logits, v) + more);
    }
    wait();
    // Longer walks lift further targets; each occurs once.
    let first_walk = integers[P.walks + row];
    let last_walk = integers[P.walks + row + 1u];
    for (var pair = first_walk + 2u * thread; pair < last_walk; pair += 2u * WORKGROUP) {
        let more = prediction.prior_weight * bitcast<f32>(integers[pair + 1u]);
        put_logit(logits, integers[pair], logit_at(logits, integers[pair]) + more);
    }
    wait();
    let total = exponentials(row, logits, P.at.nodes_count, prediction.next, thread);
    if P.learn == 0u {
        return;
    }
    // d logit = (p − [v is true]) · weight
    let scale = P.weight / total;
    var d_prior_weight = 0.0;
    for (var v = thread; v < P.at.nodes_count; v += WORKGROUP) {
        var slope = logit_at(logits, v) * scale;
        if v == prediction.next {
            slope -= P.weight;
        }
        put_slope(logits, v, slope);
        if P.at.uses_prior == 1u {
            d_prior_weight -= slope * prior[prediction.resistance + v];
        }
    }
    wait();
    var d_alpha = 0.0;
    for (var edge = first + thread; edge < last; edge += WORKGROUP) {
        let slope = logit_at(logits, graph[P.at.nodes_count + 1u + edge]);
        if P.at.uses_prior == 1u {
            d_prior_weight += slope * prior[prediction.lifts + edge];
        }
        if RESIDUAL == 1u && edge_rows[edge] > 0u {
            let extra = extra_of(row, edge);
            d_alpha += slope * alpha * floats[extra];
            // The gradient of the residual's energy replaces it.
            floats[extra] = slope * alpha;
        }
    }
    for (var pair = first_walk + 2u * thread; pair < last_walk; pair += 2u * WORKGROUP) {
        d_prior_weight += logit_at(logits, integers[pair]) * bitcast<f32>(integers[pair + 1u]);
    }
    put_row_gradients(row, d_alpha, d_prior_weight, thread);
}
