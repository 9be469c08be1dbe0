// Dot products of every lane's signal with a run of rows, several threads a row.
// After: reduce_shared.wgsl or reduce_subgroup.wgsl, element.wgsl. Twin: `dots` of engine/kernel/energy.rs.

override W: u32 = 32u;          // columns of a row, a multiple of 4

struct Parameters {
    output: u32,    // in floats: [B, W], lanes `lane` floats apart
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
    let row = (at.y * size.x + at.x) * (WORKGROUP / LANES) + thread / LANES;
    let lane_word = thread % LANES;
    let present = row < P.rows;
    let start = select(0u, row, present) * row_words;
    for (var first_sequence = 0u; first_sequence < P.sequences; first_sequence += 4u) {
        var sums = vec4(0.0);
        if present {
            for (var word = lane_word; word < row_words; word += LANES) {
                let w = widen(words[start + word]);
                for (var m = 0u; m < min(4u, P.sequences - first_sequence); m += 1u) {
                    let x = P.output + (first_sequence + m) * P.sequence + word * PER_WORD;
                    var sum = w.x * floats[x];
                    if PER_WORD > 1u {
                        sum = fma(w.y, floats[x + 1u], sum);
                    }
                    if PER_WORD > 2u {
                        sum = fma(w.z, floats[x + 2u], sum);
                        sum = fma(w.w, floats[x + 3u], sum);
                    }
                    sums[m] += sum;
                }
            }
        }
        sums = lanes_sum(sums, thread);
        if present && lane_word == 0u {
            var scale = 1.0;
            if ELEMENT == 2u {
                scale = scales[row];
            }
            for (var m = 0u; m < min(4u, P.sequences - first_sequence); m += 1u) {
                floats[P.dots + (first_sequence + m) * P.stride + P.first + row] = sums[m] * scale;
            }
        }
    }
}
