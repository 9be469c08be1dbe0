//! Records made from reference texts: `corpus/1`, with the run's model as the generator.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::hook::{
    Answer, Call, Generate, Hooks, Reference, Sample, SampleNeeds, Setting, Speech, Spoken, Step,
};
use crate::path::Sampling;
use crate::run::{Engine, Finish};
use crate::text::Message;
use crate::{Error, ErrorKind, Result};

/// A model of either kind that continues prompts; one with a chat template answers them.
#[derive(Clone, Debug)]
pub struct Speaker {
    /// The model.
    pub model: Engine,
    /// How its tokens are chosen. The seed of a text depends on its prompt and how often it was used, so that a resumed
    /// run generates the same texts.
    pub sampling: Sampling,
    /// Hooks of its generations.
    pub hooks: Hooks,
    /// Flag that cancels a generation.
    pub cancel: Option<Arc<AtomicBool>>,
    /// How often each prompt was used, by its hash.
    uses: HashMap<u64, u64>,
}

impl Speaker {
    /// Create a generator.
    pub fn new(model: Engine, sampling: Sampling, hooks: Hooks) -> Self {
        Self {
            model,
            sampling,
            hooks,
            cancel: None,
            uses: HashMap::new(),
        }
    }
}

/// The sub-graph of a text: its tokens and the hops between them. The last token leads to the first, so that no node is a
/// dead end.
#[derive(Debug)]
struct Ground {
    next: HashMap<u32, HashSet<u32>>,
    gain: f32,
}

impl Ground {
    fn new(tokens: &[u32], gain: f64) -> Self {
        let mut next: HashMap<u32, HashSet<u32>> = HashMap::new();
        for pair in tokens.windows(2) {
            next.entry(pair[0]).or_default().insert(pair[1]);
        }
        if let (Some(&last), Some(&first)) = (tokens.last(), tokens.first()) {
            next.entry(last).or_default().insert(first);
        }
        Self {
            next,
            gain: gain as f32,
        }
    }

    fn hop(&self, source: u32, target: u32) -> bool {
        self.next
            .get(&source)
            .is_some_and(|targets| targets.contains(&target))
    }

    /// Return the fraction of the hops between tokens that are hops of the sub-graph; `None` without a hop.
    fn fraction(&self, tokens: &[u32]) -> Option<f64> {
        let hops = tokens.len().saturating_sub(1);
        let own = tokens
            .windows(2)
            .filter(|pair| self.hop(pair[0], pair[1]))
            .count();
        (hops > 0).then(|| own as f64 / hops as f64)
    }
}

impl Sample for Ground {
    fn needs(&self) -> SampleNeeds {
        SampleNeeds {
            step: true,
            ..SampleNeeds::default()
        }
    }

    fn step(
        &self,
        _: &Call<'_>,
        step: &Step<'_>,
        logits: &mut [f32],
        _: &mut Setting,
    ) -> Result<Answer> {
        let known = self.next.get(&step.token);
        for (token, logit) in logits.iter_mut().enumerate() {
            let token = token as u32;
            // From outside the sub-graph any of its nodes leads in.
            let inside = match known {
                Some(next) => next.contains(&token),
                None => self.next.contains_key(&token),
            };
            match (inside, self.gain.is_infinite()) {
                (true, false) => *logit += self.gain,
                (false, true) => *logit = f32::NEG_INFINITY,
                _ => {}
            }
        }
        Ok(Answer::Given)
    }
}

/// The conversation that asks a chat model for a text.
fn messages(speech: &Speech<'_>) -> Vec<Message> {
    let system = Some(speech.system).filter(|system| !system.is_empty());
    let system = system.map(|text| Message::new("system", text));
    let user = Message::new("user", speech.prompt);
    system.into_iter().chain([user]).collect()
}

impl Generate for Speaker {
    fn speak(&mut self, speech: &Speech<'_>) -> Result<Spoken> {
        let prompt = match speech.system {
            "" => speech.prompt.to_string(),
            system => format!("{system}\n\n{}", speech.prompt),
        };
        let hash = xxhash_rust::xxh3::xxh3_64(prompt.as_bytes());
        let times = self.uses.entry(hash).or_default();
        let seed = self.sampling.seed.wrapping_add(hash).wrapping_add(*times);
        *times += 1;
        let mut hooks = self.hooks.clone();
        let ground = match speech.within {
            "" => None,
            within => {
                let tokens = self.model.tokenizer().encode(within)?;
                Some(Arc::new(Ground::new(&tokens, speech.gain)))
            }
        };
        if let Some(ground) = ground.as_ref().filter(|ground| ground.gain > 0.0) {
            hooks.sample.push(ground.clone());
        }
        let chat = self.model.has_chat_template();
        let mut ids = if chat {
            // Some templates refuse a system message: then it begins the user's.
            let joined = [Message::new("user", prompt.as_str())];
            let asked = self.model.chat_prompt(&messages(speech));
            asked.or_else(|_| self.model.chat_prompt(&joined))?
        } else {
            self.model.encode(&prompt)?
        };
        let mut tokens = speech.tokens;
        // A conversation that is too long is refused: without its beginning it is none.
        if let Some(limit) = self.model.context_limit().filter(|_| !chat) {
            // The end of the prompt is what is continued; new tokens get at most half of the context.
            tokens = tokens.min(limit / 2);
            let most = (limit - tokens).max(1);
            ids.drain(..ids.len().saturating_sub(most));
        }
        let mut request = crate::run::Request::ids(ids)
            .tokens(tokens)
            .sampling(self.sampling.clone().seed(seed))
            .hooks(hooks);
        if let Some(flag) = &self.cancel {
            request = request.cancel(flag.clone());
        }
        let mut generation = self.model.start(request)?;
        let (text, ids) = generation.collect_text()?;
        match generation.finish() {
            Some(Finish::Cancelled) => Err(Error::new(ErrorKind::Cancelled, "cancelled")),
            finish => Ok(Spoken {
                text,
                cut: matches!(finish, Some(Finish::Length | Finish::Context)),
                grounded: ground.and_then(|ground| ground.fraction(&ids)),
            }),
        }
    }

    fn grounded(&mut self, reference: &str, text: &str) -> Result<Option<f64>> {
        let tokenizer = self.model.tokenizer();
        let ground = Ground::new(&tokenizer.encode(reference)?, 0.0);
        // A first word has one token at the beginning of a text and another within a text.
        let alone = ground.fraction(&tokenizer.encode(text)?);
        let within: Vec<u32> = tokenizer.encode(&format!(" {text}"))?;
        let within =
            within
                .split_first()
                .map(|(first, rest)| match tokenizer.vocabulary().bytes(*first) {
                    b" " => rest,
                    _ => &within[..],
                });
        let within = within.and_then(|tokens| ground.fraction(tokens));
        Ok(match (alone, within) {
            (Some(alone), Some(within)) => Some(alone.max(within)),
            (alone, within) => alone.or(within),
        })
    }
}

/// Make records of documents with the hook `corpus/1`; `record` receives each, one JSON object. Returns their number.
///
/// `written` holds the keys of existing records; `progress` gets the number of records after each document.
///
/// # Errors
/// [`ErrorKind::Configuration`] when no hook makes records; [`ErrorKind::Cancelled`] when the run is cancelled; errors of
/// reading, of the hook and of `record`.
#[allow(
    clippy::too_many_arguments,
    reason = "what a run is made of, each once"
)]
pub fn write_records(
    documents: impl IntoIterator<Item = Result<String>>,
    hooks: &Hooks,
    seed: u64,
    mut generate: Option<&mut dyn Generate>,
    written: &HashSet<String>,
    cancel: &AtomicBool,
    record: &mut dyn FnMut(&str) -> Result<()>,
    progress: &mut dyn FnMut(u64),
) -> Result<u64> {
    let Some(corpus) = &hooks.corpus else {
        return Err(Error::new(
            ErrorKind::Configuration,
            "no plugin creates training records",
        )
        .advice(
            "pass --plugin with one that implements corpus/1; `brillm plugin list` shows them",
        ));
    };
    let mut records = 0;
    for (index, document) in documents.into_iter().enumerate() {
        let text = document?;
        let id = index.to_string();
        let reference = Reference {
            id: &id,
            text: &text,
            written,
        };
        if cancel.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Cancelled, "cancelled"));
        }
        let model: Option<&mut dyn Generate> = match &mut generate {
            Some(generate) => Some(&mut **generate),
            None => None,
        };
        corpus.write(
            &Call::new(seed, index as u64, 0).cancel(cancel),
            &reference,
            model,
            &mut |line| {
                records += 1;
                record(line)
            },
        )?;
        progress(records);
    }
    Ok(records)
}
