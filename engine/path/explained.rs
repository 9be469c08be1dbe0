//! What the tokens of a graph's session contribute to a choice.

use super::graph_session::GraphSession;
use crate::signal::{Attribution, EdgeAttribution, Margin};
use crate::{Error, ErrorKind, Result};

impl GraphSession {
    /// Split the pre-activation of the edge to `target` into what each token contributes; see [`Attribution`].
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a session without attribution (see
    /// [`SessionOptions`](crate::path::SessionOptions)); [`ErrorKind::Input`] for a target outside the vocabulary.
    pub fn split(&self, target: u32) -> Result<EdgeAttribution> {
        self.recorded()?.split(&self.mechanism, &self.flow, target)
    }

    /// Split the margin of `chosen` over `alternative` into what each token contributes; see [`Margin`]. Hooks, charges,
    /// recall and injected energy are left out.
    ///
    /// # Errors
    /// As [`Self::split`].
    pub fn split_margin(&self, chosen: u32, alternative: u32) -> Result<Margin> {
        let recorded = self.recorded()?;
        self.mechanism.check_node(chosen)?;
        self.mechanism.check_node(alternative)?;
        let mut energies = vec![0.0; self.mechanism.nodes()];
        let mut logits = energies.clone();
        self.mechanism.energies(&self.flow, &mut energies)?;
        self.mechanism.logits(&self.flow, &energies, &mut logits);
        recorded.margin(&self.mechanism, &self.flow, &logits, (chosen, alternative))
    }

    fn recorded(&self) -> Result<&Attribution> {
        self.attribution.as_deref().ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                "the session does not record what its tokens contribute",
            )
            .advice("begin it with SessionOptions { attribution: true, .. }")
        })
    }
}
