// Sums of rows by group, in a fixed order: what the rows of a batch send to the nodes and edges they belong to.
// One thread a number of the result. Twin: the `scatter` files of engine/learn/.

override WORKGROUP: u32 = 64u;

struct Parameters {
    columns: u32,
    groups: u32,
    bounds: u32,       // in integers: where each group's members begin [groups + 1]; NONE for one group
    members: u32,      // in integers: rows of the groups; NONE where they are 0, 1, 2, …; how many, for one group
    a: u32,            // in floats: [rows, columns], `a_row` apart
    a_row: u32,
    b: u32,            // in floats: a factor of each number, likewise; NONE for none
    b_row: u32,
    result: u32,       // in gradients or floats
    result_row: u32,
    targets: u32,      // in integers: row of the result of each group [groups]; NONE where it is the group's number
    in_gradients: u32, // 1 for gradients, 0 for floats
    add: u32,          // 1 adds to what is there
}

const NONE: u32 = 0xffffffffu;

@group(0) @binding(0) var<uniform> P: Parameters;
// One row of numbers: arrays at the places that P names, with the shapes given there.
@group(0) @binding(1) var<storage, read_write> floats: array<f32>;
// One row of integers: arrays at the places that P names, with the shapes given there.
@group(0) @binding(2) var<storage, read> integers: array<u32>;
// Gradients of parameters, each block at its parameter's place.
@group(0) @binding(3) var<storage, read_write> gradients: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn collect(
    @builtin(workgroup_id) at: vec3<u32>,
    @builtin(num_workgroups) size: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let number = (at.y * size.x + at.x) * WORKGROUP + thread;
    let group = number / P.columns;
    let column = number % P.columns;
    if group >= P.groups {
        return;
    }
    var sum = 0.0;
    var low = 0u;
    var high = P.members;
    if P.bounds != NONE {
        low = integers[P.bounds + group];
        high = integers[P.bounds + group + 1u];
    }
    for (var i = low; i < high; i += 1u) {
        var row = i;
        if P.members != NONE && P.bounds != NONE {
            row = integers[P.members + i];
        }
        var value = floats[P.a + row * P.a_row + column];
        if P.b != NONE {
            value *= floats[P.b + row * P.b_row + column];
        }
        sum += value;
    }
    var result_row = group;
    if P.targets != NONE {
        result_row = integers[P.targets + group];
    }
    let to = P.result + result_row * P.result_row + column;
    if P.in_gradients == 1u {
        if P.add == 1u {
            sum += gradients[to];
        }
        gradients[to] = sum;
    } else {
        if P.add == 1u {
            sum += floats[to];
        }
        floats[to] = sum;
    }
}
