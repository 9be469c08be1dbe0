// Dot products with rows, one thread a row: no barriers. After: element.wgsl, sequences.wgsl, dots.wgsl.

override WORKGROUP: u32 = 8u;

// [rows of this buffer, W]
@group(0) @binding(2) var<storage, read> words: array<u32>;

@compute @workgroup_size(WORKGROUP)
fn dots(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) size: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row_words = W / PER_WORD;
    let row = (group.y * size.x + group.x) * WORKGROUP + thread;
    if row >= P.rows {
        return;
    }
    for (var b = 0u; b < P.at.count; b += 1u) {
        // Two sums, as the CPU keeps several: one running sum of f32 would round more.
        var sums = array<vec4<f32>, 2>(vec4(0.0), vec4(0.0));
        for (var word = 0u; word < row_words; word += 1u) {
            let w = widen(words[(P.skipped + row) * row_words + word]);
            let x = P.vector + b * P.at.stride + word * PER_WORD;
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
        put_dot(b, row, (sum.x + sum.y) + (sum.z + sum.w));
    }
}
