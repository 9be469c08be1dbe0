//! Plugins of a server.

use std::path::Path;
use std::process::Command;

use serde_json::json;

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
