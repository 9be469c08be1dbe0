// Bandwidth of the device's memory. `read_words` adds the words of a buffer up, `copy_words` copies them; neighbouring
// threads read neighbouring words of 16 bytes, and each thread every `threads`-th word.
// CPU: engine/measure/bandwidth.rs.

override WORKGROUP: u32 = 64u;

struct Parameters {
    words: u32,    // words of 16 bytes in each buffer
    threads: u32,  // threads of the dispatch
}

@group(0) @binding(0) var<uniform> P: Parameters;
// [words]
@group(0) @binding(1) var<storage, read> source: array<vec4<u32>>;
// [words] of a copy, or [threads] sums
@group(0) @binding(2) var<storage, read_write> result: array<vec4<u32>>;

@compute @workgroup_size(WORKGROUP)
fn read_words(@builtin(global_invocation_id) id: vec3<u32>) {
    var sum = vec4(0u);
    for (var word = id.x; word < P.words; word += P.threads) {
        sum += source[word];
    }
    // The sum is stored, since a compiler may drop reads without a use.
    if id.x < P.threads {
        result[id.x] = sum;
    }
}

@compute @workgroup_size(WORKGROUP)
fn copy_words(@builtin(global_invocation_id) id: vec3<u32>) {
    for (var word = id.x; word < P.words; word += P.threads) {
        result[word] = source[word];
    }
}
