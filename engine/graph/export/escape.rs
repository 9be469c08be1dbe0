//! Text in each format's escapes; control characters are written in a readable form.

use std::fmt::{self, Display, Formatter, Write};

/// Return a readable form of a character that no format should contain; `None` for all others.
///
/// XML 1.0 allows tab, line feed, carriage return and no other character below space, no surrogate (a
/// `char` is none) and neither U+FFFE nor U+FFFF. DEL, the C1 controls and the other noncharacters are
/// allowed but discouraged.
fn shown(character: char) -> Option<String> {
    let code = u32::from(character);
    match code {
        0x09 | 0x0A | 0x0D => None,
        // Unicode has a picture of each of these.
        0..=0x1F => char::from_u32(0x2400 + code).map(String::from),
        0x7F => Some("\u{2421}".into()),
        0x80..=0x9F | 0xFDD0..=0xFDEF => Some(format!("\\u{{{code:x}}}")),
        _ if code & 0xFFFE == 0xFFFE => Some(format!("\\u{{{code:x}}}")),
        _ => None,
    }
}

/// Text as XML content or as an attribute between double quotes.
///
/// Tab and line ends are written as references: a parser would make a space of them in an attribute, and
/// a line feed of a carriage return anywhere.
pub(crate) struct Xml<'a>(pub &'a str);

impl Display for Xml<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            if let Some(text) = shown(character) {
                formatter.write_str(&text)?;
                continue;
            }
            match character {
                '&' => formatter.write_str("&amp;")?,
                '<' => formatter.write_str("&lt;")?,
                '>' => formatter.write_str("&gt;")?,
                '"' => formatter.write_str("&quot;")?,
                '\t' | '\n' | '\r' => write!(formatter, "&#{};", u32::from(character))?,
                other => formatter.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// JSON as XML content that is read back unchanged: what [`Xml`] would replace is written as JSON's own escape.
pub(crate) struct XmlJson<'a>(pub &'a str);

impl Display for XmlJson<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            if shown(character).is_none() {
                write!(formatter, "{}", Xml(character.encode_utf8(&mut [0; 4])))?;
                continue;
            }
            // Such characters occur in strings alone.
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(formatter, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }
}

/// Text as a label in DOT, with its quotes.
///
/// graphviz reads a label twice: as a quoted string, in which `\"` is the only escape, and then as a label,
/// in which backslashes and HTML's `&` references mean something; both readings must give the original text.
pub(crate) struct DotLabel<'a>(pub &'a str);

impl Display for DotLabel<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_char('"')?;
        for character in self.0.chars() {
            if let Some(text) = shown(character) {
                formatter.write_str(&text.replace('\\', "\\\\"))?;
                continue;
            }
            match character {
                '"' => formatter.write_str("\\\"")?,
                '\\' => formatter.write_str("\\\\")?,
                '&' => formatter.write_str("&amp;")?,
                // A line end would break the label over lines; its name is easier to see.
                '\t' => formatter.write_str("\\\\t")?,
                '\n' => formatter.write_str("\\\\n")?,
                '\r' => formatter.write_str("\\\\r")?,
                other => formatter.write_char(other)?,
            }
        }
        formatter.write_char('"')
    }
}

/// Text as a field of CSV (RFC 4180): quoted where it must be, quotes doubled.
pub(crate) struct CsvField<'a>(pub &'a str);

impl Display for CsvField<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        // Spaces at an end are quoted too: readers differ on whether to trim bare ones.
        let quoted = self.0.is_empty()
            || self.0.contains([',', '"', '\n', '\r'])
            || self.0.starts_with(char::is_whitespace)
            || self.0.ends_with(char::is_whitespace);
        if quoted {
            formatter.write_char('"')?;
        }
        for character in self.0.chars() {
            if character == '"' {
                formatter.write_str("\"\"")?;
            } else if let Some(text) = shown(character) {
                formatter.write_str(&text)?;
            } else {
                formatter.write_char(character)?;
            }
        }
        if quoted {
            formatter.write_char('"')?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xml_holds_any_text() {
        assert_eq!(
            Xml("a<b & \"c\">").to_string(),
            "a&lt;b &amp; &quot;c&quot;&gt;"
        );
        assert_eq!(Xml("\0\t\r\n\u{1b}\u{7f}").to_string(), "␀&#9;&#13;&#10;␛␡");
        let rare = Xml("\u{85}\u{fffe}\u{ffff}\u{1fffe}\u{fdd0}").to_string();
        assert_eq!(rare, "\\u{85}\\u{fffe}\\u{ffff}\\u{1fffe}\\u{fdd0}");
        assert_eq!(Xml("龍 🐉 é").to_string(), "龍 🐉 é");
    }

    #[test]
    fn dot_labels_come_out_as_they_went_in() {
        assert_eq!(
            DotLabel(r#"\N "&lt;""#).to_string(),
            r#""\\N \"&amp;lt;\"""#
        );
        assert_eq!(DotLabel("a\nb\0").to_string(), r#""a\\nb␀""#);
        assert_eq!(DotLabel("\u{85}").to_string(), r#""\\u{85}""#);
        assert_eq!(DotLabel("\\").to_string(), r#""\\""#);
    }

    #[test]
    fn csv_quotes_what_it_must() {
        assert_eq!(CsvField("plain 龍").to_string(), "plain 龍");
        assert_eq!(CsvField("a,\"b\"").to_string(), "\"a,\"\"b\"\"\"");
        assert_eq!(CsvField("\n").to_string(), "\"\n\"");
        assert_eq!(CsvField(" the").to_string(), "\" the\"");
        assert_eq!(CsvField("").to_string(), "\"\"");
    }
}
