// Energies of own edges, several lanes an edge. After: reduce_shared.wgsl or reduce_subgroup.wgsl, activation.wgsl and
// what energy.wgsl follows, energy.wgsl.
//
// How the memory is kept busy, by reasoning; it has not been measured on a GPU:
// * A lane loads 16 bytes at a time, and neighbouring lanes neighbouring words: 128 bytes of a row of 32 columns in f32,
//   64 in f16, 32 in int8, so that no sector of 32 bytes is read for a part of it.
// * `fetch` loads CHUNK words before the first is used, 176 bytes a lane in flight. The bias is row D of the matrix, under
//   a signal of 1, so that D = 32 has 33 rows, three whole chunks. Which buffer of fans is read is decided once a chunk,
//   not once a load.
// * Each word is multiplied with the signals of up to BLOCK sequences while it is in registers. One sequence alone, the
//   common case where a fan is large, has a loop of its own with a quarter of the registers.
// * Columns stay in one lane to the end: the only sum across lanes is that of the squares.
// * int8 numbers are widened without conversions, of which a GPU does an eighth as many as additions: see `quad` of element.wgsl.

// Sequences that one pass over an edge serves, 4 or 8. BLOCK / 4 vectors of signals for each row.
override BLOCK: u32 = 8u;
// Numbers in `signals`: 2 (D + 1), with D + 1 rounded up to a multiple of CHUNK.
override SIGNALS: u32 = 66u;

// Signals of the sequences of a block, row by row: 4 and 4. Row D is 1, rows after it are 0.
var<workgroup> signals: array<vec4<f32>, SIGNALS>;
var<workgroup> top_logits: array<f32, WORKGROUP>;
var<workgroup> top_targets: array<u32, WORKGROUP>;

// Sums of the columns of a lane's word: of each sequence of the block, PER_WORD times 4 columns.
var<private> z: array<vec4<f32>, 16>;
// The largest logit of each sequence of a block, and its node.
var<private> logits: array<f32, 8>;
var<private> nodes: array<u32, 8>;

// Load the signals of the members from `first` on.
fn load_signals(first: u32, tile: u32, thread: u32) {
    workgroupBarrier();
    for (var i = thread; i < SIGNALS; i += WORKGROUP) {
        let k = i / 2u;
        let m0 = 4u * (i % 2u);
        var x = vec4(select(0.0, 1.0, k == D));
        if k < D {
            for (var m = 0u; m < 4u; m += 1u) {
                if m0 + m < tile {
                    x[m] = floats[P.at.output + members[first + m0 + m] * P.at.stride + k];
                }
            }
        }
        signals[i] = x;
    }
    workgroupBarrier();
}

// z of one sequence for the columns of a word.
fn multiply_one(buffer: u32, start: u32) {
    for (var q = 0u; q < PER_WORD; q += 1u) {
        z[q] = vec4(0.0);
    }
    for (var k0 = 0u; k0 <= D; k0 += CHUNK) {
        fetch(buffer, start + k0 * (ROW / 4u), ROW / 4u, D - k0);
        for (var i = 0u; i < CHUNK; i += 1u) {
            let x = vec4(signals[2u * (k0 + i)].x);
            for (var q = 0u; q < PER_WORD; q += 1u) {
                z[q] = fma(x, quad(chunk[i], q), z[q]);
            }
        }
    }
}

// z of the sequences of a block for the columns of a word.
fn multiply_block(buffer: u32, start: u32) {
    for (var i = 0u; i < BLOCK * PER_WORD; i += 1u) {
        z[i] = vec4(0.0);
    }
    for (var k0 = 0u; k0 <= D; k0 += CHUNK) {
        fetch(buffer, start + k0 * (ROW / 4u), ROW / 4u, D - k0);
        for (var i = 0u; i < CHUNK; i += 1u) {
            let x = signals[2u * (k0 + i)];
            let y = signals[2u * (k0 + i) + 1u];
            for (var q = 0u; q < PER_WORD; q += 1u) {
                let w = quad(chunk[i], q);
                z[q] = fma(vec4(x.x), w, z[q]);
                z[PER_WORD + q] = fma(vec4(x.y), w, z[PER_WORD + q]);
                z[2u * PER_WORD + q] = fma(vec4(x.z), w, z[2u * PER_WORD + q]);
                z[3u * PER_WORD + q] = fma(vec4(x.w), w, z[3u * PER_WORD + q]);
                if BLOCK > 4u {
                    z[4u * PER_WORD + q] = fma(vec4(y.x), w, z[4u * PER_WORD + q]);
                    z[5u * PER_WORD + q] = fma(vec4(y.y), w, z[5u * PER_WORD + q]);
                    z[6u * PER_WORD + q] = fma(vec4(y.z), w, z[6u * PER_WORD + q]);
                    z[7u * PER_WORD + q] = fma(vec4(y.w), w, z[7u * PER_WORD + q]);
                }
            }
        }
    }
}

// Σ c² over the columns of a word of sequence b, number m of its block: c = GELU(scale · z + position row). Columns from
// W on are padding.
fn square_of(m: u32, b: u32, word: u32, scale: f32) -> f32 {
    var square = 0.0;
    for (var q = 0u; q < PER_WORD; q += 1u) {
        let column = 4u * (word * PER_WORD + q);
        if column < W {
            let i = P.at.base + b * P.at.stride + column;
            let base = vec4(floats[i], floats[i + 1u], floats[i + 2u], floats[i + 3u]);
            let c = gelu4(fma(vec4(scale), z[m * PER_WORD + q], base));
            square += dot(c, c);
        }
    }
    return square;
}

// Whether a target is better than the best so far: a larger logit, or the lower node of two equal ones.
fn note_top(m: u32, b: u32, node: u32, target_node: u32, logit: f32) {
    let banned = (integers[P.at.banned_bits + target_node / 32u] >> (target_node % 32u)) & 1u;
    if banned == 1u || (P.self_loops == 0u && target_node == node) {
        return;
    }
    if logit > logits[m] || (logit == logits[m] && target_node < nodes[m]) {
        logits[m] = logit;
        nodes[m] = target_node;
    }
}

// The best of all threads for the sequences of a block, written for the kernel that chooses.
fn put_tops(first: u32, tile: u32, group: u32, thread: u32) {
    for (var m = 0u; m < tile; m += 1u) {
        workgroupBarrier();
        top_logits[thread] = logits[m];
        top_targets[thread] = nodes[m];
        workgroupBarrier();
        for (var distance = WORKGROUP / 2u; distance > 0u; distance /= 2u) {
            if thread < distance {
                let other = thread + distance;
                let equal = top_logits[other] == top_logits[thread];
                if top_logits[other] > top_logits[thread] || (equal && top_targets[other] < top_targets[thread]) {
                    top_logits[thread] = top_logits[other];
                    top_targets[thread] = top_targets[other];
                }
            }
            workgroupBarrier();
        }
        if thread == 0u {
            let i = members[first + m] * P.at.across + group;
            floats[P.at.tops + i] = top_logits[0];
            integers[P.at.top_nodes + i] = top_targets[0];
        }
    }
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
    let edges = WORKGROUP / LANES;
    let lane = thread % LANES;
    let row_words = ROW / 4u;
    for (var m0 = 0u; m0 < count; m0 += BLOCK) {
        let tile = min(BLOCK, count - m0);
        load_signals(m0, tile, thread);
        for (var m = 0u; m < BLOCK; m += 1u) {
            logits[m] = LOWEST;
            nodes[m] = NONE;
        }
        for (var first = group.x * edges; first <= own; first += P.at.across * edges) {
            let edge = first + thread / LANES;
            let active_edge = edge <= own;
            let row = select(locations[4u * node + 1u] + edge - 1u, 0u, edge == 0u || !active_edge);
            let matrix = row * (D + 1u) * row_words;
            let scale = scale_of(number, row);
            var squares = vec4(0.0);
            var more = vec4(0.0);
            if active_edge {
                for (var word = lane; word < row_words; word += LANES) {
                    if tile == 1u {
                        multiply_one(buffer, matrix + word);
                        squares.x += square_of(0u, members[m0], word, scale);
                    } else {
                        multiply_block(buffer, matrix + word);
                        for (var m = 0u; m < tile; m += 1u) {
                            let square = square_of(m, members[m0 + m], word, scale);
                            if m < 4u {
                                squares[m] += square;
                            } else {
                                more[m - 4u] += square;
                            }
                        }
                    }
                }
            }
            squares = lanes_sum(squares, thread);
            if tile > 4u {
                more = lanes_sum(more, thread);
            }
            if active_edge && lane == 0u {
                for (var m = 0u; m < tile; m += 1u) {
                    let b = members[m0 + m];
                    let energy = put_energy(b, edge, select(squares[m % 4u], more[m % 4u], m >= 4u));
                    // Targets without an own edge are left to the kernel that chooses.
                    if P.tops == 1u && edge > 0u {
                        let edge_row = locations[4u * node + 3u] + edge - 1u;
                        note_top(m, b, node, graph[P.at.edge_targets + edge_row], P.alpha * energy);
                    }
                }
            }
        }
        if P.tops == 1u {
            put_tops(m0, tile, group.x, thread);
        }
    }
}
