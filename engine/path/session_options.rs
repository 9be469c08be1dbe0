//! What a session is told besides its prompt.

use std::collections::BTreeMap;

use crate::path::HookRunner;

/// What a session does besides flowing.
///
/// ```
/// use brillm::path::SessionOptions;
/// let options = SessionOptions { attribution: true, ..SessionOptions::default() };
/// assert!(options.hook_runner.is_none() && options.gains.is_empty());
/// ```
#[derive(Clone, Debug, Default)]
pub struct SessionOptions {
    /// Hooks that are asked on the way.
    pub hook_runner: Option<Box<HookRunner>>,
    /// By how much what the tokens at some positions of the path (from 0) add to its signal is multiplied: 0 takes
    /// a token out of the context of all later ones.
    pub gains: BTreeMap<u64, f32>,
    /// Whether it keeps the shares of its tokens, for [`GraphSession::split`](crate::path::GraphSession::split): memory and time then grow with the path.
    pub attribution: bool,
}
