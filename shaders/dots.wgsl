// Declarations shared by dots_lanes.wgsl and dots_thread.wgsl: h·β_v of every sequence's output with the target
// rows of one buffer. CPU: `dots` of engine/kernel/energy.rs. After: element.wgsl, sequences.wgsl.

override W: u32 = 32u;          // columns of a row, a multiple of 4

struct Parameters {
    at: Sequences,
    first: u32,      // the first node of this buffer
    rows: u32,       // rows of this buffer
}

@group(0) @binding(0) var<uniform> P: Parameters;
// Workspace; offsets in P.at.
@group(0) @binding(1) var<storage, read_write> floats: array<f32>;
// [rows, W]
@group(0) @binding(2) var<storage, read> words: array<u32>;
// [rows]: scales of int8 rows; one dummy otherwise.
@group(0) @binding(3) var<storage, read> scales: array<f32>;

fn put_dot(b: u32, row: u32, sum: f32) {
    var scale = 1.0;
    if ELEMENT == 2u {
        scale = scales[row];
    }
    floats[P.at.dots + b * P.at.nodes_count + P.first + row] = sum * scale;
}
