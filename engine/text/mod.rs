//! Text becomes tokens and tokens become text; corpora stream.
//!
//! In: strings, files, folders, standard input. Out: token ids, and text again. Every room above deals in
//! ids only; `run` and the commands bring the text back.
#![forbid(unsafe_code)]

mod bpe;
mod corpus;
mod decoder;
mod ids;
mod labelled;
mod pairs;
mod reading_direction;
mod scored;
mod source;
mod special;
mod tokenizer;
mod vocabulary;

pub use corpus::{Corpus, CorpusFormat, CorpusOptions};
pub use decoder::Decoder;
pub use ids::{read_ids, write_ids};
pub use labelled::{LabelledFields, LabelledText, read_labelled};
pub use reading_direction::{LEFT_TO_RIGHT, RIGHT_TO_LEFT, ReadingDirection};
pub use tokenizer::Tokenizer;
pub use vocabulary::Vocabulary;
