//! Where a long text is cut.

/// Find a good position to cut a text, between the bytes `least` and `most`: after a line, else after a sentence, else
/// before the space of a word, else between characters, as late as possible. Greater than 0 for a text that is not empty
/// and `most` of at least 4.
pub(crate) fn cut(text: &str, least: usize, most: usize) -> usize {
    let boundary = |mut at: usize| {
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let end = boundary(most.min(text.len()));
    let start = boundary(least.min(end));
    let half = &text[start..end];
    let mut sentences = half.rmatch_indices(['.', '!', '?', '。', '！', '？']);
    let sentence = sentences.find_map(|(at, mark)| {
        let after = at + mark.len();
        // A full stop within a number or a name does not end a sentence.
        let ends = mark.len() > 1 || half[after..].starts_with(char::is_whitespace);
        ends.then_some(after)
    });
    let found = half.rfind('\n').map(|at| at + 1).or(sentence);
    let found = found.or_else(|| half.rfind(char::is_whitespace));
    match found {
        Some(at) if start + at > 0 => start + at,
        _ => end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_at_the_best_boundary() {
        for (text, most, expected) in [
            ("one two three.\nfour. five", 22, "one two three.\n"),
            ("one two three. four 4.5 five", 26, "one two three."),
            ("one two three four", 15, "one two three"),
            ("他来了。他又走了", 20, "他来了。"),
            ("他来了他又走了", 10, "他来了"),
            ("aaaaaaaaaa", 4, "aaaa"),
            ("a", 8, "a"),
            ("    ", 4, "   "),
            ("", 4, ""),
        ] {
            assert_eq!(
                &text[..cut(text, most / 2, most)],
                expected,
                "{text:?} at {most}"
            );
        }
    }
}
