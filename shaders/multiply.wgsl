// C = factor · A B, or added to C: every thread computes four by four numbers. CPU: `multiply` of engine/kernel/product.rs.
// Either operand may be read transposed: element (i, k) of A lies at a + i·a_row + k·a_column.

// Threads of a side of a workgroup; a tile of C is four times as wide.
override SIDE: u32 = 16u;
// Numbers of a tile of A or B in workgroup memory: 4 · SIDE · DEPTH.
override TILE_NUMBERS: u32 = 512u;
// Inner indices that a tile holds.
const DEPTH: u32 = 8u;

struct Parameters {
    rows: u32,         // of C
    columns: u32,      // of C
    inner: u32,
    a: u32,            // in floats
    a_row: u32,
    a_column: u32,
    b: u32,            // in floats, or in values when b_in_values
    b_row: u32,
    b_column: u32,
    b_in_values: u32,
    c: u32,            // in floats, or in gradients when c_in_gradients
    c_row: u32,
    c_in_gradients: u32,
    add: u32,          // 1 adds to C
    log_alpha: u32,    // in values: ln α, or NONE
    factor: f32,       // times α, where there is one
}

const NONE: u32 = 0xffffffffu;

@group(0) @binding(0) var<uniform> P: Parameters;
// Workspace; offsets in P.
@group(0) @binding(1) var<storage, read_write> floats: array<f32>;
// Blocks of parameters; offsets in P.
@group(0) @binding(2) var<storage, read> values: array<f32>;
// Gradients of `values`, at the same offsets.
@group(0) @binding(3) var<storage, read_write> gradients: array<f32>;

// [DEPTH, 4 · SIDE]
var<workgroup> a_tile: array<f32, TILE_NUMBERS>;
var<workgroup> b_tile: array<f32, TILE_NUMBERS>;

@compute @workgroup_size(SIDE, SIDE)
fn multiply(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) id: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let tile = 4u * SIDE;
    let row0 = group.y * tile;
    let column0 = group.x * tile;
    // Row r of this thread's part of C.
    var sums: array<vec4<f32>, 4>;
    // Tile by tile along the inner dimension: load a tile of A and of B, then add their product.
    for (var k0 = 0u; k0 < P.inner; k0 += DEPTH) {
        for (var i = thread; i < tile * DEPTH; i += SIDE * SIDE) {
            // The index that is contiguous in memory runs fastest over the threads.
            var r = i % tile;
            var k = i / tile;
            if P.a_column == 1u {
                r = i / DEPTH;
                k = i % DEPTH;
            }
            var a = 0.0;
            if row0 + r < P.rows && k0 + k < P.inner {
                a = floats[P.a + (row0 + r) * P.a_row + (k0 + k) * P.a_column];
            }
            a_tile[k * tile + r] = a;
            var c = i % tile;
            k = i / tile;
            if P.b_column != 1u {
                c = i / DEPTH;
                k = i % DEPTH;
            }
            var b = 0.0;
            if column0 + c < P.columns && k0 + k < P.inner {
                let from_b = P.b + (k0 + k) * P.b_row + (column0 + c) * P.b_column;
                if P.b_in_values == 1u {
                    b = values[from_b];
                } else {
                    b = floats[from_b];
                }
            }
            b_tile[k * tile + c] = b;
        }
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k += 1u) {
            let from_a = k * tile + id.y * 4u;
            let from_b = k * tile + id.x * 4u;
            let b = vec4(b_tile[from_b], b_tile[from_b + 1u], b_tile[from_b + 2u], b_tile[from_b + 3u]);
            sums[0] = fma(vec4(a_tile[from_a]), b, sums[0]);
            sums[1] = fma(vec4(a_tile[from_a + 1u]), b, sums[1]);
            sums[2] = fma(vec4(a_tile[from_a + 2u]), b, sums[2]);
            sums[3] = fma(vec4(a_tile[from_a + 3u]), b, sums[3]);
        }
        workgroupBarrier();
    }
    var factor = P.factor;
    if P.log_alpha != NONE {
        factor *= exp(values[P.log_alpha]);
    }
    for (var r = 0u; r < 4u; r += 1u) {
        let row = row0 + id.y * 4u + r;
        for (var j = 0u; j < 4u; j += 1u) {
            let column = column0 + id.x * 4u + j;
            if row < P.rows && column < P.columns {
                let to = P.c + row * P.c_row + column;
                let value = factor * sums[r][j];
                if P.c_in_gradients == 1u {
                    gradients[to] = value + select(0.0, gradients[to], P.add == 1u);
                } else {
                    floats[to] = value + select(0.0, floats[to], P.add == 1u);
                }
            }
        }
    }
}
