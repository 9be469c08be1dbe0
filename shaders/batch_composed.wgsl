// Declarations: where a batch of B sequences of T steps lies, for the kernels that train composed edges.
// Row b · T + i is step i of sequence b. Filled by engine/learn/device/composed_schedule.rs.

// Offsets count numbers. G = K W, X = W + G; R the rank of composed edges, r that of own residuals.
struct Batch {
    steps: u32,            // T
    nodes_count: u32,      // V
    edges_count: u32,      // E
    uses_prior: u32,       // whether logits have static resistances with their weights
    // In integers.
    tokens: u32,           // [B, T + 1]
    folds: u32,            // fold of each sequence's prior [B]
    edge_rows: u32,        // residual row of the edge from each row to its next token, + 1; 0 for none [B · T]
    first_edge_rows: u32,  // first edge row of each row's node [B · T]
    edge_starts: u32,      // offset of each row's own edges in `extra` [B · T]
    // In values: blocks of parameters.
    beta: u32,             // [V, W]
    scale: u32,            // [V, W]
    offset: u32,           // [V, W]
    mix: u32,              // M [X, W]
    gain: u32,             // [W]
    scalars: u32,          // ln α, γ, κ
    bias: u32,             // [V]
    prior_weight: u32,     // [V]
    decay: u32,            // [G]
    gate: u32,             // [V, G]
    gate_signal: u32,      // [D, G]
    low_scale: u32,        // [V, R]
    low_in: u32,           // L [X, R]
    low_out: u32,          // N [R, W]
    residual: u32,         // r_e, then C_e [own edges, (1 + r) W]
    residual_in: u32,      // B [X, r]
    // In prior.
    lifts: u32,            // [1 + folds, E], after [1 + folds, V]
    // In floats: one row for each row of the batch.
    preactivation: u32,    // z [B · T, W]
    inverse: u32,          // 1 / rms(z) [B · T]
    before: u32,           // before activation [B · T, W]
    signal: u32,           // c [B · T, W]
    blended: u32,          // x = (c, 2 · banks) [B · T, X]
    lambda: u32,           // [B · T, G]
    mixed: u32,            // x M [B · T, W]
    low: u32,              // x L [B · T, R]
    scaled: u32,           // x L ⊙ low scale [B · T, R]
    output: u32,           // h [B · T, W]
    kept: u32,             // h ⊙ mask, from which logits are formed [B · T, W]
    mask_node: u32,        // dropout of β in the node's input [B · T, W]
    mask_out: u32,         // dropout of h [B · T, W]
    projected: u32,        // x B [B · T, r]
    positions: u32,        // λ of the position blend [T]
    logits: u32,           // kept · β, then gradients of the logits [rows of a run, V]
    extra: u32,            // energies that own residuals add; then their gradients
    rows: u32,             // [B · T, 4]: gradients of ln α, γ and κ, nats
    d_output: u32,         // gradient of `kept`, then of h [B · T, W]
    d_mixed: u32,          // [B · T, W]
    d_low: u32,            // [B · T, R]
    d_low_scale: u32,      // [B · T, R]
    d_gate: u32,           // [B · T, G]
    d_target: u32,         // gradient of β through the node's input [B · T, W]
    d_preactivation: u32,  // [B · T, W]
    d_before: u32,         // [B · T, W]
    d_gain: u32,           // [B · T, W]
    d_projected: u32,      // [B · T, r]
    d_banks: u32,          // [B, G]
    d_blended: u32,        // [B, X]
}
