//! Amount and kind of the text of a corpus.

use std::path::PathBuf;

use crate::Result;
use crate::text::{Corpus, CorpusOptions, SkippedFiles};

/// Words of the opening at most.
const OPENING: usize = 3;
/// Bytes whose characters are counted.
const SAMPLE: u64 = 4 << 20;

/// What is known of a corpus after it was read once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CorpusSize {
    /// Bytes of text in UTF-8, without markup.
    pub bytes: u64,
    /// Number of files.
    pub files: usize,
    /// Files that were skipped.
    pub skipped: SkippedFiles,
    /// Whether most characters are Chinese, Japanese or Korean.
    pub ideographic: bool,
    /// The first words of the text that can be written in quotes, as a prompt to try.
    pub opening: String,
}

impl CorpusSize {
    /// Read a corpus and measure it.
    ///
    /// # Errors
    /// As [`Corpus`]: a missing file, a file that is not text, no text at all.
    pub fn measure(sources: &[PathBuf], options: CorpusOptions) -> Result<Self> {
        let corpus = Corpus::open(sources, options)?;
        let mut size = Self {
            files: corpus.files().count(),
            skipped: corpus.skipped(None),
            ..Self::default()
        };
        let (mut characters, mut ideographs) = (0, 0);
        for document in corpus {
            let text = document?;
            if size.bytes < SAMPLE {
                characters += text.chars().count();
                ideographs += text.chars().filter(|&one| is_ideograph(one)).count();
            }
            if size.opening.is_empty() {
                size.opening = opening(&text);
            }
            size.bytes += text.len() as u64;
        }
        size.ideographic = 2 * ideographs > characters;
        Ok(size)
    }
}

/// Whether a character is Chinese, Japanese or Korean.
fn is_ideograph(character: char) -> bool {
    matches!(character, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}' | '\u{20000}'..='\u{323af}')
}

/// The first words of letters and digits, three at most, or some characters of a text without spaces.
fn opening(text: &str) -> String {
    let words = text.split(|one: char| !one.is_alphanumeric() && one != ' ');
    let words = words
        .map(str::trim)
        .find(|words| !words.is_empty())
        .unwrap_or_default();
    let words: Vec<&str> = words.split_whitespace().take(OPENING).collect();
    words.join(" ").chars().take(30).collect()
}
