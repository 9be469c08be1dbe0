//! The plan of a dialogue: rounds, words of each turn, and how its speakers behave; and the reference cut for it.

use brillm_plugin::RandomStream;

use crate::language::Language;
use crate::style::{Kind, STYLES};

/// One round.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Round {
    /// Words of the human's turn and of the assistant's.
    pub human: usize,
    pub assistant: usize,
    /// Place of the style in the list.
    pub style: usize,
}

/// A plan. It says everything that was drawn.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Plan {
    pub kind: Kind,
    pub language: Language,
    pub rounds: Vec<Round>,
}

/// What plans are drawn from.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Weights of 1, 2, … rounds.
    pub rounds: Vec<f64>,
    pub human_words: f64,
    pub assistant_words: f64,
    pub deviation: f64,
    /// Counts are whole multiples of this.
    pub step: usize,
}

fn normal(random: &mut RandomStream) -> f64 {
    let radius = (-2.0 * (1.0 - random.uniform()).ln()).sqrt();
    radius * (std::f64::consts::TAU * random.uniform()).cos()
}

/// The place of a draw by weights.
fn draw(weights: impl Iterator<Item = f64> + Clone, random: &mut RandomStream) -> usize {
    let mut left = random.uniform() * weights.clone().sum::<f64>();
    let mut last = 0;
    for (index, weight) in weights.enumerate() {
        if weight > 0.0 {
            last = index;
            left -= weight;
            if left < 0.0 {
                break;
            }
        }
    }
    last
}

impl Plan {
    /// Draws a plan. Word counts are normal, cut to whole steps below; what is too short gets the least.
    pub fn draw(
        kind: Kind,
        language: Language,
        settings: &Settings,
        random: &mut RandomStream,
    ) -> Self {
        let rounds = 1 + draw(settings.rounds.iter().copied(), random);
        let step = settings.step.max(1);
        let count = |mean: f64, random: &mut RandomStream| {
            let words = (mean + settings.deviation * normal(random)).max(0.0) as usize;
            words / step * step
        };
        let rounds = (0..rounds)
            .map(|_| {
                let assistant = count(settings.assistant_words, random);
                let human = count(settings.human_words, random);
                Round {
                    human: if human < 10 {
                        20.min(settings.human_words.ceil() as usize).max(1)
                    } else {
                        human
                    },
                    assistant: if assistant < 2 * step {
                        (settings.assistant_words as usize).clamp(1, 4 * step)
                    } else {
                        assistant
                    },
                    style: draw(STYLES.iter().map(|style| style.weight), random),
                }
            })
            .collect();
        Self {
            kind,
            language,
            rounds,
        }
    }

    /// Shorten the plan to a reference of `words` words that has less than four fifths of what it needs: to fewer rounds,
    /// with answers of two steps on average, then all turns in proportion. `None` where the reference has less than a step.
    pub fn fitted(mut self, words: usize, step: usize) -> Option<Self> {
        if 5 * words >= 4 * self.budget() {
            return Some(self);
        }
        if words < step {
            return None;
        }
        self.rounds.truncate((words / (2 * step.max(1))).max(1));
        let budget = self.budget();
        if budget > words {
            let scaled = |count: usize| (count * words / budget).max(1);
            for round in &mut self.rounds {
                round.human = scaled(round.human).max(round.human.min(20));
                round.assistant = scaled(round.assistant);
            }
            // What rounding left: the whole reference is used.
            let rest = words.saturating_sub(self.budget());
            self.rounds.last_mut()?.assistant += rest;
        }
        Some(self)
    }

    /// Words of all the assistant's turns: what the reference must carry.
    pub fn budget(&self) -> usize {
        self.rounds.iter().map(|round| round.assistant).sum()
    }

    /// The plan as the prompt shows it.
    pub fn text(&self) -> String {
        let mut text = String::from("<start_chat>\n");
        for (index, round) in self.rounds.iter().enumerate() {
            let (human, assistant) = STYLES[round.style].describe(self.language, index > 0);
            let (number, h, a) = (index + 1, round.human, round.assistant);
            text += &match self.language {
                Language::En => format!(
                    "<Human {number}>: (word count: {h} words) {human}\n<Assistant {number}>: (word count: {a} words) {assistant}\n"
                ),
                Language::Zh => format!(
                    "<Human {number}>:（字数要求：{h}字）{human}\n<Assistant {number}>:（字数要求：{a}字）{assistant}\n"
                ),
            };
        }
        text + "<end_chat>"
    }
}

/// Cuts a reference for a budget of `budget` words: whole paragraphs until there are more, then back to the last end of a
/// sentence within. `None` where less than four fifths are left: 0.8 B ≤ words ≤ B.
pub(crate) fn cut(text: &str, language: Language, budget: usize) -> Option<String> {
    let enough = |words: usize| 5 * words >= 4 * budget;
    let mut kept = String::new();
    let mut words = 0;
    'paragraphs: for paragraph in text
        .split('\n')
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        let mut first = true;
        for sentence in language.sentences(paragraph) {
            let more = language.count(sentence);
            if words + more > budget {
                break 'paragraphs;
            }
            if !kept.is_empty() {
                kept.push_str(match (first, language) {
                    (true, _) => "\n",
                    (false, Language::En) => " ",
                    (false, Language::Zh) => "",
                });
            }
            kept.push_str(sentence);
            words += more;
            first = false;
        }
    }
    (words > 0 && enough(words)).then_some(kept)
}

/// As [`cut`], of code: whole lines as they stand, with what indents them.
pub(crate) fn cut_lines(text: &str, language: Language, budget: usize) -> Option<String> {
    let mut kept: Vec<&str> = Vec::new();
    let mut words = 0;
    for line in text.lines() {
        let more = language.count(line);
        if words + more > budget {
            break;
        }
        words += more;
        kept.push(line.trim_end());
    }
    while kept.last().is_some_and(|line| line.is_empty()) {
        kept.pop();
    }
    (words > 0 && 5 * words >= 4 * budget).then(|| kept.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            rounds: vec![0.0, 1.0, 2.0, 2.0, 0.0],
            human_words: 100.0,
            assistant_words: 300.0,
            deviation: 50.0,
            step: 50,
        }
    }

    #[test]
    fn plans_keep_to_their_settings_and_replay() {
        let mut seen = [0; 6];
        for seed in 0..300 {
            let plan = Plan::draw(
                Kind::Fact,
                Language::En,
                &settings(),
                &mut RandomStream::new(seed),
            );
            assert_eq!(
                plan,
                Plan::draw(
                    Kind::Fact,
                    Language::En,
                    &settings(),
                    &mut RandomStream::new(seed)
                )
            );
            seen[plan.rounds.len()] += 1;
            for round in &plan.rounds {
                assert!(
                    round.assistant >= 100 && round.assistant % 50 == 0,
                    "{round:?}"
                );
                assert!(round.human == 20 || round.human % 50 == 0, "{round:?}");
            }
        }
        assert_eq!((seen[1], seen[5]), (0, 0));
        assert!(seen[3] > seen[2] && seen[4] > seen[2], "{seen:?}");
        let text = Plan::draw(
            Kind::Fact,
            Language::En,
            &settings(),
            &mut RandomStream::new(1),
        )
        .text();
        assert!(
            text.starts_with("<start_chat>\n<Human 1>: (word count: "),
            "{text}"
        );
        assert!(text.ends_with("<end_chat>"));
    }

    #[test]
    fn plans_are_shortened_to_short_references() {
        let mut random = RandomStream::new(4);
        for seed in 0..200 {
            let mut drawn = RandomStream::new(seed);
            let plan = Plan::draw(Kind::Fact, Language::En, &settings(), &mut drawn);
            let (budget, rounds) = (plan.budget(), plan.rounds.len());
            for words in [
                50,
                99,
                100,
                120,
                250,
                399,
                600,
                100 + (500.0 * random.uniform()) as usize,
            ] {
                let fitted = plan.clone().fitted(words, 50).unwrap();
                if 5 * words >= 4 * budget {
                    assert_eq!(fitted, plan);
                    continue;
                }
                let text = "One two three four five.\n".repeat(words.div_ceil(5));
                assert!(fitted.budget() <= words, "{words}: {fitted:?}");
                assert!(
                    cut(&text, Language::En, fitted.budget()).is_some(),
                    "{words}: {fitted:?}"
                );
                assert_eq!(fitted.rounds.len(), rounds.min((words / 100).max(1)));
                for round in &fitted.rounds {
                    assert!(
                        round.assistant >= words.min(25) && round.human >= 20,
                        "{round:?}"
                    );
                }
            }
            assert_eq!(plan.fitted(49, 50), None);
        }
    }

    #[test]
    fn the_cut_holds_its_invariant() {
        let en = "One two three four. Five six seven.\n\nEight nine ten eleven twelve. In 2020. More and more of it.".repeat(3);
        let zh = "太阳是一颗恒星。地球绕着太阳转。\n月亮绕着地球转。它会发光吗？不会。".repeat(4);
        for (text, language) in [(&en, Language::En), (&zh, Language::Zh)] {
            let mut kept = 0;
            for budget in 1..120 {
                if let Some(cut) = cut(text, language, budget) {
                    let words = language.count(&cut);
                    assert!(
                        5 * words >= 4 * budget && words <= budget,
                        "{budget}: {words}"
                    );
                    assert!(cut.ends_with(['.', '。', '？']), "{cut}");
                    kept += 1;
                }
            }
            assert!(kept > 40, "{language:?} {kept}");
        }
        let code = "def f(a):\n    return a + 1\n\nprint(f(2), f(3))\n".repeat(3);
        let lines = cut_lines(&code, Language::En, 9).unwrap();
        assert!(
            code.starts_with(&lines) && lines.ends_with("f(3))"),
            "{lines}"
        );
        // Too short, and cut too far back: both are refused.
        assert_eq!(cut("Only four words here.", Language::En, 50), None);
        assert_eq!(
            cut(
                "Short. A sentence that is far too long for the budget.",
                Language::En,
                6
            ),
            None
        );
    }
}
