//! Corpora as people have them: encodings, compression, markup, hidden files, long lines, files that are not text.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use brillm::Result;
use brillm::kernel::random::Random;
use brillm::learn::Recipe;
use brillm::learn::data::TokenData;
use brillm::text::{Corpus, CorpusFormat, CorpusOptions, LabelledFields, read_labelled};

mod support;
use support::*;

fn lossy() -> CorpusOptions {
    CorpusOptions {
        lossy: true,
        ..CorpusOptions::default()
    }
}

/// Read all documents of a corpus.
fn read(source: impl AsRef<Path>, options: CorpusOptions) -> Result<Vec<String>> {
    Corpus::open(&[source], options)?.collect()
}

/// Read the documents of a file of the given name and content.
fn documents(name: &str, bytes: &[u8], options: CorpusOptions) -> Result<Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(name);
    fs::write(&file, bytes).unwrap();
    read(file, options)
}

fn error(name: &str, bytes: &[u8], options: CorpusOptions) -> String {
    documents(name, bytes, options).unwrap_err().to_string()
}

fn utf16(text: &str, unit: fn(u16) -> [u8; 2]) -> Vec<u8> {
    let units = std::iter::once(0xfeff).chain(text.encode_utf16());
    units.flat_map(unit).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

/// Files of every format that contain the document "abc é".
const FORMATS: [(&str, &str); 6] = [
    ("a.txt", "abc é"),
    ("a.jsonl", "{\"text\":\"abc é\"}\n"),
    ("a.ndjson", "{\"text\":\"abc é\"}"),
    ("a.json", "[\"abc é\"]"),
    ("b.json", "{\n  \"text\": \"abc é\"\n}\n"),
    ("wiki_00", "<doc id=\"1\" title=\"A\">\nabc é\n</doc>\n"),
];

#[test]
fn byte_order_marks_are_skipped_and_utf16_is_decoded() {
    cases(FORMATS, |(name, text)| {
        let marked = format!("\u{feff}{text}");
        let (little, big) = (utf16(text, u16::to_le_bytes), utf16(text, u16::to_be_bytes));
        for bytes in [text.as_bytes(), marked.as_bytes(), &little, &big] {
            let found = documents(name, bytes, CorpusOptions::default()).unwrap();
            let found: Vec<&str> = found.iter().map(|text| text.trim_end()).collect();
            assert_eq!(found, ["abc é"], "{bytes:?}");
        }
    });
    let joined = "{\"text\":\"a\"}\n\u{feff}{\"text\":\"b\"}\n";
    let found = documents("a.jsonl", joined.as_bytes(), CorpusOptions::default()).unwrap();
    assert_eq!(found, ["a", "b"], "a mark where two files were joined");
}

#[test]
fn line_ends_of_every_kind_become_newlines() {
    cases(["\n", "\r\n", "\r"], |end| {
        let text = "one\ntwo\n\nthree".replace('\n', end);
        let found = documents("a.txt", text.as_bytes(), CorpusOptions::default()).unwrap();
        assert_eq!(found, ["one\ntwo\n\nthree"]);
        let lines = "{\"text\":\"a\"}\n{\"text\":\"b\"}\n\n".replace('\n', end);
        let found = documents("a.jsonl", lines.as_bytes(), CorpusOptions::default()).unwrap();
        assert_eq!(found, ["a", "b"]);
        let dump = "<doc id=\"1\">\nA\n\ntext\n</doc>\n".replace('\n', end);
        let found = documents("a", dump.as_bytes(), CorpusOptions::default()).unwrap();
        assert_eq!(found, ["A\n\ntext\n"]);
    });
}

#[test]
fn labelled_texts_and_run_files_are_decoded_like_corpora() {
    let encodings: [fn(&str) -> Vec<u8>; 5] = [
        |text| format!("\u{feff}{text}").into_bytes(),
        |text| utf16(text, u16::to_le_bytes),
        |text| utf16(text, u16::to_be_bytes),
        |text| text.replace('\n', "\r\n").into_bytes(),
        |text| gzip(text.replace('\n', "\r").as_bytes()),
    ];
    for (index, encode) in encodings.iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, encode(text)).unwrap();
            path
        };
        let fields: LabelledFields = "label,text".parse().unwrap();
        for (name, text) in [
            ("a.tsv", "label\ttext\n1\té b\n"),
            ("a.jsonl", "{\"label\":1,\"text\":\"é b\"}\n"),
        ] {
            let found = read_labelled(&write(name, text), &fields).unwrap();
            assert_eq!(
                (found.len(), found[0].text.as_str()),
                (1, "é b"),
                "{name}, encoding {index}"
            );
        }
        let recipe = write(
            "run.toml",
            "name = \"é\"\n[data]\ntrain = [\"a\"]\n[train]\nbatch = 3\n",
        );
        let recipe = Recipe::open(&recipe, &[]).unwrap();
        assert_eq!(
            (recipe.name.as_str(), recipe.train.batch),
            ("é", 3),
            "encoding {index}"
        );
        let simplify = write("map.txt", "# comment\na\tb\n");
        let options = CorpusOptions {
            simplify: Some(simplify),
            ..CorpusOptions::default()
        };
        assert_eq!(
            documents("c.txt", b"aca", options).unwrap(),
            ["bcb"],
            "encoding {index}"
        );
    }
}

#[test]
fn entities_in_doc_text_are_unescaped_once() {
    let dump = "<doc id=\"1\" title=\"AT&amp;T\">\nAT&amp;T\n\n1 &lt; 2 &amp;lt; &#233;&#xE9;&nbsp;&quot;\n</doc>\n";
    let found = documents("wiki_00", dump.as_bytes(), CorpusOptions::default()).unwrap();
    assert_eq!(found, ["AT&T\n\n1 < 2 &lt; éé\u{a0}\"\n"]);
    // Only in this format.
    let found = documents("a.txt", b"AT&amp;T", CorpusOptions::default()).unwrap();
    assert_eq!(found, ["AT&amp;T"]);
}

#[test]
fn megabytes_of_invalid_bytes_are_replaced() {
    let bytes = [b"ab".to_vec(), vec![0xe9; 3 << 20]].concat();
    let text = documents("a.txt", &bytes, lossy()).unwrap().concat();
    assert_eq!(text.matches('\u{fffd}').count(), 3 << 20);
}

#[test]
fn gzip_and_zstd_are_read_by_their_first_bytes() {
    let marked = utf16("abc é", u16::to_le_bytes);
    let skippable = [&b"\x53\x2a\x4d\x18\x03\0\0\0xyz"[..], &zstd(b"abc ")].concat();
    let cases_of: Vec<(&str, Vec<u8>)> = vec![
        ("a.txt.gz", gzip("abc é".as_bytes())),
        ("a.txt", gzip("abc é".as_bytes())),
        ("a", [gzip(b"abc "), gzip("é".as_bytes())].concat()),
        ("a.JSONL.GZ", gzip("{\"text\":\"abc é\"}".as_bytes())),
        ("a.json.gz", gzip("[\"abc é\"]".as_bytes())),
        (
            "wiki_00.gz",
            gzip("<doc id=\"1\">\nabc é\n</doc>".as_bytes()),
        ),
        ("utf16.gz", gzip(&marked)),
        ("a.txt.zst", zstd("abc é".as_bytes())),
        ("a.jsonl.zst", zstd("{\"text\":\"abc é\"}".as_bytes())),
        ("a", [skippable, zstd("é".as_bytes())].concat()),
    ];
    cases(cases_of, |(name, bytes)| {
        let found = documents(name, bytes, CorpusOptions::default()).unwrap();
        assert_eq!(found.concat().trim_end(), "abc é");
    });
    let long = "A sentence of a long text. ".repeat(200_000);
    cases([gzip(long.as_bytes()), zstd(long.as_bytes())], |bytes| {
        assert!(
            documents("a", bytes, CorpusOptions::default())
                .unwrap()
                .concat()
                == long
        );
        let half = bytes.len() / 2;
        let damaged = [&bytes[..half], b"damage", &bytes[half + 6..]].concat();
        for damaged in [&bytes[..half], &damaged] {
            for options in [CorpusOptions::default(), lossy()] {
                let error = error("a", damaged, options);
                assert!(
                    error.contains("data is damaged") || error.contains("ends early"),
                    "{error}"
                );
                assert!(!error.contains("lossy"), "{error}");
            }
        }
    });
}

#[test]
fn a_zstd_window_is_bounded_before_it_is_allocated() {
    // The header of a frame that asks for 64 MiB, alone and after a frame of one empty block.
    let large = b"\x28\xb5\x2f\xfd\x00\x80\x01\x00\x00";
    let second = [&zstd(b"")[..], large].concat();
    cases([large.to_vec(), second], |bytes| {
        let error = error("a.zst", bytes, CorpusOptions::default());
        assert!(
            error.contains("67108864") && error.contains("zstd -19"),
            "{error}"
        );
    });
}

#[test]
fn files_that_are_not_text_are_named_with_what_to_do() {
    let parquet = [&b"PAR1\x15\x04\x15\0\0\0"[..], &[0; 40]].concat();
    let safetensors = [&20u64.to_le_bytes()[..], b"{\"a\":{}}            \0\0"].concat();
    let tar = [&[b'a'; 100][..], &[0; 157], b"ustar\0", &[0; 100]].concat();
    let table: Vec<(&str, &[u8], &str)> = vec![
        ("a.zip", b"PK\x03\x04\x14\0\0\0", "zip"),
        ("a.xz", b"\xfd7zXZ\0\0\x04", "xz"),
        ("a.bz2", b"BZh91AY&SY\x8d", "bzip2"),
        ("a.7z", b"7z\xbc\xaf\x27\x1c\0\x04", "7z"),
        ("a.parquet", &parquet, "Parquet"),
        ("a.pdf", b"%PDF-1.4\n%\xe2\xe3", "PDF"),
        ("a.png", b"\x89PNG\r\n\x1a\n\0\0\0", "PNG"),
        ("a.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF", "JPEG"),
        ("a.safetensors", &safetensors, "safetensors"),
        ("a.sqlite", b"SQLite format 3\0\x10\0", "SQLite"),
        ("a.arrow", b"ARROW1\0\0\xff\xff", "Arrow"),
        ("a.tar", &tar, "tar"),
        ("a.bril", b"\x89BRIL\r\n\x1a\x01\0", ".bril"),
        ("a.gguf", b"GGUF\x03\0\0\0\0\0", "GGUF"),
        (
            "a.txt",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
            "git lfs pull",
        ),
        (
            "books.txt",
            b"/annex/objects/SHA256E-s9--0.txt\n",
            "git annex get",
        ),
        ("books.txt", b"# xet version 0\nfilesize = 9\n", "git xet"),
        ("a.txt", b"\xff\xfe\0\0a\0\0\0", "UTF-32"),
        ("a.bin", b"\x01\0\0\0\x80\x02\0\0\0\0", "binary"),
    ];
    cases(table, |(name, bytes, format)| {
        for options in [CorpusOptions::default(), lossy()] {
            for (name, bytes) in [
                (*name, bytes.to_vec()),
                ("a.jsonl", bytes.to_vec()),
                ("a.gz", gzip(bytes)),
            ] {
                let error = error(name, &bytes, options.clone());
                assert!(error.contains(format) && error.contains(name), "{error}");
                assert!(error.contains("not") && error.contains('('), "{error}");
                assert!(!error.contains("lossy"), "{error}");
            }
        }
    });
    // Letters that some formats begin with are text too.
    for text in [
        "ORCHARDS grow here.",
        "RIFFRAFF",
        "PAR1 and PAR2",
        "MZ",
        "GIF8",
        "Rar",
    ] {
        assert_eq!(
            documents("a.txt", text.as_bytes(), lossy()).unwrap(),
            [text]
        );
    }
    let twice = error("a.gz", &gzip(&gzip(b"a")), CorpusOptions::default());
    assert!(twice.contains("compressed twice"), "{twice}");
}

#[test]
fn bytes_that_are_not_utf8_are_named_by_line_or_replaced() {
    let latin = b"first line\nna\xefve\n";
    let message = error("a.txt", latin, CorpusOptions::default());
    assert!(
        message.contains("a.txt line 2") && message.contains("byte 3") && message.contains("lossy"),
        "{message}"
    );
    assert_eq!(
        documents("a.txt", latin, lossy()).unwrap(),
        ["first line\nna\u{fffd}ve\n"]
    );
    let half = b"\xff\xfea\0\x3d\xd8b\0";
    assert!(documents("a.txt", half, CorpusOptions::default()).is_err());
    assert_eq!(documents("a.txt", half, lossy()).unwrap(), ["a\u{fffd}b"]);
}

#[test]
fn half_surrogate_pairs_are_named_by_line_or_replaced() {
    let record = r#"{"text":"broken \ud83d here \ud83d\ude00"}"#;
    let table = [
        ("a.jsonl", format!("{{\"text\":\"a\"}}\n{record}\n"), 2),
        ("a.json", format!("[\n{{\"text\":\"a\"}},\n\n{record}]"), 4),
        ("b.json", format!("{{\"text\":\"a\"}}\n{record}\n"), 2),
    ];
    cases(table, |(name, text, line)| {
        let message = error(name, text.as_bytes(), CorpusOptions::default());
        assert!(
            message.contains(&format!("{name} line {line}")) && message.contains("surrogate"),
            "{message}"
        );
        let found = documents(name, text.as_bytes(), lossy()).unwrap();
        assert_eq!(found, ["a", "broken \u{fffd} here \u{1f600}"]);
    });
}

#[test]
fn invalid_records_are_named_by_line() {
    let table = [
        ("a.jsonl", "{\"text\":\"a\"}\n{\"text\":\n", "line 2"),
        ("a.jsonl", "{\"text\":\"a\"}\r\n\r\n{\"other\":1}", "line 3"),
        ("a.json", "[\"a\",\n12]", "line 2"),
        ("a.json", "[\"a\",\n{\"text\": \"b\"", "line 2"),
        ("a.json", "{\"text\":\n\"a\" \"b\"}", "line 2"),
    ];
    cases(table, |(name, text, line)| {
        let message = error(name, text.as_bytes(), lossy());
        assert!(message.contains(&format!("{name} {line}")), "{message}");
    });
}

#[test]
fn hidden_files_are_skipped_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::create_dir_all(root.join("part/.git")).unwrap();
    for (name, bytes) in [
        ("a.txt", &b"a"[..]),
        ("part/b.txt", b"b"),
        (".DS_Store", b"\0\0\0\x01Bud1\xff"),
        ("part/._b.txt", b"\0\x05\x16\x07"),
        ("part/.git/config", b"x"),
        ("a.txt~", b"x"),
        ("#a.txt#", b"x"),
        ("Thumbs.db", b"\xd0\xcf"),
    ] {
        fs::write(root.join(name), bytes).unwrap();
    }
    for (source, found, skipped) in [
        (root.to_path_buf(), "ab", 6),
        (root.join("**/*"), "ab", 4),
        (root.join("a*"), "a", 1),
    ] {
        let corpus = Corpus::open(&[&source], CorpusOptions::default()).unwrap();
        assert!(
            corpus.skipped(None).hidden >= skipped,
            "{source:?}: {}",
            corpus.skipped(None)
        );
        let text: Vec<String> = corpus.collect::<Result<_>>().unwrap();
        assert_eq!(text.concat(), found, "{source:?}");
    }
    // A file that is named is read, and a folder that is named may be hidden.
    assert_eq!(
        read(root.join("a.txt~"), CorpusOptions::default()).unwrap(),
        ["x"]
    );
    assert_eq!(
        read(root.join("part/.git"), CorpusOptions::default()).unwrap(),
        ["x"]
    );
    assert_eq!(
        read(root.join("part/.git/*"), CorpusOptions::default()).unwrap(),
        ["x"]
    );
}

#[test]
fn files_of_runs_are_skipped_and_counted_apart() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let run = root.join("runs/a");
    fs::create_dir_all(run.join("model")).unwrap();
    for (name, text) in [
        ("a.txt", "a"),
        (".hidden", "x"),
        ("runs/note.txt", "b"),
        (
            "runs/a/run.json",
            "{\"data\": {\"train\": [\"../../a.txt\"]}}",
        ),
        ("runs/a/log.jsonl", "{}"),
        ("runs/a/model/config.json", "{}"),
    ] {
        fs::write(root.join(name), text).unwrap();
    }
    for (source, found, skipped) in [
        (
            root.to_path_buf(),
            "ab",
            "1 hidden file and 3 files of runs",
        ),
        (root.join("**/*"), "ab", "1 hidden file and 3 files of runs"),
        (root.join("runs/*/*"), "", "2 files of runs"),
        (root.join("runs/a/log*"), "{}", "0 hidden files"),
    ] {
        let corpus = match Corpus::open(&[&source], CorpusOptions::default()) {
            Ok(corpus) => corpus,
            Err(error) => {
                let error = error.to_string();
                assert!(
                    found.is_empty() && error.contains(skipped),
                    "{source:?}: {error}"
                );
                continue;
            }
        };
        assert_eq!(corpus.skipped(None).to_string(), skipped, "{source:?}");
        // A run does not count its own files.
        assert_eq!(corpus.skipped(Some(&run)).of_runs, 0, "{source:?}");
        let options = CorpusOptions {
            format: CorpusFormat::Plain,
            ..CorpusOptions::default()
        };
        let text = read(&source, options).unwrap();
        assert_eq!(text.concat(), found, "{source:?}");
    }
}

#[test]
fn corpora_without_text_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let message = |source: PathBuf| {
        read(source, CorpusOptions::default())
            .unwrap_err()
            .to_string()
    };
    let root = folder.path();
    assert!(message(root.into()).contains("contains no files"));
    fs::write(root.join(".hidden"), "text").unwrap();
    assert!(message(root.into()).contains("skipped: 1 hidden file"));
    fs::write(root.join("empty.txt"), "").unwrap();
    fs::write(root.join("blank.txt"), "\u{feff} \r\n\n").unwrap();
    fs::write(root.join("empty.json"), "[]").unwrap();
    assert!(message(root.into()).contains("contains no text"));
    assert!(message(root.join("*.none")).contains("no file matches"));
    assert!(message(root.join("none.txt")).contains("none.txt"));
    // An empty file among others does not matter, nor does a file without a final newline.
    fs::write(root.join("text.txt"), "text").unwrap();
    assert_eq!(read(root, CorpusOptions::default()).unwrap(), ["text"]);
}

#[test]
fn long_lines_and_records_are_cut_between_sentences_or_words() {
    let sentence = "The crow flew over 3.5 miles of fields. ";
    let text = sentence.repeat(3_000_000 / sentence.len());
    let chinese = "他来了。".repeat(250_000);
    let record = format!("{{\"text\": {}}}", serde_json::to_string(&text).unwrap());
    let dump = format!("<doc id=\"1\">\n{text}\n</doc>");
    for (name, content, whole) in [
        ("a.txt", &text, &text),
        ("c.txt", &chinese, &chinese),
        ("a.jsonl", &record, &text),
        ("a.json", &record, &text),
        ("wiki_00", &dump, &text),
    ] {
        let found = documents(name, content.as_bytes(), CorpusOptions::default()).unwrap();
        assert!(found.len() > 2, "{name}: {} pieces", found.len());
        assert!(found.iter().all(|piece| piece.len() <= 1 << 20), "{name}");
        assert!(found.concat().trim_end() == whole.trim_end(), "{name}");
        let ends = &found[..found.len() - 1];
        assert!(
            ends.iter().all(|piece| piece.ends_with(['.', '。'])),
            "{name}"
        );
    }
    // Characters of several bytes without any boundary.
    let letters = "é".repeat(1_500_000);
    let found = documents("a.txt", letters.as_bytes(), CorpusOptions::default()).unwrap();
    assert!(found.concat() == letters);
}

/// Encode the corpus of a run file in a folder.
fn prepare(folder: &Path, data: &str, note: &mut dyn FnMut(&str)) -> Result<TokenData> {
    let text = format!("name = \"a\"\n[data]\nvocabulary = 300\n{data}\n[train]\nsteps = 8\n");
    let run = folder.join("run");
    fs::create_dir_all(&run).unwrap();
    TokenData::prepare(&Recipe::parse(&text, &[]).unwrap(), folder, &run, note)
}

#[test]
fn a_validation_fraction_is_held_out_of_any_text_that_is_long_enough() {
    let words = "one two three four five six seven. ";
    let book = "A line of a book.\n".repeat(200);
    let mut random = Random::new(1);
    let letters = (0..20_000)
        .map(|_| (b'a' + random.below(26) as u8) as char)
        .collect();
    let table = [
        ("one line of 3 MB", words.repeat(90_000), 0.1),
        ("one line of 20 kB", words.repeat(600), 0.02),
        ("one line of 3 kB", words.repeat(90), 0.1),
        ("a few lines", book, 0.05),
        ("no boundary at all", letters, 0.1),
        // Pieces of 8 kB: 10 · 0.1 in floating point is a little less than 1.
        ("just as many pieces", words.repeat(2_515), 0.1),
        ("a small fraction", words.repeat(9_000), 0.001),
    ];
    cases(table, |(_, text, fraction)| {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.txt"), text).unwrap();
        let data = format!("train = [\"a.txt\"]\nvalidation-share = {fraction}");
        let data = prepare(folder.path(), &data, &mut |_| {}).unwrap();
        let whole = (data.train().len() + data.validation().len()) as f64;
        let share = data.validation().len() as f64 / whole;
        assert!(
            data.validation().len() > 8,
            "{} tokens",
            data.validation().len()
        );
        assert!(
            share > 0.3 * fraction && share < 2.5 * fraction + 0.01,
            "{share}"
        );
        assert!(data.validation_bytes > 0);
    });
}

#[test]
fn a_validation_fraction_that_comes_to_nothing_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.txt"), "one two three. ".repeat(12)).unwrap();
    fs::write(folder.path().join("b.txt"), "one").unwrap();
    for data in [
        "train = [\"a.txt\"]\nvalidation-fraction = 0.02",
        "train = [\"a.txt\"]\nvalidation = [\"b.txt\"]",
        "train = [\"a.txt\"]\nvalidation-fraction = 0.4\nvalidation-windows = [100, 10]",
    ] {
        let error = prepare(folder.path(), data, &mut |_| {})
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.contains("too few to validate") && error.contains("validation-fraction = 0"),
            "{error}"
        );
        fs::remove_dir_all(folder.path().join("run")).unwrap();
    }
    let none = "train = [\"a.txt\"]\nvalidation-fraction = 0";
    assert!(
        prepare(folder.path(), none, &mut |_| {})
            .unwrap()
            .validation()
            .is_empty()
    );
}

#[test]
fn a_source_that_changes_while_it_is_read_is_an_error() {
    type Change = fn(&Path);
    let table: [(&str, Change, &str); 4] = [
        (
            "grows",
            |file| fs::write(file, "two. ".repeat(200)).unwrap(),
            "changed",
        ),
        ("is removed", |file| fs::remove_file(file).unwrap(), "a.txt"),
        (
            "a file is added",
            |file| fs::write(file.with_file_name("b.txt"), "b").unwrap(),
            "b.txt",
        ),
        ("is emptied", |file| fs::write(file, "").unwrap(), "a.txt"),
    ];
    for (what, change, expected) in table {
        let folder = tempfile::tempdir().unwrap();
        let texts = folder.path().join("texts");
        fs::create_dir(&texts).unwrap();
        let file = texts.join("a.txt");
        fs::write(&file, "one. ".repeat(100)).unwrap();
        let data = "train = [\"texts\"]\nvalidation-fraction = 0";
        let outcome = prepare(folder.path(), data, &mut |note| {
            if note.contains("encoding") {
                change(&file);
            }
        });
        let error = outcome
            .err()
            .unwrap_or_else(|| panic!("{what}: no error"))
            .to_string();
        assert!(
            error.contains(expected) || error.contains("contains no"),
            "{what}: {error}"
        );
        assert!(!folder.path().join("run/tokens.json").exists(), "{what}");
    }
}

#[cfg(unix)]
#[test]
fn file_names_that_are_not_utf8_are_read() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join(std::ffi::OsStr::from_bytes(b"\xff.txt")), "text").unwrap();
    for source in [folder.path(), &inner] {
        assert_eq!(read(source, CorpusOptions::default()).unwrap(), ["text"]);
    }
    fs::write(inner.join("a.txt"), "one two. ".repeat(40)).unwrap();
    let none = "train = [\"a.txt\"]\nvalidation-fraction = 0";
    assert!(prepare(&inner, none, &mut |_| {}).is_ok());
}

#[cfg(unix)]
#[test]
fn a_pipe_is_read_once_and_refused_where_it_is_needed_twice() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let mut mkfifo = std::process::Command::new("mkfifo");
    assert!(mkfifo.arg(&pipe).status().unwrap().success());
    let writer = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::write(pipe, "text from a pipe").unwrap()
    });
    let found = read(&pipe, CorpusOptions::default()).unwrap();
    assert_eq!(found, ["text from a pipe"]);
    writer.join().unwrap();
    for source in ["pipe", "-"] {
        let data = format!("train = [\"{source}\"]");
        let error = prepare(folder.path(), &data, &mut |_| {})
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.contains("only once") && error.contains("data.tokenizer"),
            "{error}"
        );
    }
}
