//! A generator that runs anywhere: questions from templates, answers that are sentences or lines of the reference.

use crate::dialogue::Turn;
use crate::language::Language;
use crate::plan::Plan;
use crate::style::Kind;

/// What a sentence is about: its words before the verb, or in Chinese before the first mark or copula.
fn topic(sentence: &str, language: Language) -> String {
    match language {
        Language::En => {
            const ENDS: [&str; 30] = [
                "is", "are", "was", "were", "has", "have", "had", "can", "could", "may", "will",
                "would", "in", "on", "by", "to", "who", "that", "and", "but", "did", "does",
                "went", "said", "saw", "came", "found", "knew", "made", "took",
            ];
            // What comes before a comma says when or where, if anything follows.
            let rest = match sentence.split_once(", ") {
                Some((before, after)) if before.split(' ').count() <= 3 && !after.is_empty() => {
                    after
                }
                _ => sentence,
            };
            let words: Vec<&str> = rest
                .split_whitespace()
                .take_while(|word| !ENDS.contains(word) && !word.ends_with("ed"))
                .take(6)
                .collect();
            let text = words.join(" ");
            for (subject, object) in [
                ("He", "him"),
                ("She", "her"),
                ("They", "them"),
                ("It", "it"),
                ("I", "this"),
                ("We", "this"),
                ("You", "this"),
            ] {
                if text.eq_ignore_ascii_case(subject) {
                    return object.to_string();
                }
            }
            let text = text.trim_matches(|letter: char| !letter.is_alphanumeric());
            match text.split_once(' ') {
                // A first word that is no name is written small within a sentence.
                Some((
                    first @ ("The" | "A" | "An" | "This" | "These" | "Its" | "His" | "Her"
                    | "Their"),
                    rest,
                )) => {
                    format!("{} {rest}", first.to_lowercase())
                }
                _ => text.to_string(),
            }
        }
        Language::Zh => sentence
            .chars()
            .take_while(|letter| {
                letter.is_alphanumeric() && !matches!(letter, '是' | '有' | '在' | '为')
            })
            .take(12)
            .collect(),
    }
}

fn question(plan: &Plan, round: usize, about: &str) -> String {
    let index = (round + plan.rounds[round].style) % 3;
    let about = match (about.is_empty(), plan.language) {
        (false, _) => about,
        (true, Language::En) => "it",
        (true, Language::Zh) => "它",
    };
    let part = round + 1;
    match (plan.kind, plan.language) {
        (Kind::Fact, Language::En) => match (index, round) {
            (0, _) => format!("What can you tell me about {about}?"),
            (1, 0) => format!("I would like to know about {about}. Please explain."),
            (1, _) => format!("Please go on: what about {about}?"),
            _ => format!("Could you explain in detail what is known of {about}?"),
        },
        (Kind::Fact, Language::Zh) => match index {
            0 => format!("关于{about}，你能告诉我什么？"),
            1 => format!("我想了解{about}，请说明一下。"),
            _ => format!("请详细解释一下{about}。"),
        },
        (Kind::CodeDiscussion, Language::En) => format!("How is part {part} of the code written?"),
        (Kind::CodeDiscussion, Language::Zh) => format!("代码的第{part}部分是怎样写的？"),
        (Kind::CodeCreation, Language::En) => format!("Please write part {part} of the program."),
        (Kind::CodeCreation, Language::Zh) => format!("请编写程序的第{part}部分。"),
        (Kind::CodeBugFix, Language::En) => {
            "This part does not work. What is wrong with it?".to_string()
        }
        (Kind::CodeBugFix, Language::Zh) => "这一部分不能正常工作，哪里有错？".to_string(),
    }
}

/// The first line that can be broken, broken; and as it should be.
fn broken(lines: &[&str]) -> Option<(usize, String)> {
    const FAULTS: [(&str, &str); 8] = [
        ("==", "!="),
        ("!=", "=="),
        ("<=", ">"),
        (">=", "<"),
        (" + ", " - "),
        (" - ", " + "),
        ("True", "False"),
        ("true", "false"),
    ];
    lines.iter().enumerate().find_map(|(at, line)| {
        FAULTS
            .iter()
            .find(|(right, _)| line.contains(right))
            .map(|(right, wrong)| (at, line.replacen(right, wrong, 1)))
    })
}

/// The dialogue of a plan. `None` where the reference has fewer sentences than the plan has rounds, or no line to break.
pub(crate) fn dialogue(plan: &Plan, reference: &str) -> Option<Vec<Turn>> {
    let code = plan.kind.is_code();
    let pieces: Vec<&str> = if code {
        reference.lines().collect()
    } else {
        plan.language.sentences(reference)
    };
    let rounds = plan.rounds.len();
    if pieces.len() < rounds {
        return None;
    }
    let mut turns = Vec::new();
    let mut from = 0;
    let counts: Vec<usize> = pieces
        .iter()
        .map(|piece| plan.language.count(piece))
        .collect();
    let scale = counts.iter().sum::<usize>() as f64 / plan.budget().max(1) as f64;
    let (mut words, mut planned) = (0.0, 0.0);
    for (at, round) in plan.rounds.iter().enumerate() {
        // Every later round keeps at least one piece, and the last takes what is left; the others end where they come
        // nearest to their share of the plan's words.
        let most = pieces.len() - (rounds - at - 1);
        planned += scale * round.assistant as f64;
        let mut to = from + 1;
        words += counts[from] as f64;
        while to < most && (at + 1 == rounds || words + counts[to] as f64 / 2.0 <= planned) {
            words += counts[to] as f64;
            to += 1;
        }
        let own = &pieces[from..to];
        let (mut ask, mut answer) = (
            question(plan, at, &topic(own[0], plan.language)),
            String::new(),
        );
        match (plan.kind, plan.language) {
            (Kind::CodeBugFix, language) => {
                let (index, wrong) = broken(own)?;
                let mut shown: Vec<&str> = own.to_vec();
                shown[index] = &wrong;
                ask += &format!("\n```\n{}\n```", shown.join("\n"));
                answer += match language {
                    Language::En => "One line is wrong. It should be:",
                    Language::Zh => "有一行写错了，应当是：",
                };
                answer += &format!("\n```\n{}\n```", own[index]);
            }
            (Kind::CodeDiscussion | Kind::CodeCreation, _) => {
                answer += &format!("```\n{}\n```", own.join("\n"));
            }
            (Kind::Fact, Language::En) => answer += &own.join(" "),
            (Kind::Fact, Language::Zh) => answer += &own.concat(),
        }
        turns.push(Turn {
            speaker: "human",
            text: ask,
        });
        turns.push(Turn {
            speaker: "assistant",
            text: answer,
        });
        from = to;
    }
    Some(turns)
}

/// The question of a round, for models that only answer: of code, with what it is about.
pub(crate) fn ask(plan: &Plan, round: usize, reference: &str) -> Option<String> {
    if plan.kind.is_code() {
        return dialogue(plan, reference).map(|turns| turns[2 * round].text.clone());
    }
    let sentences = plan.language.sentences(reference);
    let at = round * sentences.len() / plan.rounds.len().max(1);
    let about = sentences
        .get(at)
        .map(|sentence| topic(sentence, plan.language));
    Some(question(plan, round, &about.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Round;

    fn plan(kind: Kind, language: Language, rounds: usize) -> Plan {
        let round = Round {
            human: 20,
            assistant: 6,
            style: 0,
        };
        Plan {
            kind,
            language,
            rounds: vec![round; rounds],
        }
    }

    #[test]
    fn answers_are_the_reference_and_all_of_it() {
        let reference =
            "The tower is tall. It was built in 1889. People climb it. It shines at night.";
        let turns = dialogue(&plan(Kind::Fact, Language::En, 3), reference).unwrap();
        assert_eq!(turns.len(), 6);
        assert_eq!(turns[0].text, "What can you tell me about the tower?");
        let said: Vec<&str> = turns
            .iter()
            .skip(1)
            .step_by(2)
            .map(|turn| turn.text.as_str())
            .collect();
        assert_eq!(said.join(" "), reference);
        assert!(dialogue(&plan(Kind::Fact, Language::En, 5), reference).is_none());
        let zh = dialogue(
            &plan(Kind::Fact, Language::Zh, 2),
            "太阳是恒星。地球绕太阳转。",
        )
        .unwrap();
        assert!(
            zh[0].text.contains("太阳") && zh[3].text == "地球绕太阳转。",
            "{zh:?}"
        );
    }

    #[test]
    fn a_bug_is_shown_and_mended() {
        let code = "def f(a):\n    if a == 1:\n        return a + 1\n    return a";
        let turns = dialogue(&plan(Kind::CodeBugFix, Language::En, 1), code).unwrap();
        assert!(turns[0].text.contains("if a != 1") && !turns[0].text.contains("if a == 1"));
        assert!(turns[1].text.contains("    if a == 1:"), "{turns:?}");
        assert!(dialogue(&plan(Kind::CodeBugFix, Language::En, 1), "x = 1").is_none());
        let whole = dialogue(&plan(Kind::CodeCreation, Language::En, 1), code).unwrap();
        assert_eq!(whole[1].text, format!("```\n{code}\n```"));
    }
}
