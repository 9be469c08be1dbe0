// Dot products with rows, several lanes a row: neighbouring threads read neighbouring words of 16 bytes.
// After: reduce_shared.wgsl or reduce_subgroup.wgsl, element.wgsl, sequences.wgsl, dots.wgsl.
//
// How the memory is kept busy, by reasoning; it has not been measured on a GPU: a lane loads a word of each of its four rows
// before it uses the first, 64 bytes in flight, and the numbers of four sequences that it multiplies them with are read once
// for the four rows.

// Rows of a lane in a pass.
const ROWS: u32 = 4u;

// [rows of this buffer, W]: W numbers fill whole words.
@group(0) @binding(2) var<storage, read> words: array<vec4<u32>>;

// The numbers of four sequences that belong to a word, 4 PER_WORD of each.
var<private> numbers: array<vec4<f32>, 16>;

// Load what a word is multiplied with: numbers of the sequences from b0 on, of which there are `tile`.
fn load_numbers(b0: u32, tile: u32, word: u32) {
    for (var m = 0u; m < 4u; m += 1u) {
        for (var q = 0u; q < PER_WORD; q += 1u) {
            var four = vec4(0.0);
            if m < tile {
                let x = P.vector + (b0 + m) * P.at.stride + 4u * (word * PER_WORD + q);
                four = vec4(floats[x], floats[x + 1u], floats[x + 2u], floats[x + 3u]);
            }
            numbers[m * PER_WORD + q] = four;
        }
    }
}

// The products of a word of a row with the numbers of four sequences.
fn multiply_word(word: vec4<u32>) -> vec4<f32> {
    var sums = vec4(0.0);
    for (var q = 0u; q < PER_WORD; q += 1u) {
        let four = quad(word, q);
        sums += vec4(
            dot(four, numbers[q]),
            dot(four, numbers[PER_WORD + q]),
            dot(four, numbers[2u * PER_WORD + q]),
            dot(four, numbers[3u * PER_WORD + q]),
        );
    }
    return sums;
}

@compute @workgroup_size(WORKGROUP)
fn dots(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) size: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row_words = W / (4u * PER_WORD);
    let together = WORKGROUP / LANES;
    let row0 = (group.y * size.x + group.x) * together * ROWS + thread / LANES;
    let lane = thread % LANES;
    for (var b0 = 0u; b0 < P.at.count; b0 += 4u) {
        let tile = min(4u, P.at.count - b0);
        var sums: array<vec4<f32>, ROWS>;
        for (var word = lane; word < row_words; word += LANES) {
            load_numbers(b0, tile, word);
            var loaded: array<vec4<u32>, ROWS>;
            for (var r = 0u; r < ROWS; r += 1u) {
                // A row after the last is read as the last one, and its sum not written.
                let row = min(row0 + r * together, P.rows - 1u);
                loaded[r] = words[(P.skipped + row) * row_words + word];
            }
            for (var r = 0u; r < ROWS; r += 1u) {
                sums[r] += multiply_word(loaded[r]);
            }
        }
        for (var r = 0u; r < ROWS; r += 1u) {
            let row = row0 + r * together;
            let sum = lanes_sum(sums[r], thread);
            if row < P.rows && lane == 0u {
                for (var m = 0u; m < tile; m += 1u) {
                    put_dot(b0 + m, row, sum[m]);
                }
            }
        }
    }
}
