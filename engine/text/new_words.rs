//! Tokens for words that a vocabulary splits: appended after the others, whose ids keep their meaning.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use crate::text::Tokenizer;
use crate::text::pipeline::Pipeline;
use crate::text::tokenizer::Kind;
use crate::{Error, ErrorKind, Result};

/// Least occurrences of a word that gets a token.
const LEAST: usize = 2;

/// A token that joins two or more others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewToken {
    /// Its text, as [`Vocabulary::display`](crate::text::Vocabulary::display) formats it.
    pub text: String,
    /// The tokens that were in its place: old ones, and new ones before it.
    pub parts: Vec<u32>,
}

impl Tokenizer {
    /// Add tokens for the most frequent words of `texts` that are several tokens (characters: for those that are bytes or
    /// unknown), `count` at most. Other tokens keep their ids. Also returns the new tokens, in the order of their ids.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for vocabularies other than byte pairs and characters; as [`Self::encode`].
    pub fn with_words(&self, texts: &[String], count: usize) -> Result<(Self, Vec<NewToken>)> {
        let old = self.vocabulary.len();
        let texts: Vec<_> = texts.iter().map(|text| self.plain_text(text)).collect();
        let (mut extended, parts): (Self, Vec<Vec<u32>>) = match &self.kind {
            // The ids of new merges would be those of codes.
            Kind::Pipeline(_) if self.codecs().is_some() => {
                let what =
                    "byte pairs of a model of images or sounds cannot be extended with new words";
                return Err(Error::new(ErrorKind::Unsupported, what).advice(
                    "leave out --new-nodes, or train a model with data.tokens = \"characters\"",
                ));
            }
            Kind::Pipeline(pipeline) => {
                let (pipeline, pairs) = extend(pipeline, old, &texts, count)?;
                let pairs = pairs.iter().map(|pair| pair.to_vec()).collect();
                (Self::of_pipeline(pipeline)?, pairs)
            }
            Kind::Characters => {
                let mut counts: BTreeMap<char, usize> = BTreeMap::new();
                for character in texts.iter().flat_map(|text| text.chars()) {
                    if self
                        .vocabulary
                        .id(character.encode_utf8(&mut [0; 4]))
                        .is_none()
                    {
                        *counts.entry(character).or_default() += 1;
                    }
                }
                let mut new = ranked(counts);
                new.truncate(count);
                let new: Vec<String> = new.into_iter().map(String::from).collect();
                let parts = new
                    .iter()
                    .map(|text| self.encode(text))
                    .collect::<Result<_>>()?;
                let mut tokens = self.token_names();
                tokens.extend(new);
                (Self::characters(tokens)?, parts)
            }
            _ => return Err(unsupported()),
        };
        extended.vocabulary.codecs = self.vocabulary.codecs.clone();
        let text = |id: usize| extended.vocabulary.display(id as u32);
        let named = parts.into_iter().zip(old..);
        let new = named
            .map(|(parts, id)| NewToken {
                text: text(id),
                parts,
            })
            .collect();
        Ok((extended, new))
    }

    /// Remove the last `count` tokens, which [`Self::with_words`] added.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a vocabulary that cannot be extended.
    pub fn without_last(&self, count: usize) -> Result<Self> {
        let size = self.vocabulary.len();
        let shortened = match &self.kind {
            _ if count == 0 => Ok(self.clone()),
            Kind::Pipeline(pipeline) if count < size => {
                Self::of_pipeline(shorten(pipeline, size, count)?)
            }
            Kind::Characters if count < size => {
                let mut tokens = self.token_names();
                tokens.truncate(size - count);
                Self::characters(tokens)
            }
            _ => Err(unsupported()),
        };
        shortened.map(|mut tokenizer| {
            tokenizer.vocabulary.codecs = self.vocabulary.codecs.clone();
            tokenizer
        })
    }
}

/// A pair of tokens that a new merge of byte-pair encoding joins, with the id and name of the result.
struct Merge {
    pair: (u32, u32),
    id: u32,
    token: String,
}

/// Rank what occurs at least twice: most often first, equal ones in their order.
fn ranked<K: Ord>(counts: BTreeMap<K, usize>) -> Vec<K> {
    let often = counts.into_iter().filter(|&(_, count)| count >= LEAST);
    let mut ranked: Vec<(K, usize)> = often.collect();
    ranked.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    ranked.into_iter().map(|(key, _)| key).collect()
}

/// Extend byte pairs by merges for the most frequent words of `texts` that are several tokens: `count` new tokens at most.
/// Also returns the two parts of each new token.
///
/// New merges come after all others, so a text is encoded as before, then new pairs in it are joined.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for another model than byte pairs.
fn extend(
    pipeline: &Pipeline,
    size: usize,
    texts: &[Cow<'_, str>],
    count: usize,
) -> Result<(Pipeline, Vec<[u32; 2]>)> {
    let mut json: Value = parse(pipeline)?;
    if !matches!(json["model"]["merges"], Value::Array(_)) {
        return Err(unsupported());
    }
    let mut counts: BTreeMap<Vec<u32>, usize> = BTreeMap::new();
    for text in texts {
        for word in pipeline.words(text)? {
            if word.len() > 1 {
                *counts.entry(word).or_default() += 1;
            }
        }
    }
    let names: HashMap<String, u32> =
        serde_json::from_value(json["model"]["vocab"].clone()).map_err(|_| unsupported())?;
    // Special tokens after the byte pairs have the ids of new ones.
    if names.len() != size {
        let what = "this vocabulary has special tokens after its byte pairs: it cannot be extended with new words";
        return Err(Error::new(ErrorKind::Unsupported, what).advice("leave out --new-nodes"));
    }
    let name_of: HashMap<u32, &str> = names.iter().map(|(name, &id)| (id, &**name)).collect();
    let mut merges: Vec<Merge> = Vec::new();
    let mut taken: HashMap<String, u32> = names.clone();
    for mut word in ranked(counts) {
        for merge in &merges {
            join(&mut word, merge);
        }
        if merges.len() == count {
            break;
        }
        let before = merges.len();
        while word.len() > 1 && merges.len() < count {
            let name = |id: u32| match (id as usize).checked_sub(size) {
                Some(new) => merges[new].token.clone(),
                None => name_of
                    .get(&id)
                    .map(|name| name.to_string())
                    .unwrap_or_default(),
            };
            let token = name(word[0]) + &name(word[1]);
            // A token of this name is made of other pairs, and keeps to them.
            if taken.contains_key(&token) {
                break;
            }
            let id = (size + merges.len()) as u32;
            taken.insert(token.clone(), id);
            let merge = Merge {
                pair: (word[0], word[1]),
                id,
                token,
            };
            join(&mut word, &merge);
            merges.push(merge);
        }
        // A part of a word is of no use without the rest.
        if word.len() > 1 {
            for merge in merges.drain(before..) {
                taken.remove(&merge.token);
            }
        }
    }
    let texts: Vec<(String, String)> = merges
        .iter()
        .map(|merge| {
            let name = |id: u32| match (id as usize).checked_sub(size) {
                Some(new) => merges[new].token.clone(),
                None => name_of[&id].to_string(),
            };
            (name(merge.pair.0), name(merge.pair.1))
        })
        .collect();
    let all = json["model"]["merges"]
        .as_array_mut()
        .ok_or_else(unsupported)?;
    let as_text = all.first().is_some_and(Value::is_string);
    all.extend(texts.into_iter().map(|(left, right)| match as_text {
        true => json!(format!("{left} {right}")),
        false => json!([left, right]),
    }));
    for merge in &merges {
        json["model"]["vocab"][&merge.token] = json!(merge.id);
    }
    let parts = merges
        .iter()
        .map(|merge| [merge.pair.0, merge.pair.1])
        .collect();
    Ok((Pipeline::build(json)?, parts))
}

/// Remove the last `count` tokens of byte pairs, each with its merge.
///
/// # Errors
/// As [`extend`].
fn shorten(pipeline: &Pipeline, size: usize, count: usize) -> Result<Pipeline> {
    let mut json = parse(pipeline)?;
    let merges = json["model"]["merges"]
        .as_array_mut()
        .ok_or_else(unsupported)?;
    merges.truncate(merges.len().saturating_sub(count));
    let vocabulary = json["model"]["vocab"]
        .as_object_mut()
        .ok_or_else(unsupported)?;
    vocabulary.retain(|_, id| id.as_u64().is_none_or(|id| (id as usize) < size - count));
    Pipeline::build(json)
}

fn parse(pipeline: &Pipeline) -> Result<Value> {
    serde_json::from_str(&pipeline.to_json()?).map_err(|error| {
        Error::new(ErrorKind::Vocabulary, "the tokenizer cannot be written").because(error)
    })
}

fn unsupported() -> Error {
    let what = "this kind of vocabulary cannot be extended with new words";
    Error::new(ErrorKind::Unsupported, what)
        .advice("leave out --new-nodes, or use byte pairs or characters")
}

/// Replace each occurrence of a pair, from left to right.
fn join(word: &mut Vec<u32>, merge: &Merge) {
    let mut joined = Vec::with_capacity(word.len());
    let mut at = 0;
    while at < word.len() {
        if at + 1 < word.len() && (word[at], word[at + 1]) == merge.pair {
            joined.push(merge.id);
            at += 2;
        } else {
            joined.push(word[at]);
            at += 1;
        }
    }
    *word = joined;
}
