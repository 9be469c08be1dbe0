// Bindings 3 to 5: one buffer of fans. Used by energy_*.wgsl, preactivation.wgsl and residual.wgsl.

// [V, 4]: location of each node's fan: buffer, first row in it, own edges, first edge row.
@group(0) @binding(3) var<storage, read> locations: array<u32>;
// [rows, row]: rows of edges. Own edges: matrix and bias [D + 1, W], row 0 the shared edge. Own residuals of
// composed edges: bias and C_e [1 + RANK, W].
@group(0) @binding(4) var<storage, read> words: array<u32>;
// [rows]: scales of int8 rows; one dummy otherwise.
@group(0) @binding(5) var<storage, read> scales: array<f32>;

// The factor of a row's numbers.
fn scale_of(row: u32) -> f32 {
    if ELEMENT == 2u {
        return scales[row];
    }
    return 1.0;
}
