//! The profile: every switch of the mechanism that a model follows.

use serde::{Deserialize, Serialize};

use crate::kernel::layered::Widths;
use crate::{Error, ErrorKind, Result};

/// Form of the matrices and biases of edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EdgeForm {
    /// A D×D matrix and a bias for each own edge; all other edges share one (the paper's form).
    Own,
    /// A matrix and a bias composed of factors of the edge's two nodes.
    Composed,
    /// Layers that read the signals of the edge's two nodes; a gated sum carries the past.
    Layered,
}

/// How a node blends past signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlendKind {
    /// Softmax over learned logits of past positions (the paper's form).
    Position,
    /// Running averages with learned decays.
    Decay,
    /// Running averages with decays gated by the node and the signal that reached it.
    Gated,
}

/// Energy of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EnergyKind {
    /// ‖c‖₂ (the paper's equation 4).
    Norm,
    /// ‖c‖₂².
    Squared,
}

/// Which row of the position table the i-th hop of a path adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PositionOffset {
    /// Row i, as in the authors' decoding.
    Decode,
    /// Row i + 1, as in the authors' training.
    Train,
}

/// The switches of a mechanism, stored in every model file.
///
/// A signal of `D` numbers follows a path of tokens `v_0 … v_i`. At each node u it leaves an output, which an edge
/// u → t maps to a pre-activation z of the target t; the energy of each target gives its logit, and the chosen
/// target activates the signal and blends it with those before. [`Profile::reference`] follows the authors' code
/// number for number; [`Profile::sifu`], the default, corrects its proven defects. Each difference is a field:
///
/// | | `reference` | `sifu` |
/// |---|---|---|
/// | edge u → t | `z = x W_ut + b_ut + PE[i]`; edges of few counts share one W and b | `z = h + β_t`, that is `W_ut = A diag(p_u)`, `b_ut = a_u + β_t` |
/// | node t | `c = GELU(z)` | `c = GELU(g ⊙ z / rms(z) + 10 κ β_t)` |
/// | blend | `m = Σ_j softmax(r)_j c_j` over past positions j | `m ← λ m + (1 − λ) c`, `λ = σ(τ + g_t + c U)`, K = 2 banks |
/// | output | `x = m` | `h = ([c; 2 m] A) ⊙ p_t + a_t` |
/// | energy | `E = ‖c(t)‖` | `E = ‖h + β_t‖²` |
/// | logit | `E` | `α (E − ‖h‖² − ‖β_t‖²) + ρ_t − w_u R_ut` |
///
/// A third form, [`Profile::layered`], passes the signal of a node through layers, each of which reads the edge that the
/// path takes; [`crate::kernel::layered`] has its equations. Energies and logits are those of `sifu`.
///
/// PE is the position table, `R_ut` the static resistance `−ln p(t|u)` of the counts, and `ρ_t` a target bias.
/// [`crate::kernel::own`], [`crate::kernel::composed`], [`crate::kernel::blend`] and [`crate::kernel::logits`]
/// compute these formulas.
///
/// ```
/// use brillm::signal::{BlendKind, EdgeForm, Profile};
/// let reference = Profile::reference(32);
/// assert_eq!((reference.form, reference.blend), (EdgeForm::Own, BlendKind::Position));
/// // The default mechanism with ungated decays and a residual bias for each own edge.
/// let profile = Profile { blend: BlendKind::Decay, residual: Some(0), ..Profile::sifu(16) };
/// profile.check()?;
/// assert_eq!(profile.blended(), 3 * 16); // [c; 2 m_1; 2 m_2]
/// assert!(Profile { width: 0, ..profile }.check().is_err());
/// # Ok::<(), brillm::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Profile {
    /// `reference`, `sifu` or `layered`; informative.
    pub name: String,
    /// Form of edges.
    pub form: EdgeForm,
    /// Signal width, `D`.
    pub width: usize,
    /// Blend.
    pub blend: BlendKind,
    /// Decay banks, `K`; 1 for the position blend.
    pub banks: usize,
    /// Energy.
    pub energy: EnergyKind,
    /// Row of the position table that a hop adds.
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
    /// Whether each target has a learned bias on its logit.
    pub target_bias: bool,
    /// Whether the signal starts at all ones (the paper) instead of 1/D (the authors' code).
    pub start_at_ones: bool,
    /// Width before it was grown: position rows and the start level are those of that width, and zero in the
    /// columns beyond.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grown_from: Option<usize>,
    /// Layers that the signal of a node passes through, `L` (layered edges only).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub layers: usize,
    /// Inner width of a layer, `w` (layered edges only).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub inner: usize,
    /// Rank of the low-rank part of a composed edge's matrix; 0 leaves it diagonal.
    #[serde(default)]
    pub rank: usize,
    /// Rank of the own residual of frequent composed edges; `None` for no residual, 0 for a bias only.
    #[serde(default)]
    pub residual: Option<usize>,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Profile {
    /// Return the authors' mechanism: own edges, position softmax, norm energy, the offset of their decoding.
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
            layers: 0,
            inner: 0,
            rank: 0,
            residual: None,
        }
    }

    /// Return the default mechanism: composed edges, gated decays, squared energy, static resistances.
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
            layers: 0,
            inner: 0,
            rank: 0,
            residual: None,
        }
    }

    /// Return the default mechanism over own edges.
    pub fn sifu_own(width: usize) -> Self {
        Self {
            form: EdgeForm::Own,
            ..Self::sifu(width)
        }
    }

    /// Return the mechanism of layered edges: two layers, each half as wide again as the signal inside.
    pub fn layered(width: usize) -> Self {
        Self {
            name: "layered".into(),
            form: EdgeForm::Layered,
            layers: 2,
            inner: width * 3 / 2,
            ..Self::sifu(width)
        }
    }

    /// Widths of a layer (layered edges only).
    pub(crate) fn widths(&self) -> Widths {
        Widths {
            signal: self.width,
            inner: self.inner,
            banks: self.banks,
        }
    }

    /// Length of [`Flow::banks`](crate::signal::Flow): `K·D`, or `L·K·w` for layered edges.
    pub(crate) fn memory(&self) -> usize {
        match self.form {
            EdgeForm::Own | EdgeForm::Composed => self.banks * self.width,
            EdgeForm::Layered => self.layers * self.banks * self.inner,
        }
    }

    /// Length of [`Flow::blended`](crate::signal::Flow): X for composed edges, `L·D` for layered ones.
    pub(crate) fn carried(&self) -> usize {
        match self.form {
            EdgeForm::Own => 0,
            EdgeForm::Composed => self.blended(),
            EdgeForm::Layered => self.layers * self.width,
        }
    }

    /// Columns of the blended signal `[c; 2 m]` of composed edges, `X = (1 + K)·D`.
    pub fn blended(&self) -> usize {
        (1 + self.banks) * self.width
    }

    /// Compute a row of the position table: zeros where there is none, and in columns that were grown. `row [D]`
    pub(crate) fn position_row(&self, position: usize, row: &mut [f32]) {
        row.fill(0.0);
        if self.position_table {
            // Grown columns stay zero, so that a grown model computes what the narrow one did.
            let formed = self.grown_from.unwrap_or(row.len());
            crate::kernel::position::row(position, &mut row[..formed]);
        }
    }

    /// Return the level at which a signal over own edges starts in a column.
    pub(crate) fn start_level(&self, column: usize) -> f64 {
        let formed = self.grown_from.unwrap_or(self.width);
        if column >= formed {
            0.0
        } else if self.start_at_ones {
            1.0
        } else {
            1.0 / formed as f64
        }
    }

    /// Check that the switches fit together.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`], naming the field.
    pub fn check(&self) -> Result<()> {
        let error = |what: &str| Err(Error::new(ErrorKind::Configuration, what).at("profile"));
        if self.width == 0 || self.width > 4096 {
            return error("width must be 1 to 4096");
        }
        if self
            .grown_from
            .is_some_and(|from| from == 0 || from > self.width)
        {
            return error("grown-from must be 1 to width");
        }
        if self.banks == 0 || self.banks > 16 {
            return error("banks must be 1 to 16");
        }
        // One softmax gives one weight per position: a second bank would repeat the first.
        if self.blend == BlendKind::Position && self.banks != 1 {
            return error("the position blend has exactly 1 bank");
        }
        if self.positions == 0 || self.positions > 1 << 20 {
            return error("positions must be 1 to 1048576");
        }
        if self.rank > 4096 || self.residual.is_some_and(|rank| rank > 64) {
            return error("rank is at most 4096, residual at most 64");
        }
        if self.form == EdgeForm::Layered {
            if !(1..=64).contains(&self.layers) || !(1..=1 << 16).contains(&self.inner) {
                return error("layered edges need layers 1 to 64 and inner 1 to 65536");
            }
            if self.blend != BlendKind::Gated || self.position_table {
                return error("layered edges need blend = \"gated\" and no position table");
            }
        } else if self.layers > 0 || self.inner > 0 {
            return error("layers and inner apply to layered edges only");
        }
        if self.form != EdgeForm::Composed && (self.rank > 0 || self.residual.is_some()) {
            return error("rank and residual apply to composed edges only");
        }
        // Only in the square does ‖h‖² cancel, and with it the need for a root per target.
        if self.form != EdgeForm::Own && self.energy == EnergyKind::Norm {
            return error("composed and layered edges require energy = \"squared\"");
        }
        Ok(())
    }
}
