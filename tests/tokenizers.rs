//! Tokenizers of all kinds and layouts against Hugging Face's libraries: ids, texts, and streams of texts.

mod support;

use std::path::{Path, PathBuf};

use brillm::text::{Decoder, Tokenizer};
use serde_json::Value;

/// The folders that `make.py` wrote, with the lines.
fn golden() -> (Vec<PathBuf>, Vec<String>) {
    let root = support::root().join("tests/golden/tokenizers");
    let lines = std::fs::read(root.join("lines.json")).unwrap();
    let mut folders: Vec<PathBuf> = std::fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("expected.json").exists())
        .collect();
    folders.sort();
    assert!(folders.len() >= 20, "{} folders", folders.len());
    (folders, serde_json::from_slice(&lines).unwrap())
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Decode by the streaming decoder.
fn streamed(tokenizer: &Tokenizer, mut decoder: Decoder, ids: &[u32]) -> String {
    let mut text: String = ids.iter().map(|&id| decoder.push(tokenizer, id)).collect();
    text.push_str(&decoder.finish());
    text
}

/// What differs in one folder.
fn differences(folder: &Path, lines: &[String]) -> Vec<String> {
    let expected = std::fs::read(folder.join("expected.json")).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    let tokenizer = match Tokenizer::open_folder(folder) {
        Ok(Some(tokenizer)) => tokenizer,
        other => return vec![format!("does not open: {other:?}")],
    };
    let mut found = Vec::new();
    let mut check = |what: &str, line: &str, now: String, right: String| {
        if now != right {
            found.push(format!(
                "{what} of {line:?}\n    {now}\n    {right} expected"
            ));
        }
    };
    let (before, after) = (ids(&expected["frame"][0]), ids(&expected["frame"][1]));
    let frame = tokenizer.frame();
    check(
        "special tokens",
        "a text",
        format!("{frame:?}"),
        format!("{:?}", (&before, &after)),
    );
    let rows = expected["lines"].as_array().unwrap();
    assert!(rows.len() == lines.len() && lines.len() >= 200);
    for (line, row) in lines.iter().zip(rows) {
        let right = ids(&row[0]);
        let now = tokenizer.encode(line).unwrap();
        check("ids", line, format!("{now:?}"), format!("{right:?}"));
        let framed = [&before[..], &right, &after].concat();
        let text = |value: &Value| value.as_str().unwrap_or(line).to_string();
        check("text", line, tokenizer.decode(&framed), text(&row[1]));
        check(
            "text with special tokens",
            line,
            tokenizer.decode_with_special(&framed),
            text(&row[2]),
        );
        check(
            "stream",
            line,
            streamed(&tokenizer, Decoder::default(), &framed),
            text(&row[1]),
        );
        // What follows a part of the text completes it, wherever the part ends on a character.
        for at in (0..framed.len()).step_by(1 + framed.len() / 6) {
            let (one, two) = framed.split_at(at);
            let start = tokenizer.decode(one);
            if text(&row[1]).starts_with(&start) {
                let rest = tokenizer.decode_after(one, two);
                check("continuation", line, start + &rest, text(&row[1]));
            }
        }
    }
    found
}

/// Ids, special tokens and texts of 200 lines are those of `tokenizers`, `transformers` and SentencePiece.
#[test]
fn tokenizers_of_all_kinds_and_layouts_agree_with_hugging_face() {
    let (folders, lines) = golden();
    let mut failed = Vec::new();
    for folder in folders {
        let found = differences(&folder, &lines);
        if !found.is_empty() {
            let name = folder.file_name().unwrap().to_string_lossy().into_owned();
            let few: Vec<&str> = found.iter().take(8).map(String::as_str).collect();
            failed.push(format!(
                "{name}: {} differences\n  {}",
                found.len(),
                few.join("\n  ")
            ));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
