// Rows of node tables, widened, one workgroup a lane. After: element.wgsl. Twin: `read_row` of engine/kernel/table.rs.
// A record holds all tables of a node, one after another, each with a scale at its end if it is int8.

override WORKGROUP: u32 = 32u;

struct Parameters {
    sequence: u32,         // floats between lanes
    rows: u32,         // in floats: the result [B, columns]
    next: u32,         // in integers: the nodes [B]
    first: u32,        // the first node of this buffer
    count: u32,        // nodes of this buffer
    record: u32,       // words of a node
    parts: u32,        // tables in a record
    // Words of each table, without its scale (at most 8 tables).
    part_words: array<vec4<u32>, 2>,
}

@group(0) @binding(0) var<uniform> P: Parameters;
// One row of numbers: arrays at the places that P names, with the shapes given there.
@group(0) @binding(1) var<storage, read_write> floats: array<f32>;
// One row of integers: arrays at the places that P names, with the shapes given there.
@group(0) @binding(2) var<storage, read> integers: array<u32>;
// [nodes of this buffer, record]
@group(0) @binding(3) var<storage, read> words: array<u32>;

@compute @workgroup_size(WORKGROUP)
fn gather(@builtin(workgroup_id) at: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let sequence = at.x;
    let node = integers[P.next + sequence];
    if node < P.first || node >= P.first + P.count {
        return;
    }
    var source = (node - P.first) * P.record;
    var result = P.rows + sequence * P.sequence;
    for (var part = 0u; part < P.parts; part += 1u) {
        let length = P.part_words[part / 4u][part % 4u];
        var scale = 1.0;
        if ELEMENT == 2u {
            scale = bitcast<f32>(words[source + length]);
        }
        for (var word = thread; word < length; word += WORKGROUP) {
            let value = widen(words[source + word]);
            for (var c = 0u; c < PER_WORD; c += 1u) {
                floats[result + word * PER_WORD + c] = value[c] * scale;
            }
        }
        source += length + select(0u, 1u, ELEMENT == 2u);
        result += length * PER_WORD;
    }
}
