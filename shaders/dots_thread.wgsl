// Dot products of every lane's signal with a run of rows, one thread a row: no barriers.
// After: element.wgsl. Twin: `dots` of engine/kernel/energy.rs; same bindings as dots_lanes.wgsl.

override WORKGROUP: u32 = 8u;
override W: u32 = 32u;          // columns of a row, a multiple of 4

struct Parameters {
    output: u32,    // in floats: [B, W], lanes `sequence` floats apart
    sequence: u32,
    sequences: u32,      // B
    dots: u32,       // in floats: the result [B, V], rows `stride` apart
    stride: u32,
    first: u32,      // the first node of this buffer
    rows: u32,       // rows of this buffer
}

@group(0) @binding(0) var<uniform> P: Parameters;
// One row of numbers: arrays at the places that P names, with the shapes given there.
@group(0) @binding(1) var<storage, read_write> floats: array<f32>;
// [rows, W]
@group(0) @binding(2) var<storage, read> words: array<u32>;
// [rows]: scales of int8 rows; one dummy otherwise.
@group(0) @binding(3) var<storage, read> scales: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn dots(
    @builtin(workgroup_id) at: vec3<u32>,
    @builtin(num_workgroups) size: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row_words = W / PER_WORD;
    let row = (at.y * size.x + at.x) * WORKGROUP + thread;
    if row >= P.rows {
        return;
    }
    var scale = 1.0;
    if ELEMENT == 2u {
        scale = scales[row];
    }
    for (var sequence = 0u; sequence < P.sequences; sequence += 1u) {
        // Two sums, as the CPU keeps several: one running sum of f32 would round more.
        var sums = array<vec4<f32>, 2>(vec4(0.0), vec4(0.0));
        for (var word = 0u; word < row_words; word += 1u) {
            let w = widen(words[row * row_words + word]);
            let x = P.output + sequence * P.sequence + word * PER_WORD;
            var four = vec4(floats[x], 0.0, 0.0, 0.0);
            if PER_WORD > 1u {
                four.y = floats[x + 1u];
            }
            if PER_WORD > 2u {
                four.z = floats[x + 2u];
                four.w = floats[x + 3u];
            }
            sums[word % 2u] = fma(w, four, sums[word % 2u]);
        }
        let sum = sums[0] + sums[1];
        floats[P.dots + sequence * P.stride + P.first + row] = ((sum.x + sum.y) + (sum.z + sum.w)) * scale;
    }
}
