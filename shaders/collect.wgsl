// Sums of rows by group, in a fixed order: gradients of a batch's rows, added up per node or edge. One thread a
// number of the result. CPU: the `scatter` functions of engine/learn/.

override WORKGROUP: u32 = 64u;

struct Parameters {
    columns: u32,
    groups: u32,
    bounds: u32,       // in integers: first member of each group [groups + 1]; NONE for one group
    members: u32,      // in integers: rows of the groups; NONE where they are 0, 1, 2, …; their count, for one group
    a: u32,            // in floats: [rows, columns], rows `a_stride` apart
    a_stride: u32,
    b: u32,            // in floats: a factor of each number, rows `b_stride` apart; NONE for none
    b_stride: u32,
    result: u32,       // in gradients or floats
    result_stride: u32,
    targets: u32,      // in integers: row of the result of each group [groups]; NONE where it is the group's number
    in_gradients: u32, // 1 for gradients, 0 for floats
    add: u32,          // 1 adds to the result
}

const NONE: u32 = 0xffffffffu;

@group(0) @binding(0) var<uniform> P: Parameters;
// Workspace; offsets in P.
@group(0) @binding(1) var<storage, read_write> floats: array<f32>;
// Lists; offsets in P.
@group(0) @binding(2) var<storage, read> integers: array<u32>;
// Gradients of the parameters; blocks at the offsets of their parameters.
@group(0) @binding(3) var<storage, read_write> gradients: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn collect(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) size: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let number = (workgroup.y * size.x + workgroup.x) * WORKGROUP + thread;
    let group = number / P.columns;
    let column = number % P.columns;
    if group >= P.groups {
        return;
    }
    var low = 0u;
    var high = P.members;
    if P.bounds != NONE {
        low = integers[P.bounds + group];
        high = integers[P.bounds + group + 1u];
    }
    // result = Σ a ⊙ b over the members, in the order of the list: the same sum on every run.
    var sum = 0.0;
    for (var i = low; i < high; i += 1u) {
        var row = i;
        if P.members != NONE && P.bounds != NONE {
            row = integers[P.members + i];
        }
        var value = floats[P.a + row * P.a_stride + column];
        if P.b != NONE {
            value *= floats[P.b + row * P.b_stride + column];
        }
        sum += value;
    }
    var result_row = group;
    if P.targets != NONE {
        result_row = integers[P.targets + group];
    }
    let i = P.result + result_row * P.result_stride + column;
    if P.in_gradients == 1u {
        gradients[i] = sum + select(0.0, gradients[i], P.add == 1u);
    } else {
        floats[i] = sum + select(0.0, floats[i], P.add == 1u);
    }
}
