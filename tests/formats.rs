//! Damaged and hostile files: each is an error that says what and where, none panics, hangs or allocates by a
//! number it read. Some thirty thousand of them; each test prints how many it tried.

use std::path::Path;
use std::sync::atomic::Ordering;

use brillm::graph::TokenGraph;
use brillm::kernel::bytes::Bytes;
use brillm::kernel::element::Element;
use brillm::kernel::random::Random;
use brillm::learn::Recipe;
use brillm::learn::edge_trainer::EdgeTrainer;
use brillm::model::{Container, Metadata, Model, Verify, Writer, import};
use brillm::path::{GraphSession, Sampling, Session, SessionState};
use brillm::signal::{Mechanism, Profile, Start};
use brillm::text::{Corpus, CorpusOptions, Tokenizer, read_ids};
use brillm::{ErrorKind, Result};
use xxhash_rust::xxh3::xxh3_64;

#[path = "support/survival.rs"]
mod survival;
use survival::{TRIED, check_largest_allocation, survive, survive_at};

fn small_model(profile: &Profile) -> Model {
    let edges = [
        (0, 1, 5),
        (0, 2, 2),
        (1, 2, 4),
        (2, 0, 1),
        (2, 2, 2),
        (3, 4, 3),
        (4, 0, 1),
        (1, 4, 1),
    ];
    let mut graph = TokenGraph::from_edges(5, &edges).unwrap();
    graph.set_own_minimum(2);
    let mut learner = EdgeTrainer::new(profile, &graph, 0.0, 3);
    let weights = learner.weights(profile, &graph).unwrap();
    let metadata = Metadata {
        name: "small".into(),
        license: "none".into(),
        profile: profile.clone(),
        own_minimum: 2,
        direction: Default::default(),
        charges: None,
        recall: None,
        training: serde_json::Value::Null,
    };
    let mechanism = Mechanism::new(profile.clone(), graph, weights).unwrap();
    let tokens = ["a", "b", "c", "<unk>", "e"].map(String::from).to_vec();
    Model::new(metadata, Tokenizer::characters(tokens).unwrap(), mechanism).unwrap()
}

fn saved(model: &Model) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.bril");
    model.save(&path).unwrap();
    std::fs::read(&path).unwrap()
}

fn open(bytes: &[u8]) -> Result<Model> {
    Model::from_bytes(Bytes::copy_of(bytes))
}

/// A model that opened is used as well: a lie that went by must not do harm later.
fn open_and_walk(bytes: &[u8]) -> Result<()> {
    let model = open(bytes)?;
    let sampling = Sampling::default().temperature(1.0);
    let mut session =
        GraphSession::begin(model.mechanism().clone(), &[0], &Start::Profile, sampling)?;
    for _ in 0..3 {
        session.step()?;
    }
    model.tokenizer().decode(&[session.flow().node]);
    model.tokenizer().encode("abc")?;
    Ok(())
}

#[test]
fn every_single_byte_and_every_length_counts() {
    for profile in [Profile::reference(3), Profile::sifu(2), Profile::layered(2)] {
        let whole = saved(&small_model(&profile));
        assert!(open(&whole).is_ok());
        for place in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[place] ^= 1 << (place % 8);
            assert!(
                !survive(&format!("byte {place}"), || open(&bytes)),
                "byte {place} of {} went by",
                whole.len()
            );
        }
        for length in 0..whole.len() {
            assert!(!survive(&format!("length {length}"), || open(
                &whole[..length]
            )));
        }
        let mut longer = whole.clone();
        longer.push(0);
        assert!(open(&longer).is_err());
    }
}

/// Rewrites the header of a file with all checksums right, so that what is behind them is reached.
fn with_header(bytes: &[u8], change: &dyn Fn(&mut serde_json::Value)) -> Vec<u8> {
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    let (offset, length) = (number(16), number(24));
    let mut header: serde_json::Value =
        serde_json::from_slice(&bytes[offset..offset + length]).unwrap();
    change(&mut header);
    let header = serde_json::to_vec(&header).unwrap();
    let mut out = bytes[..offset].to_vec();
    out.extend_from_slice(&header);
    out[24..32].copy_from_slice(&(header.len() as u64).to_le_bytes());
    out[32..40].copy_from_slice(&xxh3_64(&header).to_le_bytes());
    let checksum = xxh3_64(&out[..40]);
    out[40..48].copy_from_slice(&checksum.to_le_bytes());
    out
}

/// Changes bytes of one block and mends its checksum.
fn with_block(bytes: &[u8], name: &str, change: &dyn Fn(&mut [u8])) -> Vec<u8> {
    let container = Container::from_bytes(Bytes::copy_of(bytes), Verify::Whole).unwrap();
    let data = container.require(name).unwrap().bytes().clone();
    let start = bytes
        .windows(data.len().max(1))
        .position(|window| *window == data[..])
        .unwrap();
    let mut out = bytes.to_vec();
    change(&mut out[start..start + data.len()]);
    let sum = xxh3_64(&out[start..start + data.len()]);
    let name = name.to_string();
    with_header(&out, &move |header| {
        for block in header["blocks"].as_array_mut().unwrap() {
            if block["name"] == name.as_str() {
                block["checksum"] = sum.into();
            }
        }
    })
}

#[test]
fn lies_behind_right_checksums() {
    let whole = saved(&small_model(&Profile::reference(3)));
    let mut random = Random::new(1);
    let numbers = [
        0u64,
        1,
        2,
        3,
        7,
        64,
        4096,
        1 << 31,
        1 << 32,
        1 << 40,
        1 << 62,
        u64::MAX,
    ];
    let blocks = 12;
    for round in 0..1500 {
        let number = numbers[random.below(12) as usize];
        let (block, field) = (random.below(blocks) as usize, random.below(4));
        let bytes = with_header(&whole, &|header| {
            let list = header["blocks"].as_array_mut().unwrap();
            let count = list.len();
            let entry = &mut list[block % count];
            match field {
                0 => entry["offset"] = number.into(),
                1 => entry["length"] = number.into(),
                2 => entry["shape"] = serde_json::json!([number, 3]),
                _ => entry["parts"] = number.into(),
            }
        });
        survive(&format!("header round {round}"), || open_and_walk(&bytes));
    }
    for (key, value) in [
        ("width", 1u64 << 40),
        ("width", 0),
        ("banks", 1 << 33),
        ("positions", 1 << 50),
        ("rank", 1 << 40),
        ("residual", 1 << 40),
    ] {
        let bytes = with_header(&whole, &|header| {
            header["metadata"]["profile"][key] = value.into()
        });
        assert!(!survive(key, || open(&bytes)), "{key} = {value}");
    }
    for round in 0..1500u64 {
        for name in ["graph.rows", "graph.targets", "graph.counts", "vocabulary"] {
            let bytes = with_block(&whole, name, &|data| {
                let mut random = Random::stream(2, round, data.len() as u64);
                for _ in 0..=random.below(4) {
                    let place = random.below(data.len() as u64) as usize;
                    data[place] = random.bits() as u8;
                }
            });
            survive(&format!("{name} round {round}"), || open_and_walk(&bytes));
        }
    }
    println!("{} files", TRIED.load(Ordering::Relaxed));
    check_largest_allocation();
}

#[test]
fn mutated_checkpoints_vocabularies_and_run_files() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tiny");
    let folder = tempfile::tempdir().unwrap();
    let (input, out) = (folder.path().join("input"), folder.path().join("out.bril"));
    let mut random = Random::new(9);
    let vocabulary = golden.join("vocab.json");
    let mut rounds = 0;
    for name in [
        "model.bin",
        "model_legacy_pickle.bin",
        "model_f16.bin",
        "checkpoint_train_style.bin",
        "model.safetensors",
        "model_bf16.safetensors",
    ] {
        let whole = std::fs::read(golden.join(name)).unwrap();
        for round in 0..700 {
            let mut bytes = whole.clone();
            // Half of the changes fall where the structure is: the beginning and the end.
            let reach = if round % 2 == 0 {
                2500.min(bytes.len())
            } else {
                bytes.len()
            } as u64;
            match round % 5 {
                0 => bytes.truncate(random.below(whole.len() as u64) as usize),
                1 => {
                    let from = random.below(reach) as usize;
                    let to = (from + random.below(64) as usize).min(bytes.len());
                    bytes.drain(from..to);
                }
                _ => {
                    for _ in 0..=random.below(6) {
                        let mut place = random.below(reach) as usize;
                        if random.below(2) == 0 {
                            place = bytes.len() - 1 - place;
                        }
                        bytes[place] = random.bits() as u8;
                    }
                }
            }
            std::fs::write(&input, &bytes).unwrap();
            survive_at(&format!("{name} round {round}"), &["/input"], || {
                import::import(&input, &vocabulary, None, &out)
            });
            rounds += 1;
        }
    }
    let weights = golden.join("model.safetensors");
    let text = std::fs::read(&vocabulary).unwrap();
    for round in 0..600 {
        let mut bytes = text.clone();
        for _ in 0..=random.below(4) {
            let place = random.below(bytes.len() as u64) as usize;
            bytes[place] = b"\"{}[]:,0129-eE\\u\xff\x00"[random.below(18) as usize];
        }
        std::fs::write(&input, &bytes).unwrap();
        // Files that contradict each other are named at either of them.
        survive_at(
            &format!("vocabulary round {round}"),
            &["/input", "model.safetensors"],
            || import::import(&weights, &input, None, &out),
        );
        survive_at(
            &format!("frequency round {round}"),
            &["/input", "model.safetensors"],
            || import::import(&weights, &vocabulary, Some(&input), &out),
        );
        survive(&format!("tokenizer round {round}"), || {
            Tokenizer::from_bytes(&bytes)
        });
        rounds += 3;
    }
    let recipe = "name = \"x\"\n[data]\ntrain = [\"a\"]\n[profile]\nwidth = 8\n[train]\nbatch = 4\nsteps = 8\n";
    for round in 0..2500 {
        let mut bytes = recipe.as_bytes().to_vec();
        for _ in 0..=random.below(5) {
            let place = random.below(bytes.len() as u64) as usize;
            bytes[place] = b"=[]\"\n.0159-eatx{}#\t"[random.below(19) as usize];
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        survive(&format!("run file round {round}"), || {
            Recipe::parse(&text, &[])
        });
        rounds += 1;
    }
    assert!(rounds >= 8000);
    println!("{rounds} files");
    check_largest_allocation();
}

#[test]
fn a_run_file_names_the_line_of_a_mistake() {
    let text = "name = \"x\"\n[data]\ntrain = [\"a\"]\n[train]\nbatchsize = 4\n";
    let error = Recipe::parse(text, &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(
        error.to_string().contains("line 5") && error.to_string().contains("batchsize"),
        "{error}"
    );
    let right = text.replace("batchsize", "batch");
    assert_eq!(
        Recipe::parse(&right, &["train.batch=7".into()])
            .unwrap()
            .train
            .batch,
        7
    );
    assert!(Recipe::parse(&right, &["train.nothing=7".into()]).is_err());
    assert!(Recipe::parse(&right, &["no equals sign".into()]).is_err());
}

#[test]
fn a_version_says_both_numbers_and_other_files_say_what_they_are() {
    let mut bytes = saved(&small_model(&Profile::sifu(2)));
    bytes[8] = 9;
    let checksum = xxh3_64(&bytes[..40]);
    bytes[40..48].copy_from_slice(&checksum.to_le_bytes());
    let error = open(&bytes).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Version);
    assert!(
        error.to_string().contains("version 9") && error.to_string().contains("reads 1 to 2"),
        "{error}"
    );
    assert!(
        open(b"PK\x03\x04")
            .unwrap_err()
            .to_string()
            .contains("brillm import")
    );
}

#[test]
fn parts_are_verified_when_touched_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("parts.bril");
    let values: Vec<u8> = (0..100).collect();
    let mut writer = Writer::create(&path, serde_json::json!({})).unwrap();
    writer
        .block_in_parts("data", Element::U8, &[100], &[0, 10, 10, 60, 100], |put| {
            put(&values)
        })
        .unwrap();
    writer.finish().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    assert!(Container::open(&path, Verify::Whole).is_ok());
    bytes[64 + 30] ^= 1;
    let error = Container::from_bytes(Bytes::copy_of(&bytes), Verify::Whole).unwrap_err();
    assert!(error.to_string().contains("block data"), "{error}");
    let lazy = Container::from_bytes(Bytes::copy_of(&bytes), Verify::Touched).unwrap();
    let parts = lazy.require("data").unwrap().parts().unwrap().clone();
    for part in [0, 1, 3] {
        parts.verify(part).unwrap();
    }
    let error = parts.verify(2).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Checksum);
    assert!(
        error.to_string().contains("part 2") && error.to_string().contains("block data"),
        "{error}"
    );
    assert!(parts.verify(4).is_err());
}

#[test]
fn what_was_saved_before_is_never_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.bril");
    small_model(&Profile::sifu(2)).save(&path).unwrap();
    let before = std::fs::read(&path).unwrap();
    let mut writer = Writer::create(&path, serde_json::json!({})).unwrap();
    writer.values("x", Element::U8, &[3], b"abc").unwrap();
    assert!(
        writer.values("y", Element::U8, &[4], b"abc").is_err(),
        "three bytes for a shape of four"
    );
    drop(writer);
    assert_eq!(std::fs::read(&path).unwrap(), before);
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "the temporary file is gone");
    assert!(
        small_model(&Profile::sifu(2))
            .save(&folder.path().join("no/such/m.bril"))
            .is_err()
    );
}

/// Files made to do harm, each in its own way.
#[test]
fn hostile_files_of_every_kind() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tiny");
    let folder = tempfile::tempdir().unwrap();
    let (input, out) = (folder.path().join("input"), folder.path().join("out.bril"));
    let vocabulary = golden.join("vocab.json");
    let deep = |open: &str, times: usize| open.repeat(times).into_bytes();
    let safetensors = |length: u64, header: &str| {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes
    };
    let tensor = |shape: &str, offsets: &str| {
        let header = format!(
            "{{\"positions\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":{offsets}}}}}"
        );
        safetensors(header.len() as u64, &header)
    };
    let mut pickles: Vec<Vec<u8>> = vec![
        // Protocol 2 and then: a string of 2 GB, a memo slot of 4 billion, marks and lists without end.
        b"\x80\x02X\xff\xff\xff\x7f".to_vec(),
        b"\x80\x02r\xff\xff\xff\xff.".to_vec(),
        b"\x80\x02\x8b\xff\xff\xff\x7f".to_vec(),
        b"\x80\x02B\xff\xff\xff\xff".to_vec(),
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(),
        b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.".to_vec(),
        deep("(", 300_000),
        deep("]", 300_000),
    ];
    // A list in a list in a list, built from the outside in.
    let mut nested = b"\x80\x02".to_vec();
    nested.extend(deep("](", 200_000));
    nested.extend(deep("e", 200_000));
    nested.push(b'.');
    pickles.push(nested);
    let mut nested = b"\x80\x02N".to_vec();
    nested.extend(deep("\u{0}", 0));
    nested.extend(std::iter::repeat_n(0x85, 500_000));
    nested.push(b'.');
    pickles.push(nested);
    for (index, bytes) in pickles.iter().enumerate() {
        std::fs::write(&input, bytes).unwrap();
        let went = survive_at(&format!("pickle {index}"), &["/input"], || {
            import::import(&input, &vocabulary, None, &out)
        });
        assert!(!went, "pickle {index} went by");
    }
    for (index, bytes) in [
        safetensors(u64::MAX, "{}"),
        safetensors(1 << 62, "{}"),
        safetensors(0, ""),
        safetensors(2, "{}"),
        tensor("[4294967296,4294967296,4]", "[0,4]"),
        tensor("[1,512,1]", "[0,18446744073709551615]"),
        tensor("[1,512,1]", "[4096,2048]"),
        tensor("[-1]", "[0,4]"),
        safetensors(300_000, &"[".repeat(300_000)),
        b"PK\x03\x04".to_vec(),
        b"PK\x05\x06\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00"
            .to_vec(),
        Vec::new(),
        vec![0; 100],
        vec![0xff; 4096],
    ]
    .iter()
    .enumerate()
    {
        std::fs::write(&input, bytes).unwrap();
        let went = survive_at(&format!("weights {index}"), &["/input"], || {
            import::import(&input, &vocabulary, None, &out)
        });
        assert!(!went, "weights {index} went by");
    }
    let weights = golden.join("model.safetensors");
    for (index, bytes) in [
        deep("[", 1_000_000),
        deep("{\"a\":", 1_000_000),
        b"{\"a\": 4294967295}".to_vec(),
        b"{\"a\": 18446744073709551615}".to_vec(),
        b"{\"a\": -1}".to_vec(),
        b"{\"a\": 0, \"b\": 0}".to_vec(),
        b"{\"a\": 0.5}".to_vec(),
        b"{\"a\": {\"b\": 1e400}}".to_vec(),
        b"{\"model\": {\"type\": \"BPE\", \"vocab\": {}, \"merges\": [\"a b\"]}}".to_vec(),
        b"null".to_vec(),
        b"\xef\xbb\xbf{}".to_vec(),
        Vec::new(),
    ]
    .iter()
    .enumerate()
    {
        std::fs::write(&input, bytes).unwrap();
        let went = survive_at(
            &format!("vocabulary {index}"),
            &["/input", "model.safetensors"],
            || import::import(&weights, &input, None, &out),
        );
        assert!(!went, "vocabulary {index} went by");
        survive_at(
            &format!("frequency {index}"),
            &["/input", "model.safetensors"],
            || import::import(&weights, &vocabulary, Some(&input), &out),
        );
        assert!(!survive(&format!("tokenizer {index}"), || {
            Tokenizer::from_bytes(bytes)
        }));
        survive_at(&format!("tokenizer file {index}"), &["/input"], || {
            Tokenizer::open(&input)
        });
        // The same as text and as ids: JSON lines that are none, odd lengths, ids that are too large.
        let lines = folder.path().join("input.jsonl");
        std::fs::write(&lines, bytes).unwrap();
        survive_at(&format!("corpus {index}"), &["/input.jsonl"], || {
            Corpus::open(&[&lines], CorpusOptions::default())?
                .map(|document| document.map(|text| text.len()))
                .sum::<Result<usize>>()
        });
        for ending in ["u16", "u32"] {
            let ids = folder.path().join("input").with_extension(ending);
            std::fs::write(&ids, bytes).unwrap();
            survive_at(&format!("ids {index}"), &["/input"], || {
                read_ids(&ids, Some(12))
            });
        }
    }
    for text in [
        "[".repeat(100_000),
        format!("name = {}", "[".repeat(100_000)),
        format!("name = {}", "{a=".repeat(100_000)),
        "a.".repeat(100_000),
        format!("[{}]", "a.".repeat(50_000) + "a"),
        "name = \"x\"\n[data]\ntrain=[\"a\"]\n[train]\nbatch = 9223372036854775807".into(),
        "name = \"x\"\n[data]\ntrain=[\"a\"]\n[train]\nsteps = -1".into(),
        "name = \"x\"\n[data]\ntrain=[\"a\"]\n[train]\nrate = nan".into(),
        "name = \"x\"\n[data]\ntrain=[\"a\"]\n[profile]\nwidth = 1099511627776".into(),
        "\u{0}".into(),
        String::new(),
    ] {
        let shown: String = text.chars().take(40).collect();
        assert!(
            !survive(&shown, || Recipe::parse(&text, &[])),
            "{shown} went by"
        );
    }
    check_largest_allocation();
}

#[test]
fn mutated_sessions_are_refused_or_go_on() {
    let model = small_model(&Profile::sifu(2));
    let begin = || {
        GraphSession::begin(
            model.mechanism().clone(),
            &[0],
            &Start::Profile,
            Sampling::default(),
        )
        .unwrap()
    };
    let mut session = begin();
    session.inject(2, 0.5).unwrap();
    let text = serde_json::to_string(&session.state()).unwrap();
    let mut random = Random::new(12);
    let mut restored = 0;
    for round in 0..2000 {
        let mut bytes = text.clone().into_bytes();
        for _ in 0..=random.below(3) {
            let place = random.below(bytes.len() as u64) as usize;
            bytes[place] = b"\"{}[]:,0129-e.nu"[random.below(16) as usize];
        }
        let Ok(state) = serde_json::from_slice::<SessionState>(&bytes) else {
            continue;
        };
        restored += usize::from(survive(&format!("session round {round}"), || {
            let mut session =
                GraphSession::restore(model.mechanism().clone(), state, Sampling::default())?;
            for _ in 0..3 {
                session.step()?;
            }
            Ok(())
        }));
    }
    assert!(
        restored > 0,
        "no mutation was harmless: is the session read at all?"
    );
}
