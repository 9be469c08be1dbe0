//! Data of `probe/1`.

/// A point in a model where a probe reads activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Tap {
    /// Graph: the signal received by a node, one row per hop. `[1, D]`
    Signal,
    /// Graph: the energies of all next nodes, one row per step. `[1, V]`
    Energy,
    /// Transformer: the residual stream after so many layers; 0 is the embedding. `[R, D]`
    Hidden,
    /// Transformer: the queries of a layer, after the rotary embedding. `[R, H·d]`
    Query,
    /// Transformer: the keys of a layer, after the rotary embedding. `[R, H_kv·d]`
    Key,
    /// Transformer: the values of a layer. `[R, H_kv·d]`
    Value,
    /// Transformer: attention of a sequence's last row, averaged over the heads of a layer, by position; NaN for evicted
    /// tokens. `[1, T]`
    Attention,
    /// Transformer: the attention output of a layer, before its output matrix. `[R, H·d]`
    Attended,
    /// Transformer: the residual stream after the final norm. `[R, D]`
    Final,
    /// Transformer: the logits. `[R, V]`
    Logits,
}

impl Tap {
    /// All taps.
    pub const ALL: [Self; 10] = [
        Self::Signal,
        Self::Energy,
        Self::Hidden,
        Self::Query,
        Self::Key,
        Self::Value,
        Self::Attention,
        Self::Attended,
        Self::Final,
        Self::Logits,
    ];

    /// The name used in options and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Signal => "signal",
            Self::Energy => "energy",
            Self::Hidden => "hidden",
            Self::Query => "query",
            Self::Key => "key",
            Self::Value => "value",
            Self::Attention => "attention",
            Self::Attended => "attended",
            Self::Final => "final",
            Self::Logits => "logits",
        }
    }
}

/// The activations at a tap.
#[derive(Clone, Copy, Debug)]
pub struct Activations<'a> {
    /// The tap.
    pub tap: Tap,
    /// Layers passed, for [`Tap::Hidden`], [`Tap::Final`] and [`Tap::Logits`]; otherwise the index of the layer, 0 on
    /// the graph.
    pub layer: usize,
    /// Layers of the model; 1 on the graph.
    pub layers: usize,
    /// Token of each row. `[R]`
    pub tokens: &'a [u32],
    /// Row-major values. `[R, width]`
    pub values: &'a [f32],
    /// Numbers per row.
    pub width: usize,
}

/// The kind of a probed model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectKind {
    /// A token graph.
    Graph,
    /// A transformer or recurrent network.
    Transformer,
}

/// A state that a model computes for a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// Graph: the own vector of each token's node, added to every incoming signal. `[1, T, D]`
    Node,
    /// Graph: the signal that each node sends. `[1, T, D]`
    Signal,
    /// Graph: the energies of all next nodes at each node. `[1, T, V]`
    Energy,
    /// Transformer: the residual stream after each layer; layer 0 is the embedding. `[L + 1, T, D]`
    Hidden,
}

impl State {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Node, Self::Signal, Self::Energy, Self::Hidden];
}

/// The shape of a probed model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubjectShape {
    /// Kind of the model.
    pub kind: SubjectKind,
    /// Layers without the embedding; 1 on the graph.
    pub layers: usize,
    /// Width of a signal or a row of the residual stream, `D`.
    pub width: usize,
    /// Tokens, `V`.
    pub nodes: usize,
}
