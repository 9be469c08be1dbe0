//! Model families against the logits of Hugging Face's transformers on random tiny models.
//!
//! `tests/golden/families/make.py` made the files. They have no weights: both sides compute them from their names.
#![cfg(feature = "transformer")]

mod support;

use std::path::{Path, PathBuf};

use brillm::ErrorKind;
use brillm::transformer::{Configuration, LogitsFor, TokenBatch, Transformer};
use serde_json::Value;
use support::transformer::{decode, floats, full_plan, ids, near, network, prefill, write_folder};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/families");

fn golden(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(GOLDEN).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .collect();
    files.sort();
    files
}

/// Compare the rows of logits that a golden file has.
fn compare(golden: &Value, vocabulary: usize, logits: &[f32], what: &str) {
    let rows = golden["logits"].as_object().unwrap();
    for (row, expected) in rows {
        let row: usize = row.parse().unwrap();
        let found = &logits[row * vocabulary..][..vocabulary];
        near(
            found,
            &floats(expected),
            1e-4,
            &format!("{what}, row {row}"),
        );
    }
    assert_eq!(rows.len(), 3);
}

fn check(path: &Path) {
    let golden = golden(path);
    let folder = tempfile::tempdir().unwrap();
    write_folder(folder.path(), &golden);
    let model = Transformer::open(folder.path()).unwrap();
    let (network, tokens) = (network(&model), ids(&golden["ids"]));
    let batch = TokenBatch::new(tokens.clone(), tokens.len());
    let x = network.forward(&batch, None, None).unwrap();
    let logits: Vec<f32> = network
        .logits(&x)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap();
    let vocabulary = network.configuration().vocabulary;
    compare(&golden, vocabulary, &logits, "whole sequence");
    if !network.configuration().causal() {
        return;
    }
    let (_, output) = prefill(network, &full_plan(network), &tokens, LogitsFor::All);
    compare(&golden, vocabulary, &output.logits, "prompt");
    // A dynamic rotation depends on the length when a key is stored: token by token it is another computation.
    if golden["config"]["rope_parameters"]["rope_type"] == "dynamic" {
        return;
    }
    let (mut cache, mut output) =
        prefill(network, &full_plan(network), &tokens[..1], LogitsFor::Last);
    for token in &tokens[1..] {
        output = decode(network, &mut cache, &[&[*token]]);
    }
    let last = floats(&golden["logits"][(tokens.len() - 1).to_string()]);
    near(&output.logits, &last, 1e-4, "token by token");
}

#[test]
fn families_agree_with_hugging_face() {
    let files = files();
    support::cases(&files, |path| check(path));
    assert!(files.len() >= 30, "{} families", files.len());
}

#[test]
fn an_unsupported_architecture_is_refused_with_the_supported_ones() {
    let error = Configuration::parse(br#"{"model_type": "mamba"}"#).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let text = error.to_string();
    for name in [
        "mamba",
        "llama",
        "qwen3",
        "gemma3_text",
        "mixtral",
        "modernbert",
    ] {
        assert!(text.contains(name), "{name}: {text}");
    }
}

#[test]
fn features_that_a_family_does_not_have_here_are_refused() {
    let changes = [
        ("falcon", "alibi", Value::Bool(true)),
        ("opt", "do_layer_norm_before", Value::Bool(false)),
        ("stablelm", "qk_layernorm", Value::Bool(true)),
        ("cohere", "use_qk_norm", Value::Bool(true)),
        ("olmo", "clip_qkv", Value::from(8.0)),
        ("mixtral", "num_experts_per_tok", Value::from(5)),
        ("roberta", "is_decoder", Value::Bool(true)),
    ];
    support::cases(changes, |(name, key, value)| {
        let mut config = golden(&Path::new(GOLDEN).join(format!("{name}.json")))["config"].clone();
        Configuration::from_json(config.clone()).unwrap();
        config[*key] = value.clone();
        let error = Configuration::from_json(config).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{name}: {error}");
    });
}

#[test]
fn models_without_a_language_head_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        (
            "roberta",
            "lm_head.",
            "RobertaForSequenceClassification",
            "ForMaskedLM",
        ),
        ("distilbert", "vocab_", "DistilBertModel", "ForMaskedLM"),
        ("modernbert", "decoder.", "ModernBertModel", "ForMaskedLM"),
        (
            "falcon",
            "lm_head.",
            "FalconForTokenClassification",
            "ForCausalLM",
        ),
        ("gpt-neox", "embed_out.", "GPTNeoXModel", "ForCausalLM"),
    ];
    let mut wrong = Vec::new();
    for (name, head, architecture, advice) in cases {
        let mut golden = golden(&Path::new(GOLDEN).join(name).with_extension("json"));
        golden["config"]["architectures"] = serde_json::json!([architecture]);
        golden["config"]["tie_word_embeddings"] = (advice == "ForMaskedLM").into();
        let tokens = ids(&golden["ids"]);
        let batch = TokenBatch::new(tokens.clone(), tokens.len());
        let rows = |model: &Transformer| -> Vec<f32> {
            let x = network(model).forward(&batch, None, None).unwrap();
            x.flatten_all().unwrap().to_vec1().unwrap()
        };
        write_folder(folder.path(), &golden);
        let whole = rows(&Transformer::open_encoder(folder.path()).unwrap());
        golden["shapes"]
            .as_object_mut()
            .unwrap()
            .retain(|name, _| !name.starts_with(head));
        write_folder(folder.path(), &golden);
        // Its rows are those of the whole model, and it has no logits.
        let encoder = Transformer::open_encoder(folder.path()).unwrap();
        assert_eq!(rows(&encoder), whole, "{name}");
        let x = network(&encoder).forward(&batch, None, None).unwrap();
        let refused = network(&encoder).logits(&x).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
        let error = Transformer::open(folder.path()).unwrap_err();
        let text = error.to_string();
        let named = text.contains(&format!("{architecture} has no language-model head"));
        if error.kind() != ErrorKind::Unsupported || !named || !text.contains(advice) {
            wrong.push(format!("{name}: {text}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn routers_of_experts_are_not_trained() {
    use brillm::text::LabelledText;
    use brillm::transformer::{FineTuner, FineTuning};
    let folder = tempfile::tempdir().unwrap();
    let texts = ["a", "b"].map(|label| LabelledText {
        label: label.into(),
        text: label.into(),
        pair: None,
    });
    for name in ["mixtral", "qwen3-moe"] {
        let golden = golden(&Path::new(GOLDEN).join(name).with_extension("json"));
        write_folder(folder.path(), &golden);
        let tuner = FineTuner::new(folder.path(), &texts, FineTuning::default());
        let error = tuner.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("cannot be trained"), "{error}");
        #[cfg(feature = "cli")]
        {
            let file = |name: &str| support::path(folder.path(), name);
            let tokenizer = support::root().join("models/stories260K/tok512.bin");
            std::fs::copy(tokenizer, file("tok512.bin")).unwrap();
            std::fs::write(file("text.txt"), "a b c d e f g h. ".repeat(50)).unwrap();
            let recipe = format!(
                "name = \"small\"\nkind = \"gpt\"\ninitial = {:?}\n[data]\ntrain = [\"text.txt\"]\nvalidation-fraction = 0\n\
                 vocabulary = 280\n[train]\ntokens = 960\nbatch = 4\nsteps = 12\n",
                folder.path()
            );
            std::fs::write(file("run.toml"), recipe).unwrap();
            let error = support::fails(&["train", &file("run.toml"), "--out", &file("run")]);
            assert!(error.contains("cannot be trained"), "{error}");
        }
    }
}
