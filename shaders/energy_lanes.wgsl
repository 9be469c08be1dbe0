// Energies of own edges, several lanes an edge: neighbouring threads read neighbouring words.
// After: reduce_shared.wgsl or reduce_subgroup.wgsl, activation.wgsl, element.wgsl, sequences.wgsl, fans.wgsl,
// energy.wgsl.

// Signals of four sequences, column by column.
var<workgroup> signals: array<vec4<f32>, D>;

// Σ c² over the columns of one word, c = GELU(scale · (sum + bias) + position row).
fn square_of(sum: vec4<f32>, bias: vec4<f32>, scale: f32, b: u32, column: u32) -> f32 {
    var base = vec4(0.0);
    let at = P.at.base + b * P.at.stride + column;
    base.x = floats[at];
    if PER_WORD > 1u {
        base.y = floats[at + 1u];
    }
    if PER_WORD > 2u {
        base.z = floats[at + 2u];
        base.w = floats[at + 3u];
    }
    let c = gelu4(fma(vec4(scale), sum + bias, base));
    return dot(c, c);
}

@compute @workgroup_size(WORKGROUP)
fn energies(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row_words = W / PER_WORD;
    let first = P.at.order + group_of(group.y).x;
    let count = group_of(group.y).y;
    let node = integers[P.at.nodes + integers[first]];
    let own = locations[4u * node + 2u];
    let edges = WORKGROUP / LANES;
    // The dispatch is sized for its widest fan; this one may be narrower.
    if group.x * edges > own {
        return;
    }
    let edge = group.x * edges + thread / LANES;
    let lane = thread % LANES;
    let active_edge = edge <= own;
    let row = select(locations[4u * node + 1u] + edge - 1u, 0u, edge == 0u || !active_edge);
    let matrix = row * (D + 1u) * row_words;
    let scale = scale_of(row);
    // Four sequences at a time: each word of the edge is read once for the four.
    for (var m0 = 0u; m0 < count; m0 += 4u) {
        let tile = min(4u, count - m0);
        workgroupBarrier();
        for (var k = thread; k < D; k += WORKGROUP) {
            var x = vec4(0.0);
            for (var m = 0u; m < tile; m += 1u) {
                x[m] = floats[P.at.output + integers[first + m0 + m] * P.at.stride + k];
            }
            signals[k] = x;
        }
        workgroupBarrier();
        var squares = vec4(0.0);
        if active_edge {
            for (var word = lane; word < row_words; word += LANES) {
                let bias = widen(words[matrix + D * row_words + word]);
                let column = word * PER_WORD;
                if tile == 1u {
                    var z = vec4(0.0);
                    for (var k = 0u; k < D; k += 1u) {
                        z = fma(vec4(signals[k].x), widen(words[matrix + k * row_words + word]), z);
                    }
                    squares.x += square_of(z, bias, scale, integers[first + m0], column);
                } else {
                    var z0 = vec4(0.0);
                    var z1 = vec4(0.0);
                    var z2 = vec4(0.0);
                    var z3 = vec4(0.0);
                    for (var k = 0u; k < D; k += 1u) {
                        let x = signals[k];
                        let w = widen(words[matrix + k * row_words + word]);
                        z0 = fma(vec4(x.x), w, z0);
                        z1 = fma(vec4(x.y), w, z1);
                        z2 = fma(vec4(x.z), w, z2);
                        z3 = fma(vec4(x.w), w, z3);
                    }
                    squares.x += square_of(z0, bias, scale, integers[first + m0], column);
                    squares.y += square_of(z1, bias, scale, integers[first + m0 + 1u], column);
                    if tile > 2u {
                        squares.z += square_of(z2, bias, scale, integers[first + m0 + 2u], column);
                    }
                    if tile > 3u {
                        squares.w += square_of(z3, bias, scale, integers[first + m0 + 3u], column);
                    }
                }
            }
        }
        let sums = lanes_sum(squares, thread);
        if active_edge && lane == 0u {
            for (var m = 0u; m < tile; m += 1u) {
                put_energy(integers[first + m0 + m], edge, sums[m]);
            }
        }
    }
}
