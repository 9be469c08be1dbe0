//! Conversion between folders and GGUF files: the same model in either, and what is refused.
#![cfg(all(feature = "transformer", feature = "cli"))]

mod support;

use std::path::{Path, PathBuf};

use brillm::kernel::block_format::Format;
use brillm::text::Message;
use brillm::transformer::{Conversion, Converted, TokenBatch, Transformer};
use brillm::{Engine, Error, ErrorKind, Request, Result};
use serde_json::{Value, json};
use support::transformer::{floats, ids, near, network, write_folder};

fn folder(name: &str) -> PathBuf {
    support::root().join(name)
}

fn read_json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn converted(source: &Path, out: &Path, element: Option<Format>) -> Result<Converted> {
    let conversion = Conversion {
        element,
        name: None,
    };
    conversion.run(source, out, &mut |bytes, total| {
        assert!(bytes <= total);
        Ok(())
    })
}

/// Compute the logits of all positions. `[T, V]`
fn logits(model: &Transformer, ids: &[u32]) -> Vec<f32> {
    let network = network(model);
    let batch = TokenBatch::new(ids.to_vec(), ids.len());
    let x = network.forward(&batch, None, None).unwrap();
    let logits = network.logits(&x).unwrap().flatten_all().unwrap();
    logits.to_vec1().unwrap()
}

/// Compute the perplexity of a text.
fn perplexity(model: &Transformer, ids: &[u32]) -> f64 {
    let logits = logits(model, ids);
    let rows = logits.chunks(model.configuration().vocabulary);
    let loss = |(row, &target): (&[f32], &u32)| {
        let largest = row.iter().copied().fold(f32::MIN, f32::max);
        let sum: f64 = row.iter().map(|x| f64::from(x - largest).exp()).sum();
        sum.ln() - f64::from(row[target as usize] - largest)
    };
    let losses = rows.zip(&ids[1..]).map(loss);
    (losses.sum::<f64>() / (ids.len() - 1) as f64).exp()
}

/// Write the folder of a golden file of `tests/golden/families`, with changes of its `config.json` and more tensors.
fn family(folder: &Path, name: &str, config: Value, tensors: &[(&str, usize)]) -> Value {
    let file = format!("tests/golden/families/{name}.json");
    let mut golden = read_json(&support::root().join(file));
    for (key, value) in config.as_object().unwrap() {
        golden["config"][key] = value.clone();
    }
    for (name, width) in tensors {
        golden["shapes"][name] = json!([width]);
    }
    std::fs::create_dir_all(folder).unwrap();
    write_folder(folder, &golden);
    golden
}

/// Convert a folder to a file and to a folder again; all must be the same model.
fn there_and_back(source: &Path, ids: &[u32]) -> (Transformer, Transformer) {
    let own = tempfile::tempdir().unwrap();
    let (file, back) = (own.path().join("model.gguf"), own.path().join("back"));
    let expected = Transformer::open(source).unwrap();
    let report = converted(source, &file, None).unwrap();
    assert_eq!(report.bytes, std::fs::metadata(&file).unwrap().len());
    assert_eq!(report.half, Vec::<String>::new());
    let opened = Transformer::open(&file).unwrap();
    converted(&file, &back, None).unwrap();
    let again = Transformer::open(&back).unwrap();
    let what = source.display().to_string();
    for (model, form) in [(&opened, "file"), (&again, "folder")] {
        let what = format!("{what}, {form}");
        near(&logits(model, ids), &logits(&expected, ids), 1e-5, &what);
        assert_eq!(model.stop_tokens(), expected.stop_tokens(), "{what}");
    }
    assert_eq!(opened.name(), expected.name());
    assert_eq!(again.name(), expected.name());
    (opened, again)
}

#[test]
fn models_are_the_same_in_files_and_folders() {
    for name in ["stories260K", "capp-gpt2"] {
        let source = folder("tests/golden/transformer").join(name);
        let vocabulary = Transformer::open(&source)
            .unwrap()
            .configuration()
            .vocabulary as u32;
        let prompt: Vec<u32> = (0..24).map(|i| (7 * i + 5) % vocabulary).collect();
        there_and_back(&source, &prompt);
    }
    let rope = json!({"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32, "rope_theta": 10000.0});
    let llama = json!({"hidden_act": "silu"});
    let scaled = json!({"hidden_act": "silu", "rope_parameters": rope});
    let linear = json!({"hidden_act": "silu",
        "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}});
    let rope = |rope: Value| json!({"hidden_act": "silu", "rope_parameters": rope});
    let yarn = rope(
        json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "rope_theta": 10000.0}),
    );
    let changed_yarn = rope(
        json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16,
        "rope_theta": 10000.0, "attention_factor": 1.3, "beta_fast": 20.0, "beta_slow": 2.0}),
    );
    let long = rope(
        json!({"rope_type": "longrope", "rope_theta": 10000.0, "attention_factor": 1.2,
        "original_max_position_embeddings": 16, "short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [1.0, 2.0, 3.0, 4.0]}),
    );
    let part =
        rope(json!({"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}));
    let bias = "model.layers.0.self_attn.q_proj.bias";
    let width = 32;
    let cases = [
        ("qwen3", json!({}), vec![]),
        ("llama-gelu", llama.clone(), vec![]),
        ("llama-gelu", llama, vec![(bias, width)]),
        ("llama-gelu", scaled, vec![]),
        ("llama-gelu", linear, vec![]),
        ("llama-gelu", yarn, vec![]),
        ("llama-gelu", changed_yarn, vec![]),
        ("llama-gelu", long, vec![]),
        ("llama-gelu", part, vec![]),
        ("gemma", json!({}), vec![]),
        ("gemma2", json!({"query_pre_attn_scalar": 16}), vec![]),
        (
            "gemma3",
            json!({"query_pre_attn_scalar": 16, "layer_types": vec!["sliding_attention"; 3]}),
            vec![],
        ),
    ];
    for (name, config, tensors) in cases {
        let own = tempfile::tempdir().unwrap();
        let golden = family(own.path(), name, config, &tensors);
        let (_, back) = there_and_back(own.path(), &ids(&golden["ids"]));
        let settings = &back.configuration().json;
        let class = match name {
            "qwen3" => "Qwen3ForCausalLM",
            "gemma" => "GemmaForCausalLM",
            "gemma2" => "Gemma2ForCausalLM",
            "gemma3" => "Gemma3ForCausalLM",
            _ => "LlamaForCausalLM",
        };
        assert_eq!(settings["architectures"][0], class);
        assert_eq!(settings["attention_bias"] == true, !tensors.is_empty());
        if name == "qwen3" {
            assert_eq!(settings["rms_norm_eps"], 1e-6);
            assert_eq!(settings.get("rope_scaling"), None);
            // Against Hugging Face too.
            let vocabulary = back.configuration().vocabulary;
            let found = logits(&back, &ids(&golden["ids"]));
            for (row, expected) in golden["logits"].as_object().unwrap() {
                let row = &found[row.parse::<usize>().unwrap() * vocabulary..][..vocabulary];
                near(row, &floats(expected), 1e-4, "qwen3");
            }
        }
    }
}

#[test]
fn texts_have_the_same_tokens_and_continuations() {
    let own = tempfile::tempdir().unwrap();
    let (file, back) = (own.path().join("a.gguf"), own.path().join("back"));
    let source = folder("models/stories260K");
    converted(&source, &file, None).unwrap();
    converted(&file, &back, None).unwrap();
    assert!(back.join("tokenizer.json").exists());
    let expected = Transformer::open(&source).unwrap();
    let text = |model: &Transformer, prompt: &str| {
        let request = Request::ids(model.encode(prompt).unwrap()).tokens(20);
        Engine::from(model)
            .start(request)
            .unwrap()
            .collect_text()
            .unwrap()
    };
    for path in [&file, &back] {
        let model = Transformer::open(path).unwrap();
        for line in [
            "Once upon a time",
            "Lily, the cat!  ran.\n\nEnd",
            "naïve 中文 123",
            "",
        ] {
            let (mine, theirs) = (model.encode(line).unwrap(), expected.encode(line).unwrap());
            assert_eq!(mine, theirs, "{line:?}");
            let (tokenizer, other) = (model.tokenizer(), expected.tokenizer());
            assert_eq!(tokenizer.decode(&mine), other.decode(&theirs), "{line:?}");
        }
        assert_eq!(text(&model, "Once upon"), text(&expected, "Once upon"));
    }
}

/// Check each weight of a model against that of the folder: it is off by at most the step of its block.
fn check_blocks(source: &Path, model: &Transformer, format: Format) {
    let exact = Transformer::open(source).unwrap();
    for (name, _, matrix) in model.weights().stored() {
        // The distance of neighbouring numbers, as a part of the largest of a block: the largest is 127 or 8 steps. Rounding
        // is off by half a step, but Q4_0 has no number for the largest in the other direction. Scales are halves.
        let part = match matrix.format() {
            Format::Q8_0 => 0.5 / 127.0 + 1.0 / 2048.0,
            Format::Q4_0 => 1.0 / 8.0 + 1.0 / 2048.0,
            _ => continue,
        };
        // The output matrix of Q4_0 is Q8_0.
        assert!(
            matrix.format() == format || name.contains("embed"),
            "{name}"
        );
        let (.., expected) = exact
            .weights()
            .stored()
            .find(|(other, ..)| *other == name)
            .unwrap();
        let (rows, columns) = matrix.dimensions();
        let (mut found, mut wanted) = (vec![0.0; rows * columns], vec![0.0; rows * columns]);
        matrix.unpack(0..rows, &mut found);
        expected.unpack(0..rows, &mut wanted);
        for (found, wanted) in found.chunks(32).zip(wanted.chunks(32)) {
            let largest = wanted.iter().fold(0.0f32, |most, x| most.max(x.abs()));
            near(found, wanted, part * largest, name);
        }
    }
}

#[test]
fn fewer_bytes_cost_little() {
    let own = tempfile::tempdir().unwrap();
    let source = folder("models/stories260K");
    let text = support::transformer::text(200);
    let exact = perplexity(&Transformer::open(&source).unwrap(), &text);
    let mut sizes = Vec::new();
    let cases = [
        (Format::F32, 1e-6),
        (Format::Bf16, 0.02),
        (Format::F16, 1e-3),
        (Format::Q8_0, 0.02),
        (Format::Q4_0, 0.1),
    ];
    for (format, tolerance) in cases {
        let file = own.path().join(format!("{}.gguf", format.name()));
        let report = converted(&source, &file, Some(format)).unwrap();
        let model = Transformer::open(&file).unwrap();
        let found = perplexity(&model, &text);
        let by = (found / exact).ln().abs();
        assert!(by <= tolerance, "{}: {found}, not {exact}", format.name());
        // Rows of 172 weights are not whole blocks of 32.
        let expected = if format.is_float() { 0 } else { 5 };
        assert_eq!(report.half.len(), expected, "{:?}", report.half);
        assert!(report.half.iter().all(|name| name.contains("ffn_down")));
        check_blocks(&source, &model, format);
        let formats: Vec<Format> = model.weights().stored().map(|(.., m)| m.format()).collect();
        assert!(formats.contains(&format) && formats.contains(&Format::F32));
        sizes.push(report.bytes);
    }
    assert_eq!(sizes[1], sizes[2]);
    assert!(
        sizes[0] > sizes[2] && sizes[2] > sizes[3] && sizes[3] > sizes[4],
        "{sizes:?}"
    );
}

#[test]
fn a_file_becomes_a_file_of_another_format_and_a_folder() {
    let own = tempfile::tempdir().unwrap();
    let out = |name: &str| own.path().join(name);
    let source = folder("tests/golden/gguf/tiny.gguf");
    let expected = Transformer::open(&source).unwrap();
    let prompt = ids(&read_json(&folder("tests/golden/gguf/tiny.json"))["ids"]);
    let messages = [Message::new("user", "the thing")];
    let rendered = |model: &Transformer| model.chat_template().unwrap().render(&messages).unwrap();
    // A copy has the same tensors and metadata.
    converted(&source, &out("copy.gguf"), None).unwrap();
    let half = Some(Format::F32);
    converted(&source, &out("wide.gguf"), half).unwrap();
    converted(&source, &out("folder"), half).unwrap();
    for (name, tolerance) in [("copy.gguf", 0.0), ("wide.gguf", 1e-4), ("folder", 1e-4)] {
        let model = Transformer::open(&out(name)).unwrap();
        near(
            &logits(&model, &prompt),
            &logits(&expected, &prompt),
            tolerance,
            name,
        );
        assert_eq!(rendered(&model), rendered(&expected), "{name}");
        assert_eq!(model.stop_tokens(), expected.stop_tokens(), "{name}");
        let text = "the thing<|im_end|> 12";
        assert_eq!(
            model.encode(text).unwrap(),
            expected.encode(text).unwrap(),
            "{name}"
        );
    }
    // The folder becomes a file with the same way of splitting.
    converted(&out("folder"), &out("again.gguf"), Some(Format::Q8_0)).unwrap();
    let model = Transformer::open(&out("again.gguf")).unwrap();
    assert_eq!(rendered(&model), rendered(&expected));
    assert_eq!(
        model.encode("the thing 12").unwrap(),
        expected.encode("the thing 12").unwrap()
    );
    let error = converted(&source, &out("blocks"), None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("--element f32"), "{error}");
    assert!(!out("blocks").exists());
}

/// Write a Llama of random weights with the tokenizer of a golden folder.
fn with_tokenizer(out: &Path, tokenizer: &Path) -> Transformer {
    for entry in std::fs::read_dir(tokenizer).unwrap() {
        let from = entry.unwrap().path();
        std::fs::copy(&from, out.join(from.file_name().unwrap())).unwrap();
    }
    let size = brillm::text::Tokenizer::open_folder(tokenizer)
        .unwrap()
        .unwrap();
    let config = json!({"model_type": "llama", "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
        "num_attention_heads": 2, "vocab_size": size.vocabulary().len(), "tie_word_embeddings": true});
    let layer = |name: &str| format!("model.layers.0.{name}.weight");
    let mut shapes = serde_json::Map::new();
    shapes.insert(
        "model.embed_tokens.weight".into(),
        json!([size.vocabulary().len(), 8]),
    );
    for name in ["q_proj", "k_proj", "v_proj", "o_proj"] {
        shapes.insert(layer(&format!("self_attn.{name}")), json!([8, 8]));
    }
    for name in ["gate_proj", "up_proj", "down_proj"] {
        shapes.insert(layer(&format!("mlp.{name}")), json!([8, 8]));
    }
    for name in ["input_layernorm", "post_attention_layernorm"] {
        shapes.insert(layer(name), json!([8]));
    }
    shapes.insert("model.norm.weight".into(), json!([8]));
    write_folder(out, &json!({"shapes": shapes, "config": config}));
    Transformer::open(out).unwrap()
}

#[test]
fn tokenizers_are_read_back_with_the_same_ids() {
    let root = folder("tests/golden/tokenizers");
    let lines: Vec<String> = serde_json::from_value(read_json(&root.join("lines.json"))).unwrap();
    let mut named = Vec::new();
    let entries = std::fs::read_dir(&root).unwrap();
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    folders.retain(|path| path.is_dir());
    folders.sort();
    for tokenizer in &folders {
        let name = tokenizer.file_name().unwrap().to_str().unwrap();
        let own = tempfile::tempdir().unwrap();
        let expected = with_tokenizer(own.path(), tokenizer);
        let file = own.path().join("model.gguf");
        let report = converted(own.path(), &file, None).unwrap();
        let model = Transformer::open(&file).unwrap();
        let (found, expected) = (model.tokenizer(), expected.tokenizer());
        for line in &lines {
            let ids = found.encode(line).ok();
            assert_eq!(ids, expected.encode(line).ok(), "{name}: {line:?}");
            if let Some(ids) = ids {
                assert_eq!(
                    found.decode(&ids),
                    expected.decode(&ids),
                    "{name}: {line:?}"
                );
            }
        }
        assert_eq!(found.frame(), expected.frame(), "{name}");
        if !report.tokenizer_json {
            named.push(name);
        }
        if name == "files-bert-uncased" {
            // Under the names that GGUF has for them.
            let bytes = std::fs::read(&file).unwrap();
            for of in ["cls", "seperator", "padding", "mask", "unknown"] {
                let key = format!("tokenizer.ggml.{of}_token_id");
                let found = bytes.windows(key.len()).any(|part| part == key.as_bytes());
                assert!(found, "{key}");
            }
        }
    }
    assert!(folders.len() > 20, "{}", folders.len());
    for name in [
        "byte-level",
        "files-gpt2",
        "files-qwen2",
        "files-bert-uncased",
        "byte-fallback",
    ] {
        assert!(named.contains(&name), "{name} is not among {named:?}");
    }
}

fn refused(result: Result<Converted>, kind: ErrorKind, text: &str) {
    let error: Error = result.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(text), "{error}");
    assert!(error.parts().advice.is_some(), "{error}");
}

#[test]
fn each_tensor_keeps_its_number_format() {
    let own = tempfile::tempdir().unwrap();
    let out = |name: &str| own.path().join(name);
    let source = folder("tests/golden/transformer/capp-gpt2");
    // GPT-2's matrices are stored the other way round in each.
    converted(&source, &out("half.gguf"), Some(Format::F16)).unwrap();
    converted(&out("half.gguf"), &out("half"), None).unwrap();
    let (file, back) = (
        Transformer::open(&out("half.gguf")),
        Transformer::open(&out("half")),
    );
    let formats = |model: &Transformer| -> Vec<(String, Format)> {
        let stored = model.weights().stored();
        stored
            .map(|(name, _, matrix)| (name.to_string(), matrix.format()))
            .collect()
    };
    let found = formats(&back.unwrap());
    assert_eq!(found, formats(&file.unwrap()));
    let matrix = |name: &str| name.contains("c_attn.weight") || name.contains("c_fc.weight");
    let matrices = found.iter().filter(|(name, _)| matrix(name));
    assert!(
        matrices.clone().count() >= 2 && matrices.clone().all(|(_, format)| *format == Format::F16)
    );
    assert!(found.iter().any(|(_, format)| *format == Format::F32));
    assert_eq!(
        read_json(&out("half").join("config.json"))["torch_dtype"],
        "float16"
    );
}

#[test]
fn tensors_of_other_types_are_reported_as_left_out() {
    use safetensors::tensor::{Dtype, SafeTensors, TensorView};
    let own = tempfile::tempdir().unwrap();
    let source = own.path().join("source");
    family(&source, "qwen3", json!({}), &[]);
    let weights = source.join("model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    let stored = SafeTensors::deserialize(&bytes).unwrap();
    let mask = TensorView::new(Dtype::U8, vec![4], &[1, 0, 1, 0]).unwrap();
    let names = ["mask.bool", "extra.weight"];
    let extra = stored.tensor("model.norm.weight").unwrap();
    let more = names.iter().map(|name| name.to_string()).zip([mask, extra]);
    std::fs::write(
        &weights,
        safetensors::serialize(stored.tensors().into_iter().chain(more), None).unwrap(),
    )
    .unwrap();
    // A file has what the model uses; a folder has all tensors that are read.
    let file = own.path().join("model.GGUF");
    let report = converted(&source, &file, None).unwrap();
    assert_eq!(report.left_out, ["extra.weight", "mask.bool"]);
    assert!(file.is_file());
    assert!(Transformer::open(&file).is_ok());
    let report = converted(&source, &own.path().join("copy"), None).unwrap();
    assert_eq!(report.left_out, ["mask.bool"]);
}

#[test]
fn models_that_a_file_cannot_hold_are_refused() {
    let cases = [
        ("olmo2", "architectures of GGUF files: llama"),
        ("gemma2", "the scale of its attention"),
        ("gemma3", "the windows of its attention"),
        ("mixtral", "models of type mixtral"),
        ("roberta", "models of type roberta"),
        ("gpt-neox", "models of type gpt_neox"),
        ("llama-gelu", "its activation"),
        ("llama-dynamic", "its rotary positions"),
        ("qwen2-windows", "the windows of its attention"),
    ];
    for (name, text) in cases {
        let own = tempfile::tempdir().unwrap();
        family(own.path(), name, json!({}), &[]);
        let file = own.path().join("model.gguf");
        let result = converted(own.path(), &file, None);
        refused(result, ErrorKind::Unsupported, text);
        assert!(!file.exists(), "{name}");
        // A folder holds every model.
        let copy = own.path().join("copy");
        let report = converted(own.path(), &copy, Some(Format::Bf16)).unwrap();
        assert!(report.tensors > 10, "{name}");
        assert!(Transformer::open(&copy).is_ok(), "{name}");
    }
    let rope = json!({"rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 16,
        "short_factor": vec![1.5; 8], "long_factor": vec![2.0; 8]});
    let truncate = json!({"rope_type": "yarn", "rope_theta": 10000.0, "original_max_position_embeddings": 4096, "factor": 4.0,
        "truncate": false});
    for (name, rope, text) in [
        (
            "qwen3",
            rope,
            "architecture qwen3 cannot hold its rotary positions",
        ),
        ("qwen3", truncate, "its rotary positions"),
    ] {
        let own = tempfile::tempdir().unwrap();
        family(own.path(), name, json!({"rope_parameters": rope}), &[]);
        let result = converted(own.path(), &own.path().join("model.gguf"), None);
        refused(result, ErrorKind::Unsupported, text);
    }
    let own = tempfile::tempdir().unwrap();
    let bert = folder("tests/golden/transformer/bert-random");
    let result = converted(&bert, &own.path().join("model.gguf"), None);
    refused(
        result,
        ErrorKind::Unsupported,
        "the head that predicts masked tokens",
    );
    let own = tempfile::tempdir().unwrap();
    let config = json!({"hidden_act": "silu", "eos_token_id": [2, 3, 4, 5]});
    family(own.path(), "llama-gelu", config, &[]);
    let file = own.path().join("model.gguf");
    refused(
        converted(own.path(), &file, None),
        ErrorKind::Unsupported,
        "4 tokens end a text",
    );
}

#[test]
fn outputs_that_cannot_be_written_are_refused() {
    let own = tempfile::tempdir().unwrap();
    let out = |name: &str| own.path().join(name);
    let source = folder("models/stories260K");
    let run = |name: &str, element| converted(&source, &out(name), element);
    refused(run("a", Some(Format::Q8_0)), ErrorKind::Unsupported, "Q8_0");
    refused(run("a.safetensors", None), ErrorKind::Input, ".gguf");
    refused(
        run("a.gguf", Some(Format::Q6K)),
        ErrorKind::Unsupported,
        "Q6_K",
    );
    refused(run("absent/a.gguf", None), ErrorKind::Io, "absent");
    std::fs::create_dir(out("full")).unwrap();
    std::fs::write(out("full").join("config.json"), "{}").unwrap();
    refused(run("full", None), ErrorKind::Input, "not empty");
    let graph = folder("models/english.bril");
    let result = converted(&graph, &out("a.gguf"), None);
    refused(result, ErrorKind::Input, "not a GGUF file");
    // A cancelled conversion leaves the file that was there.
    std::fs::write(out("kept.gguf"), "kept").unwrap();
    let cancelled = Conversion::default().run(&source, &out("kept.gguf"), &mut |_, _| {
        Err(Error::new(ErrorKind::Cancelled, "cancelled"))
    });
    assert_eq!(cancelled.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(std::fs::read_to_string(out("kept.gguf")).unwrap(), "kept");
    // So does one to a folder: none stays but one that was there.
    std::fs::create_dir(out("empty")).unwrap();
    for name in ["new", "empty"] {
        let cancelled = Conversion::default().run(&source, &out(name), &mut |_, _| {
            Err(Error::new(ErrorKind::Cancelled, "cancelled"))
        });
        assert_eq!(cancelled.unwrap_err().kind(), ErrorKind::Cancelled);
        assert_eq!(out(name).exists(), name == "empty");
    }
    assert_eq!(std::fs::read_dir(own.path()).unwrap().count(), 3);
}

#[test]
fn the_commands_report_what_they_wrote() {
    use support::{fails, json, path, succeeds};
    let own = tempfile::tempdir().unwrap();
    let out = |name: &str| path(own.path(), name);
    let source = folder("models/stories260K");
    let source = source.to_str().unwrap();
    let (file, small, back) = (out("a.gguf"), out("small.gguf"), out("back"));
    let report = json(&["convert", source, &file, "--json"]);
    assert_eq!(report["tensors"], 47);
    assert_eq!(report["left_out"], json!([]));
    let name = ["--name", "small stories"];
    let quantize = [
        "quantize",
        &file,
        "--element",
        "q8_0",
        "--out",
        &small,
        "--json",
    ];
    let report = json(&[&quantize[..], &name].concat());
    assert_eq!(report["f16"].as_array().unwrap().len(), 5);
    let bytes = |report: &Value, key: &str| report[key].as_u64().unwrap();
    assert!(2 * bytes(&report, "bytes") < bytes(&report, "bytes_before"));
    let line = succeeds(&["convert", &small, &back, "--element", "bf16"]);
    assert!(line.contains("back: 47 tensors"), "{line}");
    let text = json(&[
        "generate",
        "Once upon",
        "--model",
        &back,
        "--tokens",
        "3",
        "--json",
    ]);
    assert_eq!(text["ids"].as_array().unwrap().len(), 3);
    // Each model has its formats.
    let graph = folder("models/english.bril");
    let graph = graph.to_str().unwrap();
    let (bril, other) = (out("a.bril"), out("b.gguf"));
    for (arguments, expected) in [
        (
            ["quantize", graph, "--element", "q8_0", "--out", &bril],
            "pass f32, f16 or i8",
        ),
        (
            ["quantize", graph, "--element", "i8", "--out", &other],
            "end in .bril",
        ),
        (
            ["quantize", "nope", "--element", "q8_0", "--out", &other],
            "check the path",
        ),
        (
            ["quantize", source, "--element", "i8", "--out", &other],
            "pass q8_0",
        ),
        (
            ["quantize", source, "--element", "q4_0", "--out", &bril],
            "end in .gguf",
        ),
        (
            ["convert", source, &other, "--element", "i8", "--json"],
            "pass q8_0",
        ),
    ] {
        let error = fails(&arguments);
        assert!(error.contains(expected), "{error}");
    }
    for command in [
        &["convert", source, &other][..],
        &["quantize", source, "--element", "f16", "--out", &other],
    ] {
        let error = fails(&[command, &["--plugin", "nope"]].concat());
        assert!(error.contains("uses no plugins"), "{error}");
        assert!(!Path::new(&other).exists());
    }
}
