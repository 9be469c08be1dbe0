//! Parameters: named arrays with their gradients.

use std::borrow::Cow;

use crate::kernel::pages;
use crate::kernel::real::Real;
use crate::signal::BlockShape;

/// Rows of a parameter that a step moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Touched {
    /// Every row, every step.
    All,
    /// These rows, ascending.
    Rows(Vec<u32>),
}

/// A named array with its gradient.
#[derive(Clone, Debug)]
pub struct Parameter<R> {
    /// Block name in the model file, for example `node.target`.
    pub name: Cow<'static, str>,
    /// Rows and columns.
    pub shape: [usize; 2],
    /// Weights. `[rows, columns]`
    pub value: Vec<R>,
    /// Gradient of the last batch; zero in rows that were not touched. `[rows, columns]`
    pub gradient: Vec<R>,
    /// Rows of `gradient` that the last batch reached.
    pub touched: Touched,
    /// Whether weight decay applies.
    pub decays: bool,
}

impl<R: Real> Parameter<R> {
    /// Create a parameter whose values are made by `fill`, row by row.
    pub fn new(
        name: impl Into<Cow<'static, str>>,
        shape: [usize; 2],
        mut fill: impl FnMut() -> f64,
    ) -> Self {
        let length = shape[0] * shape[1];
        let mut value = vec![R::zero(); length];
        // Before the first write, which is when the system assigns pages.
        pages::prefer_large(&mut value);
        value.fill_with(|| R::of(fill()));
        Self {
            name: name.into(),
            shape,
            value,
            gradient: vec![R::zero(); length],
            touched: Touched::All,
            decays: false,
        }
    }

    /// Create the parameter of a block whose value at each index is made by `fill`, in order.
    pub(super) fn of_block(block: &BlockShape, mut fill: impl FnMut(usize) -> f64) -> Self {
        let mut index = 0;
        Self::new(block.name, [block.rows, block.columns], || {
            index += 1;
            fill(index - 1)
        })
    }

    /// Mark the parameter for weight decay.
    #[must_use]
    pub fn decaying(mut self) -> Self {
        self.decays = true;
        self
    }

    /// Clear the gradient of the rows that the last batch touched.
    pub fn clear(&mut self) {
        match &self.touched {
            Touched::All => self.gradient.fill(R::zero()),
            Touched::Rows(rows) => {
                let columns = self.shape[1];
                for &row in rows {
                    let start = row as usize * columns;
                    self.gradient[start..start + columns].fill(R::zero());
                }
            }
        }
    }

    /// Return one row of the values.
    pub fn row(&self, row: usize) -> &[R] {
        &self.value[row * self.shape[1]..(row + 1) * self.shape[1]]
    }

    /// Return one row of the gradient.
    pub fn gradient_row(&mut self, row: usize) -> &mut [R] {
        &mut self.gradient[row * self.shape[1]..(row + 1) * self.shape[1]]
    }
}

/// Return the initial logit of the decay of a bank: lifetimes of 2, 6, 18, … steps, and `σ(logit) = 1 − 1/lifetime`.
pub(super) fn decay(bank: usize) -> f64 {
    // σ(x) = 1 − 1/l has x = ln(l − 1), with l = 2 · 3^bank.
    (2.0 * 3f64.powi(bank as i32) - 1.0).ln()
}
