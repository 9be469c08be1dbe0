//! What is learned: named arrays with their gradients.

use std::borrow::Cow;

use crate::kernel::pages;
use crate::kernel::real::Real;

/// Which rows of a parameter a step moved.
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
    /// The block name in the model file, for example `node.target`.
    pub name: Cow<'static, str>,
    /// Rows and columns.
    pub shape: [usize; 2],
    /// The master weights. `[rows, columns]`
    pub value: Vec<R>,
    /// The gradient of the last batch; rows that were not touched are zero. `[rows, columns]`
    pub gradient: Vec<R>,
    /// The rows of `gradient` that the last batch reached.
    pub touched: Touched,
    /// Whether weight decay applies.
    pub decays: bool,
}

impl<R: Real> Parameter<R> {
    /// A parameter whose values are made by `fill`, row by row.
    pub fn new(
        name: impl Into<Cow<'static, str>>,
        shape: [usize; 2],
        mut fill: impl FnMut() -> f64,
    ) -> Self {
        let length = shape[0] * shape[1];
        let mut value = vec![R::zero(); length];
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

    /// Marks the parameter for weight decay.
    #[must_use]
    pub fn decaying(mut self) -> Self {
        self.decays = true;
        self
    }

    /// Clears the gradient of the rows the last batch touched.
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

    /// One row of the values.
    pub fn row(&self, row: usize) -> &[R] {
        &self.value[row * self.shape[1]..(row + 1) * self.shape[1]]
    }

    /// One row of the gradient.
    pub fn gradient_row(&mut self, row: usize) -> &mut [R] {
        &mut self.gradient[row * self.shape[1]..(row + 1) * self.shape[1]]
    }
}
