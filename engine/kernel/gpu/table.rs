//! Tables on the device: rows padded to whole words, in buffers that a kernel can bind.

use std::ops::Range;

use super::device::{Buffer, Device, Purpose};
use super::hop::Records;
use crate::Result;
use crate::kernel::element::Element;
use crate::kernel::table::Table;

/// Round a number of columns up to a multiple of 4, so that any element fills whole words.
pub fn padded(width: usize) -> usize {
    width.next_multiple_of(4)
}

/// The constants of kernels for an element: its number, and how many fill a word.
pub fn element_constants(element: Element) -> [(&'static str, u32); 2] {
    let (number, per_word) = match element {
        Element::F16 => (1, 2),
        Element::I8 => (2, 4),
        _ => (0, 1),
    };
    [("ELEMENT", number), ("PER_WORD", per_word)]
}

/// Append rows of a table as words, with each run of `width` columns padded to `wide`.
pub fn padded_rows(
    table: &Table,
    rows: Range<usize>,
    [width, wide]: [usize; 2],
    words: &mut Vec<u32>,
) {
    let size = table.element().size();
    let columns = table.columns();
    let bytes = &table.bytes()[rows.start * columns * size..rows.end * columns * size];
    if width == wide {
        words.extend(bytemuck::pod_collect_to_vec::<u8, u32>(bytes));
        return;
    }
    let mut run = Vec::with_capacity(wide * size);
    for row in bytes.chunks(width * size) {
        run.clear();
        run.extend_from_slice(row);
        run.resize(wide * size, 0);
        words.extend(bytemuck::pod_collect_to_vec::<u8, u32>(&run));
    }
}

/// Number of words of a row whose runs of `width` columns are padded to `wide`.
pub fn row_words(table: &Table, [width, wide]: [usize; 2]) -> usize {
    table.columns() / width * wide * table.element().size() / 4
}

/// One buffer of consecutive rows.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The first row.
    pub first: usize,
    /// Rows.
    pub rows: usize,
    /// `[rows, words]`
    pub words: Buffer,
    /// Scales of int8 rows, else one dummy. `[rows]`
    pub scales: Buffer,
}

/// A whole table on the device.
#[derive(Clone, Debug)]
pub struct DeviceTable {
    /// The buffers, in the order of their rows.
    pub pieces: Vec<Piece>,
    /// How numbers are stored.
    pub element: Element,
    /// Numbers of a padded row.
    pub columns: usize,
}

impl DeviceTable {
    /// Upload a table whose rows are runs of `width` columns.
    ///
    /// # Errors
    /// As [`Device::buffer`].
    pub fn upload(device: &Device, table: &Table, width: usize, what: &str) -> Result<Self> {
        let words = row_words(table, [width, padded(width)]);
        // As many rows as one binding can hold; a larger table is several buffers.
        let most = ((device.binding_bytes() / 4) as usize / words.max(1)).max(1);
        let mut pieces = Vec::new();
        let mut first = 0;
        while first < table.rows() {
            let rows = most.min(table.rows() - first);
            let mut all = Vec::with_capacity(rows * words);
            padded_rows(table, first..first + rows, [width, padded(width)], &mut all);
            let scales = scales_of(table, first..first + rows)?;
            pieces.push(Piece {
                first,
                rows,
                words: device.upload(&all, what)?,
                scales: device.upload(&scales, "scales")?,
            });
            first += rows;
        }
        Ok(Self {
            pieces,
            element: table.element(),
            columns: table.columns() / width * padded(width),
        })
    }

    /// The buffers that hold any of these rows, each with those that it holds.
    pub fn within(&self, rows: Range<usize>) -> impl Iterator<Item = (&Piece, Range<usize>)> {
        self.pieces.iter().filter_map(move |piece| {
            let held = rows.start.max(piece.first)..rows.end.min(piece.first + piece.rows);
            (!held.is_empty()).then_some((piece, held))
        })
    }

    /// Bytes of the table on the device.
    pub fn bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.words.bytes()).sum()
    }
}

/// Scales of int8 rows; one dummy otherwise.
pub fn scales_of(table: &Table, rows: Range<usize>) -> Result<Vec<f32>> {
    match table.scales() {
        Some(scales) => Ok(scales.typed::<f32>()?[rows].to_vec()),
        None => Ok(vec![1.0]),
    }
}

/// Records of nodes: a node's rows of several tables one after another, int8 rows followed by their scale.
#[derive(Clone, Debug)]
pub struct NodeRecords {
    /// Buffers of consecutive nodes; scales are part of the records.
    pub pieces: Vec<Piece>,
    /// How numbers are stored.
    pub element: Element,
    /// Words of a record.
    pub words: usize,
    /// Words of each table's row, without its scale.
    pub table_words: Vec<usize>,
    /// Numbers of a widened record.
    pub columns: usize,
}

impl NodeRecords {
    /// Upload tables with a row for each node; each with the width that its columns are runs of.
    ///
    /// # Errors
    /// As [`Device::buffer`].
    pub fn upload(device: &Device, tables: &[(&Table, usize)], nodes: usize) -> Result<Self> {
        // Tables of different elements are uploaded as f32.
        let element = tables
            .first()
            .map_or(Element::F32, |(table, _)| table.element());
        let same = tables.iter().all(|(table, _)| table.element() == element);
        let element = if same { element } else { Element::F32 };
        let tables: Vec<(Table, usize)> = tables
            .iter()
            .map(|&(table, width)| {
                let table = if same {
                    table.clone()
                } else {
                    table.converted(Element::F32)?
                };
                Ok((table, width))
            })
            .collect::<Result<_>>()?;
        let table_words: Vec<usize> = tables
            .iter()
            .map(|(table, width)| row_words(table, [*width, padded(*width)]))
            .collect();
        let scale = usize::from(element == Element::I8);
        let words = table_words.iter().map(|words| words + scale).sum::<usize>();
        let most = ((device.binding_bytes() / 4) as usize / words.max(1)).max(1);
        let mut pieces = Vec::new();
        let mut first = 0;
        while first < nodes && words > 0 {
            let rows = most.min(nodes - first);
            let mut all = Vec::with_capacity(rows * words);
            for node in first..first + rows {
                for (table, width) in &tables {
                    padded_rows(table, node..node + 1, [*width, padded(*width)], &mut all);
                    if scale == 1 {
                        all.push(scales_of(table, node..node + 1)?[0].to_bits());
                    }
                }
            }
            let words = device.upload(&all, "rows of nodes")?;
            let scales = device.buffer(16, Purpose::Storage, "scales")?;
            pieces.push(Piece {
                first,
                rows,
                words,
                scales,
            });
            first += rows;
        }
        let per_word = element_constants(element)[1].1 as usize;
        Ok(Self {
            pieces,
            element,
            words,
            columns: table_words.iter().sum::<usize>() * per_word,
            table_words,
        })
    }

    /// A buffer of rows, as a kernel binds it.
    pub fn bound(&self, piece: &Piece) -> Records {
        let mut bound = Records {
            first: piece.first as u32,
            count: piece.rows as u32,
            record: self.words as u32,
            tables: self.table_words.len() as u32,
            ..Records::default()
        };
        for (to, &words) in bound.table_words.iter_mut().zip(&self.table_words) {
            *to = words as u32;
        }
        bound
    }
}
