//! A token as it is shown: text, bytes, and the character whose piece it is.

use serde::{Deserialize, Serialize};

use crate::modality::Modality;
use crate::text::{Tokenizer, Vocabulary};

/// A token made readable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownToken {
    /// Its id.
    pub id: u32,
    /// Its text; null where its bytes alone are not UTF-8.
    pub text: Option<String>,
    /// Its bytes in hexadecimal, `E6 98`; empty for a special token.
    pub bytes_hex: String,
    /// Its text with spaces and control characters visible, `<0xE6>` for bytes, the name of a special token.
    pub display: String,
    /// Within a path: the characters that it is a piece of, where it is only a piece.
    #[serde(default)]
    pub joined: Option<String>,
    /// The piece of an image or of a sound that the token is a code of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<ShownCode>,
}

/// The patch or the spectrum of a code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownCode {
    /// `image` or `audio`.
    pub modality: String,
    /// Index in the codebook.
    pub index: usize,
    /// Values in a row: the columns of a patch, the bands of a spectrum from low to high frequencies.
    pub columns: usize,
    /// Brightness of pixels, 255 for white; or power of bands from −60 dB, 0, to that of the loudest, 255.
    pub values: Vec<u8>,
}

impl ShownCode {
    /// The code of a token; `None` for a token of text.
    fn of(vocabulary: &Vocabulary, id: u32) -> Option<Self> {
        let (modality, index) = vocabulary.code(id)?;
        let codecs = vocabulary.codecs()?;
        let (columns, values) = match modality {
            Modality::Image => {
                let tile = codecs.require_image().and_then(|codec| codec.tile(index));
                let tile = tile.ok()?;
                (tile.width, tile.pixels)
            }
            Modality::Audio => {
                let row = codecs.require_audio().ok()?.codebook().row(index);
                // log₁₀ of the power, from −6 to 0.
                let level = |power: &f32| ((power / 6.0 + 1.0) * 255.0).round() as u8;
                (row.len(), row.iter().map(level).collect())
            }
        };
        Some(Self {
            modality: modality.name().into(),
            index,
            columns,
            values,
        })
    }
}

impl ShownToken {
    /// A single token.
    pub fn of(vocabulary: &Vocabulary, id: u32) -> Self {
        let bytes = vocabulary.bytes(id);
        let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
        Self {
            id,
            text: std::str::from_utf8(bytes).ok().map(str::to_string),
            bytes_hex: hex.join(" "),
            display: vocabulary.display(id),
            joined: None,
            code: ShownCode::of(vocabulary, id),
        }
    }
}

/// The tokens of a path, with the characters that pieces of them make together.
///
/// ```
/// use brillm::run::trace::show_tokens;
/// use brillm::text::Tokenizer;
/// let tokenizer = Tokenizer::train_characters(["ab".to_string()].into_iter(), 300)?;
/// let shown = show_tokens(&tokenizer, &tokenizer.encode("a春")?);
/// assert_eq!(shown.len(), 4);
/// assert_eq!((shown[1].bytes_hex.as_str(), shown[1].text.as_deref()), ("E6", None));
/// assert!(shown[1..].iter().all(|token| token.joined.as_deref() == Some("春")));
/// # Ok::<(), brillm::Error>(())
/// ```
pub fn show_tokens(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<ShownToken> {
    let vocabulary = tokenizer.vocabulary();
    let mut shown: Vec<ShownToken> = ids
        .iter()
        .map(|&id| ShownToken::of(vocabulary, id))
        .collect();
    let (mut bytes, mut owners) = (Vec::new(), Vec::new());
    for (place, &id) in ids.iter().enumerate() {
        let own = vocabulary.bytes(id);
        bytes.extend_from_slice(own);
        owners.extend(std::iter::repeat_n(place, own.len()));
    }
    let mut at = 0;
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            let owned = &owners[at..at + character.len_utf8()];
            at += character.len_utf8();
            let mut last = None;
            for &place in owned {
                if last.replace(place) != Some(place) && shown[place].text.is_none() {
                    shown[place].joined.get_or_insert_default().push(character);
                }
            }
        }
        at += chunk.invalid().len();
    }
    shown
}
