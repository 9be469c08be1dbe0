//! Perplexity of continuations: prompts whose true continuation is predicted token by token.

use std::fmt;
use std::str::FromStr;

/// `count` consecutive texts of `prompt + new` tokens; only the new tokens are predicted.
///
/// ```
/// use brillm::measure::Continuations;
/// let texts: Continuations = "256,64,10".parse().unwrap();
/// assert_eq!((texts.prompt, texts.new, texts.count), (256, 64, 10));
/// assert_eq!(texts.starts(1000).collect::<Vec<_>>(), [0, 320, 640]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Continuations {
    /// Tokens of each prompt.
    pub prompt: usize,
    /// Tokens predicted after each prompt.
    pub new: usize,
    /// Number of texts at most.
    pub count: usize,
}

impl Continuations {
    /// Iterate over the offsets of the texts that fit `tokens` tokens.
    pub fn starts(&self, tokens: usize) -> impl Iterator<Item = usize> + use<> {
        let stride = self.prompt + self.new;
        (0..(tokens / stride).min(self.count)).map(move |index| index * stride)
    }
}

impl FromStr for Continuations {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers: Vec<usize> = text
            .split(',')
            .map(|part| {
                part.trim()
                    .parse()
                    .map_err(|_| format!("{part:?} is not a number"))
            })
            .collect::<Result<_, _>>()?;
        match numbers[..] {
            [prompt, new] if prompt > 0 && new > 0 => Ok(Self {
                prompt,
                new,
                count: usize::MAX,
            }),
            [prompt, new, count] if prompt > 0 && new > 0 && count > 0 => {
                Ok(Self { prompt, new, count })
            }
            _ => Err("expected PROMPT,NEW or PROMPT,NEW,COUNT, all above 0".into()),
        }
    }
}

impl fmt::Display for Continuations {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{},{}", self.prompt, self.new)?;
        match self.count {
            usize::MAX => Ok(()),
            count => write!(formatter, ",{count}"),
        }
    }
}
