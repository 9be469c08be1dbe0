// Energies of own edges, one thread an edge: nothing is shared but the list of sequences, and no thread waits for another
// while it computes. After: activation.wgsl and what energy.wgsl follows, energy.wgsl.

override WORKGROUP: u32 = 8u;

// Four columns of a row that begins at word `row` of a buffer of fans.
fn columns(buffer: u32, row: u32, column: u32) -> vec4<f32> {
    let at = row + column / PER_WORD;
    if ELEMENT == 0u {
        return vec4(
            bitcast<f32>(word(buffer, at)),
            bitcast<f32>(word(buffer, at + 1u)),
            bitcast<f32>(word(buffer, at + 2u)),
            bitcast<f32>(word(buffer, at + 3u)),
        );
    }
    if ELEMENT == 1u {
        return vec4(unpack2x16float(word(buffer, at)), unpack2x16float(word(buffer, at + 1u)));
    }
    return vec4<f32>(unpack4xI8(word(buffer, at)));
}

@compute @workgroup_size(WORKGROUP)
fn energies(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let at_one = members_of(group.y, thread);
    let node = at_one.x;
    let count = at_one.y;
    let number = locations[4u * node];
    if count == 0u || !is_bound(number) {
        return;
    }
    let buffer = number - P.fans.first;
    let own = locations[4u * node + 2u];
    for (var edge = group.x * WORKGROUP + thread; edge <= own; edge += P.at.across * WORKGROUP) {
        let row = select(locations[4u * node + 1u] + edge - 1u, 0u, edge == 0u);
        let matrix = row * (D + 1u) * ROW;
        let scale = scale_of(number, row);
        for (var m = 0u; m < count; m += 1u) {
            let b = members[m];
            let x = P.at.output + b * P.at.stride;
            let base = P.at.base + b * P.at.stride;
            var square = 0.0;
            for (var column = 0u; column < W; column += 4u) {
                var z = columns(buffer, matrix + D * ROW, column);
                for (var k = 0u; k < D; k += 1u) {
                    z = fma(vec4(floats[x + k]), columns(buffer, matrix + k * ROW, column), z);
                }
                let i = base + column;
                let c = gelu4(fma(vec4(scale), z, vec4(floats[i], floats[i + 1u], floats[i + 2u], floats[i + 3u])));
                square += dot(c, c);
            }
            put_energy(b, edge, square);
        }
    }
}
