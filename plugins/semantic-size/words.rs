//! The words and items that a model is asked about.

use std::collections::HashMap;

use brillm_plugin::{PluginError, Result};

/// A word with its human ratings (the Glasgow Norms' scales).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Word {
    pub text: String,
    /// 1 calm to 9 excited.
    pub arousal: f64,
    /// 1 abstract to 7 concrete.
    pub concreteness: f64,
    /// 1 small to 7 big.
    pub size: f64,
    /// How often it occurs in a text, where that is known.
    pub count: Option<f64>,
}

/// Something abstract that is like something concrete.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Metaphor {
    /// Abstract words of large and of small semantic size, with their articles.
    pub big: String,
    pub small: String,
    /// Concrete words of one length: large, middle, small.
    pub varied: [String; 3],
    /// The control: concrete words of one length and one size.
    pub matched: [String; 3],
}

/// A product with a title of each style.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Headline {
    pub product: String,
    pub titles: [String; 4],
}

/// The styles of titles, in the file's order.
pub(crate) const STYLES: [&str; 4] = ["original", "polish", "eye-catch", "semantic"];

/// The lines of a table of commas, without comments.
fn table(text: &str) -> impl Iterator<Item = (usize, Vec<&str>)> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'))
        .map(|(at, line)| (at + 1, line.split(',').map(str::trim).collect()))
}

/// The same without the heads of the columns.
fn rows(text: &str) -> impl Iterator<Item = (usize, Vec<&str>)> {
    table(text).skip(1)
}

/// Words and ratings, by the heads of the columns: `word,arousal,concreteness,size` and perhaps `count`; the norms' own
/// heads (`Words`, `AROU`, `CNC`, `SIZE`) are known too.
pub(crate) fn norms(text: &str) -> Result<Vec<Word>> {
    let mut lines = table(text);
    let (_, heads) = lines.next().unwrap_or_default();
    let place = |names: &[&str]| {
        heads.iter().position(|head| {
            let head = head.trim_start_matches('\u{feff}').to_lowercase();
            names.iter().any(|name| head.starts_with(name))
        })
    };
    let (Some(word), Some(arousal), Some(concreteness), Some(size)) = (
        place(&["word"]),
        place(&["arou"]),
        place(&["conc", "cnc"]),
        place(&["size"]),
    ) else {
        return Err(PluginError::option(
            "the norms' first line must name the columns word, arousal, concreteness and size",
        ));
    };
    let count = place(&["count"]);
    let mut words = Vec::new();
    for (line, row) in lines {
        let text = row.get(word).copied().unwrap_or_default();
        // A second line of heads; a sense in brackets, of which no text says that it is meant.
        if text.is_empty() || text.contains('(') {
            continue;
        }
        let number = |at: usize| -> Result<f64> {
            let cell = row.get(at).copied().unwrap_or_default();
            match cell.parse::<f64>() {
                Ok(value) if value.is_finite() => Ok(value),
                _ => Err(PluginError::option(format!(
                    "line {line} of the norms, {:?}: {cell:?} is not a number",
                    heads[at]
                ))),
            }
        };
        words.push(Word {
            text: text.to_string(),
            arousal: number(arousal)?,
            concreteness: number(concreteness)?,
            size: number(size)?,
            count: count.map(number).transpose()?,
        });
    }
    Ok(words)
}

/// Counts the words of a text; a word of the list with a space in it is counted as a phrase.
pub(crate) fn count(words: &mut [Word], text: &str) {
    let pieces: Vec<String> = text
        .split(|letter: char| !letter.is_alphanumeric())
        .filter(|piece| !piece.is_empty())
        .map(str::to_lowercase)
        .collect();
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, piece) in pieces.iter().enumerate() {
        places.entry(piece).or_default().push(at);
    }
    for word in words {
        let lower = word.text.to_lowercase();
        let parts: Vec<&str> = lower
            .split(|letter: char| !letter.is_alphanumeric())
            .filter(|piece| !piece.is_empty())
            .collect();
        let begun = parts.first().and_then(|first| places.get(first));
        let count = begun
            .into_iter()
            .flatten()
            .filter(|&&at| {
                let here = pieces[at..].iter().take(parts.len());
                here.len() == parts.len() && here.zip(&parts).all(|(a, b)| a == b)
            })
            .count();
        word.count = Some(count as f64);
    }
}

pub(crate) fn metaphors(text: &str) -> Result<Vec<Metaphor>> {
    rows(text)
        .map(|(line, row)| {
            let [big, small, a, b, c, d, e, f] = row[..] else {
                return Err(PluginError::option(format!(
                    "line {line} of the metaphors has {} cells instead of 8",
                    row.len()
                )));
            };
            Ok(Metaphor {
                big: big.into(),
                small: small.into(),
                varied: [a, b, c].map(String::from),
                matched: [d, e, f].map(String::from),
            })
        })
        .collect()
}

pub(crate) fn headlines(text: &str) -> Result<Vec<Headline>> {
    rows(text)
        .map(|(line, row)| {
            let [product, a, b, c, d] = row[..] else {
                return Err(PluginError::option(format!(
                    "line {line} of the headlines has {} cells instead of 5",
                    row.len()
                )));
            };
            Ok(Headline {
                product: product.into(),
                titles: [a, b, c, d].map(String::from),
            })
        })
        .collect()
}

/// `a` or `an`, by the first letter.
pub(crate) fn article(word: &str) -> &'static str {
    if word.starts_with(['a', 'e', 'i', 'o']) {
        "an"
    } else {
        "a"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HEADLINES, METAPHORS, NORMS};

    #[test]
    fn the_items_have_the_sizes_they_say() {
        let words = norms(NORMS).unwrap();
        let size = |text: &str| {
            let text = text.rsplit(' ').next().unwrap();
            let found = words.iter().find(|word| word.text == text);
            found.unwrap_or_else(|| panic!("{text}")).size
        };
        let items = metaphors(METAPHORS).unwrap();
        assert!(items.len() >= 20);
        for item in &items {
            assert!(size(&item.big) - size(&item.small) > 2.0, "{item:?}");
            let [large, middle, little] = item.varied.each_ref().map(|word| size(word));
            assert!(large - middle > 1.0 && middle - little > 1.0, "{item:?}");
            let same = item.matched.each_ref().map(|word| size(word));
            let (least, most) = (
                same.iter().copied().fold(f64::INFINITY, f64::min),
                same.iter().copied().fold(0.0, f64::max),
            );
            assert!(most - least <= 0.61, "{item:?}");
            for words in [&item.varied, &item.matched] {
                assert!(
                    words.iter().all(|word| word.len() == words[0].len()),
                    "{item:?}"
                );
            }
        }
        assert_eq!(headlines(HEADLINES).unwrap().len(), 12);
    }

    #[test]
    fn the_norms_own_table_is_read_too() {
        let text = "\u{feff}Words,Length,AROU,CNC,SIZE\n,,M,M,M\nabbey,5,3.125,5.906,5.121\n\
                    arms (guns),4,5,6,4\n";
        let words = norms(text).unwrap();
        assert_eq!(words.len(), 1);
        assert_eq!((words[0].arousal, words[0].size), (3.125, 5.121));
        assert_eq!(words[0].count, None);
        for wrong in [
            "",
            "word,a,c,s\nabbey,1,2,3\n",
            "word,arousal,concreteness,size\nabbey,1,2\n",
            "word,arousal,concreteness,size\nabbey,1,2,nan\n",
        ] {
            assert!(norms(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn words_and_phrases_are_counted() {
        let text = "word,arousal,concreteness,size\nice cream,1,2,3\nice,1,2,3\nsun,1,2,3\n";
        let mut words = norms(text).unwrap();
        count(&mut words, "Ice cream and ice. The ice-cream man; creamy.");
        let counts: Vec<_> = words.iter().map(|word| word.count).collect();
        assert_eq!(counts, [Some(2.0), Some(3.0), Some(0.0)]);
    }
}
