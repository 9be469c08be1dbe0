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
    // In integers.
    nodes: u32,            // current node [B]
    steps: u32,            // hops so far [B]
    done: u32,             // 1 for sequences that have ended [B]
    emitted: u32,          // new nodes in this submission [B]
    next: u32,             // chosen node, or NONE [B]
    emitted_tokens: u32,   // new nodes [B, capacity]
    random: u32,           // state of each random stream [B, 2]
    order: u32,            // sequences sorted by node [B]
    groups: u32,           // of each buffer of fans: first position in `order`, sequences [buffers, B, 2]
    members: u32,          // of each buffer of fans: its sequences [buffers, B]
    recent: u32,           // penalty window: length, then nodes [B, 1 + window]
    banned: u32,           // nodes that are never chosen
    stops: u32,            // nodes that end a sequence
    listed: u32,           // [B, top_k]
    capacity: u32,         // hops of a submission at most
    window: u32,           // nodes of the penalty window
    banned_count: u32,
    stops_count: u32,
    earlier: u32,          // in integers: nodes before the current one, the nearest first, NONE at the end [B, 3]
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
