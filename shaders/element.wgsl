// Functions: stored words as numbers. The kernel declares `words`.

// 0 f32, 1 f16, 2 int8 (the kernel applies its scale).
override ELEMENT: u32 = 0u;
// Numbers in a word: 1, 2 or 4.
override PER_WORD: u32 = 1u;

// The numbers of one word of `element`; the rest is zero.
fn widen_as(element: u32, word: u32) -> vec4<f32> {
    if element == 0u {
        return vec4(bitcast<f32>(word), 0.0, 0.0, 0.0);
    }
    if element == 1u {
        return vec4(unpack2x16float(word), 0.0, 0.0);
    }
    return vec4<f32>(unpack4xI8(word));
}

// The numbers of one word of ELEMENT.
fn widen(word: u32) -> vec4<f32> {
    return widen_as(ELEMENT, word);
}

// Numbers 4 q to 4 q + 3 of a word of 16 bytes, without the scale of int8.
fn quad(word: vec4<u32>, q: u32) -> vec4<f32> {
    if ELEMENT == 0u {
        return bitcast<vec4<f32>>(word);
    }
    if ELEMENT == 1u {
        return vec4(unpack2x16float(word[2u * q]), unpack2x16float(word[2u * q + 1u]));
    }
    // A byte b with its highest bit inverted, b + 128, as the lowest bits of 2^23 is the float 2^23 + 128 + b: exact.
    let bytes = vec4(word[q] ^ 0x80808080u) >> vec4(0u, 8u, 16u, 24u);
    return bitcast<vec4<f32>>((bytes & vec4(0xffu)) | vec4(0x4b000000u)) - vec4(8388736.0);
}
