// Functions: own residuals of composed edges. δ_e = r_e + (x B) C_e adds to the output of the source. A row of a buffer of
// fans is r_e [W], then the RANK rows of C_e [W], each padded to ROW words. Shared by residual.wgsl and hop.wgsl. After:
// element.wgsl, sequences.wgsl, fans.wgsl and the declarations of the buffers of fans. CPU: `Residuals` of
// engine/signal/composed.rs.

// Rank of the residuals.
override RESIDUAL: u32 = 0u;

// A number of a residual row, without its scale: column j of its run number `run`.
fn cell(buffer: u32, row: u32, run: u32, j: u32) -> f32 {
    return widen(word(buffer, (row * (1u + RESIDUAL) + run) * ROW + j / PER_WORD))[j % PER_WORD];
}

// δ_j of an edge in buffer number `number`.
fn delta(number: u32, row: u32, scale: f32, projected: u32, j: u32) -> f32 {
    let buffer = number - P.fans.first;
    var rho = 0.0;
    for (var r = 0u; r < RESIDUAL; r += 1u) {
        rho = fma(floats[projected + r], cell(buffer, row, 1u + r, j), rho);
    }
    return scale * (rho + cell(buffer, row, 0u, j));
}
