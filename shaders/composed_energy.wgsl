// Functions: energies of composed edges, ‖h + β_v‖² = ‖h‖² + 2 h·β_v + ‖β_v‖², from the dot products in `dots`.
// Shared by choose.wgsl and resist.wgsl. After: workgroup.wgsl, sequences.wgsl.

// ‖h‖² of the output of sequence b.
fn output_square(b: u32, thread: u32) -> f32 {
    var part = 0.0;
    for (var j = thread; j < P.at.width; j += WORKGROUP) {
        let h = floats[b * P.at.stride + P.at.output + j];
        part = fma(h, h, part);
    }
    return sum_all(part, thread);
}

fn composed_energy(b: u32, v: u32, square: f32) -> f32 {
    return max(square + 2.0 * floats[P.at.dots + b * P.at.nodes_count + v] + values[P.blocks.target_norm2 + v], 0.0);
}
