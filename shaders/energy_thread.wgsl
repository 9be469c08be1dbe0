// Energies of the own edges of fans, one thread an edge: no barriers, no workgroup memory.
// After: activation.wgsl, element.wgsl. Twin: engine/kernel/energy.rs; same bindings as energy_lanes.wgsl.

override WORKGROUP: u32 = 8u;
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
fn energies(@builtin(workgroup_id) at: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row_words = W / PER_WORD;
    let first = integers[P.groups + 2u * at.y];
    let count = integers[P.groups + 2u * at.y + 1u];
    let node = integers[P.nodes + integers[P.order + first]];
    let edge = at.x * WORKGROUP + thread;
    if edge > places[4u * node + 2u] {
        return;
    }
    let row = select(places[4u * node + 1u] + edge - 1u, 0u, edge == 0u);
    let matrix = row * (D + 1u) * row_words;
    var scale = 1.0;
    if ELEMENT == 2u {
        scale = scales[row];
    }
    for (var m = 0u; m < count; m += 1u) {
        let sequence = integers[P.order + first + m];
        let x = P.output + sequence * P.sequence;
        let base = P.base + sequence * P.sequence;
        var square = 0.0;
        for (var column = 0u; column < W; column += 4u) {
            var z = columns(matrix + D * row_words, column);
            for (var k = 0u; k < D; k += 1u) {
                z = fma(vec4(floats[x + k]), columns(matrix + k * row_words, column), z);
            }
            let b = base + column;
            let c = gelu4(fma(vec4(scale), z, vec4(floats[b], floats[b + 1u], floats[b + 2u], floats[b + 3u])));
            square += dot(c, c);
        }
        floats[P.energies + sequence * P.stride + edge] = select(sqrt(square), square, P.squared == 1u);
    }
}
