//! Reading `config.json`: a JSON object whose invalid values are reported by key.

use serde_json::{Map, Value};

use crate::transformer::Activation;
use crate::{Error, ErrorKind, Result};

/// A JSON object of settings; `null` counts as absent.
pub(super) struct Settings<'a>(pub(super) &'a Map<String, Value>);

impl Settings<'_> {
    pub(super) fn present(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// Read a value that may be absent; `expected` describes valid ones.
    pub(super) fn read<T>(
        &self,
        key: &str,
        expected: &str,
        parse: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let value = self.present(key);
        value
            .map(|value| parse(value).ok_or_else(|| invalid(key, &format!("expected {expected}"))))
            .transpose()
    }

    /// Read a count below 2^31.
    pub(super) fn count(&self, key: &str) -> Result<Option<usize>> {
        self.read(key, "a count below 2^31", |value| {
            let count = usize::try_from(value.as_u64()?).ok()?;
            (count < 1 << 31).then_some(count)
        })
    }

    /// Read a count that must be present and above 0.
    pub(super) fn required(&self, key: &str) -> Result<usize> {
        match self.count(key)? {
            Some(0) => Err(invalid(key, "must be above 0")),
            Some(number) => Ok(number),
            None => Err(invalid(key, "is missing")),
        }
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<f64>> {
        let finite = |value: &Value| value.as_f64().filter(|number| number.is_finite());
        self.read(key, "a number", finite)
    }

    /// Read a number that must be present and above 0.
    pub(super) fn positive(&self, key: &str) -> Result<f64> {
        match self.number(key)? {
            Some(number) if number > 0.0 => Ok(number),
            _ => Err(invalid(key, "expected a number above 0")),
        }
    }

    pub(super) fn flag(&self, key: &str, default: bool) -> Result<bool> {
        let flag = self.read(key, "true or false", Value::as_bool)?;
        Ok(flag.unwrap_or(default))
    }

    /// Read a token id; of a list the first.
    pub(super) fn id(&self, key: &str) -> Result<Option<u32>> {
        Ok(self.ids(key)?.first().copied())
    }

    /// Read a token id or a list of them. Negative ids and nulls, which some files have for "none", are left out.
    pub(super) fn ids(&self, key: &str) -> Result<Vec<u32>> {
        let id = |value: &Value| match value.as_i64() {
            Some(id) if id < 0 => Some(None),
            Some(id) => u32::try_from(id).ok().map(Some),
            None => value.is_null().then_some(None),
        };
        let ids = self.read(key, "a token id or a list of them", |value| match value {
            Value::Array(list) => list.iter().map(id).collect::<Option<Vec<_>>>(),
            value => Some(vec![id(value)?]),
        })?;
        let mut distinct = Vec::new();
        for id in ids.into_iter().flatten().flatten() {
            if !distinct.contains(&id) {
                distinct.push(id);
            }
        }
        Ok(distinct)
    }

    pub(super) fn activation(&self, key: &str, default: &str) -> Result<Activation> {
        match self.present(key).map_or(Some(default), Value::as_str) {
            Some("silu" | "swish") => Ok(Activation::Silu),
            Some("gelu") => Ok(Activation::Gelu),
            Some("gelu_new" | "gelu_pytorch_tanh" | "gelu_fast") => Ok(Activation::GeluTanh),
            Some("relu") => Ok(Activation::Relu),
            Some("relu2") => Ok(Activation::ReluSquared),
            other => Err(Error::new(
                ErrorKind::Unsupported,
                format!("{key}: unsupported activation {other:?}"),
            )
            .advice("supported: silu, gelu, gelu_new, relu, relu2")),
        }
    }
}

fn invalid(key: &str, what: &str) -> Error {
    Error::new(ErrorKind::Format, format!("{key}: {what}"))
}
