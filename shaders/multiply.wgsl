// C = factor · A B, or added to C. CPU: `multiply` of engine/kernel/product.rs.
// Either operand may be read transposed: element (i, k) of A lies at a + i·a_row + k·a_column.
//
// How the arithmetic is kept busy, by reasoning; it has not been measured on a GPU:
// * A thread keeps 8 rows of 4 numbers of C in registers. For each inner index it reads three vectors of 16 bytes from
//   workgroup memory and does 32 multiplications and additions with them, so that these are the limit.
// * A workgroup of 16 × 16 threads reads 192 numbers of A and B for the 8,192 products of an inner index.
// * Gradients of matrices are small and have an inner dimension of all rows of the batch: a dozen tiles would leave most
//   of a GPU idle. `pieces` divides the inner dimension among workgroups; collect.wgsl adds the pieces up, in their order.

// Threads of a side of a workgroup. A tile of C has 8 · SIDE rows and 4 · SIDE columns.
override SIDE: u32 = 16u;
// Vectors of a tile of A in workgroup memory, 2 · SIDE · DEPTH, and of one of B, half as many.
override A_VECTORS: u32 = 256u;
override B_VECTORS: u32 = 128u;
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
    piece: u32,        // inner indices of a piece, a multiple of DEPTH
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

// Four rows each. [DEPTH, 2 · SIDE]
var<workgroup> a_tile: array<vec4<f32>, A_VECTORS>;
// Four columns each. [DEPTH, SIDE]
var<workgroup> b_tile: array<vec4<f32>, B_VECTORS>;

// Four rows of A from `row` on at inner index k; zero outside of the matrix.
fn load_a(row: u32, k: u32, end: u32) -> vec4<f32> {
    var four = vec4(0.0);
    for (var i = 0u; i < 4u; i += 1u) {
        if row + i < P.rows && k < end {
            four[i] = floats[P.a + (row + i) * P.a_row + k * P.a_column];
        }
    }
    return four;
}

// Four columns of B from `column` on at inner index k; zero outside of the matrix.
fn load_b(column: u32, k: u32, end: u32) -> vec4<f32> {
    var four = vec4(0.0);
    for (var i = 0u; i < 4u; i += 1u) {
        if column + i < P.columns && k < end {
            let at = P.b + k * P.b_row + (column + i) * P.b_column;
            if P.b_in_values == 1u {
                four[i] = values[at];
            } else {
                four[i] = floats[at];
            }
        }
    }
    return four;
}

// Load the tiles of DEPTH inner indices from k0 on. The index that is contiguous in memory runs fastest over the threads.
fn load_tiles(row0: u32, column0: u32, k0: u32, end: u32, thread: u32) {
    for (var i = thread; i < A_VECTORS; i += SIDE * SIDE) {
        var k = i / (2u * SIDE);
        var r = i % (2u * SIDE);
        if P.a_column == 1u {
            k = i % DEPTH;
            r = i / DEPTH;
        }
        a_tile[k * 2u * SIDE + r] = load_a(row0 + 4u * r, k0 + k, end);
    }
    for (var i = thread; i < B_VECTORS; i += SIDE * SIDE) {
        var k = i / SIDE;
        var c = i % SIDE;
        if P.b_column != 1u {
            k = i % DEPTH;
            c = i / DEPTH;
        }
        b_tile[k * SIDE + c] = load_b(column0 + 4u * c, k0 + k, end);
    }
}

@compute @workgroup_size(SIDE, SIDE)
fn multiply(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) id: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row0 = group.y * 8u * SIDE;
    let column0 = group.x * 4u * SIDE;
    let end = min(P.inner, (group.z + 1u) * P.piece);
    // Row r of this thread's part of C.
    var sums: array<vec4<f32>, 8>;
    for (var k0 = group.z * P.piece; k0 < end; k0 += DEPTH) {
        load_tiles(row0, column0, k0, end, thread);
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k += 1u) {
            let a0 = a_tile[k * 2u * SIDE + 2u * id.y];
            let a1 = a_tile[k * 2u * SIDE + 2u * id.y + 1u];
            let b = b_tile[k * SIDE + id.x];
            sums[0] = fma(vec4(a0.x), b, sums[0]);
            sums[1] = fma(vec4(a0.y), b, sums[1]);
            sums[2] = fma(vec4(a0.z), b, sums[2]);
            sums[3] = fma(vec4(a0.w), b, sums[3]);
            sums[4] = fma(vec4(a1.x), b, sums[4]);
            sums[5] = fma(vec4(a1.y), b, sums[5]);
            sums[6] = fma(vec4(a1.z), b, sums[6]);
            sums[7] = fma(vec4(a1.w), b, sums[7]);
        }
        workgroupBarrier();
    }
    var factor = P.factor;
    if P.log_alpha != NONE {
        factor *= exp(values[P.log_alpha]);
    }
    for (var r = 0u; r < 8u; r += 1u) {
        let row = row0 + id.y * 8u + r;
        for (var j = 0u; j < 4u; j += 1u) {
            let column = column0 + id.x * 4u + j;
            if row < P.rows && column < P.columns {
                let to = P.c + (group.z * P.rows + row) * P.c_row + column;
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
