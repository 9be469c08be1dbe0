// Resistances for the shaders of plugins, and back. `ask` lays out the energies, counts and resistances of all V
// nodes as `wgsl/1:edge/1` binds them; `answer` makes scores of the resistances that the shaders leave.
// One workgroup a lane. Twin: `resist` of engine/path/asking.rs.

override WORKGROUP: u32 = 64u;
// 0 own edges, 1 composed edges.
override FORM: u32 = 0u;

struct Parameters {
    nodes_count: u32,  // V
    edges_count: u32,  // E
    span: u32,         // V rounded up to a multiple of 64: numbers between the arrays of two lanes
    sequence: u32,         // floats between lanes
    output: u32,      // in floats: [B, W]
    width: u32,        // W
    energies: u32,     // in floats: own edges' energies [B, 1 + F], rows `stride` apart
    stride: u32,
    dots: u32,         // in floats: h·β of composed edges [B, V]
    logits: u32,       // in floats: [B, V]
    nodes: u32,        // in integers: where each lane stands [B]
    steps: u32,        // in integers: its hops so far [B]
    done: u32,         // in integers [B]
    halted: u32,       // in integers
    fault: u32,        // in integers: set to 1 by a resistance that is not a number
    target_norm2: u32,      // in values: ‖β_v‖² [V] of composed edges
    has_own: u32,      // whether `energies` counts (own edges, or composed ones with residuals)
}

const LOWEST: f32 = -3.4028234e38;
// Numbers before a lane's arrays in `questions`: its source, step, V and 0, and room up to 256 bytes.
const PLACE: u32 = 64u;

@group(0) @binding(0) var<uniform> P: Parameters;
// One row of numbers: arrays at the places that P names, with the shapes given there.
@group(0) @binding(1) var<storage, read_write> floats: array<f32>;
// One row of integers: arrays at the places that P names, with the shapes given there.
@group(0) @binding(2) var<storage, read_write> integers: array<u32>;
// [V + 1] offsets of the fans, then of each edge its target [E], own slot [E] and count [E].
@group(0) @binding(3) var<storage, read> edges: array<u32>;
// Numbers of nodes, by the offsets above.
@group(0) @binding(4) var<storage, read> values: array<f32>;
// [V, 4]: buffer, first row in it, own edges and first own slot of each node's fan.
@group(0) @binding(5) var<storage, read> places: array<u32>;
// [B, 64 + 2 span]: place of each lane, the bits of its energies, its counts.
@group(0) @binding(6) var<storage, read_write> questions: array<u32>;
// [B, span]: resistances.
@group(0) @binding(7) var<storage, read_write> answers: array<f32>;

var<workgroup> parts: array<f32, WORKGROUP>;
var<workgroup> stop: u32;

// The sum of all threads' numbers, or the largest of them.
fn join_all(value: f32, largest: bool, thread: u32) -> f32 {
    workgroupBarrier();
    parts[thread] = value;
    workgroupBarrier();
    for (var node_update = WORKGROUP / 2u; node_update > 0u; node_update /= 2u) {
        if thread < node_update {
            let other = parts[thread + node_update];
            parts[thread] = select(parts[thread] + other, max(parts[thread], other), largest);
        }
        workgroupBarrier();
    }
    return parts[0];
}

@compute @workgroup_size(WORKGROUP)
fn ask(@builtin(workgroup_id) at: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let sequence = at.x;
    if thread == 0u {
        stop = integers[P.halted] | integers[P.done + sequence];
    }
    if workgroupUniformLoad(&stop) != 0u {
        return;
    }
    let v_count = P.nodes_count;
    let node = integers[P.nodes + sequence];
    let own = P.energies + sequence * P.stride;
    let place = sequence * (PLACE + 2u * P.span);
    let energies = place + PLACE;
    let counts = energies + P.span;
    var square = 0.0;
    if FORM == 1u {
        var part = 0.0;
        for (var j = thread; j < P.width; j += WORKGROUP) {
            let h = floats[P.output + sequence * P.sequence + j];
            part = fma(h, h, part);
        }
        square = join_all(part, false, thread);
    }
    var top = LOWEST;
    for (var v = thread; v < v_count; v += WORKGROUP) {
        var energy: f32;
        if FORM == 0u {
            energy = floats[own];
        } else {
            energy = max(square + 2.0 * floats[P.dots + sequence * v_count + v] + values[P.target_norm2 + v], 0.0);
        }
        questions[energies + v] = bitcast<u32>(energy);
        questions[counts + v] = 0u;
        top = max(top, floats[P.logits + sequence * v_count + v]);
    }
    if thread == 0u {
        questions[place] = node;
        questions[place + 1u] = integers[P.steps + sequence];
        questions[place + 2u] = v_count;
        questions[place + 3u] = 0u;
    }
    storageBarrier();
    top = join_all(top, true, thread);
    let first_row = places[4u * node + 3u];
    for (var edge = edges[node] + thread; edge < edges[node + 1u]; edge += WORKGROUP) {
        let listed = v_count + 1u + edge;
        let target_node = edges[listed];
        let edge_row = edges[listed + P.edges_count];
        questions[counts + target_node] = edges[listed + 2u * P.edges_count];
        if P.has_own == 1u && edge_row > 0u {
            questions[energies + target_node] = bitcast<u32>(floats[own + 1u + edge_row - first_row]);
        }
    }
    for (var v = thread; v < v_count; v += WORKGROUP) {
        answers[sequence * P.span + v] = top - floats[P.logits + sequence * v_count + v];
    }
}

@compute @workgroup_size(WORKGROUP)
fn answer(@builtin(workgroup_id) at: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let sequence = at.x;
    if (integers[P.halted] | integers[P.done + sequence]) != 0u {
        return;
    }
    for (var v = thread; v < P.nodes_count; v += WORKGROUP) {
        let resistance = answers[sequence * P.span + v];
        // In bits: a compiler may take for granted that nothing is ever no number.
        let bits = bitcast<u32>(resistance);
        if (bits & 0x7fffffffu) > 0x7f800000u || bits == 0xff800000u {
            integers[P.fault] = 1u;
        }
        floats[P.logits + sequence * P.nodes_count + v] = max(-resistance, LOWEST);
    }
}
