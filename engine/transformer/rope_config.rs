//! Reading rotary positions from `config.json`: `rope_theta`, and `rope_scaling` or the newer `rope_parameters`.

use serde_json::{Map, Value};

use crate::transformer::rotary::{Rope, RopeScaling};
use crate::transformer::settings::Settings;
use crate::{Error, ErrorKind, Result};

impl Rope {
    /// Read the rotary embedding of heads of `head` components from a `config.json`. Files with several embeddings have
    /// settings for each `kind` of layers.
    pub(super) fn read(
        json: &Map<String, Value>,
        kind: &str,
        head: usize,
        context: usize,
    ) -> Result<Self> {
        // Settings of the nested object precede those of the top level.
        let mut merged = json.clone();
        for key in ["rope_scaling", "rope_parameters"] {
            let object = |value: &Value| value.as_object().cloned();
            let nested = Settings(json).read(key, "an object", object)?;
            let mut nested = nested.unwrap_or_default();
            if let Some(Value::Object(of_kind)) = nested.remove(kind) {
                nested = of_kind;
            }
            merged.extend(nested);
        }
        let settings = Settings(&merged);
        // The second names are those of GPT-NeoX.
        let first = |names: [&str; 2]| -> Result<Option<f64>> {
            Ok(settings.number(names[0])?.or(settings.number(names[1])?))
        };
        let theta = first(["rope_theta", "rotary_emb_base"])?.unwrap_or(10_000.0);
        if theta <= 1.0 {
            return Err(Error::new(ErrorKind::Format, "rope_theta must be above 1"));
        }
        let fraction = first(["partial_rotary_factor", "rotary_pct"])?.unwrap_or(1.0);
        // A partial rotary embedding rotates the first components of a head and leaves the rest.
        let width = ((head as f64 * fraction) as usize).min(head);
        if width == 0 || width % 2 != 0 {
            return Err(Error::new(
                ErrorKind::Format,
                format!("partial_rotary_factor: {width} of {head} components are not pairs"),
            ));
        }
        let kind = settings.present("rope_type").or(settings.present("type"));
        let scaling = match kind.and_then(Value::as_str).unwrap_or("default") {
            "default" => RopeScaling::None,
            "linear" => RopeScaling::Linear(settings.positive("factor")?),
            "dynamic" => RopeScaling::Dynamic(settings.positive("factor")?),
            "llama3" => RopeScaling::Llama3 {
                factor: settings.positive("factor")?,
                low: settings.positive("low_freq_factor")?,
                high: settings.positive("high_freq_factor")?,
                original: settings.positive(ORIGINAL)?,
            },
            "yarn" => yarn(&settings, context as f64)?,
            "longrope" => longrope(&settings, context as f64, width / 2)?,
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

/// Context the model was first trained for.
const ORIGINAL: &str = "original_max_position_embeddings";

fn yarn(settings: &Settings<'_>, context: f64) -> Result<RopeScaling> {
    let original = match settings.number(ORIGINAL)? {
        Some(_) => settings.positive(ORIGINAL)?,
        None => context,
    };
    let factor = match settings.number("factor")? {
        Some(_) => settings.positive("factor")?,
        None => context / original,
    };
    // Attention temperature √(1/t) = 0.1 ln s + 1 (Peng et al. 2023, equation 22).
    let temperature = |scale: f64| {
        if factor > 1.0 {
            0.1 * scale * factor.ln() + 1.0
        } else {
            1.0
        }
    };
    let (one, all) = (
        settings.number("mscale")?,
        settings.number("mscale_all_dim")?,
    );
    let length = match (settings.number("attention_factor")?, one, all) {
        (Some(length), ..) => length,
        (None, Some(one), Some(all)) if one != 0.0 && all != 0.0 => {
            temperature(one) / temperature(all)
        }
        _ => temperature(1.0),
    };
    Ok(RopeScaling::Yarn {
        factor,
        fast: settings.number("beta_fast")?.unwrap_or(32.0),
        slow: settings.number("beta_slow")?.unwrap_or(1.0),
        original,
        length,
        truncate: settings.flag("truncate", true)?,
    })
}

fn longrope(settings: &Settings<'_>, context: f64, pairs: usize) -> Result<RopeScaling> {
    let (original, factor) = match settings.number(ORIGINAL)? {
        Some(_) => {
            let original = settings.positive(ORIGINAL)?;
            (original, context / original)
        }
        None => (context, settings.positive("factor")?),
    };
    // √(1 + ln s / ln L) for a context of s·L positions (Ding et al. 2024).
    let length = if factor > 1.0 {
        (1.0 + factor.ln() / original.ln()).sqrt()
    } else {
        1.0
    };
    let factors = |key: &str| {
        let list = settings.read(key, &format!("a list of {pairs} factors"), |list| {
            let list = list.as_array()?.iter().map(Value::as_f64);
            let list: Vec<f64> = list.collect::<Option<_>>()?;
            let valid = list.len() == pairs && list.iter().all(|v| v.is_finite() && *v > 0.0);
            valid.then_some(list)
        })?;
        list.ok_or_else(|| Error::new(ErrorKind::Format, format!("{key}: is missing")))
    };
    Ok(RopeScaling::Long {
        short: factors("short_factor")?,
        long: factors("long_factor")?,
        original: original as usize,
        length: settings.number("attention_factor")?.unwrap_or(length),
    })
}
