//! Tokenizers of all kinds and layouts against Hugging Face's libraries: ids, texts, and streams of texts.

mod support;

use std::path::{Path, PathBuf};

use brillm::text::{Decoder, Tokenizer};
use proptest::prelude::*;
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

/// Copy the weights of the small stories model, of 512 tokens, beside a tokenizer.
#[cfg(feature = "transformer")]
fn model_with(tokenizer: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let stories = support::root().join("models/stories260K");
    let copy = |from: &Path, name: &str| {
        std::fs::copy(from.join(name), folder.path().join(name)).unwrap();
    };
    for entry in std::fs::read_dir(tokenizer).unwrap() {
        copy(tokenizer, entry.unwrap().file_name().to_str().unwrap());
    }
    copy(&stories, "config.json");
    copy(&stories, "model.safetensors");
    folder
}

/// A tokenizer may have more tokens than the network has rows: it opens, text is read and written, and only a text that
/// needs one of the missing rows is an error, which names the token.
#[cfg(all(feature = "transformer", feature = "cli"))]
#[test]
fn tokenizers_with_more_tokens_than_rows_open_in_every_layout() {
    let (folders, lines) = golden();
    let (mut failed, mut refused) = (Vec::new(), 0);
    for folder in folders {
        let expected = std::fs::read(folder.join("expected.json")).unwrap();
        let expected: Value = serde_json::from_slice(&expected).unwrap();
        let model = model_with(&folder);
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let generate = |line: &str| {
            let path = model.path().to_str().unwrap();
            support::run(&["generate", line, "--tokens", "0", "--model", path])
        };
        let all = lines.iter().zip(expected["lines"].as_array().unwrap());
        let usable = all.filter(|(line, row)| {
            line.chars().any(char::is_alphabetic)
                && !line.contains(['\0', '<', '['])
                && !line.starts_with('-')
                && !ids(&row[0]).is_empty()
        });
        let read = |row: &Value| [ids(&expected["frame"][0]), ids(&row[0])].concat();
        let known = |row: &Value| read(row).iter().all(|&id| id < 512);
        let (within, beyond): (Vec<_>, Vec<_>) = usable.partition(|(_, row)| known(row));
        for (line, row) in within.iter().take(1) {
            let right = format!("{}\n", row[1].as_str().unwrap_or(line));
            let now = support::text_of(&generate(line).stdout);
            if now != right {
                failed.push(format!("{name}, {line:?}: {now:?}, not {right:?}"));
            }
        }
        for (line, row) in beyond.iter().take(1) {
            // Tokens of the text are looked up before those that the tokenizer adds.
            let mut all = [ids(&row[0]), read(row)].concat().into_iter();
            let id = all.find(|&id| id >= 512).unwrap();
            let error = support::error_of(&generate(line), &name);
            refused += 1;
            if !error.contains(&format!("(id {id})")) {
                failed.push(format!("{name}, {line:?}: {error}"));
            }
        }
    }
    assert!(failed.is_empty() && refused > 3, "{refused} {failed:#?}");
}

#[cfg(all(feature = "transformer", feature = "cli"))]
#[test]
fn a_folder_without_a_tokenizer_names_the_files_that_were_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let model = model_with(folder.path());
    let path = model.path().to_str().unwrap();
    let error = support::fails(&["generate", "a", "--tokens", "0", "--model", path]);
    for file in [
        "tokenizer.json",
        "tokenizer.model",
        "vocab.json",
        "merges.txt",
        "vocab.txt",
    ] {
        assert!(error.contains(file), "{file}: {error}");
    }
    // Token ids do without.
    support::succeeds(&[
        "generate",
        "--prompt-ids",
        "1,2",
        "--tokens",
        "2",
        "--model",
        path,
    ]);
}

#[cfg(all(feature = "transformer", feature = "cli"))]
#[test]
fn a_begin_token_in_the_prompt_that_the_tokenizer_adds_too_is_a_warning() {
    let model = model_with(&support::root().join("tests/golden/tokenizers/byte-fallback"));
    let path = model.path().to_str().unwrap();
    let warned = |prompt: &str| {
        let output = support::run(&["generate", prompt, "--tokens", "0", "--model", path]);
        support::stdout_of(&output, prompt);
        support::text_of(&output.stderr)
    };
    assert!(
        warned("<s>a").contains("begins with <s>"),
        "{}",
        warned("<s>a")
    );
    assert_eq!(warned("a"), "");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// The project's own tokenizers give every text back, whole and streamed.
    #[test]
    fn own_tokenizers_round_trip_any_text(text in any::<String>(), size in 257usize..400) {
        let corpus = || support::sentences(1, 20).lines().map(String::from).collect::<Vec<_>>();
        let tokenizers = [
            Tokenizer::train_characters(corpus().into_iter(), size).unwrap(),
            Tokenizer::train_bpe(corpus().into_iter(), size).unwrap(),
        ];
        // A text may spell a special token, which decodes to nothing.
        prop_assume!(!text.contains("<end>"));
        for tokenizer in tokenizers {
            let ids = tokenizer.encode(&text).unwrap();
            prop_assert_eq!(&tokenizer.decode(&ids), &text);
            prop_assert_eq!(&streamed(&tokenizer, Decoder::default(), &ids), &text);
            prop_assert_eq!(tokenizer.decode_bytes(&ids), text.as_bytes());
        }
    }

    /// Generation ends at the stop string that is complete first, whatever tokens the text consists of.
    #[test]
    fn stop_strings_are_those_of_a_search_in_the_whole_text(
        text in "[abж☃ ]{1,40}",
        stops in proptest::collection::vec("[abж☃ ]{1,4}", 1..4),
    ) {
        let model = piece_model();
        let ids = model.tokenizer().encode(&text).unwrap();
        let mut request = brillm::Request::ids(vec![1]).tokens(ids.len()).ignore_eos(true);
        for (step, &id) in ids.iter().enumerate() {
            request = request.force(step, id);
        }
        let request = stops.iter().fold(request, |request, stop| request.stop(stop));
        let (generated, _) = request.start(model).unwrap().collect_text().unwrap();
        let found = stops.iter().filter_map(|stop| text.find(stop).map(|at| (at + stop.len(), at)));
        let right = found.min().map_or(&text[..], |(_, at)| &text[..at]);
        prop_assert_eq!(generated, right);
    }
}

/// A graph of 12 tokens, of one to three characters.
fn piece_model() -> &'static brillm::Model {
    static MODEL: std::sync::OnceLock<brillm::Model> = std::sync::OnceLock::new();
    MODEL.get_or_init(|| {
        let tokens = [
            "a", "b", "ж", "☃", " ", "ab", "b ", "ж☃", "aab", " a", "☃☃", "ba",
        ];
        let tokens = tokens
            .iter()
            .enumerate()
            .map(|(id, token)| format!("{token:?}: {id}"));
        let json = format!("{{{}}}", tokens.collect::<Vec<_>>().join(", "));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pieces.bril");
        let tokenizer = Tokenizer::from_authors(json.as_bytes()).unwrap();
        support::save_small_model(&path, 2, tokenizer);
        brillm::Model::open(&path, Default::default()).unwrap()
    })
}

/// Names and contents of a folder's files.
type Files<'a> = &'a [(&'a str, &'a [u8])];

/// Files that are not what their names say: what is wrong, and where.
#[test]
fn damaged_tokenizer_files_are_named() {
    let cut = std::fs::read(
        support::root().join("tests/golden/tokenizers/sentencepiece-bpe/tokenizer.model"),
    )
    .unwrap();
    let lfs: &[u8] = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n";
    let same_id =
        br#"{"model": {"type": "BPE", "vocab": {"<s>": 5, "t": 2, "h": 3, "th": 5}, "merges": ["t h"]}}"#;
    let cases: [(Files, &str); 15] = [
        (&[("tokenizer.json", same_id)], "the same id, 5"),
        // A line that occurs twice leaves a gap, and the added [UNK] would have the id of a token.
        (&[("vocab.txt", b"the\ncat\nthe\n")], "the same id, 2"),
        (
            &[
                ("vocab.json", b"{\"a\": 0, \"b\": 0}"),
                ("merges.txt", b"#version: 0.2\n"),
            ],
            "the same id, 0",
        ),
        (&[("tokenizer.json", b"{")], "tokenizer.json"),
        (&[("tokenizer.json", b"\xef\xbb\xbf{}")], "tokenizer.json"),
        (&[("tokenizer.json", lfs)], "git lfs pull"),
        (&[("tokenizer.model", lfs)], "git lfs pull"),
        (&[("tokenizer.model", b"")], "the file is empty"),
        (&[("tokenizer.model", b"IQ== 0\nIg== 1\n")], "tiktoken"),
        (&[("tokenizer.model", &cut[..cut.len() / 2])], "cut off"),
        (&[("vocab.txt", b"[UNK]\n\xff")], "byte 6"),
        (
            &[("vocab.txt", b"a\nb\n"), ("tokenizer_config.json", b"[]")],
            "tokenizer_config.json",
        ),
        (
            &[("vocab.json", b"[]"), ("merges.txt", b"#version: 0.2\n")],
            "vocab.json",
        ),
        (
            &[("vocab.json", b"{\"a\": 0}"), ("merges.txt", b"a")],
            "line 1",
        ),
        (
            &[("vocab.json", b"{\"a\": 0}"), ("merges.txt", b"a b")],
            "vocab.json",
        ),
    ];
    let mut failed = Vec::new();
    for (files, what) in cases {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        match Tokenizer::open_folder(folder.path()) {
            Err(error) if error.to_string().contains(what) => {}
            other => failed.push(format!("{:?}: {other:?}", files[0].0)),
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// A `vocab.json` with `merges.txt` whose class is not stated: the tokens show how spaces and words are written.
#[test]
fn vocabularies_without_a_class_show_their_kind() {
    let cases = [
        (
            "▁",
            r#"{"<unk>":0,"▁":1,"a":2,"b":3,"▁a":4}"#,
            "▁ a",
            "a b a",
            [4, 1, 3, 4],
        ),
        (
            "</w>",
            r#"{"<unk>":0,"a":1,"b":2,"a</w>":3,"b</w>":4}"#,
            "",
            "a ab b",
            [3, 1, 4, 4],
        ),
        (
            "Ġ",
            r#"{"Ġ":0,"a":1,"b":2,"Ġb":3}"#,
            "Ġ b",
            "a b ba",
            [1, 3, 3, 1],
        ),
    ];
    let mut failed = Vec::new();
    for (kind, vocabulary, merges, text, ids) in cases {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("vocab.json"), vocabulary).unwrap();
        std::fs::write(
            folder.path().join("merges.txt"),
            format!("#version: 0.2\n{merges}"),
        )
        .unwrap();
        let tokenizer = Tokenizer::open_folder(folder.path()).unwrap().unwrap();
        let found = tokenizer.encode(text).unwrap();
        if found != ids || tokenizer.decode(&found) != text {
            failed.push((kind, found.clone(), tokenizer.decode(&found)));
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn words_are_tokens_and_so_are_line_ends() {
    let text = " the cat saw a <unk> \n the dog\tsaw the cat \n".to_string();
    let train = |size| Tokenizer::train_words([text.clone(), "a".into()].into_iter(), size);
    let tokenizer = train(10_000).unwrap();
    let name = |id: u32| tokenizer.vocabulary().token(id).unwrap().to_string();
    let names: Vec<String> = (0..tokenizer.vocabulary().len() as u32).map(name).collect();
    // The most frequent first, equal ones in the order of their characters.
    assert_eq!(names, ["<unk>", "\n", "the", "a", "cat", "saw", "dog"]);
    support::cases(
        [
            (
                text.as_str(),
                "the cat saw a <unk> \n the dog saw the cat \n",
                12,
            ),
            ("", "", 0),
            (" \n\n", "\n \n", 2),
            ("the  bird saw\u{a0}it", "the <unk> saw <unk>", 4),
            ("thecat", "<unk>", 1),
        ],
        |&(text, decoded, count)| {
            let ids = tokenizer.encode(text).unwrap();
            assert_eq!(
                (tokenizer.decode(&ids).as_str(), ids.len()),
                (decoded, count)
            );
            let stored = Tokenizer::from_bytes(&tokenizer.to_bytes()).unwrap();
            assert_eq!(stored.encode(text).unwrap(), ids);
        },
    );
    assert_eq!(tokenizer.vocabulary().stop(), None);
    let small = train(4).unwrap();
    assert_eq!(
        small.decode(&small.encode("a dog saw the cat").unwrap()),
        "a <unk> <unk> the <unk>"
    );
    assert_eq!(
        train(2).unwrap_err().kind(),
        brillm::ErrorKind::Configuration
    );
}
