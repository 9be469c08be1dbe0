// Functions: SplitMix64 in pairs of 32 bits (low, high). CPU: engine/kernel/random.rs.

fn add64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let low = a.x + b.x;
    return vec2(low, a.y + b.y + select(0u, 1u, low < a.x));
}

// The high half of a 32 by 32 bit product.
fn high_product(a: u32, b: u32) -> u32 {
    let a0 = a & 0xffffu;
    let a1 = a >> 16u;
    let b0 = b & 0xffffu;
    let b1 = b >> 16u;
    let middle = a1 * b0 + ((a0 * b0) >> 16u);
    let other = a0 * b1 + (middle & 0xffffu);
    return a1 * b1 + (middle >> 16u) + (other >> 16u);
}

fn multiply64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return vec2(a.x * b.x, high_product(a.x, b.x) + a.x * b.y + a.y * b.x);
}

// a >> bits, for bits of 1 to 31.
fn shift64(a: vec2<u32>, bits: u32) -> vec2<u32> {
    return vec2((a.x >> bits) | (a.y << (32u - bits)), a.y >> bits);
}

// A draw from a state.
fn mix64(value: vec2<u32>) -> vec2<u32> {
    var z = value;
    z = multiply64(z ^ shift64(z, 30u), vec2(0x1ce4e5b9u, 0xbf58476du));
    z = multiply64(z ^ shift64(z, 27u), vec2(0x133111ebu, 0x94d049bbu));
    return z ^ shift64(z, 31u);
}

// Added to the state of a stream at each draw.
const GOLDEN: vec2<u32> = vec2<u32>(0x7f4a7c15u, 0x9e3779b9u);
