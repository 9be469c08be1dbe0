//! Plugins of a server.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::server::TestServer;
use crate::support::root;

/// Compile the plugin that counts how often its library is entered, and its instances.
pub fn compile_counts(library: &Path) {
    let output = Command::new("cc")
        .args(["-std=c11", "-shared", "-fPIC", "-I"])
        .arg(root().join("plugins"))
        .arg("-o")
        .arg(library)
        .arg(root().join("tests/plugins/c/counts.c"))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
}

/// The counting plugin logs how often its library was entered, its instances and the host tables it has seen.
#[test]
fn a_plugin_is_loaded_once_and_instantiated_for_each_choice() {
    let folder = tempfile::tempdir().unwrap();
    let name = format!("libcounts{}", std::env::consts::DLL_SUFFIX);
    let library = folder.path().join(name);
    compile_counts(&library);
    let server = TestServer::start(&["--plugin", library.to_str().unwrap()]);
    for _request in 0..2 {
        server.complete(json!({"prompt": "Once", "max_tokens": 1, "n": 3}));
    }
    let errors = server.kill();
    let counts = errors.lines().last().unwrap_or_default();
    // One instance checks the plugin when the server starts.
    assert!(
        counts.ends_with(r#"{"entries":1,"instances":7,"hosts":1}"#),
        "{errors}"
    );
}

#[test]
fn an_echoed_prompt_is_scored_once_for_all_its_choices() {
    let folder = tempfile::tempdir().unwrap();
    let name = format!("libcounts{}", std::env::consts::DLL_SUFFIX);
    let library = folder.path().join(name);
    compile_counts(&library);
    let server = TestServer::start(&["--plugin", library.to_str().unwrap()]);
    let body = json!({"prompt": ["Once upon", "One day"], "max_tokens": 1, "n": 3, "echo": true, "logprobs": 2});
    let reply = server.complete(body.clone());
    let choices = reply["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 6);
    for prompt in choices.chunks(3) {
        let scored = |choice: &Value| {
            let values = choice["logprobs"]["token_logprobs"].as_array().unwrap();
            values[..values.len() - 1].to_vec()
        };
        assert!(scored(&prompt[0]).len() > 1, "{reply}");
        assert_eq!(scored(&prompt[0]), scored(&prompt[1]));
        assert_eq!(scored(&prompt[0]), scored(&prompt[2]));
    }
    let mut streamed = body;
    streamed["stream"] = true.into();
    let streamed = server.post("/v1/completions", &streamed).text();
    let mut echoes = vec![String::new(); 6];
    for event in streamed.split("\n\n") {
        let Ok(event) = serde_json::from_str::<Value>(event.trim_start_matches("data: ")) else {
            continue;
        };
        let choice = &event["choices"][0];
        echoes[choice["index"].as_u64().unwrap() as usize] += choice["text"].as_str().unwrap();
    }
    assert!(
        echoes[..3].iter().all(|text| text.starts_with("Once upon")),
        "{echoes:?}"
    );
    assert!(
        echoes[3..].iter().all(|text| text.starts_with("One day")),
        "{echoes:?}"
    );
    let errors = server.kill();
    let counts = errors.lines().last().unwrap_or_default();
    // An instance checks the plugin when the server starts. Each request has one for each prompt and each choice.
    assert!(
        counts.ends_with(r#"{"entries":1,"instances":17,"hosts":1}"#),
        "{errors}"
    );
}
