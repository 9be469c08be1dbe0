//! A matrix as a model stores it: rows of f32, f16, or int8 with a scale per row.

use rayon::prelude::*;

use crate::kernel::bytes::Bytes;
use crate::kernel::element::Element;
use crate::kernel::energy::{self, Half};
use crate::kernel::simd::Level;
use crate::{Error, ErrorKind, Result};

/// Edges or rows that one task works through.
const TASK: usize = 512;

/// Read-only rows of numbers in the element type they are stored in.
///
/// The edge arena is one (a row is an edge: its matrix, then its bias), and so are node factors.
#[derive(Clone, Debug)]
pub struct Table {
    rows: usize,
    columns: usize,
    element: Element,
    data: Bytes,
    scales: Option<Bytes>,
}

impl Table {
    /// A table over stored bytes.
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
        let fault = |what: String| Err(Error::new(ErrorKind::Format, what));
        let expected = rows
            .checked_mul(columns)
            .and_then(|n| n.checked_mul(element.size()));
        if expected != Some(data.len()) {
            return fault(format!(
                "{} bytes for {rows} x {columns} {element}",
                data.len()
            ));
        }
        match element {
            Element::F32 => drop(data.typed::<f32>()?),
            Element::F16 => drop(data.typed::<u16>()?),
            Element::I8 => match &scales {
                Some(scales) if scales.typed::<f32>()?.len() == rows => {}
                Some(scales) => {
                    return fault(format!("{} scales for {rows} rows", scales.len() / 4));
                }
                None => return fault("int8 rows without their scales".into()),
            },
            other => return fault(format!("a table of {other}")),
        }
        Ok(Self {
            rows,
            columns,
            element,
            data,
            scales,
        })
    }

    /// A table of f32, copied from a slice.
    ///
    /// # Panics
    /// When the slice is not `rows × columns` long.
    pub fn of(values: &[f32], rows: usize, columns: usize) -> Self {
        assert_eq!(
            values.len(),
            rows * columns,
            "a table of {rows} x {columns}"
        );
        Self {
            rows,
            columns,
            element: Element::F32,
            data: Bytes::copy_of(values),
            scales: None,
        }
    }

    /// The same numbers in another element type; int8 rows get the scale max |x| / 127.
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
            let place = |what: &str| {
                Error::new(ErrorKind::Numeric, what.to_string()).at(format!("row {index}"))
            };
            if row.iter().any(|value| !value.is_finite()) {
                return Err(place("a value is not finite"));
            }
            match element {
                Element::F32 => bytes.extend_from_slice(bytemuck::cast_slice(&row)),
                Element::F16 => {
                    for &value in &row {
                        let narrow = half::f16::from_f32(value);
                        if !narrow.is_finite() {
                            return Err(place("a value does not fit f16"));
                        }
                        bytes.extend_from_slice(&narrow.to_bits().to_ne_bytes());
                    }
                }
                Element::I8 => {
                    let top = row.iter().fold(0.0f32, |top, value| top.max(value.abs()));
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

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers in a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// How a number is stored.
    pub fn element(&self) -> Element {
        self.element
    }

    /// The stored bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.data
    }

    /// The stored scales of int8 rows.
    pub fn scales(&self) -> Option<&Bytes> {
        self.scales.as_ref()
    }

    fn scales_of(&self, rows: std::ops::Range<usize>) -> &[f32] {
        match &self.scales {
            Some(scales) => &scales
                .typed::<f32>()
                .expect("checked when the table was made")[rows],
            None => &[],
        }
    }

    fn cells<T: bytemuck::AnyBitPattern>(&self, rows: std::ops::Range<usize>) -> &[T] {
        let all = self
            .data
            .typed::<T>()
            .expect("checked when the table was made");
        &all[rows.start * self.columns..rows.end * self.columns]
    }

    /// One row as f32. `values [columns]`
    pub fn read_row(&self, row: usize, values: &mut [f32]) {
        let level = Level::current();
        let scale = self
            .scales_of(row..row + usize::from(self.scales.is_some()))
            .first()
            .copied()
            .unwrap_or(1.0);
        match self.element {
            Element::F16 => {
                energy::widen_at(level, self.cells::<Half>(row..row + 1), scale, values)
            }
            Element::I8 => energy::widen_at(level, self.cells::<i8>(row..row + 1), scale, values),
            _ => values.copy_from_slice(self.cells::<f32>(row..row + 1)),
        }
    }

    /// All rows as f32. `[rows · columns]`
    pub fn to_vec(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.rows * self.columns];
        for (index, row) in values.chunks_exact_mut(self.columns.max(1)).enumerate() {
            self.read_row(index, row);
        }
        values
    }

    /// Dot products of a vector with every row. `vector [columns]` → `dots [rows]`
    pub fn dots(&self, vector: &[f32], dots: &mut [f32]) {
        let level = Level::current();
        let run = |(task, dots): (usize, &mut [f32])| {
            let rows = task * TASK..task * TASK + dots.len();
            let scales = self.scales_of(if self.scales.is_some() {
                rows.clone()
            } else {
                0..0
            });
            match self.element {
                Element::F16 => {
                    energy::dots_at(level, vector, self.cells::<Half>(rows), scales, dots)
                }
                Element::I8 => energy::dots_at(level, vector, self.cells::<i8>(rows), scales, dots),
                _ => energy::dots_at(level, vector, self.cells::<f32>(rows), scales, dots),
            }
        };
        // Below a megabyte a thread would cost more than it saves.
        if self.data.len() > 1 << 20 {
            dots.par_chunks_mut(TASK).enumerate().for_each(run);
        } else {
            dots.chunks_mut(TASK).enumerate().for_each(run);
        }
    }

    /// Energies of a run of edges, where each row is an edge. `signal [D]`, `base [D]` → `energies [F]`
    pub fn energies(
        &self,
        first: usize,
        signal: &[f32],
        base: &[f32],
        squared: bool,
        energies: &mut [f32],
    ) {
        let level = Level::current();
        let run = |(task, energies): (usize, &mut [f32])| {
            let start = first + task * TASK;
            let rows = start..start + energies.len();
            let scales = self.scales_of(if self.scales.is_some() {
                rows.clone()
            } else {
                0..0
            });
            match self.element {
                Element::F16 => {
                    energy::energies_at(
                        level,
                        signal,
                        base,
                        self.cells::<Half>(rows),
                        scales,
                        squared,
                        energies,
                    );
                }
                Element::I8 => {
                    energy::energies_at(
                        level,
                        signal,
                        base,
                        self.cells::<i8>(rows),
                        scales,
                        squared,
                        energies,
                    );
                }
                _ => energy::energies_at(
                    level,
                    signal,
                    base,
                    self.cells::<f32>(rows),
                    scales,
                    squared,
                    energies,
                ),
            }
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
