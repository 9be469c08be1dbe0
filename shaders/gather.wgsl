// Table rows of the next node of each sequence, widened; one workgroup a sequence. After: element.wgsl,
// sequences.wgsl. CPU: `read_row` of engine/kernel/table.rs.
// A record holds the rows of all tables of a node, one after another, each with a scale at its end if it is int8.

override WORKGROUP: u32 = 32u;

struct Parameters {
    at: Sequences,
    first: u32,        // the first node of this buffer
    count: u32,        // nodes of this buffer
    record: u32,       // words of a node
    tables: u32,       // tables in a record
    // Words of each table, without its scale (at most 8 tables).
    table_words: array<vec4<u32>, 2>,
}

@group(0) @binding(0) var<uniform> P: Parameters;
// Workspace; offsets in P.at.
@group(0) @binding(1) var<storage, read_write> floats: array<f32>;
// State of sequences; offsets in P.at.
@group(0) @binding(2) var<storage, read> integers: array<u32>;
// [nodes of this buffer, record]
@group(0) @binding(3) var<storage, read> words: array<u32>;

@compute @workgroup_size(WORKGROUP)
fn gather(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let b = group.x;
    let node = integers[P.at.next + b];
    if node < P.first || node >= P.first + P.count {
        return;
    }
    var source = (node - P.first) * P.record;
    var result = b * P.at.stride + P.at.gathered;
    for (var table = 0u; table < P.tables; table += 1u) {
        let length = P.table_words[table / 4u][table % 4u];
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
