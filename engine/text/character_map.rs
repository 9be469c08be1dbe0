//! Check of the character maps of SentencePiece's normalizers.
//!
//! The `tokenizers` crate reserves the memory that a map asks for and follows its trie without bounds.

use serde::Deserialize;
use serde_json::Value;

use crate::Result;
use crate::text::pipeline::invalid;

/// The part of a `tokenizer.json` that may hold a map.
#[derive(Deserialize)]
struct Normalizer {
    #[serde(default)]
    normalizer: Value,
}

/// Check the maps of a `tokenizer.json`. Bytes that are not such a file pass.
///
/// # Errors
/// [`crate::ErrorKind::Vocabulary`].
pub(super) fn check_json(json: &[u8]) -> Result<()> {
    match serde_json::from_slice::<Normalizer>(json) {
        Ok(Normalizer { normalizer }) => check_value(&normalizer),
        Err(_) => Ok(()),
    }
}

fn check_value(value: &Value) -> Result<()> {
    match value {
        Value::Array(values) => values.iter().try_for_each(check_value),
        Value::Object(fields) => fields.iter().try_for_each(|(key, value)| {
            match value.as_str().filter(|_| key == "precompiled_charsmap") {
                Some(text) => check(&base64(text).unwrap_or_default()),
                None => check_value(value),
            }
        }),
        _ => Ok(()),
    }
}

/// Check a map: the length of a trie in bytes, the trie as a double array of 32-bit units, and the texts that its
/// values point into.
///
/// # Errors
/// [`crate::ErrorKind::Vocabulary`].
pub(super) fn check(map: &[u8]) -> Result<()> {
    valid(map).ok_or_else(|| invalid("invalid normalizer", &"the character map is damaged"))
}

/// Follow all paths of the trie; `None` where one leaves it, or a value is not the start of a text.
fn valid(map: &[u8]) -> Option<()> {
    let (length, rest) = map.split_first_chunk::<4>()?;
    let (trie, texts) = rest.split_at_checked(u32::from_le_bytes(*length) as usize / 4 * 4)?;
    let texts = std::str::from_utf8(texts).ok()?;
    let units: Vec<usize> = trie
        .chunks_exact(4)
        .map(|unit| u32::from_le_bytes([unit[0], unit[1], unit[2], unit[3]]) as usize)
        .collect();
    let offset = |unit: usize| (unit >> 10) << ((unit & (1 << 9)) >> 6);
    let mut seen = vec![false; units.len()];
    let mut open = vec![offset(*units.first()?)];
    while let Some(base) = open.pop() {
        // A byte selects one of the 256 units around the base.
        if base | 0xff >= units.len() {
            return None;
        }
        if std::mem::replace(&mut seen[base], true) {
            continue;
        }
        for byte in 1..=255 {
            let unit = units[base ^ byte];
            if unit & (1 << 31 | 0xff) != byte {
                continue;
            }
            let next = base ^ byte ^ offset(unit);
            if unit >> 8 & 1 == 1 {
                let value = units.get(next)? & ((1 << 31) - 1);
                texts.get(value..)?;
            }
            open.push(next);
        }
    }
    Some(())
}

/// Decode base64 with padding; `None` for other characters.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for letter in text.trim_end_matches('=').bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A map without entries: the root of a trie of one block.
    fn empty() -> Vec<u8> {
        let mut map = 1024_u32.to_le_bytes().to_vec();
        map.extend(std::iter::repeat_n(0, 1024));
        map
    }

    #[test]
    fn damaged_character_maps_are_refused() {
        check(&empty()).unwrap();
        let changed = |at: usize, unit: u32| {
            let mut map = empty();
            map[4 + at * 4..8 + at * 4].copy_from_slice(&unit.to_le_bytes());
            map
        };
        // The letter A, unit 65, ends a key: its value is in the unit at its offset, 1.
        let mut value_outside = changed(65, 1 << 10 | 1 << 8 | 65);
        value_outside[4 + 64 * 4] = 9;
        for (what, map) in [
            ("nothing", Vec::new()),
            ("a length without a trie", u32::MAX.to_le_bytes().to_vec()),
            ("an offset outside", changed(0, 1 << 20)),
            ("a path that leaves the trie", changed(65, 1 << 20 | 65)),
            ("a value outside the texts", value_outside),
        ] {
            assert!(check(&map).is_err(), "{what}");
        }
    }

    #[test]
    fn base64_decodes_every_length() {
        for (text, bytes) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYmE=", "fooba"),
        ] {
            assert_eq!(base64(text).as_deref(), Some(bytes.as_bytes()), "{text}");
        }
        assert_eq!(base64("Z\n"), None);
    }
}
