//! Tokenizers, and corpora as streams of documents.
//!
//! A [`Corpus`] reads files, folders or standard input; a [`Tokenizer`] encodes text as token ids and decodes them. All
//! later modules work on ids; [`crate::run`] and the commands decode the results.
#![forbid(unsafe_code)]

mod bpe;
mod character_map;
mod conversation;
mod corpus;
mod corpus_files;
mod cut;
mod decoder;
mod decoder_stage;
mod decoding;
mod decompress;
pub(crate) mod download;
mod entities;
mod file_kind;
mod folder;
mod ids;
mod input;
mod json_record;
mod labelled;
mod media;
mod new_words;
mod pairs;
mod pipeline;
mod reading_direction;
mod scored;
mod source;
mod special;
mod spelling;
mod tokenizer;
#[cfg(test)]
mod tokenizer_tests;
mod vocabulary;
mod words;

pub use conversation::Message;
pub use corpus::{Corpus, CorpusFormat, CorpusOptions, describe_left_out};
pub use corpus_files::SkippedFiles;
pub(crate) use corpus_files::is_run_record;
pub(crate) use corpus_files::{RUN_RECORD, is_run_folder};
pub(crate) use cut::cut;
pub use decoder::Decoder;
#[cfg(feature = "transformer")]
pub(crate) use folder::GgufVocabulary;
#[cfg(feature = "transformer")]
pub(crate) use folder::OWN_TOKENIZER;
pub use ids::{read_ids, write_ids};
#[cfg(feature = "import")]
pub(crate) use input::Input;
pub(crate) use input::read_text;
pub use labelled::{LabelledFields, LabelledText, read_labelled};
pub use media::ModalityTokens;
pub use new_words::NewToken;
pub use reading_direction::{LEFT_TO_RIGHT, RIGHT_TO_LEFT, ReadingDirection};
pub use tokenizer::Tokenizer;
pub use vocabulary::Vocabulary;
