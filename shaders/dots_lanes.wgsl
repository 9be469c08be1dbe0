// Dot products with rows, several lanes a row: neighbouring threads read neighbouring words.
// After: reduce_shared.wgsl or reduce_subgroup.wgsl, element.wgsl, sequences.wgsl, dots.wgsl.

@compute @workgroup_size(WORKGROUP)
fn dots(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) size: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row_words = W / PER_WORD;
    let row = (group.y * size.x + group.x) * (WORKGROUP / LANES) + thread / LANES;
    let lane = thread % LANES;
    let present = row < P.rows;
    let start = select(0u, P.skipped + row, present) * row_words;
    // Four sequences at a time: each word of the row is read once for the four.
    for (var b0 = 0u; b0 < P.at.count; b0 += 4u) {
        let tile = min(4u, P.at.count - b0);
        var sums = vec4(0.0);
        if present {
            for (var word = lane; word < row_words; word += LANES) {
                let w = widen(words[start + word]);
                for (var m = 0u; m < tile; m += 1u) {
                    let x = P.vector + (b0 + m) * P.at.stride + word * PER_WORD;
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
        if present && lane == 0u {
            for (var m = 0u; m < tile; m += 1u) {
                put_dot(b0 + m, row, sums[m]);
            }
        }
    }
}
