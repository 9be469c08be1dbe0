//! Reading `config.json`: a JSON object whose invalid values are reported by key.

use serde_json::{Map, Value};

use crate::transformer::Activation;
use crate::{Error, ErrorKind, Result};

/// A JSON object of settings; `null` counts as absent.
pub(super) struct Settings<'a>(pub(super) &'a Map<String, Value>);

/// Report an invalid value.
fn invalid(key: &str, what: &str) -> Error {
    Error::new(ErrorKind::Format, format!("{key}: {what}"))
}

impl Settings<'_> {
    pub(super) fn present(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// Read a count below 2^31.
    pub(super) fn count(&self, key: &str) -> Result<Option<usize>> {
        self.present(key)
            .map(|value| {
                value
                    .as_u64()
                    .and_then(|number| usize::try_from(number).ok())
                    .filter(|&number| number < 1 << 31)
                    .ok_or_else(|| invalid(key, "expected a count below 2^31"))
            })
            .transpose()
    }

    /// Read a count that must be present and above 0.
    pub(super) fn required(&self, key: &str) -> Result<usize> {
        match self.count(key)? {
            Some(0) => Err(invalid(key, "must be above 0")),
            Some(number) => Ok(number),
            None => Err(invalid(key, "is missing")),
        }
    }

    pub(super) fn number(&self, key: &str, default: f64) -> Result<f64> {
        self.present(key).map_or(Ok(default), |value| {
            value
                .as_f64()
                .filter(|number| number.is_finite())
                .ok_or_else(|| invalid(key, "expected a number"))
        })
    }

    pub(super) fn flag(&self, key: &str, default: bool) -> Result<bool> {
        self.present(key).map_or(Ok(default), |value| {
            value
                .as_bool()
                .ok_or_else(|| invalid(key, "expected true or false"))
        })
    }

    /// Read a token id.
    pub(super) fn id(&self, key: &str) -> Result<Option<u32>> {
        Ok(self.count(key)?.map(|id| id as u32))
    }

    /// Read a token id or a list of them.
    pub(super) fn ids(&self, key: &str) -> Result<Vec<u32>> {
        match self.present(key) {
            Some(Value::Array(list)) => list
                .iter()
                .map(|value| {
                    value
                        .as_u64()
                        .and_then(|id| u32::try_from(id).ok())
                        .ok_or_else(|| invalid(key, "expected a list of token ids"))
                })
                .collect(),
            _ => Ok(self.id(key)?.into_iter().collect()),
        }
    }

    pub(super) fn activation(&self, key: &str, default: &str) -> Result<Activation> {
        match self.present(key).map_or(Some(default), Value::as_str) {
            Some("silu" | "swish") => Ok(Activation::Silu),
            Some("gelu") => Ok(Activation::Gelu),
            Some("gelu_new" | "gelu_pytorch_tanh" | "gelu_fast") => Ok(Activation::GeluTanh),
            Some("relu") => Ok(Activation::Relu),
            other => Err(Error::new(
                ErrorKind::Unsupported,
                format!("{key}: unsupported activation {other:?}"),
            )
            .advice("supported: silu, gelu, gelu_new, relu")),
        }
    }
}
