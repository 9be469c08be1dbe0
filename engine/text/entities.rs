//! HTML entities.

use std::borrow::Cow;

/// Bytes of an entity at most, for example `&#x10FFFF;`.
const LONGEST: usize = 12;

/// Replace `&amp; &lt; &gt; &quot; &apos; &nbsp;` and numeric entities by their characters, once: `&amp;lt;` becomes
/// `&lt;`. Other entities stay as they are.
pub(super) fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        let (before, entity) = rest.split_at(start);
        out.push_str(before);
        let end = entity.bytes().take(LONGEST).position(|byte| byte == b';');
        let character = end.and_then(|end| character(&entity[1..end]));
        match (end, character) {
            (Some(end), Some(character)) => {
                out.push(character);
                rest = &entity[end + 1..];
            }
            _ => {
                out.push('&');
                rest = &entity[1..];
            }
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// The character of an entity without `&` and `;`.
fn character(name: &str) -> Option<char> {
    let code = |digits: &str, radix| {
        let code = u32::from_str_radix(digits, radix)
            .ok()
            .filter(|&code| code > 0);
        code.and_then(char::from_u32)
    };
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        "nbsp" => Some('\u{a0}'),
        _ => match name.strip_prefix('#')? {
            digits if digits.starts_with('+') => None,
            digits => match digits.strip_prefix(['x', 'X']) {
                Some(digits) if digits.starts_with('+') => None,
                Some(digits) => code(digits, 16),
                None => code(digits, 10),
            },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_are_unescaped_once() {
        for (text, expected) in [
            ("AT&amp;T 1 &lt; 2 &gt; 0", "AT&T 1 < 2 > 0"),
            ("&quot;a&apos;&nbsp;b&quot;", "\"a'\u{a0}b\""),
            (
                "&#39;&#x27;&#X2019;&#233;&#x1F600;",
                "''\u{2019}\u{e9}\u{1f600}",
            ),
            ("&amp;lt; &amp;amp;", "&lt; &amp;"),
            (
                "&unknown; & &; &# &#; &#x; &#0; &#xD800; &#x110000; &#+5; &#x+5;",
                "&unknown; & &; &# &#; &#x; &#0; &#xD800; &#x110000; &#+5; &#x+5;",
            ),
            ("Q&A; R&D &", "Q&A; R&D &"),
            ("&é;&amp", "&é;&amp"),
        ] {
            assert_eq!(unescape(text), expected, "{text}");
        }
    }
}
