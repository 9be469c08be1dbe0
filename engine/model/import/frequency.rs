//! Streaming reader for the authors' word frequencies, `{source: {target: count}}`.

use std::path::Path;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};

use crate::text::{Input, Vocabulary};
use crate::{Error, ErrorKind};

/// Read the pairs that were counted at least once: source, target, count.
///
/// The published files hold all V² pairs, zeros included, in 220–270 MB; memory grows with the pairs above zero.
///
/// # Errors
/// [`ErrorKind::Io`]; [`ErrorKind::Format`] for another layout;
/// [`ErrorKind::Vocabulary`] for a token outside the vocabulary.
pub fn read_frequency(path: &Path, vocabulary: &Vocabulary) -> crate::Result<Vec<(u32, u32, u32)>> {
    let mut reader = serde_json::Deserializer::from_reader(Input::open(path)?);
    let mut edges = Vec::new();
    let invalid = |error: serde_json::Error| {
        let kind = if error.to_string().contains("vocabulary") {
            ErrorKind::Vocabulary
        } else {
            ErrorKind::Format
        };
        Error::new(kind, format!("invalid word frequencies: {error}")).at(path.display())
    };
    Counts {
        vocabulary,
        source: None,
        edges: &mut edges,
    }
    .deserialize(&mut reader)
    .map_err(invalid)?;
    reader.end().map_err(invalid)?;
    Ok(edges)
}

/// Reads the outer object where `source` is `None`, and the targets of `source` otherwise.
struct Counts<'a> {
    vocabulary: &'a Vocabulary,
    source: Option<u32>,
    edges: &'a mut Vec<(u32, u32, u32)>,
}

impl<'de> DeserializeSeed<'de> for Counts<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Counts<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self.source {
            None => "an object of sources",
            Some(_) => "an object of targets and counts",
        })
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let vocabulary = self.vocabulary;
        while let Some(token) = map.next_key::<String>()? {
            let id = vocabulary.id(&token).ok_or_else(|| {
                M::Error::custom(format!("token {token:?} is not in the vocabulary"))
            })?;
            let Some(source) = self.source else {
                map.next_value_seed(Counts {
                    vocabulary,
                    source: Some(id),
                    edges: &mut *self.edges,
                })?;
                continue;
            };
            let count = map.next_value()?;
            if count > 0 {
                self.edges.push((source, id, count));
            }
        }
        Ok(())
    }
}
