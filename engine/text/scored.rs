//! Pieces with scores: the tokenizer files of llama2.c (`tok*.bin`).
//!
//! The text is split into characters, or bytes for characters that are not in the vocabulary. Then the neighbours whose
//! concatenation has the highest score are merged, the leftmost among equals, until no concatenation is a piece (Kudo
//! and Richardson 2018, the BPE of SentencePiece).

use std::collections::{BinaryHeap, HashMap};

use crate::text::special::plain_bytes;
use crate::{Error, ErrorKind, Result};

/// The id that begins a text and ends the previous one.
pub(crate) const BEGIN: u32 = 1;
/// Ids 0 to 2 are unknown, begin and end; the 256 bytes follow.
const FIRST_BYTE: u32 = 3;

/// Pieces and their scores, in the order of ids.
#[derive(Clone, Debug)]
pub(crate) struct Scored {
    pub(crate) scores: Vec<f32>,
    index: HashMap<Vec<u8>, u32>,
}

/// A pair that may be merged; ordered by score, then leftmost first.
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    id: u32,
    /// Bytes of both pieces when the pair was found; after a merge the pair is stale.
    length: usize,
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Pair {}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.score
            .total_cmp(&other.score)
            .then(other.left.cmp(&self.left))
    }
}

/// A piece of the text: bytes `from..to`, its id, and its neighbours.
struct Piece {
    from: usize,
    to: usize,
    id: u32,
    before: usize,
    after: usize,
}

/// No neighbour.
const NONE: usize = usize::MAX;

impl Scored {
    /// Create a vocabulary from pieces in the order of their ids; the first of equal pieces is used.
    pub(crate) fn new(pieces: &[Vec<u8>], scores: Vec<f32>) -> Result<Self> {
        if pieces.len() != scores.len() || pieces.len() < FIRST_BYTE as usize + 256 {
            return Err(Error::new(
                ErrorKind::Vocabulary,
                format!(
                    "invalid vocabulary of {} pieces and {} scores",
                    pieces.len(),
                    scores.len()
                ),
            )
            .advice("unknown, begin, end and 256 bytes need at least 259 of each"));
        }
        let mut index = HashMap::with_capacity(pieces.len());
        for (id, piece) in pieces.iter().enumerate().skip(FIRST_BYTE as usize + 256) {
            index.entry(piece.clone()).or_insert(id as u32);
        }
        Ok(Self { scores, index })
    }

    /// Encode a text after the space that these vocabularies put before it, without the begin id.
    ///
    /// # Complexity
    /// O(n log n) for n bytes.
    pub(crate) fn encode(&self, text: &str) -> Vec<u32> {
        if text.is_empty() {
            return Vec::new();
        }
        let spaced = format!(" {text}");
        let bytes = spaced.as_bytes();
        let mut parts: Vec<Piece> = Vec::with_capacity(bytes.len());
        let mut add = |from: usize, to: usize, id: u32| {
            let at = parts.len();
            parts.push(Piece {
                from,
                to,
                id,
                before: at.wrapping_sub(1),
                after: at + 1,
            });
        };
        for (from, character) in spaced.char_indices() {
            let to = from + character.len_utf8();
            match self.index.get(&bytes[from..to]) {
                Some(&id) => add(from, to, id),
                None => (from..to).for_each(|at| {
                    add(at, at + 1, u32::from(bytes[at]) + FIRST_BYTE);
                }),
            }
        }
        if let Some(last) = parts.last_mut() {
            last.after = NONE;
        }
        let mut heap = BinaryHeap::new();
        for left in 1..parts.len() {
            self.consider(bytes, &parts, left - 1, left, &mut heap);
        }
        while let Some(pair) = heap.pop() {
            let (left, right) = (pair.left, pair.right);
            let stale = parts[left].after != right
                || parts[left].to == parts[left].from
                || parts[right].to - parts[left].from != pair.length;
            if stale {
                continue;
            }
            parts[left].to = parts[right].to;
            parts[left].id = pair.id;
            let after = parts[right].after;
            parts[left].after = after;
            // An empty piece marks pairs with it as stale.
            parts[right].from = parts[right].to;
            if after != NONE {
                parts[after].before = left;
                self.consider(bytes, &parts, left, after, &mut heap);
            }
            let before = parts[left].before;
            if before != NONE {
                self.consider(bytes, &parts, before, left, &mut heap);
            }
        }
        let mut ids = Vec::new();
        let mut at = 0;
        while at != NONE {
            ids.push(parts[at].id);
            at = parts[at].after;
        }
        ids
    }

    fn consider(
        &self,
        bytes: &[u8],
        parts: &[Piece],
        left: usize,
        right: usize,
        heap: &mut BinaryHeap<Pair>,
    ) {
        let (from, to) = (parts[left].from, parts[right].to);
        if let Some(&id) = self.index.get(&bytes[from..to]) {
            heap.push(Pair {
                score: self.scores[id as usize],
                left,
                right,
                id,
                length: to - from,
            });
        }
    }
}

/// Reads a `tok*.bin`: the longest piece (i32), then for each id its score (f32), length (i32) and bytes.
///
/// # Errors
/// [`ErrorKind::Format`] with the offset of the first invalid bytes.
pub(crate) fn read(bytes: &[u8]) -> Result<(Vec<Vec<u8>>, Vec<f32>)> {
    let broken = |what: &str, at: usize| {
        Error::new(ErrorKind::Format, format!("{what} at byte {at}"))
            .advice("pass a tokenizer of llama2.c")
    };
    let word = |at: usize| {
        bytes
            .get(at..at + 4)
            .map(|four| <[u8; 4]>::try_from(four).expect("four bytes"))
            .ok_or_else(|| broken("the file ends within a number", at))
    };
    word(0)?;
    let (mut pieces, mut scores) = (Vec::new(), Vec::new());
    let mut at = 4;
    while at < bytes.len() {
        let score = f32::from_le_bytes(word(at)?);
        let length = i32::from_le_bytes(word(at + 4)?);
        let piece = usize::try_from(length)
            .ok()
            .and_then(|length| bytes.get(at + 8..(at + 8).checked_add(length)?))
            .ok_or_else(|| broken(&format!("invalid piece of {length} bytes"), at + 4))?;
        if score.is_nan() {
            return Err(broken("invalid score", at));
        }
        pieces.push(piece.to_vec());
        scores.push(score);
        at += 8 + piece.len();
    }
    Ok((pieces, scores))
}

/// Unique names of the pieces. Two ids may have the same piece, for example a byte and a character; the later one then
/// has its id appended.
pub(crate) fn names(pieces: &[Vec<u8>]) -> Vec<String> {
    let mut taken = std::collections::HashSet::new();
    pieces
        .iter()
        .enumerate()
        .map(|(id, piece)| {
            let name = match id {
                0..=2 => ["<unk>", "<s>", "</s>"][id].to_string(),
                _ => String::from_utf8_lossy(piece).into_owned(),
            };
            if taken.insert(name.clone()) {
                name
            } else {
                format!("{name}#{id}")
            }
        })
        .collect()
}

/// The bytes of each piece, from names that [`names`] made; none for the unknown, begin and end tokens.
pub(crate) fn bytes(names: &[String]) -> Vec<Vec<u8>> {
    names
        .iter()
        .enumerate()
        .map(|(id, name)| match name.rsplit_once('#') {
            _ if id < FIRST_BYTE as usize => Vec::new(),
            Some((piece, number)) if number == id.to_string() => plain_bytes(piece),
            _ => plain_bytes(name),
        })
        .collect()
}
