//! Whether a model shares the human sense of semantic size: how big a thing feels, concrete or not.
//!
//! After Yao et al., "How Deep is Love in LLMs' Hearts? Exploring Semantic Size in Human-like Cognition", of which
//! abstract and published code are known here: three experiments, remade for models that follow no instructions and for
//! texts alone. Choices are by likelihood, probes have nested splits and controls, and on a graph one node is shifted.

mod choices;
mod pictures;
mod probing;
mod shifting;
mod solve;
mod statistics;
mod table;
mod words;

use brillm_plugin::{
    Activations, Host, HostModel, Plugin, PluginError, ProbeHook, RandomStream, Result, State,
    SubjectKind, Tap, export,
};
use serde_json::{Value, json};

use choices::{Asked, Choices, Shopped};
use probing::{Figures, Ratings};
use shifting::Shifted;
use solve::Rows;
use words::{Headline, Metaphor, Word};

const NORMS: &str = include_str!("norms.csv");
const METAPHORS: &str = include_str!("metaphors.csv");
const HEADLINES: &str = include_str!("headlines.csv");
/// Words shifted, at most.
const SHIFTED: usize = 6;

/// How the tokens of a word become one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Pool {
    Mean,
    Last,
}

/// Which words are probed: the middle of the scale of concreteness divides them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Subset {
    All,
    Abstract,
    Concrete,
}

impl Subset {
    fn has(self, word: &Word) -> bool {
        match self {
            Self::All => true,
            Self::Abstract => word.concreteness < 4.0,
            Self::Concrete => word.concreteness >= 4.0,
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Options {
    norms: Option<String>,
    metaphors: Option<String>,
    headlines: Option<String>,
    corpus: Option<String>,
    words: usize,
    subset: Subset,
    carrier: String,
    pool: Pool,
    permutations: usize,
    untrained: bool,
}

/// Everything that was found.
#[derive(Default)]
pub(crate) struct Findings {
    words: usize,
    pieces: f64,
    asked: Vec<Asked>,
    choices: Vec<Choices>,
    shopped: Vec<Shopped>,
    probes: Vec<(Figures, Option<Figures>)>,
    shifted: Vec<Shifted>,
}

struct SemanticSize {
    options: Options,
    words: Vec<Word>,
    metaphors: Vec<Metaphor>,
    headlines: Vec<Headline>,
    findings: Option<Findings>,
}

fn text(path: Option<&String>, own: &str) -> Result<String> {
    match path {
        Some(path) => std::fs::read_to_string(path)
            .map(|text| text.trim_start_matches('\u{feff}').to_string())
            .map_err(|error| PluginError::option(format!("{path}: {error}"))),
        None => Ok(own.to_string()),
    }
}

impl Plugin for SemanticSize {
    type Options = Options;

    fn create(options: Options) -> Result<Self> {
        let mut words = words::norms(&text(options.norms.as_ref(), NORMS)?)?;
        words.retain(|word| options.subset.has(word));
        // Fewer words are spread over all of them.
        if words.len() > options.words {
            let all = words.len();
            let keep: Vec<usize> = (0..options.words)
                .map(|at| at * all / options.words)
                .collect();
            words = keep.into_iter().map(|at| words[at].clone()).collect();
        }
        if words.len() < 30 {
            return Err(PluginError::option(format!(
                "{} words are too few for nested splits: at least 30 are needed",
                words.len()
            )));
        }
        if options.corpus.is_some() {
            words::count(&mut words, &text(options.corpus.as_ref(), "")?);
        }
        Ok(Self {
            words,
            metaphors: words::metaphors(&text(options.metaphors.as_ref(), METAPHORS)?)?,
            headlines: words::headlines(&text(options.headlines.as_ref(), HEADLINES)?)?,
            findings: None,
            options,
        })
    }
}

/// A set of features: its name, what to ask for, and which layer.
fn feature_sets(subject: &HostModel) -> Vec<(String, State, usize)> {
    match subject.shape().kind {
        SubjectKind::Graph => vec![
            ("node".into(), State::Node, 0),
            ("signal".into(), State::Signal, 0),
            ("energy".into(), State::Energy, 0),
        ],
        SubjectKind::Transformer => (0..=subject.shape().layers)
            .map(|layer| (format!("hidden {layer}"), State::Hidden, layer))
            .collect(),
    }
}

impl SemanticSize {
    /// The states of every word, each set of features a table. The word's own tokens are those after the carrier's.
    fn states(&self, host: &mut Host, subject: &mut HostModel) -> Result<Vec<Rows>> {
        let sets = feature_sets(subject);
        let mut tables: Vec<Rows> = sets
            .iter()
            .map(|(_, state, _)| Rows {
                values: Vec::new(),
                width: match state {
                    State::Energy => subject.shape().nodes,
                    _ => subject.shape().width,
                },
            })
            .collect();
        let carrier = subject.tokens(&self.options.carrier)?;
        for word in &self.words {
            if host.cancelled() {
                return Err(PluginError::cancelled());
            }
            let text = format!("{} {}", self.options.carrier, word.text);
            let ids = subject.tokens(&text)?;
            let shared = ids.iter().zip(&carrier).take_while(|(a, b)| a == b).count();
            let mut known: Option<(State, Vec<f32>)> = None;
            for ((_, state, layer), table) in sets.iter().zip(&mut tables) {
                if known.as_ref().is_none_or(|(kept, _)| kept != state) {
                    known = Some((*state, subject.states(*state, &text)?));
                }
                let Some((_, values)) = &known else { continue };
                let layers = match state {
                    State::Hidden => subject.shape().layers + 1,
                    _ => 1,
                };
                let size = values.len() / layers;
                let rows = &values[layer * size..][..size];
                let tokens = size / table.width.max(1);
                if tokens != ids.len() {
                    return Err(PluginError::new(format!(
                        "{text:?} has {} tokens and {tokens} rows of states",
                        ids.len()
                    )));
                }
                let from = shared.min(tokens.saturating_sub(1));
                let own = &rows[from * table.width..];
                let row = pooled(own, table.width, self.options.pool);
                if row.is_empty() || row.iter().any(|value| !value.is_finite()) {
                    return Err(PluginError::new(format!(
                        "the states of {:?} are missing or not finite",
                        word.text
                    )));
                }
                table.values.extend(row);
            }
        }
        Ok(tables)
    }

    fn ratings(&self, subject: &mut HostModel) -> Result<Ratings> {
        let carrier = &self.options.carrier;
        let mut form = vec![Vec::new(); 3];
        for word in &self.words {
            let resistance = subject.resist(carrier, &format!(" {}", word.text))?;
            form[0].push(resistance.iter().sum());
            form[1].push(resistance.len() as f64);
            form[2].push(word.text.chars().count() as f64);
        }
        let counts: Option<Vec<f64>> = self
            .words
            .iter()
            .map(|word| word.count.map(f64::ln_1p))
            .collect();
        form.extend(counts);
        let of = |rating: fn(&Word) -> f64| self.words.iter().map(rating).collect::<Vec<_>>();
        Ok(Ratings {
            size: of(|word| word.size),
            form,
            meaning: vec![of(|word| word.arousal), of(|word| word.concreteness)],
        })
    }

    /// Shifts the nodes of concrete words that are one token, after a big and a small thing.
    fn shift(&self, subject: &mut HostModel, nodes: &Rows, size: &[f64]) -> Result<Vec<Shifted>> {
        let direction = probing::direction(nodes, size);
        let places: Vec<f64> = (0..self.words.len())
            .map(|at| {
                nodes
                    .row(at)
                    .iter()
                    .zip(&direction)
                    .map(|(x, d)| x * d)
                    .sum()
            })
            .collect();
        let middle = statistics::mean(&places);
        let squares: Vec<f64> = places
            .iter()
            .map(|place| (place - middle).powi(2))
            .collect();
        let deviation = statistics::mean(&squares).sqrt();
        if !(deviation.is_finite() && deviation > 0.0) {
            return Ok(Vec::new());
        }
        let mut shifted = Vec::new();
        for item in &self.metaphors {
            for word in &item.varied {
                let prompt = format!("Thinking of {} is like {}", item.big, words::article(word));
                let tokens = subject.tokens(&format!("{prompt} {word}"))?;
                if subject.tokens(&prompt)?.len() + 1 != tokens.len() {
                    continue;
                }
                let Some(&node) = tokens.last() else { continue };
                shifted.push(shifting::shift(
                    subject, &prompt, word, node, &direction, deviation,
                )?);
                if shifted.len() == SHIFTED {
                    return Ok(shifted);
                }
            }
        }
        Ok(shifted)
    }
}

/// The rows of a word's tokens as one.
fn pooled(rows: &[f32], width: usize, pool: Pool) -> Vec<f64> {
    let rows: Vec<&[f32]> = rows.chunks_exact(width.max(1)).collect();
    match (pool, rows.last()) {
        (_, None) => Vec::new(),
        (Pool::Last, Some(last)) => last.iter().map(|&value| f64::from(value)).collect(),
        (Pool::Mean, _) => (0..width)
            .map(|at| rows.iter().map(|row| f64::from(row[at])).sum::<f64>() / rows.len() as f64)
            .collect(),
    }
}

impl ProbeHook for SemanticSize {
    const ASKS: bool = true;

    fn taps(&self) -> Vec<Tap> {
        Vec::new()
    }

    fn see(&mut self, _: &mut Host, _: &Activations) -> Result<()> {
        Ok(())
    }

    fn ask(&mut self, host: &mut Host, subject: &mut HostModel) -> Result<()> {
        let seed = host.random();
        let mut random = RandomStream::new(seed);
        let asked = choices::metaphors(subject, &self.metaphors)?;
        let choices = ["varied", "matched"].map(|set| choices::summary(&asked, set, &mut random));
        let shopped = choices::headlines(subject, &self.headlines)?;

        let ratings = self.ratings(subject)?;
        let trained = self.states(host, subject)?;
        let shifted = match subject.shape().kind {
            SubjectKind::Graph => self.shift(subject, &trained[0], &ratings.size)?,
            SubjectKind::Transformer => Vec::new(),
        };
        let untrained = if self.options.untrained {
            subject.untrained(Some(seed))?;
            let states = self.states(host, subject);
            subject.untrained(None)?;
            Some(states?)
        } else {
            None
        };
        // What the word's form alone tells: no state of the model, but its surprise.
        let count = self.words.len();
        let form = Rows {
            values: (0..count)
                .flat_map(|at| ratings.form.iter().map(move |column| column[at]))
                .collect(),
            width: ratings.form.len(),
        };
        let permutations = self.options.permutations;
        let names = feature_sets(subject);
        // The engine hears that the plugin is alive, and the plugin whether to go on.
        let mut alive = || {
            if host.cancelled() {
                Err(PluginError::cancelled())
            } else {
                subject.tokens("a").map(drop)
            }
        };
        let mut probe = |name: &str, rows: Rows| {
            probing::probe(name, rows, &ratings, permutations, seed, &mut alive)
        };
        let mut probes = vec![(probe("form alone", form)?, None)];
        let mut untrained = untrained.map(Vec::into_iter);
        for ((name, ..), rows) in names.into_iter().zip(trained) {
            let own = probe(&name, rows)?;
            let control = untrained.as_mut().and_then(Iterator::next);
            let control = control.map(|rows| probe(&name, rows)).transpose()?;
            probes.push((own, control));
        }
        self.findings = Some(Findings {
            words: count,
            pieces: statistics::mean(&ratings.form[1]),
            asked,
            choices: choices.to_vec(),
            shopped,
            probes,
            shifted,
        });
        Ok(())
    }

    fn report(&mut self, _: &mut Host) -> Result<Option<Value>> {
        let Some(found) = &self.findings else {
            return Ok(None);
        };
        let probes: Vec<Value> = found
            .probes
            .iter()
            .map(|(own, control)| json!({"trained": own, "untrained": control}))
            .collect();
        Ok(Some(json!({
            "words": found.words,
            "tokens_a_word": found.pieces,
            "metaphors": found.choices,
            "headlines": table::styles(found),
            "probes": probes,
            "shifts": found.shifted,
            "table": table::text(found),
            "files": table::files(found)?,
        })))
    }
}

export! {
    SemanticSize {
        id: "org.brillm.semantic-size",
        about: "Whether a model shares the human sense of how big things feel: metaphors, headlines, probes, a shifted node.",
        license: "MIT OR Apache-2.0",
        schema: r#"{"type": "object", "additionalProperties": false, "properties": {
            "norms": {"type": "string", "description": "CSV of word,arousal,concreteness,size in place of the own 670 words; the Glasgow Norms' table is read too"},
            "metaphors": {"type": "string", "description": "CSV of items in place of the own ones"},
            "headlines": {"type": "string", "description": "CSV of products and titles in place of the own ones"},
            "corpus": {"type": "string", "description": "a text in which words are counted, in place of the norms' column count"},
            "words": {"type": "integer", "minimum": 30, "maximum": 100000, "default": 1000, "description": "probe so many words at most, spread over the list"},
            "subset": {"enum": ["all", "abstract", "concrete"], "default": "all", "description": "probe words of a concreteness below 4, or of 4 and more, only"},
            "carrier": {"type": "string", "default": "the", "description": "what stands before a probed word"},
            "pool": {"enum": ["mean", "last"], "default": "mean", "description": "how the tokens of a word become one row"},
            "permutations": {"type": "integer", "minimum": 1, "maximum": 999, "default": 99, "description": "permutations of the ratings"},
            "untrained": {"type": "boolean", "default": true, "description": "probe the model with the weights that training begins with, too"}}}"#,
        hooks: [ProbeHook],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_several_tokens_is_one_row() {
        let rows = [1.0, 2.0, 3.0, 6.0];
        assert_eq!(pooled(&rows, 2, Pool::Mean), [2.0, 4.0]);
        assert_eq!(pooled(&rows, 2, Pool::Last), [3.0, 6.0]);
        assert!(pooled(&[], 2, Pool::Mean).is_empty());
    }
}
