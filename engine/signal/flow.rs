//! The state of a flow, O(K·D) for a path of any length.

use serde::{Deserialize, Serialize};

use crate::kernel::random::Random;

/// Where a signal starts.
///
/// ```
/// use brillm::{Request, signal::Start};
/// let model = brillm::Model::open("models/english.bril".as_ref(), Default::default())?;
/// let width = model.mechanism().profile().width;
/// let start = Start::Vector(vec![0.1; width]);
/// let generation = Request::text(&model, "Once")?.start_signal(start).tokens(3).start(&model)?;
/// assert_eq!(generation.count(), 3);
/// # Ok::<(), brillm::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// The start of the profile, with which the model was trained.
    #[default]
    Profile,
    /// All ones (the paper's equation 1).
    Ones,
    /// Standard normal numbers from a seed.
    Random(u64),
    /// The caller's own vector. `[D]`
    Vector(Vec<f32>),
}

impl Start {
    /// The vector; `None` where the profile decides.
    pub(crate) fn vector(&self, width: usize) -> Option<Vec<f32>> {
        match self {
            Self::Profile => None,
            Self::Ones => Some(vec![1.0; width]),
            Self::Random(seed) => {
                // A stream of its own: the start does not change what sampling draws.
                let mut random = Random::stream(*seed, 0x7374_6172_7400, 0);
                Some((0..width).map(|_| random.normal() as f32).collect())
            }
            Self::Vector(vector) => Some(vector.clone()),
        }
    }
}

/// The state of one flow: the current node and the signal.
///
/// A flow is everything that a path leaves behind, of constant size: the context of the next token. A
/// [`Mechanism`](crate::signal::Mechanism) moves it: `begin` starts it at a node, `energies` and `logits` give the
/// energy of every node as the next one, and `hop` moves it to a chosen node. In a hop from u to v
///
/// 1. the pre-activation z of the edge u → v is computed from `output`, what leaves u;
/// 2. `signal` becomes its activation: what arrives at v;
/// 3. `banks` add the arriving signal to the blend of all earlier ones, each weighted by its position;
/// 4. `output` becomes what leaves v, computed from the blend.
///
/// So generation is a loop of three calls:
///
/// ```
/// use brillm::signal::Start;
/// let model = brillm::Model::open("models/english.bril".as_ref(), Default::default())?;
/// let mechanism = model.mechanism();
/// let prompt = model.tokenizer().encode("Once upon")?;
/// let mut flow = mechanism.begin(prompt[0], &Start::Profile)?;
/// for &node in &prompt[1..] {
///     mechanism.hop(&mut flow, node)?;
/// }
/// assert_eq!((flow.node, flow.step), (prompt[prompt.len() - 1], prompt.len() as u64 - 1));
///
/// let (mut energies, mut logits) = (vec![0.0; mechanism.nodes()], vec![0.0; mechanism.nodes()]);
/// mechanism.energies(&flow, &mut energies)?;
/// mechanism.logits(&flow, &energies, &mut logits);
/// let next = brillm::path::likeliest(&logits).unwrap();
/// mechanism.hop(&mut flow, next)?;
/// assert_eq!(flow.node, next);
/// # Ok::<(), brillm::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    /// The node the signal has reached.
    pub node: u32,
    /// Nodes before it, the last one nearest: as many as the longest walk of the graph has besides `node`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<u32>,
    /// Hops taken so far.
    pub step: u64,
    /// The signal as it arrived and was activated; after the last layer for layered edges. `[D]`
    pub signal: Vec<f32>,
    /// The running sums of the blend, in f64 so that a million steps do not drift. `[K·D]`; `[L·K·w]` for layered edges
    pub banks: Vec<f64>,
    /// Σ e^r over past positions, relative to the largest logit (position blend).
    pub normaliser: f64,
    /// What leaves the node: the blended signal (own edges) or h (composed and layered edges). `[D]`
    pub output: Vec<f32>,
    /// What the next edge reads besides `output`: `[c; 2 m] [X]` for the own residuals of composed edges, the normalised
    /// signal before each layer `[L, D]` for layered ones; empty for own edges.
    pub blended: Vec<f32>,
}
