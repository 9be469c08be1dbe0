// Functions: the table rows of the next node of a sequence, widened. After: element.wgsl, sequences.wgsl. Used by hop.wgsl.
// CPU: `read_row` of engine/kernel/table.rs.
// A record holds the rows of all tables of a node, one after another, each with a scale at its end if it is int8.

// How the numbers of records are stored, as ELEMENT and PER_WORD say for those of edges.
override RECORD_ELEMENT: u32 = 0u;
override RECORD_PER_WORD: u32 = 1u;

struct Records {
    first: u32,        // the first node of this buffer
    count: u32,        // nodes of this buffer
    record: u32,       // words of a node
    tables: u32,       // tables in a record
    // Words of each table, without its scale (at most 8 tables).
    table_words: array<vec4<u32>, 2>,
}

fn gather(b: u32, thread: u32) {
    let node = integers[P.at.next + b];
    if node < P.records.first || node >= P.records.first + P.records.count {
        return;
    }
    var source = (node - P.records.first) * P.records.record;
    var result = b * P.at.stride + P.at.gathered;
    for (var table = 0u; table < P.records.tables; table += 1u) {
        let length = P.records.table_words[table / 4u][table % 4u];
        var scale = 1.0;
        if RECORD_ELEMENT == 2u {
            scale = bitcast<f32>(records[source + length]);
        }
        for (var at = thread; at < length; at += WORKGROUP) {
            let value = widen_as(RECORD_ELEMENT, records[source + at]);
            for (var c = 0u; c < RECORD_PER_WORD; c += 1u) {
                floats[result + at * RECORD_PER_WORD + c] = value[c] * scale;
            }
        }
        source += length + select(0u, 1u, RECORD_ELEMENT == 2u);
        result += length * RECORD_PER_WORD;
    }
}
