// Declarations shared by energy_lanes.wgsl and energy_thread.wgsl: E = ‖GELU(h W_e + b_e + position row)‖, or its
// square, of the own edges of a buffer of fans. CPU: engine/kernel/energy.rs. After: sequences.wgsl, fans.wgsl.
// A row of workgroups takes a group: the sequences at one node, so that an edge is read once for all of them.

override D: u32 = 32u;          // signal width
override W: u32 = 32u;          // D rounded up to whole words of any element

struct Parameters {
    at: Sequences,
    buffer: u32,     // number of the bound buffer of fans
    squared: u32,    // 1 for ‖c‖², 0 for ‖c‖
}

@group(0) @binding(0) var<uniform> P: Parameters;
// Workspace; offsets in P.at.
@group(0) @binding(1) var<storage, read_write> floats: array<f32>;
// State and lists of sequences; offsets in P.at.
@group(0) @binding(2) var<storage, read> integers: array<u32>;

// First position in `order`, and number of sequences, of a group of this buffer.
fn group_of(index: u32) -> vec2<u32> {
    let i = P.at.groups + 2u * (P.buffer * P.at.count + index);
    return vec2(integers[i], integers[i + 1u]);
}

// The energy of edge number `edge` of a fan, 0 for the shared one, from the squared norm.
fn put_energy(b: u32, edge: u32, square: f32) {
    floats[P.at.energies + b * P.at.energies_stride + edge] = select(sqrt(square), square, P.squared == 1u);
}
