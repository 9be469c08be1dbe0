//! Rotary positions (Su et al. 2021) and their scalings to longer contexts.
//!
//! Component pairs (i, i + d/2) of a query or key turn by the angle `position · f_i` with
//! `f_i = θ^(−2i/d)`; a scaling changes the frequencies, and some also the length of the vector.

use serde_json::{Map, Value};

use crate::{Error, ErrorKind, Result};

/// How frequencies are changed for longer contexts.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Divided by a factor (position interpolation, Chen et al. 2023).
    Linear(f64),
    /// θ grows with the text once it is longer than the context (dynamic NTK).
    Dynamic(f64),
    /// Low frequencies divided, high ones kept, a linear ramp between (Llama 3.1).
    Llama3 {
        /// What low frequencies are divided by.
        factor: f64,
        /// Wavelengths above the context divided by this are low frequencies.
        low: f64,
        /// Wavelengths below the context divided by this are high frequencies.
        high: f64,
        /// The context the model was first trained for.
        original: f64,
    },
    /// A ramp over components between interpolation and none, with a temperature (Peng et al. 2023).
    Yarn {
        /// What interpolated frequencies are divided by.
        factor: f64,
        /// Rotations over the context from which a component is left alone.
        fast: f64,
        /// Rotations below which it is interpolated in full.
        slow: f64,
        /// The context the model was first trained for.
        original: f64,
        /// What queries and keys are multiplied by.
        length: f64,
        /// Whether the ramp's ends are whole components.
        truncate: bool,
    },
    /// A factor for each component, one list for texts within the first context and one beyond (LongRoPE).
    Long {
        /// Within the first context.
        short: Vec<f64>,
        /// Beyond it.
        long: Vec<f64>,
        /// The context the model was first trained for.
        original: usize,
        /// What queries and keys are multiplied by.
        length: f64,
    },
}

/// The rotation of a model's queries and keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    theta: f64,
    /// Components that turn; the rest stay.
    width: usize,
    context: usize,
    scaling: RopeScaling,
}

impl Rope {
    /// A rotation without scaling, for heads of `width` components.
    pub fn new(theta: f64, width: usize, context: usize) -> Self {
        Self {
            theta,
            width,
            context,
            scaling: RopeScaling::None,
        }
    }

    /// Reads `rope_theta` and `rope_scaling`, or the `rope_parameters` that newer files have.
    pub(super) fn read(json: &Map<String, Value>, head: usize, context: usize) -> Result<Self> {
        let empty = Map::new();
        let present = |key: &str| json.get(key).filter(|value| !value.is_null());
        let section = ["rope_parameters", "rope_scaling"]
            .into_iter()
            .find_map(present);
        let scaling = match section {
            None => &empty,
            Some(Value::Object(map)) => map,
            Some(_) => {
                return Err(Error::new(
                    ErrorKind::Format,
                    "rope_scaling is not an object",
                ));
            }
        };
        let given = |key: &str| {
            scaling
                .get(key)
                .or_else(|| json.get(key))
                .and_then(Value::as_f64)
        };
        let need = |key: &str| {
            given(key)
                .filter(|number| number.is_finite() && *number > 0.0)
                .ok_or_else(|| {
                    Error::new(
                        ErrorKind::Format,
                        format!("{key} is missing or not above 0"),
                    )
                })
        };
        let theta = given("rope_theta").unwrap_or(10_000.0);
        if !(theta.is_finite() && theta > 1.0) {
            return Err(Error::new(ErrorKind::Format, "rope_theta must be above 1"));
        }
        let share = given("partial_rotary_factor").unwrap_or(1.0);
        let width = ((head as f64 * share) as usize).min(head);
        if width == 0 || width % 2 != 0 {
            return Err(Error::new(
                ErrorKind::Format,
                format!("{width} rotated components of {head} are no pairs"),
            ));
        }
        let original = given("original_max_position_embeddings");
        let kind = ["rope_type", "type"]
            .into_iter()
            .find_map(|key| scaling.get(key))
            .and_then(Value::as_str)
            .unwrap_or("default");
        let list = |key: &str| -> Result<Vec<f64>> {
            let values: Option<Vec<f64>> = scaling
                .get(key)
                .and_then(Value::as_array)
                .and_then(|list| list.iter().map(Value::as_f64).collect());
            values
                .filter(|values| {
                    values.len() == width / 2 && values.iter().all(|v| v.is_finite() && *v > 0.0)
                })
                .ok_or_else(|| {
                    Error::new(
                        ErrorKind::Format,
                        format!("{key} is not a list of {} factors", width / 2),
                    )
                })
        };
        let scaling = match kind {
            "default" => RopeScaling::None,
            "linear" => RopeScaling::Linear(need("factor")?),
            "dynamic" => RopeScaling::Dynamic(need("factor")?),
            "llama3" => RopeScaling::Llama3 {
                factor: need("factor")?,
                low: need("low_freq_factor")?,
                high: need("high_freq_factor")?,
                original: need("original_max_position_embeddings")?,
            },
            "yarn" => {
                let first = original.unwrap_or(context as f64);
                let factor = match given("factor") {
                    Some(_) => need("factor")?,
                    None => context as f64 / first,
                };
                let temperature = |scale: f64| match factor > 1.0 {
                    true => 0.1 * scale * factor.ln() + 1.0,
                    false => 1.0,
                };
                let length = match (
                    given("attention_factor"),
                    given("mscale"),
                    given("mscale_all_dim"),
                ) {
                    (Some(length), ..) => length,
                    (None, Some(one), Some(all)) if one != 0.0 && all != 0.0 => {
                        temperature(one) / temperature(all)
                    }
                    _ => temperature(1.0),
                };
                RopeScaling::Yarn {
                    factor,
                    fast: given("beta_fast").unwrap_or(32.0),
                    slow: given("beta_slow").unwrap_or(1.0),
                    original: first,
                    length,
                    truncate: scaling
                        .get("truncate")
                        .and_then(Value::as_bool)
                        .unwrap_or(true),
                }
            }
            "longrope" => {
                let first = original.unwrap_or(context as f64);
                let factor = match original {
                    Some(original) => context as f64 / original,
                    None => need("factor")?,
                };
                RopeScaling::Long {
                    short: list("short_factor")?,
                    long: list("long_factor")?,
                    original: first as usize,
                    length: given("attention_factor").unwrap_or(match factor > 1.0 {
                        true => (1.0 + factor.ln() / first.ln()).sqrt(),
                        false => 1.0,
                    }),
                }
            }
            other => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("the rotary scaling {other:?} is not built here"),
                )
                .advice("default, linear, dynamic, llama3, yarn and longrope are"));
            }
        };
        Ok(Self {
            theta,
            width,
            context,
            scaling,
        })
    }

    /// Components that turn.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The scaling.
    pub fn scaling(&self) -> &RopeScaling {
        &self.scaling
    }

    /// The same rotation with another scaling.
    #[must_use]
    pub fn scaled(mut self, scaling: RopeScaling) -> Self {
        self.scaling = scaling;
        self
    }

    /// Frequencies for a text of `length` tokens, and what turned vectors are multiplied by. `[width / 2]`
    pub fn frequencies(&self, length: usize) -> (Vec<f32>, f32) {
        let half = self.width / 2;
        let power = |theta: f64| -> Vec<f64> {
            (0..half)
                .map(|i| theta.powf(-(2.0 * i as f64) / self.width as f64))
                .collect()
        };
        let plain = power(self.theta);
        let (frequencies, scale) = match &self.scaling {
            RopeScaling::None => (plain, 1.0),
            RopeScaling::Linear(factor) => (plain.iter().map(|f| f / factor).collect(), 1.0),
            RopeScaling::Dynamic(factor) => {
                let stretched = length.max(self.context) as f64 / self.context.max(1) as f64;
                let exponent = self.width as f64 / (self.width as f64 - 2.0).max(1e-9);
                let theta = self.theta * (factor * stretched - (factor - 1.0)).powf(exponent);
                (power(theta), 1.0)
            }
            RopeScaling::Llama3 {
                factor,
                low,
                high,
                original,
            } => {
                let change = |f: &f64| {
                    let wave = std::f64::consts::TAU / f;
                    if wave > original / low {
                        f / factor
                    } else if wave < original / high {
                        *f
                    } else {
                        let smooth = (original / wave - low) / (high - low);
                        (1.0 - smooth) * f / factor + smooth * f
                    }
                };
                (plain.iter().map(change).collect(), 1.0)
            }
            RopeScaling::Yarn {
                factor,
                fast,
                slow,
                original,
                length,
                truncate,
            } => {
                let component = |rotations: f64| {
                    self.width as f64 * (original / (rotations * std::f64::consts::TAU)).ln()
                        / (2.0 * self.theta.ln())
                };
                let (mut low, mut high) = (component(*fast), component(*slow));
                if *truncate {
                    (low, high) = (low.floor(), high.ceil());
                }
                let low = low.max(0.0);
                let mut high = high.min(self.width as f64 - 1.0);
                if low == high {
                    high += 0.001;
                }
                let change = |(i, f): (usize, &f64)| {
                    let ramp = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                    f / factor * ramp + f * (1.0 - ramp)
                };
                (plain.iter().enumerate().map(change).collect(), *length)
            }
            RopeScaling::Long {
                short,
                long,
                original,
                length: scale,
            } => {
                let factors = if length > *original { long } else { short };
                (
                    plain.iter().zip(factors).map(|(f, by)| f / by).collect(),
                    *scale,
                )
            }
        };
        (
            frequencies.iter().map(|&f| f as f32).collect(),
            scale as f32,
        )
    }

    /// The turns of a text of `length` tokens at most.
    pub fn turns(&self, length: usize) -> RotaryTable {
        let (frequencies, scale) = self.frequencies(length);
        RotaryTable { frequencies, scale }
    }
}

/// Frequencies that are settled, ready to turn vectors.
#[derive(Clone, Debug)]
pub struct RotaryTable {
    frequencies: Vec<f32>,
    scale: f32,
}

impl RotaryTable {
    /// Turns every head of a row to `position`; `back` turns the other way, which is the way of gradients.
    ///
    /// `row` holds heads of `head` components each.
    pub fn turn(&self, row: &mut [f32], head: usize, position: u32, back: bool) {
        let half = self.frequencies.len();
        let position = position as f32;
        for (i, &frequency) in self.frequencies.iter().enumerate() {
            let (sine, cosine) = (position * frequency).sin_cos();
            let (sine, cosine) = (sine * self.scale, cosine * self.scale);
            let sine = if back { -sine } else { sine };
            for head in row.chunks_exact_mut(head) {
                let (a, b) = (head[i], head[i + half]);
                head[i] = a * cosine - b * sine;
                head[i + half] = b * cosine + a * sine;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(scaling: Value) -> Rope {
        let json = serde_json::json!({"rope_theta": 10000.0, "rope_scaling": scaling});
        Rope::read(json.as_object().unwrap(), 16, 64).unwrap()
    }

    #[test]
    fn scalings_change_frequencies_as_their_formulas_say() {
        let plain = Rope::new(10_000.0, 16, 64).frequencies(10).0;
        let linear = read(serde_json::json!({"rope_type": "linear", "factor": 4.0}));
        for (scaled, f) in linear.frequencies(10).0.iter().zip(&plain) {
            assert!((scaled * 4.0 - f).abs() < 1e-6);
        }
        let dynamic = read(serde_json::json!({"type": "dynamic", "factor": 2.0}));
        assert_eq!(dynamic.frequencies(64).0, plain);
        assert!(dynamic.frequencies(128).0[7] < plain[7]);
        let llama = read(
            serde_json::json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 64}),
        );
        let found = llama.frequencies(10).0;
        assert_eq!(found[0], plain[0]);
        assert!((found[7] * 8.0 - plain[7]).abs() < 1e-9);
        let yarn = read(serde_json::json!({"rope_type": "yarn", "factor": 4.0,
            "original_max_position_embeddings": 16}));
        let (found, scale) = yarn.frequencies(10);
        assert!((f64::from(scale) - (0.1 * 4.0f64.ln() + 1.0)).abs() < 1e-6);
        assert!((found[7] * 4.0 - plain[7]).abs() < 1e-9 && found[0] == plain[0]);
    }

    #[test]
    fn turning_back_undoes_a_turn() {
        let turns = Rope::new(10_000.0, 8, 64).turns(64);
        let row: Vec<f32> = (0..16).map(|i| i as f32).collect();
        let mut turned = row.clone();
        turns.turn(&mut turned, 8, 37, false);
        assert!((turned[1] - row[1]).abs() > 0.1);
        turns.turn(&mut turned, 8, 37, true);
        for (a, b) in turned.iter().zip(&row) {
            assert!((a - b).abs() < 1e-4);
        }
    }

    #[test]
    fn an_unknown_scaling_is_named() {
        let json = serde_json::json!({"rope_scaling": {"rope_type": "spiral"}});
        let error = Rope::read(json.as_object().unwrap(), 16, 64).unwrap_err();
        assert!(error.to_string().contains("spiral"), "{error}");
    }
}
