// A hop after the energies: the next node of each sequence, the signal through the edge to it, the node's rows and its
// output. One workgroup a sequence. After: activation.wgsl, random.wgsl, element.wgsl, sequences.wgsl, workgroup.wgsl,
// running.wgsl, advance.wgsl, blend.wgsl, fans.wgsl, composed_energy.wgsl, the declarations of the buffers of fans,
// delta.wgsl, choose.wgsl, gather.wgsl, node_own.wgsl, node_composed.wgsl.
//
// All of it is one dispatch: nothing in it needs the result of another sequence, and each dispatch that waits for the one
// before it costs more than this work. Where not all buffers of fans, or of rows of nodes, can be bound at once, PARTS
// divides it: a dispatch that chooses, one for each group of buffers, and one that computes the outputs.

// The parts that this dispatch computes: CHOICE | CROSSING | ROWS | OUTPUT.
override PARTS: u32 = 15u;

const CHOICE: u32 = 1u;
const CROSSING: u32 = 2u;
const ROWS: u32 = 4u;
const OUTPUT: u32 = 8u;

struct Parameters {
    at: Sequences,
    blocks: Blocks,
    choice: Choice,
    fans: FanTable,
    records: Records,
    kappa: f32,        // 10 κ
    epsilon: f32,      // added to the mean square of z
    has_table: u32,    // whether hops of own edges add position rows
}

@group(0) @binding(0) var<uniform> P: Parameters;
// Workspace; offsets in P.at.
@group(0) @binding(1) var<storage, read_write> floats: array<f32>;
// State of sequences; offsets in P.at.
@group(0) @binding(2) var<storage, read_write> integers: array<u32>;
// Numbers of nodes and small blocks; offsets in P.blocks.
@group(0) @binding(6) var<storage, read> values: array<f32>;
// [nodes of this buffer, record]
@group(0) @binding(7) var<storage, read> records: array<u32>;

@compute @workgroup_size(WORKGROUP)
fn hop(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let b = group.x;
    if is_over(b, thread) {
        return;
    }
    if (PARTS & CHOICE) != 0u {
        choose(b, thread);
        wait();
    }
    if (PARTS & CROSSING) != 0u {
        if FORM == 0u {
            cross_own(b, thread);
        } else {
            cross_composed(b, thread);
        }
        wait();
    }
    if (PARTS & ROWS) != 0u {
        gather(b, thread);
        wait();
    }
    if (PARTS & OUTPUT) != 0u {
        if stays(b, thread) {
            return;
        }
        if FORM == 0u {
            node_own(b, thread);
        } else {
            node_composed(b, thread);
        }
        wait();
        if thread == 0u {
            advance(b);
        }
    }
}
