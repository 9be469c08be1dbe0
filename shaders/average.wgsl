// Running averages of the parameters, one thread a number. CPU: `average` of engine/learn/edge_trainer.rs.

override WORKGROUP: u32 = 64u;

struct Parameters {
    numbers: u32,      // of parameters
    result: u32,       // in floats: factor of the gradients; then 1 if the step changed parameters
    decay: f32,        // part of the average that stays; 0 for the first step
}

@group(0) @binding(0) var<uniform> P: Parameters;
// Workspace; offsets in P.
@group(0) @binding(1) var<storage, read> floats: array<f32>;
// [numbers]
@group(0) @binding(2) var<storage, read> values: array<f32>;
// [numbers]
@group(0) @binding(3) var<storage, read_write> averages: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn average(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) size: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = (group.y * size.x + group.x) * WORKGROUP + thread;
    if i >= P.numbers || floats[P.result + 1u] != 1.0 {
        return;
    }
    averages[i] = select(fma(1.0 - P.decay, values[i] - averages[i], averages[i]), values[i], P.decay == 0.0);
}
