//! A dialogue read from text, and whether it keeps to its plan.

use crate::Rejection;
use crate::language::Language;
use crate::plan::Plan;

/// A turn.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Turn {
    pub speaker: &'static str,
    pub text: String,
}

const SPEAKERS: [(&str, &str); 2] = [("human", "Human"), ("assistant", "Assistant")];

/// The dialogue as text.
pub(crate) fn write(turns: &[Turn]) -> String {
    let mut text = String::from("<start_chat>");
    for (index, turn) in turns.iter().enumerate() {
        let name = SPEAKERS[index % 2].1;
        text += &format!("<{name} {}>:{} ", index / 2 + 1, turn.text);
    }
    text.trim_end().to_string() + "<end_chat>"
}

/// The next mark of a speaker in a text: where it begins, where what is said begins, whose it is and its number.
fn mark(text: &str) -> Option<(usize, usize, usize, usize)> {
    text.match_indices('<').find_map(|(at, _)| {
        let rest = &text[at + 1..];
        SPEAKERS.iter().enumerate().find_map(|(whose, (_, name))| {
            let rest = rest.strip_prefix(name)?.strip_prefix(' ')?;
            let end = rest.find('>')?;
            let number: usize = rest[..end].parse().ok()?;
            let said = &rest[end + 1..];
            let said = said.strip_prefix([':', '：']).unwrap_or(said);
            Some((at, text.len() - said.len(), whose, number))
        })
    })
}

/// The rejection of a text that the token limit cut off. A model that did not even begin a dialogue will not write one: to
/// try again would take the longest that an attempt can take, each time.
pub(crate) fn cut_off(text: &str) -> Rejection {
    if text.trim_start().starts_with("<start_chat>") {
        return Rejection::Retry("it was cut off at the token limit".into());
    }
    Rejection::Final(
        "it was cut off at the token limit and does not begin with <start_chat>: the model does not write dialogues \
         (generator=turns asks it for one answer after another)"
            .into(),
    )
}

/// Reads a dialogue. What ends it is its last mark, not any word or number within.
///
/// # Errors
/// What is wrong with it, as a sentence.
pub(crate) fn read(text: &str) -> Result<Vec<Turn>, String> {
    let text = text.trim();
    let body = text
        .strip_prefix("<start_chat>")
        .ok_or("it does not begin with <start_chat>")?
        .strip_suffix("<end_chat>")
        .ok_or("it does not end with <end_chat>")?;
    let mut turns: Vec<Turn> = Vec::new();
    let mut rest = body;
    let Some((before, ..)) = mark(rest) else {
        return Err("nobody speaks".into());
    };
    if !rest[..before].trim().is_empty() {
        return Err("something is said before anybody speaks".into());
    }
    while let Some((_, from, whose, number)) = mark(rest) {
        let index = turns.len();
        if (whose, number) != (index % 2, index / 2 + 1) {
            return Err(format!(
                "turn {} is <{} {number}>, not <{} {}>",
                index + 1,
                SPEAKERS[whose].1,
                SPEAKERS[index % 2].1,
                index / 2 + 1
            ));
        }
        let said = &rest[from..];
        let to = mark(said).map_or(said.len(), |(at, ..)| at);
        let said_text = said[..to].trim();
        if said_text.is_empty() {
            return Err(format!("turn {} is empty", index + 1));
        }
        turns.push(Turn {
            speaker: SPEAKERS[whose].0,
            text: said_text.to_string(),
        });
        rest = &said[to..];
    }
    match turns.len() % 2 {
        0 => Ok(turns),
        _ => Err("the last question has no answer".into()),
    }
}

/// Whether a dialogue has its plan's rounds, and words within `slack` of the plan's: at least 1/slack and at most slack
/// times as many.
///
/// # Errors
/// What it does not keep to.
pub(crate) fn keeps(
    turns: &[Turn],
    plan: &Plan,
    language: Language,
    slack: f64,
) -> Result<(), String> {
    if turns.len() != 2 * plan.rounds.len() {
        return Err(format!(
            "it has {} rounds, planned were {}",
            turns.len() / 2,
            plan.rounds.len()
        ));
    }
    for (index, turn) in turns.iter().enumerate() {
        let round = &plan.rounds[index / 2];
        let planned = if index % 2 == 0 {
            round.human
        } else {
            round.assistant
        } as f64;
        let words = language.count(&turn.text) as f64;
        // The human may be brief: only what answers must be full.
        let least = if index % 2 == 0 { 1.0 } else { planned / slack };
        if words < least || words > planned.max(20.0) * slack {
            return Err(format!(
                "turn {} has {words} words, planned were {planned}",
                index + 1
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Round;
    use crate::style::Kind;

    #[test]
    fn what_is_written_is_read() {
        let turn = |index: usize, text: &str| Turn {
            speaker: SPEAKERS[index % 2].0,
            text: text.into(),
        };
        // The published script stops at "20.", and so cannot end a sentence with a year.
        let turns = [
            turn(0, "When was it?"),
            turn(1, "It was in 2020. Not in 1920."),
            turn(2, "Is a < b?"),
            turn(3, "Yes, in <Human> code too."),
        ];
        assert_eq!(read(&write(&turns)).unwrap(), turns);
    }

    #[test]
    fn what_breaks_the_grammar_is_refused() {
        for (text, why) in [
            ("<Human 1>: a", "begin"),
            ("<start_chat><Human 1>: a <Assistant 1>: b", "end with"),
            (
                "<start_chat>hm <Human 1>: a <Assistant 1>: b<end_chat>",
                "before",
            ),
            ("<start_chat><Assistant 1>: b<end_chat>", "turn 1"),
            ("<start_chat><Human 1>: a <Human 2>: b<end_chat>", "turn 2"),
            (
                "<start_chat><Human 1>: a <Assistant 2>: b<end_chat>",
                "turn 2",
            ),
            (
                "<start_chat><Human 1>: a <Assistant 1>: <end_chat>",
                "empty",
            ),
            ("<start_chat><Human 1>: a<end_chat>", "no answer"),
            ("<start_chat><end_chat>", "nobody"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_model_that_begins_no_dialogue_is_not_tried_again() {
        let begun = cut_off(" <start_chat><Human 1>: Who was");
        assert!(matches!(begun, Rejection::Retry(_)));
        let other = cut_off("Premise 1: the reference is a reference. Premise 2");
        assert!(matches!(other, Rejection::Final(why) if why.contains("turns")));
    }

    #[test]
    fn rounds_and_words_are_checked() {
        let plan = Plan {
            kind: Kind::Fact,
            language: Language::En,
            rounds: vec![Round {
                human: 20,
                assistant: 10,
                style: 0,
            }],
        };
        let read = |words: usize| {
            read(&format!(
                "<start_chat><Human 1>: why <Assistant 1>: {}<end_chat>",
                "word ".repeat(words)
            ))
            .unwrap()
        };
        assert!(keeps(&read(10), &plan, Language::En, 2.0).is_ok());
        assert!(keeps(&read(4), &plan, Language::En, 2.0).is_err());
        assert!(keeps(&read(41), &plan, Language::En, 2.0).is_err());
        let two = [read(10), read(10)].concat();
        assert!(
            keeps(&two, &plan, Language::En, 2.0)
                .unwrap_err()
                .contains("rounds")
        );
    }
}
