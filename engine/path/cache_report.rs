//! Sizes of a transformer's cache.

/// Bytes and lengths of a transformer's cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct CacheReport {
    /// Bytes of keys and values of kept tokens; those that several layers share count once.
    pub live_bytes: usize,
    /// Bytes of keys and values that are allocated.
    pub allocated_bytes: usize,
    /// Bytes of accumulated attention.
    pub attention_bytes: usize,
    /// Tokens that each layer keeps of the first sequence (mean over its head groups, rounded up; 0 without a cache).
    /// `[L]`
    pub retained: Vec<usize>,
    /// Rows of the prompt that each layer computed, of the first sequence: fewer where a hook prunes the residual
    /// stream. `[L]`
    pub computed: Vec<usize>,
}
