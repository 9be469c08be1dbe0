//! Text that grows in both directions, with a model for each: `order/1` on graphs and transformers.

use crate::hook::{Direction, Hooks};
use crate::kernel::random::Random;
use crate::path::{History, Sampling, check_tokens};
use crate::run::canvas::{GrowingText, least};
use crate::run::{Grown, Reader, same_tokens};
use crate::{Error, ErrorKind, Result};

/// The random stream of choices.
const CHOOSING: u64 = 0x626f_7468;

/// Grow `prompt` by up to `tokens` tokens where `order/1` decides, to the right where it declines: on
/// the right with `forward`, on the left with `backward`. A side ends when a stop token is drawn for it.
///
/// # Errors
/// [`ErrorKind::Input`] for an empty prompt; [`ErrorKind::Vocabulary`] for models with other tokens;
/// [`ErrorKind::Plugin`] when a hook names a position that cannot be filled; those of the hooks.
///
/// # Complexity
/// In each step both models read the whole text again, because the text on the other side has changed.
pub fn grow_both_ways(
    forward: &Reader,
    backward: &Reader,
    prompt: &[u32],
    sampling: &Sampling,
    tokens: usize,
    ignore_eos: bool,
    hooks: &Hooks,
) -> Result<Grown> {
    sampling.check()?;
    check_tokens(sampling, forward.engine().vocabulary())?;
    same_tokens(forward, backward)?;
    let prompt = forward.bare(prompt);
    if prompt.is_empty() {
        return Err(Error::new(ErrorKind::Input, "the prompt is empty"));
    }
    let stop_tokens = |reader: &Reader| {
        if ignore_eos {
            Vec::new()
        } else {
            reader.engine().stop_tokens()
        }
    };
    let mut sides = [
        (backward, stop_tokens(backward), true),
        (forward, stop_tokens(forward), true),
    ];
    let mut text = GrowingText::new(&prompt, tokens);
    let mut random = Random::stream(sampling.seed, CHOOSING, 0);
    let mut step = 0;
    while text.placed.len() < tokens && sides.iter().any(|side| side.2) {
        let mut logits = [None, None];
        for (logits, (reader, _, open)) in logits.iter_mut().zip(&sides) {
            if *open {
                *logits = Some(reader.logits(text.ids.make_contiguous())?);
            }
        }
        let resistances = [0, 1].map(|side: usize| logits[side].as_deref().map_or(f64::NAN, least));
        let fill = text.ask(hooks, sampling.seed, step, resistances)?;
        // Where the hooks decline, the text grows to the right while that side is open.
        let direction = match fill {
            None if sides[1].2 => Some(Direction::Forward),
            None => Some(Direction::Backward),
            Some(_) => text.side(fill),
        };
        let side = usize::from(direction == Some(Direction::Forward));
        let Some(direction) = direction.filter(|_| sides[side].2) else {
            let position = fill.map_or(0, |fill| fill.position);
            return Err(Error::new(
                ErrorKind::Plugin,
                format!("position {position} cannot be filled"),
            )
            .at(format!("step {step}"))
            .at("order/1"));
        };
        step += 1;
        let mut row = logits[side].take().unwrap_or_default();
        let token = sampling.choose(&mut row, &History::default(), &mut random)?;
        match token.filter(|token| !sides[side].1.contains(token)) {
            Some(token) => text.push(token, direction, resistances[side]),
            None => sides[side].2 = false,
        }
    }
    Ok(text.finish())
}
