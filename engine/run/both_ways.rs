//! Text that grows in both directions, with a model for each: `order/1` on graphs and transformers.

use std::collections::VecDeque;

use crate::hook::{Call, Canvas, Direction, Hooks};
use crate::kernel::random::Random;
use crate::path::Sampling;
use crate::run::canvas::least;
use crate::run::{Grown, Placed, Reader, same_tokens};
use crate::{Error, ErrorKind, Result};

/// The random stream of choices.
const CHOOSING: u64 = 0x626f_7468;

/// Grow `prompt` by up to `tokens` tokens where the hooks' `order/1` says, to the right where it has no opinion: on
/// the right with `forward`, on the left with `backward`. A side that a text's end has been drawn for is closed.
///
/// # Errors
/// [`ErrorKind::Input`] for an empty prompt; [`ErrorKind::Vocabulary`] for models with other tokens;
/// [`ErrorKind::Plugin`] when a place is named where nothing can grow; whatever a hook meets.
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
    let mut ids: VecDeque<u32> = prompt.iter().copied().collect();
    let mut canvas = vec![Canvas::EMPTY; tokens];
    canvas.extend(&prompt);
    canvas.resize(2 * tokens + prompt.len(), Canvas::EMPTY);
    let (mut left, mut right) = (tokens, tokens + prompt.len());
    let mut random = Random::stream(sampling.seed, CHOOSING, 0);
    let mut placed = Vec::new();
    let mut step = 0;
    while placed.len() < tokens && sides.iter().any(|side| side.2) {
        let text = ids.make_contiguous();
        let mut logits = Vec::new();
        for (reader, _, open) in &sides {
            logits.push(match open {
                true => Some(reader.logits(text)?),
                false => None,
            });
        }
        let resistances: Vec<f64> = logits
            .iter()
            .map(|logits| logits.as_deref().map_or(f64::NAN, least))
            .collect();
        let answer = match &hooks.order {
            None => None,
            Some(order) => order.next(
                &Call::new(sampling.seed, 0, step),
                &Canvas {
                    tokens: &canvas,
                    left: left as u64,
                    right: right as u64,
                    left_resistance: resistances[0],
                    right_resistance: resistances[1],
                },
            )?,
        };
        let side = match answer {
            None => usize::from(sides[1].2),
            Some(place) => {
                let side = match place.direction {
                    Direction::Backward if left > 0 && place.position == left as u64 - 1 => 0,
                    Direction::Forward if place.position == right as u64 => 1,
                    _ => 2,
                };
                if side == 2 || !sides[side].2 {
                    return Err(Error::new(
                        ErrorKind::Plugin,
                        format!("position {} cannot be filled", place.position),
                    )
                    .at(format!("step {step}"))
                    .at("order/1"));
                }
                side
            }
        };
        step += 1;
        let mut row = logits[side].take().unwrap_or_default();
        let token = sampling.choose(&mut row, &[], &mut random);
        let Some(token) = token.filter(|token| !sides[side].1.contains(token)) else {
            sides[side].2 = false;
            continue;
        };
        let position = match side {
            0 => {
                left -= 1;
                ids.push_front(token);
                left
            }
            _ => {
                right += 1;
                ids.push_back(token);
                right - 1
            }
        };
        canvas[position] = token;
        placed.push(Placed {
            position: position as i64 - tokens as i64,
            token,
            backward: side == 0,
            resistance: resistances[side],
        });
    }
    Ok(Grown {
        ids: ids.into(),
        before: tokens - left,
        placed,
    })
}
