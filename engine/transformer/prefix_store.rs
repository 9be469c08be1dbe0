//! Keys and values of finished sessions, which later sessions of the same model continue.

use std::sync::{Arc, Mutex, PoisonError};

use crate::transformer::cache::Sequence;
use crate::transformer::cache_slots::PAGE;

/// Texts that finished sessions read, with what the network computed for them. The least recently used come first.
#[derive(Debug)]
pub(super) struct PrefixStore {
    /// Most bytes that are kept.
    bytes: usize,
    prefixes: Mutex<Vec<Arc<Prefix>>>,
}

/// A text, and the keys and values of its tokens.
#[derive(Debug)]
pub(super) struct Prefix {
    pub(super) tokens: Vec<u32>,
    /// [`length_class`](crate::transformer::Configuration::length_class) of the texts that the tokens were rotated for.
    pub(super) class: (usize, usize),
    pub(super) sequence: Sequence,
}

impl PrefixStore {
    /// Create an empty store of at most `bytes`.
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            bytes,
            prefixes: Mutex::default(),
        }
    }

    /// Return whether sessions leave anything.
    pub(super) fn is_used(&self) -> bool {
        self.bytes > 0
    }

    /// Copy what is known of the beginning of a prompt, but never all of it.
    pub(super) fn find(&self, prompt: &[u32], class: (usize, usize)) -> Option<Prefix> {
        let most = prompt.len().saturating_sub(1);
        let mut prefixes = self.prefixes.lock().unwrap_or_else(PoisonError::into_inner);
        let candidates = prefixes.iter().enumerate();
        let lengths = candidates.filter(|(_, prefix)| prefix.class == class);
        let lengths =
            lengths.map(|(index, prefix)| (common(&prefix.tokens, prompt).min(most), index));
        let (length, index) = lengths.max().filter(|&(length, _)| length > 0)?;
        let found = prefixes.remove(index);
        prefixes.push(found.clone());
        // Others use the store while this session copies.
        drop(prefixes);
        Some(Prefix {
            tokens: prompt[..length].to_vec(),
            class,
            sequence: found.sequence.prefix(length),
        })
    }

    /// Keep a text for later sessions, shortened to what fits.
    pub(super) fn keep(&self, mut prefix: Prefix) {
        prefix.sequence.truncate(prefix.tokens.len());
        let bytes = prefix.sequence.allocated_bytes();
        if bytes + 4 * prefix.tokens.len() > self.bytes {
            let fits = prefix.tokens.len() as u128 * self.bytes as u128 / bytes as u128;
            // Pages are allocated as a whole.
            prefix.shorten((fits as usize).next_multiple_of(PAGE));
            while prefix.bytes() > self.bytes && !prefix.tokens.is_empty() {
                prefix.shorten((prefix.tokens.len() - 1) / PAGE * PAGE);
            }
        }
        if prefix.tokens.is_empty() {
            return;
        }
        let mut removed = Vec::new();
        let mut prefixes = self.prefixes.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |other: &Prefix| other.class == prefix.class;
        let longer = prefixes
            .iter()
            .position(|other| same(other) && other.tokens.starts_with(&prefix.tokens));
        if let Some(index) = longer {
            let longer = prefixes.remove(index);
            prefixes.push(longer);
            return;
        }
        prefixes.retain(|other| {
            let superseded = same(other) && prefix.tokens.starts_with(&other.tokens);
            if superseded {
                removed.push(other.clone());
            }
            !superseded
        });
        prefixes.push(Arc::new(prefix));
        let mut total: usize = prefixes.iter().map(|prefix| prefix.bytes()).sum();
        while total > self.bytes {
            let oldest = prefixes.remove(0);
            total -= oldest.bytes();
            removed.push(oldest);
        }
        // Memory is returned while others use the store.
        drop(prefixes);
        drop(removed);
    }
}

impl Prefix {
    fn shorten(&mut self, length: usize) {
        self.tokens.truncate(length);
        self.sequence.truncate(length);
    }

    fn bytes(&self) -> usize {
        self.sequence.allocated_bytes() + 4 * self.tokens.len()
    }
}

/// Return the number of tokens that two texts begin with in common.
fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
