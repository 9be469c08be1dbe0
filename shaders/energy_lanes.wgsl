// Energies of the own edges of fans, several lanes an edge: neighbouring threads read neighbouring words.
// After: reduce_shared.wgsl or reduce_subgroup.wgsl, activation.wgsl, element.wgsl. Twin: engine/kernel/energy.rs.
// One row of workgroups for each group of lanes that stand at one node, so an edge is read once for all of them.

override D: u32 = 32u;          // signal width
override W: u32 = 32u;          // D, rounded up to whole words of any element

struct Parameters {
    output: u32,    // in floats: what leaves each lane's node [B, W], lanes LANE floats apart
    base: u32,       // in floats: position row of each lane's hop [B, W], likewise
    sequence: u32,
    energies: u32,   // in floats: the result [B, 1 + F], rows `stride` apart; first the shared edge
    stride: u32,
    nodes: u32,      // in integers: where each lane stands [B]
    order: u32,      // in integers: lanes by node [B]
    groups: u32,     // in integers: (first place in order, lanes) of each group of this buffer [B, 2]
    squared: u32,    // 1 for ‖c‖², 0 for ‖c‖
}

@group(0) @binding(0) var<uniform> P: Parameters;
// One row of numbers: arrays at the places that P names, with the shapes given there.
@group(0) @binding(1) var<storage, read_write> floats: array<f32>;
// One row of integers: arrays at the places that P names, with the shapes given there.
@group(0) @binding(2) var<storage, read> integers: array<u32>;
// [V, 4]: buffer, first row in it, own edges and first own slot of each node's fan.
@group(0) @binding(3) var<storage, read> places: array<u32>;
// [rows, D + 1, W]: matrix and bias of each edge, row 0 the shared one.
@group(0) @binding(4) var<storage, read> words: array<u32>;
// [rows]: scales of int8 edges; one dummy otherwise.
@group(0) @binding(5) var<storage, read> scales: array<f32>;

// Four lanes' signals, column by column.
var<workgroup> signals: array<vec4<f32>, D>;

fn square_of(sum: vec4<f32>, bias: vec4<f32>, scale: f32, sequence: u32, column: u32) -> f32 {
    var base = vec4(0.0);
    let at = P.base + sequence * P.sequence + column;
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
fn energies(@builtin(workgroup_id) at: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row_words = W / PER_WORD;
    let first = integers[P.groups + 2u * at.y];
    let count = integers[P.groups + 2u * at.y + 1u];
    let node = integers[P.nodes + integers[P.order + first]];
    let start_row = places[4u * node + 1u];
    let own = places[4u * node + 2u];
    let edges = WORKGROUP / LANES;
    // A fan smaller than the widest one of the dispatch has nothing here.
    if at.x * edges > own {
        return;
    }
    let edge = at.x * edges + thread / LANES;
    let lane_word = thread % LANES;
    let active_edge = edge <= own;
    let row = select(start_row + edge - 1u, 0u, edge == 0u || !active_edge);
    let matrix = row * (D + 1u) * row_words;
    var scale = 1.0;
    if ELEMENT == 2u {
        scale = scales[row];
    }
    for (var first_sequence = 0u; first_sequence < count; first_sequence += 4u) {
        let tile = min(4u, count - first_sequence);
        workgroupBarrier();
        for (var k = thread; k < D; k += WORKGROUP) {
            var x = vec4(0.0);
            for (var m = 0u; m < tile; m += 1u) {
                let sequence = integers[P.order + first + first_sequence + m];
                x[m] = floats[P.output + sequence * P.sequence + k];
            }
            signals[k] = x;
        }
        workgroupBarrier();
        var squares = vec4(0.0);
        if active_edge {
            for (var word = lane_word; word < row_words; word += LANES) {
                let bias = widen(words[matrix + D * row_words + word]);
                let sequence0 = integers[P.order + first + first_sequence];
                if tile == 1u {
                    var z = vec4(0.0);
                    for (var k = 0u; k < D; k += 1u) {
                        z = fma(vec4(signals[k].x), widen(words[matrix + k * row_words + word]), z);
                    }
                    squares.x += square_of(z, bias, scale, sequence0, word * PER_WORD);
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
                    let column = word * PER_WORD;
                    squares.x += square_of(z0, bias, scale, sequence0, column);
                    squares.y += square_of(z1, bias, scale, integers[P.order + first + first_sequence + 1u], column);
                    if tile > 2u {
                        squares.z += square_of(z2, bias, scale, integers[P.order + first + first_sequence + 2u], column);
                    }
                    if tile > 3u {
                        squares.w += square_of(z3, bias, scale, integers[P.order + first + first_sequence + 3u], column);
                    }
                }
            }
        }
        let sums = lanes_sum(squares, thread);
        if active_edge && lane_word == 0u {
            for (var m = 0u; m < tile; m += 1u) {
                let sequence = integers[P.order + first + first_sequence + m];
                floats[P.energies + sequence * P.stride + edge] = select(sqrt(sums[m]), sums[m], P.squared == 1u);
            }
        }
    }
}
