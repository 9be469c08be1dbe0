// AdamW on rows of one block. One thread a number. Twin: engine/kernel/adamw.rs.

override WORKGROUP: u32 = 64u;

struct Parameters {
    block: u32,        // in values, gradients and moments: where the block begins
    columns: u32,
    rows: u32,
    list: u32,         // in integers: the rows that move; NONE for all
    beta1: f32,
    beta2: f32,
    rate: f32,         // rate / (1 − β₁^t)
    correction: f32,   // 1 / √(1 − β₂^t)
    epsilon: f32,
    shrink: f32,       // 1 − rate · decay
    scale: u32,        // in floats: what gradients are multiplied with; then 1 if anything may move
}

const NONE: u32 = 0xffffffffu;

@group(0) @binding(0) var<uniform> P: Parameters;
// One row of numbers: arrays at the places that P names, with the shapes given there.
@group(0) @binding(1) var<storage, read> floats: array<f32>;
// One row of integers: arrays at the places that P names, with the shapes given there.
@group(0) @binding(2) var<storage, read> integers: array<u32>;
// [numbers]: blocks of [rows, columns], this one at `block`.
@group(0) @binding(3) var<storage, read_write> values: array<f32>;
// [numbers], as `values`.
@group(0) @binding(4) var<storage, read> gradients: array<f32>;
// [numbers], as `values`.
@group(0) @binding(5) var<storage, read_write> first_moments: array<f32>;
// [numbers], as `values`.
@group(0) @binding(6) var<storage, read_write> second_moments: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn update(
    @builtin(workgroup_id) at: vec3<u32>,
    @builtin(num_workgroups) size: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let number = (at.y * size.x + at.x) * WORKGROUP + thread;
    var row = number / P.columns;
    if row >= P.rows || floats[P.scale + 1u] != 1.0 {
        return;
    }
    if P.list != NONE {
        row = integers[P.list + row];
    }
    let i = P.block + row * P.columns + number % P.columns;
    let g = gradients[i] * floats[P.scale];
    let m = fma(P.beta1, first_moments[i], (1.0 - P.beta1) * g);
    let s = fma(P.beta2, second_moments[i], (1.0 - P.beta2) * g * g);
    first_moments[i] = m;
    second_moments[i] = s;
    values[i] = values[i] * P.shrink - P.rate * m / fma(sqrt(s), P.correction, P.epsilon);
}
