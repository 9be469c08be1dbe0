// Declarations: where a batch of B sequences of T steps lies, for the kernels that train own edges.
// Row b · T + i is step i of sequence b. Filled by engine/learn/device/schedule.rs.

// Offsets count numbers.
struct Batch {
    steps: u32,            // T
    nodes_count: u32,      // V
    edges_count: u32,      // E
    squared: u32,          // 1 for energies ‖c‖², 0 for ‖c‖
    uses_prior: u32,       // whether logits have α, and static resistances with their weights
    has_bias: u32,
    candidates_count: u32, // C; 0 where all targets count
    // In integers.
    tokens: u32,           // [B, T + 1]
    folds: u32,            // fold of each sequence's prior [B]
    walked: u32,           // buffer and row of the edge from each row to its next token [B · T, 2]
    order: u32,            // rows sorted by node [B · T]
    starts: u32,           // offset of each row's energies in `energies` [B · T]
    counts: u32,           // own edges of each row that are scored [B · T]
    chosen: u32,           // number of the true edge in each row's fan, 0 for the shared one [B · T]
    first_edge_rows: u32,  // first edge row of each row's node [B · T]
    candidates: u32,       // targets of each row, the true one first [B · T, C]
    numbers: u32,          // numbers of their edges in the fan [B · T, C]
    candidate_edges: u32,  // their edges in the graph, NONE for unlisted ones [B · T, C]
    // In values: blocks of parameters.
    start: u32,            // [V, W]
    decay: u32,            // [K W]
    gate: u32,             // [V, K W]
    gate_signal: u32,      // [D, K W]
    mix: u32,              // [1 + K, W]
    bias: u32,             // [V]
    prior_weight: u32,     // [V]
    scalars: u32,          // ln α, γ
    // In prior.
    lifts: u32,            // [1 + folds, E], after [1 + folds, V]
    // In floats.
    first_position: u32,   // position row 0 [W]
    positions: u32,        // position row of each hop [T, W]
    weights: u32,          // λ of the position blend [T]
    before: u32,           // pre-activations [B · T, W]
    signal: u32,           // [B · T, W]
    banks: u32,            // [B · T, K W]
    lambda: u32,           // [B · T, K W]
    input: u32,            // output of the node, input of the hop [B · T, W]
    mask: u32,             // dropout [B · T, W]
    kept: u32,             // input ⊙ mask, from which energies are formed [B · T, W]
    energies: u32,         // of each row: shared edge, own edges; then as many slopes. Later dE / E, or 2 dE of squares
    logits: u32,           // [rows of a run, V] or [B · T, C]
    rows: u32,             // [B · T, 4]: gradients of ln α and γ, unused, nats
    d_input: u32,          // [B · T, W]
    d_before: u32,         // [B · T, W]
    d_gate: u32,           // [B · T, K W]
    d_banks: u32,          // [B, K W]
}

const NONE: u32 = 0xffffffffu;
