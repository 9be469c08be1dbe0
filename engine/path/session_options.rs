//! Options of a graph's session.

use std::collections::BTreeMap;

use crate::path::{Charges, HookRunner, RecallSettings};

/// What a graph's session does besides choosing tokens.
///
/// ```
/// use brillm::path::SessionOptions;
/// let options = SessionOptions { attribution: true, ..SessionOptions::default() };
/// assert!(options.hook_runner.is_none() && options.gains.is_empty());
/// ```
#[derive(Clone, Debug, Default)]
pub struct SessionOptions {
    /// Hooks to call.
    pub hook_runner: Option<Box<HookRunner>>,
    /// Factors of what the tokens at some positions (from 0) add to the signal: 0 takes a token out of the context of
    /// all later ones.
    pub gains: BTreeMap<u64, f32>,
    /// Charge visited nodes and edges, from the first hop of the prompt on; see [`Charges`].
    pub charges: Option<Charges>,
    /// Remember past signals and the nodes that followed, from the first node of the prompt on; see
    /// [`Recall`](crate::path::Recall).
    pub recall: Option<RecallSettings>,
    /// Whether to keep each token's contribution to the signal, for
    /// [`GraphSession::split`](crate::path::GraphSession::split); memory and time then grow with the path.
    pub attribution: bool,
}
