//! The model of a run, as a probe may ask it: its tokens, what it finds likely, its states, and what it does when one
//! node is shifted.

use crate::Result;

/// Which way a model goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectKind {
    /// A signal over a graph.
    Graph,
    /// Layers of attention.
    Transformer,
}

/// What a text leaves in a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// The own vector of each token's node, on the graph: what it adds to any signal that arrives. `[1, T, D]`
    Node,
    /// The signal as each node passes it on, on the graph. `[1, T, D]`
    Signal,
    /// The energies of all next nodes at each node, on the graph. `[1, T, V]`
    Energy,
    /// The hidden stream after each layer, on a transformer; layer 0 is the embedding. `[L + 1, T, D]`
    Hidden,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Node, Self::Signal, Self::Energy, Self::Hidden];
}

/// The shape of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubjectShape {
    /// Which way it goes.
    pub kind: SubjectKind,
    /// Layers, without the embedding; 1 on the graph.
    pub layers: usize,
    /// Numbers in a signal or a row of the hidden stream, `D`.
    pub width: usize,
    /// Tokens, `V`.
    pub nodes: usize,
}

/// A model that answers a probe. What it is asked changes nothing for the run.
pub trait Subject {
    /// Its shape.
    fn shape(&self) -> SubjectShape;

    /// The tokens of a text, without marks before it.
    ///
    /// # Errors
    /// As the model's tokenizer.
    fn tokens(&mut self, text: &str) -> Result<Vec<u32>>;

    /// −ln p of each token of `answer` after `prompt`, over all V; the tokens are those of the joined text that are
    /// not `prompt`'s. `[T]`
    ///
    /// # Errors
    /// An empty prompt, a text longer than the model's context.
    fn resist(&mut self, prompt: &str, answer: &str) -> Result<Vec<f64>>;

    /// What a text leaves, token by token, layer by layer.
    ///
    /// # Errors
    /// A state that this kind of model does not have; an empty text.
    fn states(&mut self, state: State, text: &str) -> Result<Vec<f32>>;

    /// From here on answers with the weights that training by `seed` would begin with; with its own for `None`.
    ///
    /// # Errors
    /// A model that cannot be begun anew.
    fn untrained(&mut self, seed: Option<u64>) -> Result<()>;

    /// From here on adds `delta` to one node's bias, which every signal that arrives there receives, on the graph;
    /// an empty `delta` takes the shift away. `delta [D]`
    ///
    /// # Errors
    /// A transformer, a node outside the graph, a shift of another width.
    fn shift(&mut self, node: u32, delta: &[f32]) -> Result<()>;
}
