//! Filling the masks of a text with a masked language model.

use crate::hook::Hooks;
use crate::path::{Sampling, check_tokens};
use crate::transformer::{FilledMask, Transformer, fill_masks, mask_token};
use crate::{Error, ErrorKind, Result};

/// Fill the masks of a text of ids; without a mask, `tokens` of them (or as many as fit) are put at the end.
/// The text, and what was filled in, in the order of filling.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for a model that fills in nothing; [`ErrorKind::Input`] for a biased or banned token
/// outside the vocabulary; as [`fill_masks`].
pub fn fill_text(
    model: &Transformer,
    ids: &[u32],
    tokens: usize,
    sampling: &Sampling,
    hooks: &Hooks,
) -> Result<(Vec<u32>, Vec<FilledMask>)> {
    let mask = mask_token(model)?;
    check_tokens(sampling, model.configuration().vocabulary)?;
    let network = model
        .network()
        .ok_or_else(|| Error::new(ErrorKind::Unsupported, "only a bert fills in masks"))?;
    let mut text = ids.to_vec();
    let after = model.tokenizer().frame().1;
    if !text.contains(&mask) {
        let room = model
            .configuration()
            .context
            .saturating_sub(text.len() + after.len());
        text.extend(std::iter::repeat_n(mask, tokens.min(room)));
    }
    text.extend(&after);
    let filled = fill_masks(network, &mut text, mask, sampling, hooks.order.as_ref())?;
    Ok((text, filled))
}
