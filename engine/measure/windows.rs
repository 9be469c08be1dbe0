//! Evaluation windows: the predicted tokens of a held-out text, and their contexts.
//!
//! Window w of length L is the tokens `(L−1)w ..= (L−1)w + L−1`: neighbouring windows share one token, so that each
//! token after the first is predicted at most once, and none without a context. The state is reset at each window; in the
//! streaming variant the context continues from the start of the text.

use crate::error::{Error, ErrorKind, Result};
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// The evaluation protocol: `count` windows of `length` tokens from the start of a text.
///
/// ```
/// use brillm::measure::Windows;
/// let windows: Windows = "31,400".parse()?;
/// assert_eq!(windows, Windows::new(31, 400));
/// let second = windows.predictions(59_998)?.nth(30).expect("a second window");
/// assert_eq!((second.window, second.context, second.target), (1, 30..31, 31));
/// # Ok::<(), brillm::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Tokens per window, at least 2: an initial context and `length − 1` predictions.
    pub length: usize,
    /// Number of windows at most, at least 1.
    pub count: usize,
    /// The first window used.
    pub first: usize,
    /// Whether the context continues across windows instead of being reset.
    pub stream: bool,
}

/// A prediction, as positions in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prediction {
    /// Index of its window.
    pub window: usize,
    /// Positions of the context; never empty, ends at the target.
    pub context: Range<usize>,
    /// Position of the predicted token.
    pub target: usize,
}

impl Windows {
    /// Create `count` windows of `length` tokens, with contexts limited to the window.
    pub fn new(length: usize, count: usize) -> Self {
        Self {
            length,
            count,
            first: 0,
            stream: false,
        }
    }

    /// The same windows from window `first` on.
    #[must_use]
    pub fn starting_at(mut self, first: usize) -> Self {
        self.first = first;
        self
    }

    /// Set whether the context continues across windows.
    #[must_use]
    pub fn streaming(mut self, stream: bool) -> Self {
        self.stream = stream;
        self
    }

    /// Number of windows that are used of a text of `tokens` tokens: at most `count`.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] if `length` is below 2, `count` is 0, or the text is shorter than a window.
    pub fn fitting(&self, tokens: usize) -> Result<usize> {
        self.check()?;
        let whole = tokens.saturating_sub(1) / (self.length - 1);
        let whole = whole.saturating_sub(self.first);
        if whole == 0 {
            return Err(Error::new(
                ErrorKind::Input,
                format!(
                    "a text of {tokens} tokens has no window {} of {} tokens",
                    self.first, self.length
                ),
            )
            .advice("use a longer text or shorter windows"));
        }
        Ok(whole.min(self.count))
    }

    /// Iterate over the token ranges of the windows: `length` each, overlapping by one.
    ///
    /// # Errors
    /// As [`fitting`](Self::fitting).
    pub fn spans(&self, tokens: usize) -> Result<impl ExactSizeIterator<Item = Range<usize>>> {
        let (first, step) = (self.first, self.length.saturating_sub(1));
        Ok((0..self.fitting(tokens)?)
            .map(move |window| (first + window) * step..(first + window + 1) * step + 1))
    }

    /// Iterate over all predictions, in the order of the text.
    ///
    /// # Errors
    /// As [`fitting`](Self::fitting).
    pub fn predictions(&self, tokens: usize) -> Result<impl Iterator<Item = Prediction>> {
        let stream = self.stream;
        Ok(self
            .spans(tokens)?
            .zip(self.first..)
            .flat_map(move |(span, window)| {
                let first = if stream { 0 } else { span.start };
                (span.start + 1..span.end).map(move |target| Prediction {
                    window,
                    context: first..target,
                    target,
                })
            }))
    }

    fn check(&self) -> Result<()> {
        let what = match (self.length, self.count) {
            (0 | 1, _) => format!(
                "a window of {} tokens has nothing to predict: expected at least 2",
                self.length
            ),
            (_, 0) => "the number of windows must be at least 1".to_owned(),
            _ => return Ok(()),
        };
        Err(Error::new(ErrorKind::Input, what)
            .at("windows")
            .advice("pass LENGTH,COUNT, for example 31,400"))
    }
}

/// Parses `LENGTH,COUNT`.
impl FromStr for Windows {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = |part: &str| part.trim().parse::<usize>().ok();
        let windows = text
            .split_once(',')
            .and_then(|(length, count)| Some(Self::new(number(length)?, number(count)?)))
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Input,
                    format!("invalid windows {text:?}: expected LENGTH,COUNT"),
                )
                .at("windows")
                .advice("for example 31,400")
            })?;
        windows.check()?;
        Ok(windows)
    }
}

impl fmt::Display for Windows {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{},{}", self.length, self.count)?;
        if self.stream {
            formatter.write_str(" streaming")?;
        }
        Ok(())
    }
}

/// Check that every id is below the vocabulary's size.
///
/// # Errors
/// [`ErrorKind::Input`] with the position of the first id that is too large.
pub fn check_ids(tokens: &[u32], vocabulary_size: usize) -> Result<()> {
    match tokens
        .iter()
        .position(|&token| token as usize >= vocabulary_size)
    {
        None => Ok(()),
        Some(position) => Err(Error::new(
            ErrorKind::Input,
            format!(
                "id {} is outside the vocabulary of {vocabulary_size}",
                tokens[position]
            ),
        )
        .at(format!("token {position}"))
        .advice("encode the text with the tokenizer of this vocabulary")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_share_one_token_and_predict_the_rest_once() {
        let windows = Windows::new(4, 2);
        let spans: Vec<_> = windows.spans(9).unwrap().collect();
        assert_eq!(spans, [0..4, 3..7]);
        let seen: Vec<_> = windows
            .predictions(9)
            .unwrap()
            .map(|p| (p.window, p.context, p.target))
            .collect();
        assert_eq!(
            seen,
            [
                (0, 0..1, 1),
                (0, 0..2, 2),
                (0, 0..3, 3),
                (1, 3..4, 4),
                (1, 3..5, 5),
                (1, 3..6, 6)
            ]
        );
        let last = windows.streaming(true).predictions(9).unwrap().last();
        assert_eq!(last.unwrap().context, 0..6);
    }

    #[test]
    fn a_short_text_is_used_as_far_as_it_goes() {
        let windows = Windows::new(31, 400);
        assert_eq!(windows.fitting(31).unwrap(), 1);
        assert_eq!(windows.fitting(60).unwrap(), 1);
        assert_eq!(windows.fitting(61).unwrap(), 2);
        assert_eq!(windows.fitting(1_000_000).unwrap(), 400);
        for tokens in [0, 1, 30] {
            assert_eq!(
                windows.fitting(tokens).unwrap_err().kind(),
                ErrorKind::Input
            );
        }
    }

    #[test]
    fn the_form_of_the_command_line_is_parsed_and_printed() {
        assert_eq!("31, 400".parse::<Windows>().unwrap().to_string(), "31,400");
        for text in [
            "", "31", "31,", ",400", "1,400", "31,0", "31,400,2", "-3,4", "a,b",
        ] {
            let error = text.parse::<Windows>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Input, "{text}");
            assert!(error.to_string().contains("31,400"), "{error}");
        }
    }

    #[test]
    fn unusable_windows_are_refused_wherever_they_came_from() {
        assert!(Windows::new(0, 1).spans(10).is_err());
        assert!(Windows::new(5, 0).predictions(10).is_err());
        assert!(Windows::new(usize::MAX, usize::MAX).fitting(10).is_err());
    }

    #[test]
    fn an_id_outside_the_vocabulary_is_named_with_its_position() {
        assert!(check_ids(&[0, 4, 2], 5).is_ok());
        let error = check_ids(&[0, 4, 5, 9], 5).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Input);
        assert!(error.to_string().starts_with("token 2: id 5"), "{error}");
    }
}
