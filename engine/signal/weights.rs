//! Parameters of a model, by the names of their blocks.

use std::collections::BTreeMap;

use crate::kernel::element::Element;
use crate::kernel::table::Table;
use crate::signal::{BlendKind, EdgeForm, Profile};
use crate::{Error, ErrorKind, Result};

/// Name and shape of one parameter block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockShape {
    /// The name, for example `node.target`.
    pub name: &'static str,
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
    /// Whether `quantize` may store it in fewer bits: the tables whose rows are nodes, edges or outputs of a layer.
    pub narrows: bool,
}

/// Return the blocks of a profile over `nodes` nodes and `own` own edges, in the order of training.
///
/// Blocks with no rows or columns are not stored.
pub fn blocks(profile: &Profile, nodes: usize, own: usize) -> Vec<BlockShape> {
    match profile.form {
        EdgeForm::Own => own_blocks(profile, nodes, own),
        EdgeForm::Composed => composed_blocks(profile, nodes, own),
        EdgeForm::Layered => layered_blocks(profile, nodes),
    }
}

/// What the rows of a block belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowsOf {
    /// A row for each node.
    Nodes,
    /// A row for each own edge, in their order, after this many shared rows.
    OwnEdges(usize),
    /// Rows that all nodes and edges share.
    Shared,
}

impl BlockShape {
    /// What its rows belong to.
    pub(crate) fn rows_of(&self) -> RowsOf {
        match self.name {
            "node.gain" => RowsOf::Shared,
            "blend.gate" => RowsOf::Nodes,
            "edge.arena" => RowsOf::OwnEdges(1),
            "edge.residual" => RowsOf::OwnEdges(0),
            name if name.starts_with("node.") => RowsOf::Nodes,
            _ => RowsOf::Shared,
        }
    }
}

/// A table whose rows are nodes, edges or outputs of a layer.
fn wide(name: &'static str, rows: usize, columns: usize) -> BlockShape {
    BlockShape {
        name,
        rows,
        columns,
        narrows: true,
    }
}

/// A block that is always stored as f32.
fn small(name: &'static str, rows: usize, columns: usize) -> BlockShape {
    BlockShape {
        narrows: false,
        ..wide(name, rows, columns)
    }
}

fn when(condition: bool, count: usize) -> usize {
    if condition { count } else { 0 }
}

/// List the blocks of own edges: V nodes, width D, K·D banks.
fn own_blocks(profile: &Profile, v: usize, own: usize) -> Vec<BlockShape> {
    let (d, g) = (profile.width, profile.banks * profile.width);
    let position = profile.blend == BlendKind::Position;
    let gated = profile.blend == BlendKind::Gated;
    vec![
        // A row is W [D, D], then b [D]; row 0 is the shared edge.
        wide("edge.arena", 1 + own, d * d + d),
        wide("node.start", v, d),
        small("blend.positions", 1, when(position, profile.positions)),
        small("node.bias", when(profile.target_bias, v), 1),
        small("node.trust", when(profile.static_resistance, v), 1),
        // ln α and γ.
        small("scalars", when(profile.static_resistance, 1), 2),
        // Weights of the signal and of each bank in the output, column by column.
        small("blend.mix", when(!position, 1 + profile.banks), d),
        small("blend.decay", 1, when(!position, g)),
        wide("blend.gate", when(gated, v), g),
        small("blend.gate_signal", when(gated, d), g),
    ]
}

/// List the blocks of composed edges: V nodes, width D, K·D banks, X = D + K·D blended columns.
fn composed_blocks(profile: &Profile, v: usize, own: usize) -> Vec<BlockShape> {
    let (d, g, x) = (
        profile.width,
        profile.banks * profile.width,
        profile.blended(),
    );
    let position = profile.blend == BlendKind::Position;
    let gated = profile.blend == BlendKind::Gated;
    let (rank, residual) = (profile.rank, profile.residual);
    vec![
        wide("node.target", v, d),
        wide("node.scale", v, d),
        wide("node.offset", v, d),
        small("node.trust", v, 1),
        small("node.bias", v, 1),
        small("edge.mix", x, d),
        small("node.gain", 1, d),
        // ln α, γ and κ.
        small("scalars", 1, 3),
        small("blend.decay", 1, when(!position, g)),
        wide("blend.gate", when(gated, v), g),
        small("blend.gate_signal", when(gated, d), g),
        small("blend.positions", 1, when(position, profile.positions)),
        wide("node.low_scale", when(rank > 0, v), rank),
        small("edge.low_in", when(rank > 0, x), rank),
        small("edge.low_out", rank, d),
        wide(
            // A row is r [D], then C [rank, D].
            "edge.residual",
            when(residual.is_some(), own),
            (1 + residual.unwrap_or(0)) * d,
        ),
        small(
            "edge.residual_in",
            when(residual.unwrap_or(0) > 0, x),
            residual.unwrap_or(0),
        ),
    ]
}

/// List the blocks of layered edges: V nodes, width D, L layers of inner width w, Z edge columns, X blended columns.
///
/// Matrices have a row for each output; those of all layers lie below each other.
fn layered_blocks(profile: &Profile, v: usize) -> Vec<BlockShape> {
    let (d, layers, widths) = (profile.width, profile.layers, profile.widths());
    vec![
        wide("node.target", v, d),
        small("node.trust", v, 1),
        small("node.bias", v, 1),
        // ln α, γ and κ.
        small("scalars", 1, 3),
        small("layer.gain", layers, d),
        wide("layer.edge", layers * widths.edge(), 2 * d),
        small("layer.edge_bias", layers, widths.edge()),
        wide("layer.mix", layers * d, widths.blended()),
        small("read.gain", 1, d),
        wide("read.mix", d, d),
        small("read.bias", 1, d),
    ]
}

/// All parameters of a model: small blocks as f32, tables of nodes and edges in their stored element type.
#[derive(Clone, Debug)]
pub struct Weights {
    tables: BTreeMap<&'static str, Table>,
    small: BTreeMap<&'static str, Vec<f32>>,
}

impl Weights {
    /// Gather the blocks of a profile; `find` returns the table of each.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] for a block that is missing or has another shape, by its name.
    pub fn gather(
        profile: &Profile,
        nodes: usize,
        own: usize,
        mut find: impl FnMut(&BlockShape) -> Result<Option<Table>>,
    ) -> Result<Self> {
        let mut weights = Self {
            tables: BTreeMap::new(),
            small: BTreeMap::new(),
        };
        for block in blocks(profile, nodes, own) {
            let location = || format!("block {}", block.name);
            let table = match block.rows * block.columns {
                // Blocks that the profile does not use are not in the file.
                0 => Table::of(&[], block.rows, block.columns),
                _ => find(&block)?.ok_or_else(|| {
                    Error::new(ErrorKind::Format, "the model lacks this block").at(location())
                })?,
            };
            if (table.rows(), table.columns()) != (block.rows, block.columns) {
                return Err(Error::new(
                    ErrorKind::Format,
                    format!(
                        "invalid shape {} x {}: expected {} x {}",
                        table.rows(),
                        table.columns(),
                        block.rows,
                        block.columns
                    ),
                )
                .at(location()));
            }
            // Small blocks are read at every hop: widen them once.
            if block.narrows {
                weights.tables.insert(block.name, table);
            } else {
                weights.small.insert(block.name, table.to_vec());
            }
        }
        Ok(weights)
    }

    /// Return a block of node or edge rows; empty where the profile has none of that name.
    ///
    /// # Panics
    /// For a name that no profile has.
    pub fn table(&self, name: &str) -> &Table {
        self.tables
            .get(name)
            .unwrap_or_else(|| panic!("no table is named {name}"))
    }

    /// Read one row of a block of node or edge rows as f32.
    ///
    /// # Panics
    /// As [`Self::table`], and for a row past its end.
    pub(crate) fn row(&self, name: &str, row: usize) -> Vec<f32> {
        let table = self.table(name);
        let mut values = vec![0.0; table.columns()];
        table.read_row(row, &mut values);
        values
    }

    /// Return a small block as f32; empty where the profile has none of that name.
    pub fn values(&self, name: &str) -> &[f32] {
        self.small.get(name).map_or(&[], Vec::as_slice)
    }

    /// Return a block as a table: that of node or edge rows as it is stored, a small one as f32.
    pub(crate) fn block(&self, shape: &BlockShape) -> Table {
        match shape.narrows {
            true => self.table(shape.name).clone(),
            false => Table::of(self.values(shape.name), shape.rows, shape.columns),
        }
    }

    /// Convert the node and edge rows to another element type.
    ///
    /// # Errors
    /// As [`Table::converted`], naming the block.
    pub fn converted(&self, element: Element) -> Result<Self> {
        let convert = |(name, table): (&&'static str, &Table)| {
            Ok((
                *name,
                table
                    .converted(element)
                    .map_err(|error| error.at(format!("block {name}")))?,
            ))
        };
        Ok(Self {
            tables: self.tables.iter().map(convert).collect::<Result<_>>()?,
            small: self.small.clone(),
        })
    }

    /// Bytes of the tables and small blocks.
    pub fn bytes(&self) -> usize {
        let scales = |table: &Table| table.scales().map_or(0, |scales| scales.len());
        self.tables
            .values()
            .map(|table| table.bytes().len() + scales(table))
            .sum::<usize>()
            + self
                .small
                .values()
                .map(|values| values.len() * 4)
                .sum::<usize>()
    }

    /// Pass the bytes of each block to `visit`, in the order of their names.
    pub(crate) fn each_block(&self, mut visit: impl FnMut(&str, &[u8])) {
        for (name, table) in &self.tables {
            visit(name, table.bytes());
            if let Some(scales) = table.scales() {
                visit(name, scales);
            }
        }
        for (name, values) in &self.small {
            visit(name, bytemuck::cast_slice(values));
        }
    }

    /// Number of parameters.
    pub fn parameters(&self) -> usize {
        self.tables
            .values()
            .map(|table| table.rows() * table.columns())
            .sum::<usize>()
            + self.small.values().map(Vec::len).sum::<usize>()
    }
}
