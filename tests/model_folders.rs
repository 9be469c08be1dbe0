//! Folders in Hugging Face's layout as people have them: end tokens in several files, quantised weights, shards that are
//! missing, pointers in place of files, texts beyond the positions of the model.
#![cfg(all(feature = "cli", feature = "transformer"))]

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use brillm::path::{Sampling, Session};
use brillm::transformer::{Transformer, TransformerSession};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};
use support::transformer::{GOLDEN, changed, edit, stories};
use support::{cases, run, text_of};

const WHOLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const LFS: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1048576\n";

/// The error of opening a copy of `stories260K` with changed files.
fn error(change: impl FnOnce(&Path)) -> String {
    let (_folder, opened) = changed(change);
    opened.expect_err("an error").to_string()
}

/// A tensor of a file: element type, shape and bytes.
type Stored = (Dtype, Vec<usize>, Vec<u8>);

fn stored() -> BTreeMap<String, Stored> {
    let bytes = std::fs::read(Path::new(GOLDEN).join("stories260K").join(WHOLE)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.tensors()
        .into_iter()
        .map(|(name, view)| {
            let tensor = (view.dtype(), view.shape().to_vec(), view.data().to_vec());
            (name, tensor)
        })
        .collect()
}

fn write(path: &Path, tensors: &BTreeMap<String, Stored>) {
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
        let view = TensorView::new(*dtype, shape.clone(), bytes).unwrap();
        (name.as_str(), view)
    });
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// The error of opening `stories260K` with changed tensors.
fn error_with(change: impl FnOnce(&mut BTreeMap<String, Stored>)) -> String {
    let mut tensors = stored();
    change(&mut tensors);
    error(|folder| write(&folder.join(WHOLE), &tensors))
}

#[test]
fn all_end_ids_of_a_folder_end_a_text() {
    // The third token after a prompt becomes an end token.
    let mut session = TransformerSession::begin(&stories(), &[1, 403], Sampling::greedy()).unwrap();
    let made: Vec<u32> = (0..6).map(|_| session.step().unwrap().unwrap()).collect();
    let vocabulary = stories().tokenizer().vocabulary().clone();
    let name = vocabulary.token(made[2]).unwrap();
    let end = made.iter().position(|id| *id == made[2]).unwrap();
    cases(
        [
            ("generation_config.json", "eos_token_id", json!(made[2])),
            (
                "generation_config.json",
                "eos_token_id",
                json!([2, made[2]]),
            ),
            (
                "generation_config.json",
                "eos_token_id",
                json!([-1, made[2]]),
            ),
            ("config.json", "eos_token_id", json!([2, made[2]])),
            ("tokenizer_config.json", "eos_token", json!(name)),
            (
                "tokenizer_config.json",
                "eos_token",
                json!({"content": name}),
            ),
            (
                "special_tokens_map.json",
                "eos_token",
                json!({"content": name}),
            ),
        ],
        |(file, key, value)| {
            let (_folder, model) = changed(|folder| edit(&folder.join(file), key, value.clone()));
            let engine = brillm::Engine::from(&model.unwrap());
            let request = brillm::Request::ids(vec![1, 403])
                .tokens(6)
                .sampling(Sampling::greedy());
            let (_, ids) = engine.start(request).unwrap().collect_text().unwrap();
            assert!(ids.len() <= end + 1, "{ids:?}");
        },
    );
}

#[test]
fn repeated_end_ids_count_once() {
    let file =
        |folder: &Path, name: &str, ids: Value| edit(&folder.join(name), "eos_token_id", ids);
    let (_folder, model) = changed(|folder| {
        file(folder, "config.json", json!([2, 2, 5]));
        file(folder, "generation_config.json", json!([5, 7, 7, 2]));
    });
    let model = model.unwrap();
    assert_eq!(model.configuration().stop_tokens, [2, 5, 7]);
}

#[test]
fn a_generation_config_without_end_ids_changes_nothing() {
    cases([json!(null), json!([]), json!(-1)], |value| {
        let file = "generation_config.json";
        let (_folder, model) =
            changed(|folder| edit(&folder.join(file), "eos_token_id", value.clone()));
        assert_eq!(model.unwrap().stop_tokens(), stories().stop_tokens());
    });
}

#[test]
fn an_invalid_generation_config_is_named() {
    cases(
        [
            (r#"{"eos_token_id": "</s>"}"#, "eos_token_id"),
            (r#"{"eos_token_id": [2, "x"]}"#, "eos_token_id"),
            ("{", "JSON"),
            ("[]", "JSON object"),
            ("", "empty"),
            (LFS, "git lfs pull"),
        ],
        |(text, words)| {
            let file = "generation_config.json";
            let error = error(|folder| std::fs::write(folder.join(file), text).unwrap());
            assert!(error.contains(file) && error.contains(words), "{error}");
        },
    );
}

#[test]
fn quantised_models_are_named_by_method_and_bits() {
    let groups = json!({"group_0": {"weights": {"num_bits": 4, "type": "int"}}});
    cases(
        [
            (
                "quantization_config",
                json!({"quant_method": "gptq", "bits": 4}),
                "gptq, 4 bits",
            ),
            (
                "quantization_config",
                json!({"quant_method": "awq", "bits": 4}),
                "awq, 4 bits",
            ),
            (
                "quantization_config",
                json!({"load_in_8bit": true}),
                "bitsandbytes, 8 bits",
            ),
            (
                "quantization_config",
                json!({"quant_method": "bitsandbytes", "load_in_4bit": true}),
                "bitsandbytes, 4 bits",
            ),
            ("quantization_config", json!({"quant_method": "fp8"}), "fp8"),
            (
                "quantization_config",
                json!({"quant_method": "compressed-tensors", "config_groups": groups}),
                "compressed-tensors, 4 bits",
            ),
            (
                "quantization",
                json!({"group_size": 64, "bits": 4}),
                "mlx, 4 bits",
            ),
        ],
        |(key, value, words)| {
            let error = error(|folder| edit(&folder.join("config.json"), key, value.clone()));
            assert!(error.contains(words) && error.contains("bf16"), "{error}");
        },
    );
    let error = error(|folder| {
        std::fs::write(
            folder.join("quantize_config.json"),
            r#"{"bits": 8, "desc_act": true}"#,
        )
        .unwrap();
    });
    assert!(error.contains("gptq, 8 bits"), "{error}");
}

#[test]
fn quantised_weights_are_named_without_settings_too() {
    const QUERY: &str = "model.layers.0.self_attn.q_proj";
    cases(
        [
            ("weight", Dtype::I8, "I8"),
            ("weight", Dtype::U8, "U8"),
            ("weight", Dtype::F8_E4M3, "F8_E4M3"),
            ("qweight", Dtype::U8, "q_proj.qweight"),
            ("weight_packed", Dtype::I8, "q_proj.weight_packed"),
        ],
        |(part, dtype, words)| {
            let error = error_with(|tensors| {
                let (_, shape, bytes) = tensors.remove(&format!("{QUERY}.weight")).unwrap();
                let bytes = bytes[..bytes.len() / 4].to_vec();
                tensors.insert(format!("{QUERY}.{part}"), (*dtype, shape, bytes));
            });
            assert!(error.contains(words) && error.contains("bf16"), "{error}");
            assert!(error.contains(&format!("{QUERY}.weight")), "{error}");
        },
    );
}

#[test]
fn a_missing_tensor_is_named_with_what_the_file_has() {
    let error = error_with(|tensors| {
        let tensor = tensors.remove("model.layers.1.mlp.up_proj.weight").unwrap();
        tensors.insert("model.layers.1.mlp.w3.weight".into(), tensor);
    });
    for words in [
        "model.layers.1.mlp.up_proj.weight",
        "model.layers.1.mlp.w3.weight",
    ] {
        assert!(error.contains(words), "{error}");
    }
    let error = error_with(|tensors| tensors.clear());
    assert!(error.contains("the file has no tensors"), "{error}");
    let error = error_with(|tensors| {
        tensors.get_mut("model.norm.weight").unwrap().1 = vec![8, 8];
    });
    for words in ["model.norm.weight", "[8, 8]", "[64]"] {
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn tied_matrices_may_be_stored_under_either_name_or_both() {
    let expected = stories().stop_tokens();
    for keep in [false, true] {
        let (_folder, model) = changed(|folder| {
            let mut tensors = stored();
            let embedding = tensors["model.embed_tokens.weight"].clone();
            tensors.insert("lm_head.weight".into(), embedding);
            if !keep {
                tensors.remove("model.embed_tokens.weight");
            }
            write(&folder.join(WHOLE), &tensors);
        });
        assert_eq!(model.unwrap().stop_tokens(), expected);
    }
}

/// Replace the weights by two shards; `change` gets the index and may change the files.
fn sharded(folder: &Path, change: impl FnOnce(&mut Value, &Path)) {
    std::fs::remove_file(folder.join(WHOLE)).unwrap();
    let (mut shards, mut map) = ([BTreeMap::new(), BTreeMap::new()], serde_json::Map::new());
    for (index, (name, tensor)) in stored().into_iter().enumerate() {
        map.insert(
            name.clone(),
            format!("model-{}-of-2.safetensors", index % 2 + 1).into(),
        );
        shards[index % 2].insert(name, tensor);
    }
    for (number, tensors) in (1..).zip(&shards) {
        write(
            &folder.join(format!("model-{number}-of-2.safetensors")),
            tensors,
        );
    }
    let mut index = json!({"weight_map": map});
    change(&mut index, folder);
    std::fs::write(folder.join(INDEX), index.to_string()).unwrap();
}

#[test]
fn damaged_shards_are_named() {
    type Change = fn(&mut Value, &Path);
    const NORM: &str = "model.norm.weight";
    let table: [(Change, &str); 6] = [
        (
            |_, folder| std::fs::remove_file(folder.join("model-2-of-2.safetensors")).unwrap(),
            "1 of 2 shards are missing: model-2-of-2.safetensors",
        ),
        (
            |index, _| index["weight_map"][NORM] = "../model-1-of-2.safetensors".into(),
            "invalid shard name",
        ),
        (
            |index, _| index["weight_map"][NORM] = "/etc/passwd".into(),
            "invalid shard name",
        ),
        (
            |index, _| index["weight_map"]["model.extra"] = "model-1-of-2.safetensors".into(),
            "does not have the tensor model.extra",
        ),
        (
            |_, folder| std::fs::write(folder.join("model-1-of-2.safetensors"), LFS).unwrap(),
            "model-1-of-2.safetensors: this is a Git LFS pointer",
        ),
        (|index, _| *index = json!({"weight_map": []}), "weight_map"),
    ];
    for (change, words) in table {
        let error = error(|folder| sharded(folder, change));
        assert!(error.contains(words), "{words}: {error}");
    }
    let error = error(|folder| {
        sharded(folder, |_, _| ());
        std::fs::remove_file(folder.join(INDEX)).unwrap();
    });
    assert!(error.contains("download the index"), "{error}");
}

#[test]
fn of_a_tensor_in_two_shards_the_one_in_the_index_counts() {
    let (_folder, model) = changed(|folder| {
        sharded(folder, |index, folder| {
            let listed = index["weight_map"]["model.norm.weight"].as_str().unwrap();
            for number in 1..=2 {
                let name = format!("model-{number}-of-2.safetensors");
                if name == listed {
                    continue;
                }
                let bytes = std::fs::read(folder.join(&name)).unwrap();
                let file = SafeTensors::deserialize(&bytes).unwrap();
                let mut views = file.tensors();
                let wrong = TensorView::new(Dtype::F32, vec![1], &[0; 4]).unwrap();
                views.push(("model.norm.weight".into(), wrong));
                std::fs::write(
                    folder.join(&name),
                    safetensors::serialize(views, None).unwrap(),
                )
                .unwrap();
            }
        });
    });
    model.unwrap();
}

#[test]
fn weights_in_other_formats_are_named() {
    cases(
        [
            ("pytorch_model.bin", "safe_serialization"),
            ("pytorch_model-00001-of-00002.bin", "safe_serialization"),
            ("adapter_model.safetensors", "merge the adapter"),
            ("model-q4.gguf", "pass the GGUF file itself"),
            ("tf_model.h5", "safe_serialization"),
            ("weights.safetensors", "name the file model.safetensors"),
        ],
        |(name, words)| {
            let error = error(|folder| {
                std::fs::rename(folder.join(WHOLE), folder.join(name)).unwrap();
            });
            assert!(error.contains(name) && error.contains(words), "{error}");
        },
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, b"GGUF\x03\0\0\0").unwrap();
    let error = brillm::open(&path).unwrap_err().to_string();
    assert!(
        error.contains("model.gguf") && error.contains("8 bytes are needed, 0 are left"),
        "{error}"
    );
}

#[test]
fn pointers_pages_and_empty_files_are_recognised() {
    let contents = [
        (LFS, "this is a Git LFS pointer (run git lfs pull)"),
        ("<!DOCTYPE html><html></html>", "this is an HTML page"),
        ("/annex/objects/SHA256E-s9--4d.bin\n", "git annex get"),
        ("", "the file is empty"),
    ];
    for file in [
        WHOLE,
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ] {
        for (text, words) in contents {
            let error = error(|folder| std::fs::write(folder.join(file), text).unwrap());
            assert!(
                error.contains(file) && error.contains(words),
                "{file}: {error}"
            );
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.bril");
    for (text, words) in contents {
        std::fs::write(&path, text).unwrap();
        let error = brillm::open(&path).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn a_link_without_a_target_is_named_with_it() {
    for (target, words) in [
        ("../blobs/4d7a", "cp -L"),
        (".git/annex/objects/4d", "git annex get"),
    ] {
        let error = error(|folder| {
            std::fs::remove_file(folder.join(WHOLE)).unwrap();
            std::os::unix::fs::symlink(target, folder.join(WHOLE)).unwrap();
        });
        assert!(error.contains(target) && error.contains(words), "{error}");
    }
}

#[test]
fn headers_that_contradict_the_file_are_errors() {
    let file = |length: u64, header: &str, data: usize| {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    };
    let one = |shape: &str, from: u64, to: u64| {
        format!(
            r#""model.norm.weight":{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}"#
        )
    };
    let object = |entries: &str| format!("{{{entries}}}");
    let overlap = one("[2]", 0, 8) + "," + &one("[2]", 4, 12).replace("norm", "other");
    let headers = [
        object(&one("[64]", 0, 1 << 40)),
        object(&one("[64]", 256, 0)),
        object(&one("[4294967296,4294967296,4294967296]", 0, 256)),
        object(&overlap),
        "not JSON".to_string(),
    ];
    let mut files: Vec<Vec<u8>> = headers
        .iter()
        .map(|header| file(header.len() as u64, header, 256))
        .collect();
    files.push(file(u64::MAX, "{}", 16));
    files.push(file(1 << 40, "{}", 16));
    files.push(vec![1, 2, 3]);
    for (index, bytes) in files.iter().enumerate() {
        let error = error(|folder| std::fs::write(folder.join(WHOLE), bytes).unwrap());
        assert!(
            error.contains("invalid safetensors file"),
            "{index}: {error}"
        );
    }
}

#[test]
fn texts_beyond_the_positions_of_a_model_are_reported_once() {
    let folder = |change: &dyn Fn(&Path)| {
        changed(|folder| {
            edit(
                &folder.join("config.json"),
                "max_position_embeddings",
                16.into(),
            );
            change(folder);
        })
        .0
    };
    let warnings = |folder: &Path, arguments: &[&str]| {
        let model = folder.to_str().unwrap();
        let output = run(&[arguments, &["--model", model]].concat());
        let errors = text_of(&output.stderr);
        assert!(output.status.success(), "{errors}");
        errors.matches("16 positions").count()
    };
    let generate = |tokens| ["generate", "Once upon", "--ignore-eos", "--tokens", tokens];
    let plain = folder(&|_| ());
    assert_eq!(warnings(plain.path(), &generate("30")), 1);
    assert_eq!(warnings(plain.path(), &generate("4")), 0);
    let text = plain.path().join("text.txt");
    std::fs::write(&text, "Once upon a time there was a girl.\n".repeat(9)).unwrap();
    let eval = ["eval", text.to_str().unwrap(), "--windows", "32,2"];
    assert_eq!(warnings(plain.path(), &eval), 1);
    // A window of attention, and rotations that adapt, are made for longer texts.
    let window = folder(&|folder| {
        edit(&folder.join("config.json"), "model_type", "mistral".into());
        edit(&folder.join("config.json"), "sliding_window", 8.into());
    });
    assert_eq!(warnings(window.path(), &generate("30")), 0);
    let scaling = json!({"rope_type": "dynamic", "factor": 4.0});
    let dynamic =
        folder(&|folder| edit(&folder.join("config.json"), "rope_scaling", scaling.clone()));
    assert_eq!(warnings(dynamic.path(), &generate("30")), 0);
}

#[test]
fn a_text_ends_with_the_position_table_and_a_longer_prompt_is_an_error() {
    let model = Path::new(GOLDEN).join("capp-gpt2");
    let ids = |count| vec!["7"; count].join(",");
    let generate = |count, tokens| {
        let (model, ids) = (model.to_str().unwrap(), ids(count));
        let length = ["--tokens", tokens, "--ignore-eos"];
        run(&[
            &["generate", "--prompt-ids", &ids, "--model", model],
            &length[..],
        ]
        .concat())
    };
    let ended = text_of(&generate(508, "20").stderr);
    assert_eq!(ended.matches("context is full").count(), 1, "{ended}");
    let long = generate(600, "1");
    let error = text_of(&long.stderr);
    assert_eq!(long.status.code(), Some(1), "{error}");
    assert!(error.contains("600") && error.contains("512"), "{error}");
    Transformer::open(&model).unwrap();
}
