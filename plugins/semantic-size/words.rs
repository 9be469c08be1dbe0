//! The words and items that a model is asked about.

use brillm_plugin::{Error, Result};

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

/// The lines of a table of commas, without comments and the head.
fn rows(text: &str) -> impl Iterator<Item = (usize, Vec<&str>)> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'))
        .skip(1)
        .map(|(at, line)| (at + 1, line.split(',').map(str::trim).collect()))
}

/// Words and ratings: `word,arousal,concreteness,size`, or as the norms' own table, `word,length,arousal,…`.
pub(crate) fn norms(text: &str) -> Result<Vec<Word>> {
    let mut words = Vec::new();
    for (line, row) in rows(text) {
        let numbers: Vec<f64> = row[1..]
            .iter()
            .map_while(|cell| cell.parse().ok())
            .collect();
        let [.., arousal, concreteness, size] = numbers[..] else {
            // A second line of heads.
            if row[0].is_empty() {
                continue;
            }
            return Err(Error::option(format!(
                "line {line} of the norms is not word,arousal,concreteness,size"
            )));
        };
        if !(arousal.is_finite() && concreteness.is_finite() && size.is_finite()) {
            return Err(Error::option(format!(
                "line {line} of the norms holds a rating that is no number"
            )));
        }
        words.push(Word {
            text: row[0].to_string(),
            arousal,
            concreteness,
            size,
        });
    }
    Ok(words)
}

pub(crate) fn metaphors(text: &str) -> Result<Vec<Metaphor>> {
    rows(text)
        .map(|(line, row)| {
            let [big, small, a, b, c, d, e, f] = row[..] else {
                return Err(Error::option(format!(
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
                return Err(Error::option(format!(
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
    match word.starts_with(['a', 'e', 'i', 'o']) {
        true => "an",
        false => "a",
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
        let words =
            norms("Words,Length,AROU,CNC,SIZE\n,,M,M,M\nabbey,5,3.125,5.906,5.121\n").unwrap();
        assert_eq!(words.len(), 1);
        assert_eq!((words[0].arousal, words[0].size), (3.125, 5.121));
        assert!(norms("word,a,c,s\nabbey,1,2\n").is_err());
    }
}
