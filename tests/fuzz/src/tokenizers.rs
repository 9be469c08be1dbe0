//! Tokenizer files of every layout.

use std::panic::{AssertUnwindSafe, catch_unwind};

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

/// Read a `tokenizer.json` with the `tokenizers` crate alone, which panics on some files.
fn read_reference(json: &[u8]) -> Option<tokenizers::Tokenizer> {
    let json = json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(json);
    catch_unwind(|| tokenizers::Tokenizer::from_bytes(json).ok()).ok()?
}

/// Decode ids with the `tokenizers` crate; `None` where it fails.
fn decode(reference: &tokenizers::Tokenizer, ids: &[u32]) -> Option<String> {
    catch_unwind(AssertUnwindSafe(|| reference.decode(ids, true).ok())).ok()?
}

/// Read the bytes after the first as a tokenizer of the kind that the first byte chooses, encode and decode.
pub fn tokenizer(data: &[u8]) {
    crate::let_panics_be_caught();
    let Some((&first, rest)) = data.split_first() else {
        return;
    };
    let opened = match first % 8 {
        0 => Tokenizer::open(&files::write("single.json", rest)),
        1 => Tokenizer::from_authors(rest),
        2 => Tokenizer::from_bytes(rest),
        3 => Tokenizer::open_scored(&files::write("tok.bin", rest)),
        layout => {
            let [first, second, settings] = LAYOUTS[usize::from(layout) - 4];
            let names = [first, second, settings, "added_tokens.json"];
            let folder = files::folder().join(format!("folder{layout}"));
            files::write_parts(&folder, &names, parts::<4>(rest));
            Tokenizer::open_folder(&folder)
                .map(|found| found.unwrap_or_else(|| Tokenizer::ids(3).expect("three ids")))
        }
    };
    let Ok(tokenizer) = opened else { return };
    let reference = if data[0] % 8 == 0 {
        read_reference(rest)
    } else {
        None
    };
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
        if let Some(expected) = reference
            .as_ref()
            .and_then(|reference| decode(reference, &ids))
        {
            assert_eq!(
                streamed, expected,
                "the tokenizers crate decodes {ids:?} differently"
            );
        }
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
