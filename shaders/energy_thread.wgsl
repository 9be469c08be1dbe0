// Energies of own edges, one thread an edge: no barriers, no workgroup memory.
// After: activation.wgsl, element.wgsl, sequences.wgsl, fans.wgsl, energy.wgsl.

override WORKGROUP: u32 = 8u;

// Four columns of a row that begins at word `row`.
fn columns(row: u32, column: u32) -> vec4<f32> {
    let at = row + column / PER_WORD;
    if ELEMENT == 0u {
        return vec4(
            bitcast<f32>(words[at]),
            bitcast<f32>(words[at + 1u]),
            bitcast<f32>(words[at + 2u]),
            bitcast<f32>(words[at + 3u]),
        );
    }
    if ELEMENT == 1u {
        return vec4(unpack2x16float(words[at]), unpack2x16float(words[at + 1u]));
    }
    return vec4<f32>(unpack4xI8(words[at]));
}

@compute @workgroup_size(WORKGROUP)
fn energies(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row_words = W / PER_WORD;
    let first = P.at.order + group_of(group.y).x;
    let count = group_of(group.y).y;
    let node = integers[P.at.nodes + integers[first]];
    let edge = group.x * WORKGROUP + thread;
    if edge > locations[4u * node + 2u] {
        return;
    }
    let row = select(locations[4u * node + 1u] + edge - 1u, 0u, edge == 0u);
    let matrix = row * (D + 1u) * row_words;
    let scale = scale_of(row);
    for (var m = 0u; m < count; m += 1u) {
        let b = integers[first + m];
        let x = P.at.output + b * P.at.stride;
        let base = P.at.base + b * P.at.stride;
        var square = 0.0;
        for (var column = 0u; column < W; column += 4u) {
            var z = columns(matrix + D * row_words, column);
            for (var k = 0u; k < D; k += 1u) {
                z = fma(vec4(floats[x + k]), columns(matrix + k * row_words, column), z);
            }
            let i = base + column;
            let c = gelu4(fma(vec4(scale), z, vec4(floats[i], floats[i + 1u], floats[i + 2u], floats[i + 3u])));
            square += dot(c, c);
        }
        put_energy(b, edge, square);
    }
}
