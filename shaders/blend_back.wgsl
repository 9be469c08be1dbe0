// Functions: gradients of bank ← c + λ (bank − c), in training. After: blend.wgsl.

// Take the gradient of a bank's column back: that of the earlier bank replaces floats[d_earlier], that of the gate
// (of λ itself in position blends) goes to floats[d_gate]. Returns `d_signal` with the signal's part added.
fn bank_back(d_bank: f32, lambda: f32, earlier: f32, c: f32, d_signal: f32, d_earlier: u32, d_gate: u32) -> f32 {
    var d_lambda = d_bank * (earlier - c);
    if BLEND != POSITION {
        d_lambda *= lambda * (1.0 - lambda);
    }
    floats[d_earlier] = d_bank * lambda;
    floats[d_gate] = d_lambda;
    return fma(d_bank, 1.0 - lambda, d_signal);
}

// `d_signal` of column k with what the gates of a row [K W] at `d_gate` add to it.
fn gates_back(d_gate: u32, gate_signal: u32, d_signal: f32, k: u32) -> f32 {
    var sum = d_signal;
    if BLEND == GATED && k < D {
        for (var j = 0u; j < BANKS * W; j += 1u) {
            sum = fma(floats[d_gate + j], values[gate_signal + k * BANKS * W + j], sum);
        }
    }
    return sum;
}
