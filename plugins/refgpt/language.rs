//! Words and sentences of English and Chinese.

/// The language of a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Language {
    En,
    Zh,
}

pub(crate) fn is_han(letter: char) -> bool {
    matches!(letter, '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}')
}

impl Language {
    /// Chinese where Han characters are at least a third of all letters.
    pub fn of(text: &str) -> Self {
        let letters = text.chars().filter(|letter| letter.is_alphabetic()).count();
        let han = text.chars().filter(|&letter| is_han(letter)).count();
        if 3 * han >= letters.max(1) {
            Self::Zh
        } else {
            Self::En
        }
    }

    /// Words of a text: between spaces, or in Chinese each character that is no mark or space.
    pub fn count(self, text: &str) -> usize {
        match self {
            Self::En => text.split_whitespace().count(),
            Self::Zh => text
                .chars()
                .filter(|letter| letter.is_alphanumeric())
                .count(),
        }
    }

    /// Sentences with their marks: `.`, `!`, `?` before a space or the end, and the full-width marks anywhere.
    pub fn sentences(self, text: &str) -> Vec<&str> {
        let mut found = Vec::new();
        let mut from = 0;
        let mut letters = text.char_indices().peekable();
        while let Some((at, letter)) = letters.next() {
            let mut end = at + letter.len_utf8();
            let full = matches!(letter, '。' | '！' | '？');
            if !(full || matches!(letter, '.' | '!' | '?') || letter == '\n') {
                continue;
            }
            // Quotes and brackets that close belong to the sentence; those after a line's end open the next.
            while let Some(&(at, next)) = letters.peek() {
                if letter == '\n' || !matches!(next, '"' | '\'' | ')' | '”' | '’' | '」' | '）')
                {
                    break;
                }
                end = at + next.len_utf8();
                letters.next();
            }
            let ends = full
                || letter == '\n'
                || letters.peek().is_none_or(|(_, next)| next.is_whitespace());
            if ends && !abbreviation(&text[from..end]) {
                found.push(text[from..end].trim());
                from = end;
            }
        }
        found.push(text[from..].trim());
        found.retain(|sentence| !sentence.is_empty());
        found
    }

    /// What is compared: words in lower case without marks, or in Chinese pairs of characters.
    pub fn units(self, text: &str) -> Vec<String> {
        match self {
            Self::En => text
                .split(|letter: char| !letter.is_alphanumeric())
                .filter(|word| !word.is_empty())
                .map(str::to_lowercase)
                .collect(),
            Self::Zh => {
                let letters: Vec<char> = text
                    .chars()
                    .filter(|letter| letter.is_alphanumeric())
                    .collect();
                letters
                    .windows(2)
                    .map(|pair| pair.iter().collect())
                    .collect()
            }
        }
    }
}

/// Whether a text ends in a short form that ends no sentence.
fn abbreviation(text: &str) -> bool {
    let last = text.rsplit(char::is_whitespace).next().unwrap_or("");
    matches!(
        last,
        "Mr." | "Mrs." | "Ms." | "Dr." | "St." | "e.g." | "i.e." | "vs." | "No."
    ) || (last.len() == 2 && last.starts_with(char::is_uppercase) && last.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_and_words_of_both_languages() {
        let en = "It was made in 2020. Mr. Fox (of B. C.) said \"no.\" Then 3.5 percent left!";
        let sentences = Language::En.sentences(en);
        assert_eq!(sentences[0], "It was made in 2020.");
        assert_eq!(sentences.last(), Some(&"Then 3.5 percent left!"));
        assert_eq!(Language::En.count("one two  three"), 3);
        let said = "It was so.\n\"Hi, Sam!\" he said.";
        assert_eq!(Language::En.sentences(said)[1], "\"Hi, Sam!\"");
        let zh = "太阳是恒星。地球绕太阳转！真的吗？";
        assert_eq!(Language::of(zh), Language::Zh);
        assert_eq!(Language::of(en), Language::En);
        assert_eq!(
            Language::Zh.sentences(zh),
            ["太阳是恒星。", "地球绕太阳转！", "真的吗？"]
        );
        assert_eq!(Language::Zh.count("太阳，是恒星。"), 5);
        assert_eq!(Language::Zh.units("太阳，是"), ["太阳", "阳是"]);
    }
}
