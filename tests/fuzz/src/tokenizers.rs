//! Tokenizer files of every layout.

use brillm::text::{Decoder, Tokenizer};

use crate::{files, parts};

const TEXTS: [&str; 3] = ["the cat sat, naïve ☃ 猫!", " a\u{0}b\r\n  <s>[CLS]▁##x", ""];

/// Files of a folder, with the settings that matter to them.
const LAYOUTS: [[&str; 3]; 4] = [
    ["tokenizer.model", "config.json", "tokenizer_config.json"],
    ["vocab.json", "merges.txt", "tokenizer_config.json"],
    [
        "vocab.txt",
        "special_tokens_map.json",
        "tokenizer_config.json",
    ],
    [
        "tokenizer.json",
        "special_tokens_map.json",
        "tokenizer_config.json",
    ],
];

/// Read the bytes after the first as a tokenizer of the kind that the first byte chooses, encode and decode.
pub fn tokenizer(data: &[u8]) {
    crate::let_panics_be_caught();
    let Some((&first, rest)) = data.split_first() else {
        return;
    };
    let opened = match first % 8 {
        0 => Tokenizer::open(&files::write("tokenizer.json", rest)),
        1 => Tokenizer::from_authors(rest),
        2 => Tokenizer::from_bytes(rest),
        3 => Tokenizer::open_scored(&files::write("tok.bin", rest)),
        layout => {
            let [first, second, settings] = LAYOUTS[usize::from(layout) - 4];
            let names = [first, second, settings, "added_tokens.json"];
            let folder = files::folder().join(first);
            files::write_parts(&folder, &names, parts::<4>(rest));
            Tokenizer::open_folder(&folder)
                .map(|found| found.unwrap_or_else(|| Tokenizer::ids(3).expect("three ids")))
        }
    };
    let Ok(tokenizer) = opened else { return };
    tokenizer.frame();
    let vocabulary = tokenizer.vocabulary().len() as u32;
    for text in TEXTS {
        let Ok(ids) = tokenizer.encode(text) else {
            continue;
        };
        for &id in &ids {
            assert!(
                id < vocabulary,
                "the id {id} is outside the vocabulary of {vocabulary}"
            );
        }
        let mut decoder = Decoder::default();
        let mut streamed = String::new();
        for &id in &ids {
            streamed.push_str(&decoder.push(&tokenizer, id));
        }
        streamed.push_str(&decoder.finish());
        assert_eq!(streamed, tokenizer.decode(&ids));
        tokenizer.decode_bytes(&ids);
    }
    for id in [0, 1, vocabulary.wrapping_sub(1), vocabulary, u32::MAX] {
        tokenizer.decode(&[id]);
        tokenizer.vocabulary().display(id);
    }
    let again =
        Tokenizer::from_bytes(&tokenizer.to_bytes()).expect("a stored tokenizer is read back");
    assert_eq!(again.vocabulary().len() as u32, vocabulary);
}
