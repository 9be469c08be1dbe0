// Declarations: where one layer of a batch of B sequences of T steps lies, for the kernels that train layered edges.
// Row b · T + i is step i of sequence b. Filled by engine/learn/device/layered_schedule.rs. After: workgroup.wgsl.

override D: u32 = 32u;
override W: u32 = 32u;
// w, the inner width of a layer.
override INNER: u32 = 48u;
override BANKS: u32 = 1u;

// Offsets count numbers. G = K w, X = w + G, Z = X + D; M is X rounded up to a multiple of 4.
struct Parameters {
    steps: u32,            // T
    sequences: u32,        // B
    first: u32,            // number of the first of them, where a batch is trained in parts
    layers: u32,           // L
    layer: u32,            // number of the layer; L for the read-out
    carries: u32,          // 1 keeps the state after the last step of each sequence
    // In integers.
    tokens: u32,           // [B, T + 1]
    continued: u32,        // 1 for sequences that continue from the kept state [B]
    // In values: blocks of parameters.
    beta: u32,             // [V, W]
    scalars: u32,          // ln α, γ, κ
    gain: u32,             // g [D]
    bias: u32,             // b [Z]; of the read-out a [D]
    // In floats: of sequences.
    mask_node: u32,        // dropout of nodes [V]
    mask_input: u32,       // dropout of the signal that reaches a node [B, W]
    mask_memory: u32,      // dropout of (c, 2 m) [B, M]
    mask_output: u32,      // dropout of h [B, W]
    before: u32,           // n and m of each layer before the first step [B, L, D + G]
    // In floats: of the layer below, one row for each row of the batch.
    below_signals: u32,    // [B · T, D]
    below_edge: u32,       // [B · T, Z]
    below_mixed: u32,      // [B · T, D]
    // In floats: of this layer.
    signals: u32,          // s [B · T, D]
    inverse: u32,          // 1 / rms(s) [B · T]
    normals: u32,          // n of the node and of the one before it [B · T, 2 D]; of the read-out n [B · T, D]
    edge: u32,             // W (n_v, n_u); then p, λ and σ(o) [B · T, Z]
    signal: u32,           // c [B · T, w]
    banks: u32,            // m [B · T, G]
    blended: u32,          // (c, 2 m) with dropout applied [B · T, X]
    mixed: u32,            // A (c, 2 m) [B · T, D]
    kept: u32,             // h with dropout applied, from which logits are formed [B · T, W]
    // In floats: gradients.
    rows: u32,             // [B · T, 4]: gradients of ln α, γ and κ, nats
    d_output: u32,         // of `kept`, then of h [B · T, W]
    d_normals: u32,        // as `normals`
    d_signals: u32,        // of s, layer after layer [B · T, D]
    d_gain: u32,           // of each row [B · T, D]
    d_mixed: u32,          // [B · T, D]
    d_blended: u32,        // [B · T, X]; then of c through each bank
    d_edge: u32,           // [B · T, Z]
    d_target: u32,         // of β through s of the first layer [B · T, W]
    kappa: f32,            // factor of κ
    epsilon: f32,          // added to the mean square of a signal
}

@group(0) @binding(0) var<uniform> P: Parameters;
// Workspace; offsets in P.
@group(0) @binding(1) var<storage, read_write> floats: array<f32>;
// Lists; offsets in P.
@group(0) @binding(2) var<storage, read> integers: array<u32>;
// Blocks of parameters; offsets in P.
@group(0) @binding(3) var<storage, read> values: array<f32>;
// Kept state: n of the last node and m of each layer [B, L, D + G].
@group(0) @binding(4) var<storage, read_write> state: array<f32>;

// G.
fn memory_columns() -> u32 {
    return BANKS * INNER;
}

// X.
fn blended_columns() -> u32 {
    return INNER + memory_columns();
}

// Z.
fn edge_columns() -> u32 {
    return blended_columns() + D;
}

// Offset of the dropout of (c, 2 m) of a sequence.
fn memory_mask(b: u32) -> u32 {
    return P.mask_memory + b * ((blended_columns() + 3u) / 4u * 4u);
}

// Offset of the state of a sequence in this layer, in `before` and in the kept state.
fn state_of(b: u32) -> u32 {
    return (b * P.layers + P.layer) * (D + memory_columns());
}

// Offset of the kept state of the first sequence.
fn kept_from() -> u32 {
    return P.first * P.layers * (D + memory_columns());
}
