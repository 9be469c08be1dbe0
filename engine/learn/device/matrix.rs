//! Products of all rows of a batch with a matrix among the parameters, and their gradients.

use super::product::Product;
use super::stage::Stage;
use crate::Result;

/// A matrix among the parameters, with a row for each output.
pub(super) struct Matrix {
    /// Offset in every buffer of parameters.
    pub at: u32,
    pub outputs: usize,
    pub inputs: usize,
}

impl Stage {
    /// Record `outputs = inputs Mᵀ` of all rows; `outputs` is an offset and the distance of rows.
    pub fn apply(
        &mut self,
        rows: usize,
        matrix: &Matrix,
        inputs: u32,
        outputs: [u32; 2],
    ) -> Result<()> {
        let columns = matrix.inputs as u32;
        self.multiply(&Product {
            shape: [rows, matrix.outputs, matrix.inputs],
            a: [inputs, columns, 1],
            b: [matrix.at, 1, columns],
            b_in_values: true,
            c: outputs,
            c_in_gradients: false,
            alpha: None,
        })
    }

    /// Record the gradients of the inputs, `d_outputs M`, and of the matrix, `d_outputsᵀ inputs`.
    pub fn apply_back(
        &mut self,
        rows: usize,
        matrix: &Matrix,
        [d_outputs, distance]: [u32; 2],
        inputs: u32,
        d_inputs: u32,
    ) -> Result<()> {
        let columns = matrix.inputs as u32;
        self.multiply(&Product {
            shape: [rows, matrix.inputs, matrix.outputs],
            a: [d_outputs, distance, 1],
            b: [matrix.at, columns, 1],
            b_in_values: true,
            c: [d_inputs, columns],
            c_in_gradients: false,
            alpha: None,
        })?;
        self.multiply(&Product {
            shape: [matrix.outputs, matrix.inputs, rows],
            a: [d_outputs, 1, distance],
            b: [inputs, columns, 1],
            b_in_values: false,
            c: [matrix.at, columns],
            c_in_gradients: true,
            alpha: None,
        })
    }
}
