// Functions: the AdamW update of one number, shared by adamw.wgsl and fan.wgsl. CPU: engine/kernel/adamw.rs.
// The kernel declares `P.update` and `floats`.

struct Update {
    beta1: f32,
    beta2: f32,
    rate: f32,         // rate / (1 − β₁^t)
    correction: f32,   // 1 / √(1 − β₂^t)
    epsilon: f32,
    shrink: f32,       // 1 − rate · decay
    scale: u32,        // in floats: factor of all gradients; then 1 if parameters may change
    unused: u32,
}

// Whether this step changes parameters: the loss of the batch is finite.
fn may_update() -> bool {
    return floats[P.update.scale + 1u] == 1.0;
}

// The new value, first moment and second moment:
// m ← β₁ m + (1−β₁) g, s ← β₂ s + (1−β₂) g², w ← w · shrink − rate · m / (√s · correction + ε).
fn adamw(value: f32, first: f32, second: f32, gradient: f32) -> vec3<f32> {
    let g = gradient * floats[P.update.scale];
    let m = fma(P.update.beta1, first, (1.0 - P.update.beta1) * g);
    let s = fma(P.update.beta2, second, (1.0 - P.update.beta2) * g * g);
    return vec3(
        value * P.update.shrink - P.update.rate * m / fma(sqrt(s), P.update.correction, P.update.epsilon),
        m,
        s,
    );
}
