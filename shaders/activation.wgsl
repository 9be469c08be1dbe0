// Functions: exact GELU, exp and σ. CPU: engine/kernel/activation.rs and simd.rs.
// Written out, because the precision of WGSL's own exp depends on the adapter.

// e^x within 2 units in the last place on [-87, 88]; 0 below, saturates above.
fn natural_exp(x: f32) -> f32 {
    let clamped = clamp(x, -87.3, 88.3);
    let n = round(clamped * 1.4426950408889634);
    var r = fma(n, -0.693359375, clamped);
    r = fma(n, 2.12194440e-4, r);
    var p = 1.9875691500e-4;
    p = fma(p, r, 1.3981999507e-3);
    p = fma(p, r, 8.3334519073e-3);
    p = fma(p, r, 4.1665795894e-2);
    p = fma(p, r, 1.6666665459e-1);
    p = fma(p, r, 5.0000001201e-1);
    p = fma(p * r, r, r + 1.0);
    let scale = bitcast<f32>(u32(i32(n) + 127) << 23u);
    return select(p * scale, 0.0, x < -87.3);
}

// erf(x) within 3e-7.
fn erf4(value: vec4<f32>) -> vec4<f32> {
    let x = clamp(value, vec4(-4.0), vec4(4.0));
    let s = x * x;
    var p = vec4(-2.7261423e-10);
    p = fma(p, s, vec4(2.7706814e-8));
    p = fma(p, s, vec4(-2.101024e-6));
    p = fma(p, s, vec4(-5.6925064e-5));
    p = fma(p, s, vec4(-7.349906e-4));
    p = fma(p, s, vec4(-2.9545998e-3));
    p = fma(p, s, vec4(-1.6096033e-2));
    var q = vec4(-1.4566072e-5);
    q = fma(q, s, vec4(-2.1337406e-4));
    q = fma(q, s, vec4(-1.682827e-3));
    q = fma(q, s, vec4(-7.373329e-3));
    q = fma(q, s, vec4(-1.4264739e-2));
    return x * p / q;
}

// x Φ(x), four at a time: enough for energies.
fn gelu4(x: vec4<f32>) -> vec4<f32> {
    return 0.5 * x * (1.0 + erf4(x * 0.70710678118654752));
}

// x Φ(x) and its derivative, with small relative errors in both tails.
fn gelu_with_derivative(x: f32) -> vec2<f32> {
    let a = min(abs(x), 13.0);
    let t = 1.0 / fma(a, 0.35355339059327379, 1.0);
    var p = -5.994149297e-02;
    p = fma(p, t, 2.886475325e-01);
    p = fma(p, t, -4.952147901e-01);
    p = fma(p, t, 2.867156565e-01);
    p = fma(p, t, -3.219478205e-02);
    p = fma(p, t, 2.048667818e-01);
    p = fma(p, t, 2.425999492e-01);
    p = fma(p, t, 2.824378610e-01);
    p = fma(p, t, 2.820832431e-01);
    let density = natural_exp(-0.5 * a * a);
    let tail = 0.5 * density * t * p;
    let cumulative = select(1.0 - tail, tail, x < 0.0);
    return vec2(x * cumulative, fma(x * 0.3989423, density, cumulative));
}

// σ(x).
fn sigmoid(x: f32) -> f32 {
    return 1.0 / (1.0 + natural_exp(-x));
}
