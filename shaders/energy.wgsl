// Declarations shared by energy_lanes.wgsl and energy_thread.wgsl: E = ‖GELU(h W_e + b_e + position row)‖, or its
// square, of the own edges of the nodes of all sequences. CPU: engine/kernel/energy.rs. After: element.wgsl,
// sequences.wgsl, fans.wgsl, members.wgsl and the declarations of the buffers of fans.
// A row of P.at.across workgroups belongs to a sequence; it takes all sequences at the same node, if its own is the first
// of them. Its workgroups take the edges of the fan in turn.

override D: u32 = 32u;          // signal width
override W: u32 = 32u;          // D rounded up to a multiple of 4

struct Parameters {
    at: Sequences,
    fans: FanTable,
    squared: u32,    // 1 for ‖c‖², 0 for ‖c‖
    tops: u32,       // whether the largest logit of each workgroup is wanted
    alpha: f32,
    self_loops: u32,
}

@group(0) @binding(0) var<uniform> P: Parameters;
// Workspace; offsets in P.at.
@group(0) @binding(1) var<storage, read_write> floats: array<f32>;
// State and lists of sequences; offsets in P.at.
@group(0) @binding(2) var<storage, read_write> integers: array<u32>;

// The energy of edge number `edge` of a fan, 0 for the shared one, from the squared norm. Returns it.
fn put_energy(b: u32, edge: u32, square: f32) -> f32 {
    let energy = select(sqrt(square), square, P.squared == 1u);
    floats[P.at.energies + b * P.at.energies_stride + edge] = energy;
    return energy;
}
