// Declarations shared by dots_lanes.wgsl and dots_thread.wgsl: dot products of a vector of every sequence with rows of
// one buffer, such as h·β_v. CPU: `dots_from` of engine/kernel/table.rs. After: element.wgsl, sequences.wgsl.

override W: u32 = 32u;          // columns of a row, a multiple of 4

struct Parameters {
    at: Sequences,
    rows: u32,       // rows to multiply
    skipped: u32,    // rows of this buffer before them
    vector: u32,     // in floats, relative to the record: the vector [W]
    result: u32,     // in floats: results of the first sequence [rows]
    result_stride: u32, // between the results of two sequences
}

@group(0) @binding(0) var<uniform> P: Parameters;
// Workspace; offsets in P.at.
@group(0) @binding(1) var<storage, read_write> floats: array<f32>;
// Binding 2, [rows of this buffer, W], is declared with the words that its kernel loads.
// [rows of this buffer]: scales of int8 rows; one dummy otherwise.
@group(0) @binding(3) var<storage, read> scales: array<f32>;

fn put_dot(b: u32, row: u32, sum: f32) {
    var scale = 1.0;
    if ELEMENT == 2u {
        scale = scales[P.skipped + row];
    }
    floats[P.result + b * P.result_stride + row] = sum * scale;
}
