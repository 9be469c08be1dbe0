// A node of layered edges: what lies between the products with the matrices of its layers, which `dots` computes.
// One workgroup a sequence. After: workgroup.wgsl, activation.wgsl, sequences.wgsl, running.wgsl, advance.wgsl.
// CPU: engine/kernel/layered.rs. A hop: enter, then for each layer the edge's product, memory, the mix's product, add;
// then the read-out's product and leave.

override D: u32 = 32u;
override W: u32 = 32u;
// w, the inner width of a layer, and the distance of its runs: w rounded up to a multiple of 4.
override INNER: u32 = 48u;
override INNER_WIDE: u32 = 48u;
override BANKS: u32 = 1u;

struct Parameters {
    // `gathered`: β of the next node. `preactivation`: W (n_v, n_u) of a layer, without its bias [Z].
    // `blended`: n of the current node in each layer [L, W]. `banks`: m [L, K, INNER_WIDE].
    at: Sequences,
    layer: u32,        // the layer that is read
    carries: u32,      // 1 where n is what the layer reads of the next edge's source; 0 for that of the read-out
    gain: u32,         // in values: g [D]
    bias: u32,         // in values: b of the layer that was read [Z]; of the output [D]
    // In floats, relative to the record.
    normals: u32,      // n of the node, then of the one before it [2 W]
    memory: u32,       // (c, 2 m) [(1 + K) INNER_WIDE]
    mixed: u32,        // A (c, 2 m), or R n [D]
    kappa: f32,        // 10 κ
    epsilon: f32,      // added to the mean square of a signal
}

@group(0) @binding(0) var<uniform> P: Parameters;
// Workspace; offsets in P.at.
@group(0) @binding(1) var<storage, read_write> floats: array<f32>;
// State of sequences; offsets in P.at.
@group(0) @binding(2) var<storage, read_write> integers: array<u32>;
// Numbers of nodes and small blocks; offsets in P.blocks.
@group(0) @binding(3) var<storage, read> values: array<f32>;

// n = g ⊙ s / rms(s). Each thread reads the columns of s that it wrote.
fn normalise(start: u32, thread: u32) {
    let signal = start + P.at.signal;
    var part = 0.0;
    for (var j = thread; j < D; j += WORKGROUP) {
        part = fma(floats[signal + j], floats[signal + j], part);
    }
    let inverse = 1.0 / sqrt(sum_all(part, thread) / f32(D) + P.epsilon);
    for (var j = thread; j < D; j += WORKGROUP) {
        let n = values[P.gain + j] * floats[signal + j] * inverse;
        let normal = start + P.normals + j;
        floats[normal] = n;
        if P.carries == 1u {
            let carried = start + P.at.blended + P.layer * W + j;
            floats[normal + W] = floats[carried];
            floats[carried] = n;
        }
    }
}

// s = 10 κ β of the next node, and its n for the first layer.
@compute @workgroup_size(WORKGROUP)
fn enter(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    if stays(group.x, thread) {
        return;
    }
    let start = group.x * P.at.stride;
    for (var j = thread; j < D; j += WORKGROUP) {
        floats[start + P.at.signal + j] = P.kappa * floats[start + P.at.gathered + j];
    }
    normalise(start, thread);
}

// c = GELU(p), λ = σ(q), m ← c + λ (m − c).
@compute @workgroup_size(WORKGROUP)
fn memory(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    if stays(group.x, thread) {
        return;
    }
    let start = group.x * P.at.stride;
    let columns = start + P.at.preactivation;
    for (var j = thread; j < INNER; j += WORKGROUP) {
        let c = gelu_with_derivative(floats[columns + j] + values[P.bias + j]).x;
        floats[start + P.memory + j] = c;
        for (var k = 0u; k < BANKS; k += 1u) {
            let gate = (1u + k) * INNER + j;
            let lambda = sigmoid(floats[columns + gate] + values[P.bias + gate]);
            let bank = start + P.at.banks + (P.layer * BANKS + k) * INNER_WIDE + j;
            let m = fma(lambda, floats[bank] - c, c);
            floats[bank] = m;
            floats[start + P.memory + (1u + k) * INNER_WIDE + j] = 2.0 * m;
        }
    }
}

// s ← s + 2 σ(o) ⊙ A (c, 2 m), and its n for the next layer or the read-out.
@compute @workgroup_size(WORKGROUP)
fn add(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    if stays(group.x, thread) {
        return;
    }
    let start = group.x * P.at.stride;
    for (var j = thread; j < D; j += WORKGROUP) {
        let column = (1u + BANKS) * INNER + j;
        let gate = sigmoid(floats[start + P.at.preactivation + column] + values[P.bias + column]);
        floats[start + P.at.signal + j] += 2.0 * gate * floats[start + P.mixed + j];
    }
    normalise(start, thread);
}

// h = R n + a; the sequence moves on.
@compute @workgroup_size(WORKGROUP)
fn leave(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    if stays(group.x, thread) {
        return;
    }
    let start = group.x * P.at.stride;
    for (var j = thread; j < D; j += WORKGROUP) {
        floats[start + P.at.output + j] = floats[start + P.mixed + j] + values[P.bias + j];
    }
    if thread == 0u {
        advance(group.x);
    }
}
