//! Data of `corpus/1`.

/// A request for generated text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Speech<'a> {
    /// System message of a chat model; other models read it before the prompt.
    pub system: &'a str,
    /// Text to continue or to answer.
    pub prompt: &'a str,
    /// Maximum number of new tokens.
    pub tokens: usize,
    /// A text whose sub-graph (its tokens and the hops between them) is preferred. Empty for none.
    pub within: &'a str,
    /// Bonus in nats for each hop of that sub-graph; infinity allows no other hop.
    pub gain: f64,
}

/// Generated text.
#[derive(Clone, Debug, PartialEq)]
pub struct Spoken {
    /// The text.
    pub text: String,
    /// Whether the text reached the maximum length.
    pub cut: bool,
    /// Fraction of the text's hops that are hops of [`Speech::within`]; `None` without one, or if the model's tokens
    /// are not known.
    pub grounded: Option<f64>,
}
