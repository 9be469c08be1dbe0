//! Bidirectional autoregression: a text grows to the right, to the left, or to either side (the idea of
//! BatGPT, Li et al. 2023, arXiv 2307.00360, whose released code is left-to-right only).
//!
//! The engine offers the best token of each side with its resistance; the plugin chooses the side.

use brillm_plugin::{Canvas, Direction, Fill, Host, OrderHook, Plugin, Result, export};

#[derive(Clone, Copy, Debug, PartialEq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Side {
    Right,
    Left,
    Alternate,
    Surest,
}

#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    order: Side,
    bias: f64,
}

struct Bidirectional(Options);

impl Plugin for Bidirectional {
    type Options = Options;

    fn create(options: Options) -> Result<Self> {
        Ok(Self(options))
    }
}

impl Bidirectional {
    /// Return whether the next token is placed before the text; `None` if neither side is open.
    fn goes_left(&self, step: u64, left: f64, right: f64) -> Option<bool> {
        match (left.is_nan(), right.is_nan()) {
            (true, true) => None,
            (true, false) => Some(false),
            (false, true) => Some(true),
            (false, false) => Some(match self.0.order {
                Side::Right => false,
                Side::Left => true,
                Side::Alternate => step % 2 == 1,
                Side::Surest => left + self.0.bias < right,
            }),
        }
    }
}

impl OrderHook for Bidirectional {
    fn next(&mut self, host: &mut Host<'_>, canvas: &Canvas<'_>) -> Result<Option<Fill>> {
        let left = self.goes_left(host.step, canvas.left_resistance, canvas.right_resistance);
        Ok(left.map(|left| {
            if left {
                Fill {
                    position: canvas.left.saturating_sub(1),
                    direction: Direction::Backward,
                }
            } else {
                Fill {
                    position: canvas.right,
                    direction: Direction::Forward,
                }
            }
        }))
    }
}

export! {
    Bidirectional {
        id: "org.brillm.bidirectional",
        about: "Extend a text to the right, to the left, or to either side (bidirectional autoregression).",
        license: "MIT OR Apache-2.0",
        schema: r#"{"type": "object", "additionalProperties": false, "properties": {
            "order": {"enum": ["right", "left", "alternate", "surest"], "default": "surest",
                "description": "side of the next token; surest: the side whose best token has less resistance"},
            "bias": {"type": "number", "minimum": -100, "maximum": 100, "default": 0,
                "description": "nats added to the left side's resistance in the comparison of surest"}}}"#,
        hooks: [OrderHook],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_chosen_as_named_and_closed_ones_never() {
        let side = |order, bias, step, left, right| {
            Bidirectional(Options { order, bias }).goes_left(step, left, right)
        };
        assert_eq!(side(Side::Right, 0.0, 1, 0.1, 9.0), Some(false));
        assert_eq!(side(Side::Left, 0.0, 0, 9.0, 0.1), Some(true));
        assert_eq!(side(Side::Alternate, 0.0, 0, 1.0, 1.0), Some(false));
        assert_eq!(side(Side::Alternate, 0.0, 1, 1.0, 1.0), Some(true));
        assert_eq!(side(Side::Surest, 0.0, 0, 0.5, 1.0), Some(true));
        assert_eq!(side(Side::Surest, 0.6, 0, 0.5, 1.0), Some(false));
        for order in [Side::Right, Side::Left, Side::Alternate, Side::Surest] {
            assert_eq!(side(order, 0.0, 0, f64::NAN, 1.0), Some(false));
            assert_eq!(side(order, 0.0, 0, 1.0, f64::NAN), Some(true));
            assert_eq!(side(order, 0.0, 0, f64::NAN, f64::NAN), None);
        }
    }
}
