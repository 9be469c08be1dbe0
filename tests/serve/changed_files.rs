//! Models, plugins and folders that change or are missing while a server uses them.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::server::{TestServer, model};
use crate::support::cases;

/// A server of copies of both models, in a folder that the test may change.
fn start(folder: tempfile::TempDir) -> (TestServer, PathBuf) {
    let root = folder.path().to_path_buf();
    std::fs::copy(model("english.bril"), root.join("english.bril")).unwrap();
    let network = root.join("stories260K");
    std::fs::create_dir(&network).unwrap();
    for entry in std::fs::read_dir(model("stories260K")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), network.join(entry.file_name())).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_brillm"));
    command
        .args(["serve", "--port", "0", "--library"])
        .arg(root.join("traces"))
        .arg("--model")
        .arg(root.join("english.bril"))
        .arg("--model")
        .arg(&network);
    (TestServer::of(command, folder), root)
}

fn files(root: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root.join("stories260K")).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.push(root.join("english.bril"));
    files
}

fn texts(server: &TestServer) -> Vec<Value> {
    let complete = |model: &str| {
        server.complete(json!({"model": model, "prompt": "One day", "temperature": 0.7, "seed": 4}))
            ["choices"]
            .clone()
    };
    vec![complete("english"), complete("stories260K")]
}

#[test]
fn a_served_model_does_not_change_with_its_files() {
    type Change = fn(&Path);
    let changes: [(&str, Change); 6] = [
        ("truncated", |path| {
            drop(std::fs::File::create(path).unwrap())
        }),
        ("cut", |path| {
            let file = std::fs::File::options().write(true).open(path).unwrap();
            file.set_len(100).unwrap();
        }),
        ("overwritten", |path| {
            let length = path.metadata().unwrap().len() as usize;
            std::fs::write(path, vec![0x5a; length]).unwrap();
        }),
        ("replaced", |path| {
            let other = path.with_extension("new");
            std::fs::write(&other, b"something else").unwrap();
            std::fs::rename(&other, path).unwrap();
        }),
        ("deleted", |path| std::fs::remove_file(path).unwrap()),
        ("made a folder", |path| {
            std::fs::remove_file(path).unwrap();
            std::fs::create_dir(path).unwrap();
        }),
    ];
    cases(changes.iter().map(|change| change.0), |name| {
        let change = changes.iter().find(|change| change.0 == *name).unwrap().1;
        let (server, root) = start(tempfile::tempdir().unwrap());
        let before = texts(&server);
        for file in files(&root) {
            change(&file);
        }
        assert_eq!(texts(&server), before);
        assert_eq!(server.get("/health")["status"], "ok");
    });
}

#[test]
fn sessions_opened_by_other_commands_keep_their_file_too() {
    // Files up to 256 MiB are read whole: the engine itself keeps them.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("english.bril");
    std::fs::copy(model("english.bril"), &path).unwrap();
    let engine = brillm::open(&path).unwrap();
    std::fs::write(&path, b"").unwrap();
    let request = engine.request("Once upon a time").unwrap().tokens(20);
    let (_, ids) = engine.start(request).unwrap().collect_text().unwrap();
    assert_eq!(ids.len(), 20);
}

#[cfg(all(feature = "plugin", target_os = "linux"))]
#[test]
fn a_loaded_plugin_does_not_change_with_its_library() {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("libcounts.so");
    crate::plugins::compile_counts(&library);
    let server = TestServer::start(&["--plugin", library.to_str().unwrap()]);
    let body = json!({"prompt": "Once", "max_tokens": 3, "temperature": 0});
    let before = server.complete(body.clone())["choices"].clone();
    std::fs::write(&library, b"").unwrap();
    assert_eq!(server.complete(body.clone())["choices"], before);
    std::fs::remove_file(&library).unwrap();
    assert_eq!(server.complete(body)["choices"], before);
}

/// Values of `HOME`, `XDG_DATA_HOME` and `XDG_CACHE_HOME` under which nothing can be written.
#[cfg(unix)]
#[test]
fn a_server_without_a_writable_home_has_no_library() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let file = file.to_str().unwrap();
    // Nothing can be created below these, even by root.
    let below = "/proc/self/fdinfo";
    let table: [&[(&str, &str)]; 6] = [
        &[],
        &[("HOME", "")],
        &[("HOME", "relative")],
        &[("HOME", file)],
        &[("HOME", below)],
        &[("HOME", "/tmp"), ("XDG_DATA_HOME", file)],
    ];
    cases(table, |variables| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_brillm"));
        command
            .args(["serve", "--port", "0", "--model"])
            .arg(model("english.bril"));
        for name in ["HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"] {
            command.env_remove(name);
        }
        command.envs(variables.iter().copied());
        let server = TestServer::of(command, tempfile::tempdir().unwrap());
        assert_eq!(server.get("/api/v1/about")["library"], false);
        assert_eq!(server.send("GET", "/api/v1/library", "", "").status, 404);
        server.complete(json!({"prompt": "Once", "max_tokens": 1}));
        let errors = server.kill();
        assert_eq!(
            errors.matches("traces cannot be saved").count(),
            1,
            "{errors}"
        );
        assert!(errors.contains("--library DIR"), "{errors}");
    });
    // A folder that was asked for must exist.
    let refused = Command::new(env!("CARGO_BIN_EXE_brillm"))
        .args([
            "serve",
            "--port",
            "0",
            "--library",
            &format!("{file}/traces"),
            "--model",
        ])
        .arg(model("english.bril"))
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1));
}
