//! Reading rotary positions from `config.json`: `rope_theta`, and `rope_scaling` or the newer `rope_parameters`.

use serde_json::{Map, Value};

use crate::transformer::rotary::{Rope, RopeScaling};
use crate::{Error, ErrorKind, Result};

/// Settings of the rotary embedding: the nested object, then the top level.
struct RopeSettings<'a> {
    nested: &'a Map<String, Value>,
    top: &'a Map<String, Value>,
    context: f64,
}

impl RopeSettings<'_> {
    fn number(&self, key: &str) -> Option<f64> {
        let value = self.nested.get(key).or_else(|| self.top.get(key))?;
        value.as_f64()
    }

    /// Read a number that must be present, finite and above 0.
    fn positive(&self, key: &str) -> Result<f64> {
        self.number(key)
            .filter(|number| number.is_finite() && *number > 0.0)
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Format,
                    format!("{key}: expected a number above 0"),
                )
            })
    }

    /// Read a factor for each rotated pair.
    fn factors(&self, key: &str, pairs: usize) -> Result<Vec<f64>> {
        self.nested
            .get(key)
            .and_then(|list| list.as_array()?.iter().map(Value::as_f64).collect())
            .filter(|values: &Vec<f64>| {
                values.len() == pairs && values.iter().all(|v| v.is_finite() && *v > 0.0)
            })
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Format,
                    format!("{key}: expected a list of {pairs} factors"),
                )
            })
    }

    /// Return the context the model was first trained for.
    fn original(&self) -> f64 {
        self.number("original_max_position_embeddings")
            .unwrap_or(self.context)
    }

    fn llama3(&self) -> Result<RopeScaling> {
        Ok(RopeScaling::Llama3 {
            factor: self.positive("factor")?,
            low: self.positive("low_freq_factor")?,
            high: self.positive("high_freq_factor")?,
            original: self.positive("original_max_position_embeddings")?,
        })
    }

    fn yarn(&self) -> Result<RopeScaling> {
        let original = self.original();
        let factor = match self.number("factor") {
            Some(_) => self.positive("factor")?,
            None => self.context / original,
        };
        // Attention temperature √(1/t) = 0.1 ln s + 1 (Peng et al. 2023, equation 22).
        let temperature = |scale: f64| {
            if factor > 1.0 {
                0.1 * scale * factor.ln() + 1.0
            } else {
                1.0
            }
        };
        let mscale = self.number("mscale").zip(self.number("mscale_all_dim"));
        let length = match (self.number("attention_factor"), mscale) {
            (Some(length), _) => length,
            (None, Some((one, all))) if one != 0.0 && all != 0.0 => {
                temperature(one) / temperature(all)
            }
            _ => temperature(1.0),
        };
        Ok(RopeScaling::Yarn {
            factor,
            fast: self.number("beta_fast").unwrap_or(32.0),
            slow: self.number("beta_slow").unwrap_or(1.0),
            original,
            length,
            truncate: self
                .nested
                .get("truncate")
                .and_then(Value::as_bool)
                .unwrap_or(true),
        })
    }

    fn longrope(&self, pairs: usize) -> Result<RopeScaling> {
        let original = self.original();
        let factor = match self.number("original_max_position_embeddings") {
            Some(original) => self.context / original,
            None => self.positive("factor")?,
        };
        // √(1 + ln s / ln L) for a context of s·L positions (Ding et al. 2024).
        let length = if factor > 1.0 {
            (1.0 + factor.ln() / original.ln()).sqrt()
        } else {
            1.0
        };
        Ok(RopeScaling::Long {
            short: self.factors("short_factor", pairs)?,
            long: self.factors("long_factor", pairs)?,
            original: original as usize,
            length: self.number("attention_factor").unwrap_or(length),
        })
    }
}

impl Rope {
    /// Read the rotary embedding of heads of `head` components from a `config.json`.
    pub(super) fn read(json: &Map<String, Value>, head: usize, context: usize) -> Result<Self> {
        let empty = Map::new();
        let nested = ["rope_parameters", "rope_scaling"]
            .into_iter()
            .find_map(|key| json.get(key).filter(|value| !value.is_null()));
        let nested = match nested {
            None => &empty,
            Some(Value::Object(map)) => map,
            Some(_) => {
                return Err(Error::new(
                    ErrorKind::Format,
                    "rope_scaling: expected an object",
                ));
            }
        };
        let settings = RopeSettings {
            nested,
            top: json,
            context: context as f64,
        };
        let theta = settings.number("rope_theta").unwrap_or(10_000.0);
        if !(theta.is_finite() && theta > 1.0) {
            return Err(Error::new(ErrorKind::Format, "rope_theta must be above 1"));
        }
        let fraction = settings.number("partial_rotary_factor").unwrap_or(1.0);
        let width = ((head as f64 * fraction) as usize).min(head);
        if width == 0 || width % 2 != 0 {
            return Err(Error::new(
                ErrorKind::Format,
                format!("partial_rotary_factor: {width} of {head} components are not pairs"),
            ));
        }
        let kind = ["rope_type", "type"]
            .into_iter()
            .find_map(|key| nested.get(key))
            .and_then(Value::as_str)
            .unwrap_or("default");
        let scaling = match kind {
            "default" => RopeScaling::None,
            "linear" => RopeScaling::Linear(settings.positive("factor")?),
            "dynamic" => RopeScaling::Dynamic(settings.positive("factor")?),
            "llama3" => settings.llama3()?,
            "yarn" => settings.yarn()?,
            "longrope" => settings.longrope(width / 2)?,
            other => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("unsupported rope_type {other:?}"),
                )
                .advice("supported: default, linear, dynamic, llama3, yarn, longrope"));
            }
        };
        Ok(Self::new(theta, width, context).with_scaling(scaling))
    }
}
