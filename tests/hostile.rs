//! Files made by hand to do harm: few bytes that stand for much, deep nesting, pipes and devices in model folders. Each
//! is refused in time, without a panic and without much memory.

use std::path::Path;

use brillm::Result;
use brillm::learn::Recipe;
use brillm::model::import::Checkpoint;
use brillm::path::{Charges, GraphSession, Sampling, Session, SessionState};
use brillm::run::trace::Trace;
use brillm::signal::{Profile, Start};

mod support;
use support::small_mechanism;
#[path = "support/survival.rs"]
mod survival;
use survival::{check_largest_allocation, survive};

/// The pickle of a dictionary of tensors: its entries follow.
const DICTIONARY: &[u8] = b"\x80\x02}q\x00";
/// The storage `0` of 16 numbers.
const STORAGE: &[u8] =
    b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x10tQ";
/// A call that makes a tensor.
const TENSOR: &[u8] =
    b"ctorch._utils\n_rebuild_tensor_v2\nq\x01((X\x07\x00\x00\x00storagectorch\nFloatStorage\n\
X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x10tQK\x00K\x04K\x04\x86K\x04K\x01\x86tR";

/// A checkpoint of the layout before 2020 with this pickle of objects.
fn legacy(objects: &[u8]) -> Vec<u8> {
    let mut bytes =
        b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}q\x00.".to_vec();
    bytes.extend_from_slice(objects);
    bytes.extend_from_slice(b"\x80\x02]q\x00X\x01\x00\x00\x000a.");
    bytes.extend_from_slice(&64u64.to_le_bytes());
    bytes.extend_from_slice(&[0; 256]);
    bytes
}

fn open(folder: &Path, bytes: &[u8]) -> Result<Checkpoint> {
    let path = folder.join("checkpoint");
    std::fs::write(&path, bytes).unwrap();
    Checkpoint::open(&path)
}

/// An operation that pushes a text.
fn text(text: &str) -> Vec<u8> {
    [
        b"X",
        &(text.len() as u32).to_le_bytes()[..],
        text.as_bytes(),
    ]
    .concat()
}

#[test]
fn tensor_names_above_the_limit_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    for (length, opens) in [(512, true), (513, false)] {
        let name = "n".repeat(length);
        let objects = [DICTIONARY, &text(&name), TENSOR, b"s."].concat();
        match open(folder.path(), &legacy(&objects)) {
            Ok(checkpoint) => {
                assert!(opens, "{length}: opened");
                assert!(checkpoint.tensors().contains_key(&name), "{length}");
            }
            Err(error) => {
                let error = error.to_string();
                assert!(!opens && error.contains("512 bytes"), "{length}: {error}");
            }
        }
    }
}

#[test]
fn pickles_that_multiply_their_size_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let one = [DICTIONARY, &text("a"), TENSOR, b"s."].concat();
    assert!(
        survive("one tensor", || open(folder.path(), &legacy(&one))),
        "a plain checkpoint opens"
    );
    let long = "x".repeat(1 << 20);
    let repeat = |bytes: &[u8], times: usize| bytes.repeat(times);
    // `h` pushes what the memo holds, in two bytes.
    let parameters = [
        DICTIONARY,
        &text("a"),
        b"ctorch._utils\n_rebuild_parameter\nq\x09",
        &repeat(b"h\x09", 200_000),
        TENSOR,
        &repeat(b"\x85R", 200_000),
        b"s.",
    ]
    .concat();
    let classes = [
        &text(&long)[..],
        b"q\x01",
        &repeat(b"h\x01h\x01\x93", 2000),
        b".",
    ]
    .concat();
    let names = [
        DICTIONARY,
        &text(&long),
        b"q\x09",
        TENSOR,
        b"q\x08s",
        &repeat(b"h\x09h\x08s", 100_000),
        b".",
    ]
    .concat();
    let axes = [
        DICTIONARY,
        b"(",
        &repeat(b"K\x01", 50_000),
        b"tq\x07",
        &text("a"),
        b"ctorch._utils\n_rebuild_tensor_v2\nq\x01(",
        STORAGE,
        b"K\x00h\x07h\x07tRq\x08s",
        b".",
    ]
    .concat();
    for (name, objects) in [
        ("nested parameters", parameters),
        ("joined class names", classes),
        ("long names", names),
        ("many axes", axes),
        ("three million objects", repeat(b"N", 3_000_000)),
        ("three million marks", repeat(b"(", 3_000_000)),
        (
            "three million memo entries",
            [b"N", &repeat(b"\x94", 3_000_000)[..]].concat(),
        ),
        (
            "three million copies",
            [b"N", &repeat(b"2", 3_000_000)[..]].concat(),
        ),
    ] {
        let opened = survive(name, || {
            open(folder.path(), &legacy(&objects)).map(|checkpoint| {
                let names: usize = checkpoint.tensors().keys().map(String::len).sum();
                assert!(names < 1 << 20, "{name}: {names} bytes of names");
            })
        });
        assert!(!opened, "{name} opened");
        check_largest_allocation();
    }
}

#[test]
fn archives_that_state_more_than_they_hold_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    // End records that state 65,535 entries, and one of the 64-bit form that states 2^62.
    let end = |entries: u16| {
        let mut end = b"PK\x05\x06\x00\x00\x00\x00".to_vec();
        end.extend_from_slice(&entries.to_le_bytes());
        end.extend_from_slice(&entries.to_le_bytes());
        end.extend_from_slice(&[0; 10]);
        end
    };
    let wide = [
        &b"PK\x03\x04PK\x06\x06\x2c\x00\x00\x00\x00\x00\x00\x00\x2d\x00\x2d\x00\x00\x00\x00\x00\x00\x00\x00\x00"[..],
        &(1u64 << 62).to_le_bytes(),
        &(1u64 << 62).to_le_bytes(),
        &(1u64 << 62).to_le_bytes(),
        &[0; 8],
        b"PK\x06\x07\x00\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00",
        &end(u16::MAX),
    ]
    .concat();
    // An entry that would be inflated to 4 GiB, in a file of 200 bytes.
    let bomb = [
        &b"PK\x03\x04\x14\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00\x10\x00\x00\x00\xfe\xff\xff\xff\x08\x00\x00\x00data.pkl"[..],
        &[0; 16],
        b"PK\x01\x02\x14\x00\x14\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00\x10\x00\x00\x00\xfe\xff\xff\xff\x08\x00\x00\x00\
          \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00data.pkl",
        b"PK\x05\x06\x00\x00\x00\x00\x01\x00\x01\x00\x36\x00\x00\x00\x36\x00\x00\x00\x00\x00",
    ]
    .concat();
    for (name, bytes) in [
        ("entries", [&b"PK\x03\x04"[..], &end(u16::MAX)].concat()),
        ("64-bit entries", wide),
        ("an inflated entry", bomb),
        (
            "end records",
            [&b"PK\x03\x04"[..], &end(9).repeat(20_000)].concat(),
        ),
    ] {
        assert!(
            !survive(name, || open(folder.path(), &bytes)),
            "{name} opened"
        );
    }
    check_largest_allocation();
}

#[test]
fn deep_nesting_is_refused_in_every_document() {
    for open in ["[", "{\"a\":", "[{\"steps\":[", "\"a"] {
        let text = open.repeat(200_000);
        let name = format!("{open} many times");
        let escaped = text.replace('"', "&quot;");
        let svg = format!(
            "<svg><brillm:trace xmlns:brillm=\"https://github.com/brillm/brillm/trace\">{escaped}</brillm:trace></svg>"
        );
        assert!(!survive(&name, || Trace::read(&text)));
        assert!(!survive(&name, || Trace::read(&svg)));
        assert!(
            serde_json::from_str::<SessionState>(&text).is_err(),
            "{name}"
        );
        let change = format!("train.batch={text}");
        let file = "name = \"x\"\n[data]\ntrain = [\"a\"]\n";
        assert!(!survive(&name, || Recipe::parse(file, &[change])));
        let keys = "a.".repeat(100_000) + "b=1";
        assert!(!survive(&name, || Recipe::parse(file, &[keys])));
    }
    for reference in [
        "&",
        "&#;",
        "&#x110000;",
        "&#xd800;",
        "&#99999999999;",
        "&lt",
        "&é;",
    ] {
        let svg = format!(
            "<svg><brillm:trace xmlns:brillm=\"https://github.com/brillm/brillm/trace\">{reference}</brillm:trace></svg>"
        );
        assert!(!survive(reference, || Trace::read(&svg)), "{reference}");
    }
    check_largest_allocation();
}

#[test]
fn sessions_with_numbers_out_of_range_are_refused() {
    let residual = Profile {
        residual: Some(2),
        ..Profile::sifu(4)
    };
    let mechanism = std::sync::Arc::new(small_mechanism(&residual, 2));
    let begin = GraphSession::begin(
        mechanism.clone(),
        &[1, 2],
        &Start::Profile,
        Sampling::greedy(),
    );
    let mut session = begin.unwrap();
    session.set_charges(Charges::new(0.9, 0.5, 0.5, 1.0));
    session.walk(&[3, 1, 2]).unwrap();
    let saved = serde_json::to_value(session.state()).unwrap();
    let run = |state: &serde_json::Value| {
        let Ok(state) = serde_json::from_value::<SessionState>(state.clone()) else {
            return false;
        };
        survive("session", || {
            let mut session = GraphSession::restore(mechanism.clone(), state, Sampling::greedy())?;
            session.look()?;
            session.step()?;
            session.step().map(drop)
        })
    };
    assert!(run(&saved), "a saved session goes on");
    let huge = serde_json::json!(u64::MAX);
    for (pointer, value) in [
        ("/flow/step", huge.clone()),
        ("/flow/node", 12.into()),
        ("/flow/signal", serde_json::json!([])),
        ("/flow/output", serde_json::json!([0.0])),
        ("/flow/banks", serde_json::json!([0.0])),
        ("/flow/blended", serde_json::json!([])),
        ("/flow/blended", serde_json::json!([1.0, 2.0])),
        ("/recent", serde_json::json!([12])),
        ("/injected", serde_json::json!({"12": 1.0})),
        ("/charges/decay", 1.0.into()),
        ("/charges/decay", (-1.0).into()),
        ("/charges/step", huge.clone()),
        ("/charges/step", 1.into()),
        ("/charges/nodes", serde_json::json!([[12, [1.0, 1]]])),
        ("/charges/nodes", serde_json::json!([[1, [-1.0, 1]]])),
        ("/charges/edges", serde_json::json!([[[1, 12], [1.0, 1]]])),
        ("/charges/edges", serde_json::json!([[[1, 2], [1.0, 99]]])),
    ] {
        let mut state = saved.clone();
        *state.pointer_mut(pointer).unwrap() = value.clone();
        assert!(!run(&state), "{pointer} = {value} is accepted");
    }
}

#[cfg(all(unix, feature = "transformer"))]
#[test]
fn model_folders_with_pipes_devices_and_loops_are_refused() {
    use std::os::unix::fs::symlink;

    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/transformer/capp-gpt2");
    for file in [
        "config.json",
        "model.safetensors",
        "generation_config.json",
        "brillm.json",
        "tokenizer.json",
        "quantize_config.json",
        "hf_quant_config.json",
    ] {
        for kind in ["pipe", "device", "loop", "folder"] {
            let folder = tempfile::tempdir().unwrap();
            for name in ["config.json", "model.safetensors"] {
                symlink(golden.join(name), folder.path().join(name)).unwrap();
            }
            let path = folder.path().join(file);
            let _ = std::fs::remove_file(&path);
            match kind {
                "pipe" => {
                    let status = std::process::Command::new("mkfifo").arg(&path).status();
                    assert!(status.unwrap().success());
                }
                "device" => symlink("/dev/zero", &path).unwrap(),
                "loop" => symlink(&path, &path).unwrap(),
                _ => std::fs::create_dir(&path).unwrap(),
            }
            // Links to files of another folder are how download caches store models.
            let (sender, receiver) = std::sync::mpsc::channel();
            let opened = folder.path().to_path_buf();
            std::thread::spawn(move || {
                let what = opened.display().to_string();
                sender.send(survive(&what, || {
                    brillm::transformer::Transformer::open(&opened)
                }))
            });
            let name = format!("{file} is a {kind}");
            let outcome = receiver.recv_timeout(std::time::Duration::from_secs(60));
            let opened = outcome.unwrap_or_else(|_| panic!("{name}: opening does not end"));
            let needed =
                file == "config.json" || file == "model.safetensors" || file.contains("quant");
            assert!(!opened || !needed, "{name}: the folder opened");
            check_largest_allocation();
        }
    }
}
