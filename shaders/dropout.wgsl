// Dropout masks, the same numbers as on the CPU. One thread four columns. After: random.wgsl.
// CPU: engine/learn/dropout.rs.

override WORKGROUP: u32 = 64u;

struct Parameters {
    mask: u32,         // in floats: [B · T, W]
    width: u32,        // D
    wide: u32,         // W
    steps: u32,        // T
    sequences: u32,    // B
    first: u32,        // rows before these, where a batch is trained in parts
    shard: u32,        // the CPU numbers the rows of this many sequences step by step; 0 for sequence by sequence
    base_low: u32,     // the stream's base, to which the row is added
    base_high: u32,
    threshold: u32,    // of 65536; 0 for no dropout
    keep: f32,         // value of the mask where a number is kept
}

@group(0) @binding(0) var<uniform> P: Parameters;
// Workspace; offsets in P.
@group(0) @binding(1) var<storage, read_write> floats: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn dropout(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) size: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let number = (group.y * size.x + group.x) * WORKGROUP + thread;
    let fours = P.wide / 4u;
    let row = number / fours;
    let four = number % fours;
    if row >= P.steps * P.sequences {
        return;
    }
    // The row as the CPU numbers it.
    var stream = row;
    if P.shard > 0u {
        let sequence = row / P.steps;
        let first = sequence / P.shard * P.shard;
        let width = min(P.shard, P.sequences - first);
        stream = first * P.steps + row % P.steps * width + (sequence - first);
    }
    stream += P.first;
    // 64 random bits, 16 for each column.
    var bits = vec2(0u, 0u);
    if P.threshold > 0u {
        let state = mix64(add64(vec2(P.base_low, P.base_high), vec2(stream, 0u)));
        bits = mix64(add64(state, multiply64(GOLDEN, vec2(four + 1u, 0u))));
    }
    for (var i = 0u; i < 4u; i += 1u) {
        let column = 4u * four + i;
        let word = select(bits.x, bits.y, i >= 2u);
        let draw16 = (word >> (16u * (i % 2u))) & 0xffffu;
        var value = select(P.keep, 0.0, draw16 < P.threshold);
        if column >= P.width {
            value = 0.0;
        }
        floats[P.mask + row * P.wide + column] = value;
    }
}
