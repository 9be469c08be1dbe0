//! Plugins on the command line; `brillm plugin`.

use super::*;

/// The small graph as a file.
static MODEL: LazyLock<PathBuf> = LazyLock::new(|| {
    let path = kept_folder("plugin").join("small.bril");
    save_small_model(&path, u32::MAX, Tokenizer::ids(NODES).unwrap());
    path
});

fn check(library: &str, more: &[&str]) -> (bool, Vec<(String, String, String)>) {
    let mut arguments = vec!["plugin", "check", library, "--json"];
    arguments.extend(more);
    let output = brillm(&arguments);
    let said: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let cases = said["cases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|case| {
            let text = |key: &str| case[key].as_str().unwrap().to_string();
            (text("case"), text("verdict"), text("detail"))
        })
        .collect();
    assert_eq!(said["passed"] == true, output.status.success());
    (output.status.success(), cases)
}

fn generate(more: &[&str]) -> Output {
    let model = MODEL.display().to_string();
    let mut arguments = vec![
        "generate",
        "--model",
        &model,
        "--prompt-ids",
        "3,4",
        "--tokens",
        "8",
        "--json",
    ];
    arguments.extend(more);
    brillm(&arguments)
}

#[test]
fn listing_loads_no_library() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = json!({"library": "nothing.so", "sha256": "00", "abi": "1.0", "plugins": [
        {"id": "org.example.ghost", "name": "ghost", "version": "1.0.0", "license": "MIT", "about": "Is not there.",
         "hooks": ["edge/1"], "schema": null}]});
    let path = folder.path().join(format!("ghost{}", Manifest::SUFFIX));
    std::fs::write(&path, manifest.to_string()).unwrap();
    std::fs::write(folder.path().join("broken.plugin.json"), "{").unwrap();
    let folder = folder.path().display().to_string();
    let listed = report(&["plugin", "list", "--json", "--plugin-path", &folder]);
    let ids: Vec<&str> = listed["plugins"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|plugin| plugin["id"].as_str())
        .collect();
    // The library of the first does not even exist.
    assert!(
        ids.contains(&"org.example.ghost") && ids.contains(&"org.brillm.recent"),
        "{ids:?}"
    );
    assert_eq!(listed["unreadable"].as_array().unwrap().len(), 1);
    let shown = report(&["plugin", "info", "recent", "--json"]);
    assert_eq!(shown["schema"]["properties"]["sinks"]["default"], 4);
    assert_eq!(shown["hooks"], json!(["kv.keep/1"]));
}

#[test]
fn commands_take_plugins_and_record_them() {
    let parse = |output: Output| -> Value {
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let said = parse(generate(&[
        "--plugin",
        "steer:to=7,bonus=1000",
        "--plugin",
        "watch",
    ]));
    assert_eq!(said["ids"], json!(vec![7; 8]));
    assert_eq!(
        said["plugins"][0]["options"],
        json!({"to": 7, "bonus": 1000})
    );
    assert_eq!(said["plugins"][1]["id"], "org.brillm.test.watch");
    assert_eq!(said["probes"]["org.brillm.test.watch"]["energies"], 8);
    assert!(parse(generate(&[]))["plugins"].is_null());
    let grown = parse(generate(&["--plugin", "outward", "--temperature", "0.8"]));
    assert_eq!(grown["before"], 4);
    let model = MODEL.display().to_string();
    let traced = report(&[
        "trace",
        "--model",
        &model,
        "--prompt-ids",
        "3",
        "--tokens",
        "3",
        "--json",
        "--plugin",
        "steer:to=7,bonus=1000",
    ]);
    let path: Vec<&Value> = traced["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .map(|token| &token["id"])
        .collect();
    assert_eq!(json!(path), json!([3, 7, 7, 7]));
    assert!(
        traced["plugins"][0]["id"]
            .as_str()
            .unwrap()
            .ends_with("steer")
    );
    assert_eq!(traced["steps"][0]["candidates"][0]["probability"], 1.0);
    let beams = parse(generate(&[
        "--beam",
        "2",
        "--plugin",
        "steer:to=7,bonus=1000",
    ]));
    assert_eq!(beams["paths"][0]["ids"], json!(vec![7; 8]));
    let ids = tempfile::NamedTempFile::with_suffix(".u16").unwrap();
    let tokens: Vec<u8> = (0..200u16)
        .flat_map(|place| (place * 5 % 12).to_le_bytes())
        .collect();
    std::fs::write(ids.path(), tokens).unwrap();
    let ids = ids.path().display().to_string();
    let of = |more: &[&str]| {
        let mut all = vec![
            "eval",
            "--model",
            &model,
            "--ids",
            &ids,
            "--windows",
            "21,5",
            "--json",
        ];
        all.extend(more);
        report(&all)
    };
    let (plain, same, other) = (
        of(&[]),
        of(&["--plugin", "decline"]),
        of(&["--plugin", "half"]),
    );
    assert_eq!(plain["perplexity"], same["perplexity"]);
    assert_ne!(plain["perplexity"], other["perplexity"]);
    assert_eq!(other["plugins"][0]["id"], "org.brillm.test.half");
}

#[test]
fn a_run_file_records_plugins_with_checksums() {
    let folder = tempfile::tempdir().unwrap();
    let ids = folder.path().join("text.u16");
    let mut random = Random::new(3);
    let tokens: Vec<u8> = (0..3000)
        .flat_map(|_| (random.below(12) as u16).to_le_bytes())
        .collect();
    std::fs::write(&ids, tokens).unwrap();
    let sum = load(&["recent"]).record()[0]["sha256"]
        .as_str()
        .unwrap()
        .to_string();
    let recipe = |sum: &str| {
        format!(
            "name = \"pinned\"\n[data]\ntrain = [\"text.u16\"]\ntokens = \"ids\"\nvocabulary = 12\n\
             validation-fraction = 0.0\n[profile]\nwidth = 8\n[train]\ntokens = 2000\nbatch = 4\nsteps = 10\nfolds = 0\n\
             [[plugin]]\nname = \"recent\"\nsha256 = \"{sum}\"\noptions = {{ window = 9 }}\n"
        )
    };
    let path = folder.path().join("run.toml");
    let out = folder.path().join("out").display().to_string();
    let run = |text: String| {
        std::fs::write(&path, text).unwrap();
        brillm(&[
            "train",
            &path.display().to_string(),
            "--out",
            &out,
            "--quiet",
            "--json",
        ])
    };
    let refused = run(recipe(&"0".repeat(64)));
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("SHA-256"));
    let output = run(recipe(&sum));
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["plugins"][0]["options"]["window"], 9);
    let kept: Value =
        serde_json::from_slice(&std::fs::read(Path::new(&out).join("run.json")).unwrap()).unwrap();
    assert_eq!(kept["plugin"][0]["sha256"], sum);
    assert_eq!(
        kept["plugin"][0]["options"],
        json!({"sinks": 4, "window": 9, "slack": 0})
    );
}

#[test]
fn correct_plugins_pass_the_check() {
    for library in ["recent", "steer"] {
        let (passed, cases) = check(library, &[]);
        let bad: Vec<_> = cases
            .iter()
            .filter(|case| case.1 != "passed" && case.1 != "warned")
            .collect();
        assert!(passed && bad.is_empty(), "{library}: {bad:?}");
        assert!(cases.len() > 15);
    }
}

#[test]
fn the_check_reports_crashes_and_errors() {
    let folder = tempfile::tempdir().unwrap();
    let verdict = |library: &Path, case: &str| {
        let (passed, cases) = check(&library.display().to_string(), &["--timeout", "5"]);
        assert!(!passed);
        cases
            .into_iter()
            .find(|found| found.0 == case)
            .unwrap_or_else(|| panic!("no case {case}"))
    };
    let overrun = verdict(&fault(1, folder.path()), "edge/1 many");
    assert_eq!(overrun.1, "crashed");
    assert!(overrun.2.contains("beyond its buffer"), "{overrun:?}");
    assert_eq!(verdict(&fault(2, folder.path()), "edge/1 one").1, "crashed");
    let major = verdict(&fault(5, folder.path()), "entry");
    assert!(
        major.1 == "failed" && major.2.contains("version 2.3"),
        "{major:?}"
    );
    let text = folder.path().join("text.so");
    std::fs::write(&text, "not a library").unwrap();
    assert_eq!(verdict(&text, "entry").1, "failed");

    let faulty = Finder::standard([PathBuf::from(&*FOLDER)]);
    let library = faulty
        .manifests()
        .into_iter()
        .flatten()
        .find(|manifest| manifest.library.contains("brillm_test_plugins"))
        .unwrap()
        .library_path()
        .display()
        .to_string();
    // One case each, as the checker would run it.
    let one = |mode: &str, case: &str| {
        let output = brillm(&[
            "plugin",
            "check",
            &library,
            "--json",
            "--in-process",
            case,
            "--id",
            "org.brillm.test.faulty",
            "--option",
            &format!("mode={mode}"),
        ]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success(), said)
    };
    let (_, said) = one("panic", "edge/1 one");
    assert!(
        said.contains("failed") && said.contains("too sharp"),
        "{said}"
    );
    let (_, said) = one("invalid", "edge/1 one");
    assert!(said.contains("invalid answer"), "{said}");
    let (_, said) = one("dice", "edge/1 replay");
    assert!(said.contains("failed"), "{said}");
    let (survived, _) = one("crash", "edge/1 one");
    assert!(!survived);
    let (_, said) = one("none", "edge/1 replay");
    assert!(said.contains("passed"), "{said}");
}

#[test]
fn a_write_beyond_a_buffer_ends_the_run_with_a_message() {
    let folder = tempfile::tempdir().unwrap();
    let library = fault(1, folder.path()).display().to_string();
    let output = generate(&["--plugin", &library]);
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr);
    for part in ["org.brillm.test.fault", "edge/1", "wrote beyond its buffer"] {
        assert!(errors.contains(part), "{errors}");
    }
}

#[test]
fn a_plugin_that_does_not_return_is_named() {
    let model = MODEL.display().to_string();
    let arguments = [
        "generate",
        "--model",
        &model,
        "--prompt-ids",
        "3",
        "--tokens",
        "3",
        "--plugin-timeout",
        "0.5",
    ];
    let mut child = support::brillm(&with_plugins(&arguments, &FOLDER, &["faulty:mode=hang"]))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut errors = child.stderr.take().unwrap();
    let begun = Instant::now();
    let mut said = Vec::new();
    let mut buffer = [0; 512];
    while !String::from_utf8_lossy(&said).contains("has not returned") {
        let read = std::io::Read::read(&mut errors, &mut buffer).unwrap();
        assert!(read > 0, "it ended: {}", String::from_utf8_lossy(&said));
        said.extend(&buffer[..read]);
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let said = String::from_utf8_lossy(&said);
    assert!(
        said.contains("org.brillm.test.faulty: edge/1: step 0"),
        "{said}"
    );
}

#[test]
fn a_new_plugin_builds_and_passes() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let output = support::brillm(arguments)
            .env("CARGO_NET_OFFLINE", "true")
            .env(
                "CARGO_TARGET_DIR",
                Path::new(env!("CARGO_TARGET_TMPDIR")).join("new"),
            )
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{arguments:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    };
    let (here, made) = (
        folder.path().display().to_string(),
        folder.path().join("warm-up"),
    );
    let out = folder.path().join("out").display().to_string();
    run(&["plugin", "new", "warm-up", "--out", &here]);
    // The versions this project is built with are there; newer ones might not be.
    std::fs::copy(root().join("Cargo.lock"), made.join("Cargo.lock")).unwrap();
    run(&[
        "plugin",
        "build",
        &made.display().to_string(),
        "--out",
        &out,
    ]);
    run(&["plugin", "check", "warm-up", "--plugin-path", &out]);
    run(&["plugin", "info", "warm-up", "--plugin-path", &out]);
}
