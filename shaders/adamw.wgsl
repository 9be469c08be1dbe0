// AdamW on rows of one block, one thread a number. After: adamw_step.wgsl. CPU: engine/kernel/adamw.rs.

override WORKGROUP: u32 = 64u;

struct Parameters {
    update: Update,
    block: u32,        // in values, gradients and moments: offset of the block
    columns: u32,
    rows: u32,
    list: u32,         // in integers: the rows to update; NONE for all
}

const NONE: u32 = 0xffffffffu;

@group(0) @binding(0) var<uniform> P: Parameters;
// Workspace; offsets in P.
@group(0) @binding(1) var<storage, read> floats: array<f32>;
// Lists; offsets in P.
@group(0) @binding(2) var<storage, read> integers: array<u32>;
// [rows, columns] from `block`.
@group(0) @binding(3) var<storage, read_write> values: array<f32>;
// [rows, columns] from `block`.
@group(0) @binding(4) var<storage, read> gradients: array<f32>;
// [rows, columns] from `block`.
@group(0) @binding(5) var<storage, read_write> first_moments: array<f32>;
// [rows, columns] from `block`.
@group(0) @binding(6) var<storage, read_write> second_moments: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn update(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) size: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let number = (group.y * size.x + group.x) * WORKGROUP + thread;
    var row = number / P.columns;
    if row >= P.rows || !may_update() {
        return;
    }
    if P.list != NONE {
        row = integers[P.list + row];
    }
    let i = P.block + row * P.columns + number % P.columns;
    let moved = adamw(values[i], first_moments[i], second_moments[i], gradients[i]);
    values[i] = moved.x;
    first_moments[i] = moved.y;
    second_moments[i] = moved.z;
}
