//! The authors' word frequencies, `{source: {target: count}}`, read as a stream.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};

use crate::text::Vocabulary;
use crate::{Error, ErrorKind, Result};

/// The edges that were counted at least once: source, target, count.
///
/// The official files hold all V² pairs, zeros included, in 220–270 MB; memory grows with what is not zero.
///
/// # Errors
/// [`ErrorKind::Io`]; [`ErrorKind::Format`] for anything but that layout;
/// [`ErrorKind::Vocabulary`] for a token outside the vocabulary.
pub fn read_frequency(path: &Path, vocabulary: &Vocabulary) -> Result<Vec<(u32, u32, u32)>> {
    let file = File::open(path).map_err(|error| Error::io(error, path.display()))?;
    let mut reader = serde_json::Deserializer::from_reader(BufReader::with_capacity(1 << 20, file));
    let mut edges = Vec::new();
    let fault = |error: serde_json::Error| {
        let kind = if error.to_string().contains("vocabulary") {
            ErrorKind::Vocabulary
        } else {
            ErrorKind::Format
        };
        Error::new(kind, format!("not word frequencies: {error}")).at(path.display())
    };
    Sources {
        vocabulary,
        edges: &mut edges,
    }
    .deserialize(&mut reader)
    .map_err(fault)?;
    reader.end().map_err(fault)?;
    Ok(edges)
}

struct Sources<'a> {
    vocabulary: &'a Vocabulary,
    edges: &'a mut Vec<(u32, u32, u32)>,
}

struct Targets<'a> {
    vocabulary: &'a Vocabulary,
    source: u32,
    edges: &'a mut Vec<(u32, u32, u32)>,
}

fn id<E: serde::de::Error>(vocabulary: &Vocabulary, token: &str) -> std::result::Result<u32, E> {
    vocabulary
        .id(token)
        .ok_or_else(|| E::custom(format!("the vocabulary has no token {token:?}")))
}

impl<'de> DeserializeSeed<'de> for Sources<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> std::result::Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Sources<'_> {
    type Value = ();
    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an object of sources")
    }
    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> std::result::Result<(), M::Error> {
        while let Some(token) = map.next_key::<String>()? {
            let source = id(self.vocabulary, &token)?;
            map.next_value_seed(Targets {
                vocabulary: self.vocabulary,
                source,
                edges: self.edges,
            })?;
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Targets<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> std::result::Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Targets<'_> {
    type Value = ();
    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an object of targets and counts")
    }
    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> std::result::Result<(), M::Error> {
        while let Some((token, count)) = map.next_entry::<String, u32>()? {
            let target = id(self.vocabulary, &token)?;
            if count > 0 {
                self.edges.push((self.source, target, count));
            }
        }
        Ok(())
    }
}
