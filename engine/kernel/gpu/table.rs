//! Rows of numbers on the device: padded to whole words, cut into buffers that a kernel sees whole.

use std::ops::Range;

use super::device::{Buffer, Device, Purpose};
use crate::Result;
use crate::kernel::element::Element;
use crate::kernel::table::Table;

/// Columns on the device: a multiple of 4, so that any element fills whole words.
pub fn padded(width: usize) -> usize {
    width.next_multiple_of(4)
}

/// How an element is named to kernels, and how many fill a word.
pub fn element_constants(element: Element) -> [(&'static str, u32); 2] {
    let (number, per_word) = match element {
        Element::F16 => (1, 2),
        Element::I8 => (2, 4),
        _ => (0, 1),
    };
    [("ELEMENT", number), ("PER_WORD", per_word)]
}

/// Rows of a table as the device keeps them: each run of `width` columns padded, as words.
///
/// Bytes are copied as they are where nothing needs padding.
pub fn padded_rows(table: &Table, rows: Range<usize>, width: usize, words: &mut Vec<u32>) {
    let size = table.element().size();
    let columns = table.columns();
    let bytes = &table.bytes()[rows.start * columns * size..rows.end * columns * size];
    if width == 0 || width % 4 == 0 {
        words.extend(bytemuck::pod_collect_to_vec::<u8, u32>(bytes));
        return;
    }
    let mut run = Vec::with_capacity(padded(width) * size);
    for row in bytes.chunks(width * size) {
        run.clear();
        run.extend_from_slice(row);
        run.resize(padded(width) * size, 0);
        words.extend(bytemuck::pod_collect_to_vec::<u8, u32>(&run));
    }
}

/// Words of a padded row.
pub fn row_words(table: &Table, width: usize) -> usize {
    table.columns() / width * padded(width) * table.element().size() / 4
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
}

impl DeviceTable {
    /// Uploads a table whose rows are runs of `width` columns.
    ///
    /// # Errors
    /// As [`Device::buffer`].
    pub fn upload(device: &Device, table: &Table, width: usize, what: &str) -> Result<Self> {
        let words = row_words(table, width);
        let most = ((device.binding_bytes() / 4) as usize / words.max(1)).max(1);
        let mut pieces = Vec::new();
        let mut first = 0;
        while first < table.rows() {
            let rows = most.min(table.rows() - first);
            let mut all = Vec::with_capacity(rows * words);
            padded_rows(table, first..first + rows, width, &mut all);
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
        })
    }
}

/// Scales of int8 rows; one dummy otherwise.
pub fn scales_of(table: &Table, rows: Range<usize>) -> Result<Vec<f32>> {
    match table.scales() {
        Some(scales) => Ok(scales.typed::<f32>()?[rows].to_vec()),
        None => Ok(vec![1.0]),
    }
}

/// Records of nodes: the rows of several tables one after another, with scales of int8 rows between.
#[derive(Clone, Debug)]
pub struct NodeRecords {
    /// Buffers of consecutive nodes; their scales lie in the records.
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
    /// Uploads tables of equally many rows; each with the width its columns are runs of.
    ///
    /// # Errors
    /// As [`Device::buffer`].
    pub fn upload(device: &Device, tables: &[(&Table, usize)], nodes: usize) -> Result<Self> {
        // Tables of different elements go up as f32.
        let element = tables
            .first()
            .map_or(Element::F32, |(table, _)| table.element());
        let same = tables.iter().all(|(table, _)| table.element() == element);
        let element = if same { element } else { Element::F32 };
        let tables: Vec<(Table, usize)> = tables
            .iter()
            .map(|&(table, width)| match same {
                true => Ok((table.clone(), width)),
                false => table.converted(Element::F32).map(|table| (table, width)),
            })
            .collect::<Result<_>>()?;
        let table_words: Vec<usize> = tables
            .iter()
            .map(|(table, width)| row_words(table, *width))
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
                    padded_rows(table, node..node + 1, *width, &mut all);
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
}
