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
