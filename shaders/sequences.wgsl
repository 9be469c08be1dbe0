// Declarations: where the state of B sequences lies in the workspace, for the kernels that decode.
// Filled by engine/path/decoder/layout.rs.

// Offsets count numbers. A record holds what belongs to one sequence; records are `stride` numbers apart.
struct Sequences {
    count: u32,            // B
    nodes_count: u32,      // V
    width: u32,            // W
    stride: u32,           // floats between records
    // In floats, relative to the record.
    signal: u32,           // [W]
    banks: u32,            // [K W]; of layered edges [L, K, inner width]
    output: u32,           // h, the output of the current node [W]
    blended: u32,          // x = (signal, 2 · banks) of composed edges [(1 + K) W]; n of layered ones [L, W]
    base: u32,             // position row of the next hop, own edges [W]
    preactivation: u32,    // own edges [W]; of layered ones, of one layer [Z]
    low: u32,              // (x low_in) ⊙ low scale [R]
    projected: u32,        // x B of the edges' own residuals [residual rank]
    gathered: u32,         // table rows of the next node
    // In floats.
    energies: u32,         // [B, 1 + F]: shared edge, then own ones; rows `energies_stride` apart
    energies_stride: u32,
    dots: u32,             // h·β of composed and layered edges [B, V]
    logits: u32,           // [B, V]
    normalisers: u32,      // ln Σ exp(logit) of each list [B]
    listed_logits: u32,    // [B, top_k]
    lambda: u32,           // λ of the position blend for each hop of a submission [B, capacity]
    table: u32,            // position row after each hop of a submission, own edges [B, capacity, W]
    tops: u32,             // the largest logit that each workgroup of the energy kernel found [B, across]
    // In integers.
    nodes: u32,            // current node [B]
    steps: u32,            // hops so far [B]
    done: u32,             // 1 for sequences that have ended [B]
    emitted: u32,          // new nodes in this submission [B]
    next: u32,             // chosen node, or NONE [B]
    emitted_tokens: u32,   // new nodes [B, capacity]
    random: u32,           // state of each random stream [B, 2]
    top_nodes: u32,        // the nodes of `tops` [B, across]
    recent: u32,           // penalty window: length, then nodes [B, 1 + window]
    banned: u32,           // nodes that are never chosen
    stops: u32,            // nodes that end a sequence
    listed: u32,           // [B, top_k]
    capacity: u32,         // hops of a submission at most
    window: u32,           // nodes of the penalty window
    banned_count: u32,
    stops_count: u32,
    earlier: u32,          // in integers: nodes before the current one, the nearest first, NONE at the end [B, 3]
    banned_bits: u32,      // in integers: a bit for each node, set for banned ones [V / 32]
    across: u32,           // workgroups of the energy kernel for each sequence
    // In graph.
    edges_count: u32,      // E
    edge_targets: u32,     // target of each edge row [1 + own edges]
    walks: u32,            // the walks longer than an edge
}

// The fans that a kernel binds.
struct FanTable {
    first: u32,            // number of the first bound buffer of fans
    rows: u32,             // rows of each buffer, as `scales` counts them
    paged: u32,            // 1 where a fan may not be on the device
    bound: u32,            // buffers of fans that are bound
}

// From energies to a choice.
struct Choice {
    has_bias: u32,
    has_resistance: u32,
    has_own: u32,          // whether `energies` counts (own edges, or composed ones with residuals)
    alpha: f32,
    temperature: f32,
    top_k: u32,
    top_p: f32,
    min_p: f32,
    penalty: f32,          // ln of the repetition penalty; 0 for none
    self_loops: u32,
    mode: u32,             // CHOOSE, LOGITS or LIST
    scored: u32,           // whether the logits are there already
    has_tops: u32,         // whether the energy kernel left the largest logits of own edges in `tops`
    unused_0: u32,
    unused_1: u32,
    unused_2: u32,
}

// Offsets in `values`: numbers of nodes, and small blocks of parameters.
struct Blocks {
    bias: u32,             // [V]
    resistance: u32,       // −ln p1(v) [V]
    prior_weight: u32,     // γ + the weight of each node [V]
    target_norm2: u32,     // ‖β_v‖² [V]
    gain: u32,             // [W]
    decay: u32,            // [K W]
    gate_signal: u32,      // [D, K W]
    mix: u32,              // own edges [1 + K, W], composed ones [(1 + K) W, W]
    low_in: u32,           // [(1 + K) W, R]
    low_out: u32,          // [R, W]
    residual_in: u32,      // B [(1 + K) W, residual rank]
    beta: u32,             // β in f32, for the energies of own residuals [V, W]
}

// In integers: 1 after a fan was missing; nothing may change until the host has uploaded it.
const HALTED: u32 = 0u;
// In integers: 1 after a plugin's shader computed an invalid resistance.
const INVALID: u32 = 1u;
// No node.
const NONE: u32 = 0xffffffffu;
// The logit of a node that may not be chosen.
const LOWEST: f32 = -3.4028234e38;
