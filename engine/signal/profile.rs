//! The profile: which mechanism a model follows, with every switch by name.

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Result};

/// What the matrices and biases of edges are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EdgeForm {
    /// The paper's: each own edge has a D×D matrix and a bias, all others share one.
    Own,
    /// An edge's matrix and bias are made from factors of its two nodes.
    Composed,
}

/// How past signals are blended into the one that flows on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlendKind {
    /// The paper's: softmax over the logits of past positions.
    Position,
    /// Learned decays.
    Decay,
    /// Decays gated by the node that is reached and the signal that reaches it.
    Gated,
}

/// How a signal's energy is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EnergyKind {
    /// ‖z‖₂, the paper's.
    Norm,
    /// ‖z‖₂².
    Squared,
}

/// Which row of the position table the i-th hop of a path adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PositionOffset {
    /// Row i: what the authors' decoding does.
    Decode,
    /// Row i + 1: what the authors' training does.
    Train,
}

/// Everything that decides how a signal flows through a model, written into every model file.
///
/// [`Profile::reference`] is bit-careful to the authors' code; [`Profile::sifu`] is the default, with the
/// proven defects mended. Each difference is a field.
///
/// ```
/// use brillm::signal::Profile;
/// let profile = Profile { self_loops: false, ..Profile::sifu(16) };
/// assert!(profile.check().is_ok());
/// let nothing = Profile { width: 0, ..Profile::sifu(16) };
/// assert!(nothing.check().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Profile {
    /// `reference` or `sifu`; informative.
    pub name: String,
    /// The form of edges.
    pub form: EdgeForm,
    /// Signal width, `D`.
    pub width: usize,
    /// The blend.
    pub blend: BlendKind,
    /// Decay banks, `K`; 1 for the position blend.
    pub banks: usize,
    /// The energy.
    pub energy: EnergyKind,
    /// The position offset of edges with a position table.
    pub offset: PositionOffset,
    /// Whether hops add a row of the position table (own edges only).
    pub position_table: bool,
    /// Learned position logits of the position blend, `P`; later positions repeat the last one.
    pub positions: usize,
    /// Whether a path ends after `positions` hops, as in the authors' code.
    pub position_limit: bool,
    /// Whether a node may follow itself when decoding.
    pub self_loops: bool,
    /// Whether edges carry the static resistance of the graph's counts.
    pub static_resistance: bool,
    /// Whether each target has a learned bias on its score.
    pub target_bias: bool,
    /// Whether the signal starts at all ones (the paper) instead of 1/D (the authors' code).
    pub start_at_ones: bool,
    /// The width before it was grown: positions and the level a signal starts at are those of so many columns, and
    /// zero in the columns beyond.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grown_from: Option<usize>,
    /// Rank of the low-rank part of a composed edge's matrix; 0 leaves it diagonal.
    #[serde(default)]
    pub rank: usize,
    /// Rank of the own residual of frequent composed edges; `None` for no residual, 0 for a bias only.
    #[serde(default)]
    pub residual: Option<usize>,
}

impl Profile {
    /// The authors' mechanism, faithfully: own edges, exact GELU, position softmax, norm energy, decode's offset.
    pub fn reference(width: usize) -> Self {
        Self {
            name: "reference".into(),
            form: EdgeForm::Own,
            width,
            blend: BlendKind::Position,
            banks: 1,
            energy: EnergyKind::Norm,
            offset: PositionOffset::Decode,
            position_table: true,
            positions: 512,
            position_limit: true,
            self_loops: false,
            static_resistance: false,
            target_bias: false,
            start_at_ones: false,
            grown_from: None,
            rank: 0,
            residual: None,
        }
    }

    /// The same mechanism mended: composed edges, gated decays, squared energy, static resistances.
    pub fn sifu(width: usize) -> Self {
        Self {
            name: "sifu".into(),
            form: EdgeForm::Composed,
            width,
            blend: BlendKind::Gated,
            banks: 2,
            energy: EnergyKind::Squared,
            offset: PositionOffset::Train,
            position_table: false,
            positions: 512,
            position_limit: false,
            self_loops: true,
            static_resistance: true,
            target_bias: true,
            start_at_ones: true,
            grown_from: None,
            rank: 0,
            residual: None,
        }
    }

    /// Own edges with every mended defect: what a matrix of its own does for an edge, at its best.
    pub fn sifu_own(width: usize) -> Self {
        Self {
            form: EdgeForm::Own,
            ..Self::sifu(width)
        }
    }

    /// Columns of the blended signal: `K·D` for the paper's own edges, `(1 + K)·D` where the signal that
    /// just arrived flows on directly beside its blend.
    pub fn blended(&self) -> usize {
        (1 + self.banks) * self.width
    }

    /// A row of the position table: zeros where there is none, and in columns that were grown. `row [D]`
    pub(crate) fn position_row(&self, position: usize, row: &mut [f32]) {
        row.fill(0.0);
        if self.position_table {
            let formed = self.grown_from.unwrap_or(row.len());
            crate::kernel::position::row(position, &mut row[..formed]);
        }
    }

    /// The level that a signal over own edges starts at in a column.
    pub(crate) fn start_level(&self, column: usize) -> f64 {
        let formed = self.grown_from.unwrap_or(self.width);
        match self.start_at_ones {
            _ if column >= formed => 0.0,
            true => 1.0,
            false => 1.0 / formed as f64,
        }
    }

    /// Checks that the switches fit together.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`], naming the field.
    pub fn check(&self) -> Result<()> {
        let fault = |what: &str| Err(Error::new(ErrorKind::Configuration, what).at("profile"));
        if self.width == 0 || self.width > 4096 {
            return fault("width must lie between 1 and 4096");
        }
        if self
            .grown_from
            .is_some_and(|from| from == 0 || from > self.width)
        {
            return fault("grown-from must lie between 1 and width");
        }
        if self.banks == 0 || self.banks > 16 {
            return fault("banks must lie between 1 and 16");
        }
        if self.blend == BlendKind::Position && self.banks != 1 {
            return fault("the position blend has exactly 1 bank");
        }
        if self.positions == 0 || self.positions > 1 << 20 {
            return fault("positions must lie between 1 and 1048576");
        }
        if self.rank > 4096 || self.residual.is_some_and(|rank| rank > 64) {
            return fault("rank is at most 4096, residual at most 64");
        }
        if self.form == EdgeForm::Own && (self.rank > 0 || self.residual.is_some()) {
            return fault("rank and residual belong to composed edges");
        }
        if self.form == EdgeForm::Composed && self.energy == EnergyKind::Norm {
            return fault("composed edges measure squared energy");
        }
        Ok(())
    }
}
