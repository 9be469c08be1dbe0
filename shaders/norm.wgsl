// The norm of all gradients, the factor that clips it, and whether the loss is finite. After: workgroup.wgsl.
// CPU: `gradient_norm` of engine/learn/adamw.rs.

struct Parameters {
    numbers: u32,      // of gradients
    piece: u32,        // gradients that one workgroup sums
    squares: u32,      // in floats: sum of squares of each piece [pieces]
    pieces: u32,
    edges: u32,        // in floats: sums of squares of own edges' gradients [edges_count]
    edges_count: u32,
    nats: u32,         // in floats: one number a row, `nats_stride` apart
    nats_stride: u32,
    rows: u32,
    limit: f32,        // the norm is clipped to this; 0 for no clipping
    result: u32,       // in floats: factor, 1 if the loss is finite, norm
}

@group(0) @binding(0) var<uniform> P: Parameters;
// Workspace; offsets in P.
@group(0) @binding(1) var<storage, read_write> floats: array<f32>;
// [numbers]
@group(0) @binding(2) var<storage, read> gradients: array<f32>;

// Sum of squares of a piece of the gradients: one workgroup a piece.
@compute @workgroup_size(WORKGROUP)
fn squares(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    var sum = 0.0;
    let last = min((group.x + 1u) * P.piece, P.numbers);
    for (var i = group.x * P.piece + thread; i < last; i += WORKGROUP) {
        sum = fma(gradients[i], gradients[i], sum);
    }
    let total = sum_all(sum, thread);
    if thread == 0u {
        floats[P.squares + group.x] = total;
    }
}

// Norm = √Σ squares, and the factor limit / norm where the norm is larger: one workgroup.
@compute @workgroup_size(WORKGROUP)
fn finish(@builtin(local_invocation_index) thread: u32) {
    var sum = 0.0;
    for (var i = thread; i < P.pieces; i += WORKGROUP) {
        sum += floats[P.squares + i];
    }
    for (var i = thread; i < P.edges_count; i += WORKGROUP) {
        sum += floats[P.edges + i];
    }
    let norm = sqrt(sum_all(sum, thread));
    var nats = 0.0;
    for (var i = thread; i < P.rows; i += WORKGROUP) {
        nats += floats[P.nats + i * P.nats_stride];
    }
    let total = sum_all(nats, thread);
    if thread == 0u {
        var factor = 1.0;
        if P.limit > 0.0 && norm > P.limit {
            factor = P.limit / norm;
        }
        floats[P.result] = factor;
        // False for infinities and for NaN.
        floats[P.result + 1u] = select(0.0, 1.0, abs(total) < 3.0e38);
        floats[P.result + 2u] = norm;
    }
}
