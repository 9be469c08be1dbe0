//! A stored matrix: rows of f32, f16, or int8 with a scale per row.

use rayon::prelude::*;

use crate::kernel::bytes::Bytes;
use crate::kernel::element::Element;
use crate::kernel::energy::{self, Half};
use crate::{Error, ErrorKind, Result};

/// Edges or rows of one task.
const TASK: usize = 512;

/// Run an expression on the stored rows, with `cells` bound to them in their element type.
macro_rules! with_cells {
    ($table:expr, $rows:expr, |$cells:ident| $run:expr) => {
        match $table.element {
            Element::F16 => {
                let $cells = $table.cells::<Half>($rows);
                $run
            }
            Element::I8 => {
                let $cells = $table.cells::<i8>($rows);
                $run
            }
            _ => {
                let $cells = $table.cells::<f32>($rows);
                $run
            }
        }
    };
}

/// Why stored bytes convert to numbers.
const CHECKED: &str = "Table::new checked the length and alignment";

/// Read-only rows of numbers in the element type they are stored in.
///
/// Edge weights are one (a row is an edge: its matrix, then its bias), and so are node factors.
#[derive(Clone, Debug)]
pub struct Table {
    rows: usize,
    columns: usize,
    element: Element,
    data: Bytes,
    scales: Option<Bytes>,
}

impl Table {
    /// Create a table over stored bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] when the bytes are not `rows × columns` elements, or int8 lacks its scales.
    pub fn new(
        rows: usize,
        columns: usize,
        element: Element,
        data: Bytes,
        scales: Option<Bytes>,
    ) -> Result<Self> {
        let error = |what: String| Err(Error::new(ErrorKind::Format, what));
        let expected = rows
            .checked_mul(columns)
            .and_then(|n| n.checked_mul(element.size()));
        if expected != Some(data.len()) {
            return error(format!(
                "{} bytes cannot hold {rows} x {columns} numbers of {element}",
                data.len()
            ));
        }
        match element {
            Element::F32 => drop(data.typed::<f32>()?),
            Element::F16 => drop(data.typed::<u16>()?),
            Element::I8 => match &scales {
                Some(scales) if scales.typed::<f32>()?.len() == rows => {}
                Some(scales) => {
                    return error(format!("{} scales given for {rows} rows", scales.len() / 4));
                }
                None => return error("int8 rows need scales".into()),
            },
            other => return error(format!("a table cannot hold {other}")),
        }
        Ok(Self {
            rows,
            columns,
            element,
            data,
            scales,
        })
    }

    /// Copy a slice into a table of f32.
    ///
    /// # Panics
    /// When the slice is not `rows × columns` long.
    pub fn of(values: &[f32], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns, "length of {rows} x {columns}");
        Self {
            rows,
            columns,
            element: Element::F32,
            data: Bytes::copy_of(values),
            scales: None,
        }
    }

    /// Convert to another element type; int8 rows get the scale max |x| / 127.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] where a value is not finite or does not fit f16;
    /// [`ErrorKind::Unsupported`] for an element that is not f32, f16 or int8.
    pub fn converted(&self, element: Element) -> Result<Self> {
        let mut row = vec![0.0; self.columns];
        let mut bytes = Vec::with_capacity(self.rows * self.columns * element.size());
        let mut scales = Vec::new();
        for index in 0..self.rows {
            self.read_row(index, &mut row);
            let invalid = |what: &str| {
                Error::new(ErrorKind::Numeric, what.to_string()).at(format!("row {index}"))
            };
            if row.iter().any(|value| !value.is_finite()) {
                return Err(invalid("a value is not finite"));
            }
            match element {
                Element::F32 => bytes.extend_from_slice(bytemuck::cast_slice(&row)),
                Element::F16 => {
                    for &value in &row {
                        let narrow = half::f16::from_f32(value);
                        if !narrow.is_finite() {
                            return Err(invalid("a value does not fit f16"));
                        }
                        bytes.extend_from_slice(&narrow.to_bits().to_ne_bytes());
                    }
                }
                Element::I8 => {
                    let top = row.iter().fold(0.0f32, |top, value| top.max(value.abs()));
                    // Symmetric: the largest magnitude of a row becomes ±127, and 0 remains 0.
                    let scale = if top > 0.0 { top / 127.0 } else { 1.0 };
                    bytes.extend(row.iter().map(|value| (value / scale).round() as i8 as u8));
                    scales.push(scale);
                }
                other => {
                    return Err(Error::new(
                        ErrorKind::Unsupported,
                        format!("weights cannot be stored as {other}"),
                    )
                    .advice("choose f32, f16 or i8"));
                }
            }
        }
        let scales = (element == Element::I8).then(|| Bytes::copy_of(&scales));
        Self::new(
            self.rows,
            self.columns,
            element,
            Bytes::copy_of(&bytes),
            scales,
        )
    }

    /// Create a table from rows of tables that have `columns` numbers in a row, stored as `element`.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] for a table of another width or element.
    pub fn gather<'a>(
        columns: usize,
        element: Element,
        rows: impl Iterator<Item = (&'a Self, usize)>,
    ) -> Result<Self> {
        let (mut bytes, mut scales, mut count) = (Vec::new(), Vec::new(), 0);
        for (table, row) in rows {
            if (table.columns, table.element) != (columns, element) {
                let what = "rows of tables of different forms cannot be joined";
                return Err(Error::new(ErrorKind::Format, what));
            }
            let length = columns * element.size();
            bytes.extend_from_slice(&table.data[row * length..(row + 1) * length]);
            scales.extend_from_slice(table.scales_of(row..row + 1));
            count += 1;
        }
        let scales = (element == Element::I8).then(|| Bytes::copy_of(&scales));
        Self::new(count, columns, element, Bytes::copy_of(&bytes), scales)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers in a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Element type.
    pub fn element(&self) -> Element {
        self.element
    }

    /// Stored bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.data
    }

    /// Scales of int8 rows.
    pub fn scales(&self) -> Option<&Bytes> {
        self.scales.as_ref()
    }

    fn scales_of(&self, rows: std::ops::Range<usize>) -> &[f32] {
        let scales = self.scales.as_ref();
        scales.map_or(&[], |scales| &scales.typed::<f32>().expect(CHECKED)[rows])
    }

    fn cells<T: bytemuck::AnyBitPattern>(&self, rows: std::ops::Range<usize>) -> &[T] {
        let all = self.data.typed::<T>().expect(CHECKED);
        &all[rows.start * self.columns..rows.end * self.columns]
    }

    /// Read one row as f32. `values [columns]`
    pub fn read_row(&self, row: usize, values: &mut [f32]) {
        let rows = row..row + 1;
        let scale = self.scales_of(rows.clone()).first().copied();
        with_cells!(self, rows, |cells| energy::widen(
            cells,
            scale.unwrap_or(1.0),
            values
        ));
    }

    /// Read all rows as f32. `[rows · columns]`
    pub fn to_vec(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.rows * self.columns];
        for (index, row) in values.chunks_exact_mut(self.columns.max(1)).enumerate() {
            self.read_row(index, row);
        }
        values
    }

    /// Compute the dot products of a vector with every row. `vector [columns]` → `dots [rows]`
    pub fn dots(&self, vector: &[f32], dots: &mut [f32]) {
        self.dots_from(0, vector, dots);
    }

    /// Compute the dot products of a vector with the rows from `first` on. `vector [columns]` → `dots [n]`
    pub fn dots_from(&self, first: usize, vector: &[f32], dots: &mut [f32]) {
        let run = |(task, dots): (usize, &mut [f32])| {
            let start = first + task * TASK;
            let rows = start..start + dots.len();
            let scales = self.scales_of(rows.clone());
            with_cells!(self, rows, |cells| energy::dots(
                vector, cells, scales, dots
            ));
        };
        // Below a megabyte a thread would cost more than it saves.
        if dots.len() * self.columns * self.element().size() > 1 << 20 {
            dots.par_chunks_mut(TASK).enumerate().for_each(run);
        } else {
            dots.chunks_mut(TASK).enumerate().for_each(run);
        }
    }

    /// Compute the energies of a run of edges, where each row is an edge.
    ///
    /// `signal [D]`, `base [D]`, rows from `first` on → `energies [F]`.
    pub fn energies(
        &self,
        first: usize,
        signal: &[f32],
        base: &[f32],
        squared: bool,
        energies: &mut [f32],
    ) {
        let run = |(task, energies): (usize, &mut [f32])| {
            let start = first + task * TASK;
            let rows = start..start + energies.len();
            let scales = self.scales_of(rows.clone());
            with_cells!(self, rows, |cells| energy::energies(
                signal, base, cells, scales, squared, energies
            ));
        };
        if energies.len() >= 2 * TASK {
            energies.par_chunks_mut(TASK).enumerate().for_each(run);
        } else {
            energies.chunks_mut(TASK).enumerate().for_each(run);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions_stay_within_their_rounding() {
        let values: Vec<f32> = (0..60).map(|i| (i as f32 * 0.77).sin()).collect();
        let table = Table::of(&values, 6, 10);
        for (element, tolerance) in [
            (Element::F32, 0.0),
            (Element::F16, 5e-4),
            (Element::I8, 5e-3),
        ] {
            let other = table.converted(element).expect("finite");
            for (a, b) in other.to_vec().iter().zip(&values) {
                assert!((a - b).abs() <= tolerance, "{element}: {a} {b}");
            }
        }
        assert!(
            Table::of(&[f32::NAN], 1, 1)
                .converted(Element::F16)
                .is_err()
        );
        assert!(Table::of(&[1e6], 1, 1).converted(Element::F16).is_err());
    }
}
