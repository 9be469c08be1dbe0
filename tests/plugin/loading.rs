//! Loading plugins: options, libraries, manifests.

use super::*;

#[test]
fn a_failing_plugin_is_named() {
    let mechanism = mechanism();
    let cases = [
        ("error", "does not feel like it"),
        ("panic", "the edges are too sharp"),
        ("invalid", "node 0 is NaN"),
    ];
    for (mode, says) in cases {
        let named = format!("faulty:mode={mode},after=4");
        let hooks = load(&[&named]).hooks().clone();
        let error = walk(&mechanism, Sampling::greedy(), &hooks).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Plugin, "{text}");
        for part in ["org.brillm.test.faulty", "edge/1", "step 4", says] {
            assert!(text.contains(part), "{mode}: {text} lacks {part}");
        }
        // Asked again, a poisoned instance is not called any more; the others are.
        let again = walk(&mechanism, Sampling::greedy(), &hooks)
            .unwrap_err()
            .to_string();
        assert_eq!(
            again.contains("not called any more"),
            mode == "panic",
            "{again}"
        );
        // Skipping goes on as if it had no opinion.
        let hooks = load(&[&format!("{named},on-error=skip")]).hooks().clone();
        assert_eq!(
            walk(&mechanism, Sampling::greedy(), &hooks).unwrap(),
            walk(&mechanism, Sampling::greedy(), &Hooks::default()).unwrap(),
            "{mode}"
        );
    }
    for (mode, says) in [
        ("create", "never likes"),
        ("create-panic", "created in anger"),
    ] {
        let selection = Selection::named("faulty").option("mode", mode);
        let error = Plugins::load(&[selection], &finder())
            .unwrap_err()
            .to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn options_are_checked_before_a_plugin_sees_them() {
    for (named, says) in [
        ("recent:window=0", "at least 1"),
        ("recent:widow=3", "no option widow"),
        ("recent:window=wide", "type \"integer\""),
        ("no-such", "no plugin is named"),
        ("recent:sha256=00", "SHA-256"),
    ] {
        let selection: Selection = named.parse().unwrap();
        let error = Plugins::load(&[selection], &finder())
            .unwrap_err()
            .to_string();
        assert!(error.contains(says), "{named}: {error}");
    }
    let plugins = load(&["recent:window=32"]);
    let record = plugins.record();
    assert_eq!(
        record[0]["options"],
        json!({"sinks": 4, "window": 32, "slack": 0})
    );
    assert_eq!(record[0]["sha256"].as_str().unwrap().len(), 64);
    // What a run recorded loads again, checksum and all.
    let again = Plugins::load(&plugins.selections(), &finder()).unwrap();
    assert_eq!(again.record(), record);
    assert_eq!(plugins.selections()[0].on_error, OnError::Stop);
}

#[test]
fn files_that_are_not_plugins_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let load = |path: &Path| {
        let selection = Selection::named(path.display().to_string());
        Plugins::load(&[selection], &finder()).unwrap_err()
    };
    let text = folder.path().join("text.so");
    std::fs::write(&text, "not a library").unwrap();
    let error = load(&text);
    assert_eq!(error.kind(), ErrorKind::Plugin);
    assert!(error.to_string().contains("cannot be loaded"), "{error}");
    for (number, kind, says) in [
        (4, ErrorKind::Plugin, "no function resist"),
        (5, ErrorKind::Version, "version 2.3"),
        (6, ErrorKind::Plugin, "not that of a brillm plugin"),
        (7, ErrorKind::Plugin, "no function brl_plugin_entry"),
    ] {
        let error = load(&fault(number, folder.path()));
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
    let odd = fault(3, folder.path());
    let plugins = Plugins::load(&[Selection::named(odd.display().to_string())], &finder()).unwrap();
    let error = walk(&mechanism(), Sampling::greedy(), plugins.hooks()).unwrap_err();
    assert!(error.to_string().contains("unknown status 77"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn damaged_libraries_are_refused_before_they_are_mapped() {
    let folder = tempfile::tempdir().unwrap();
    let load = |path: &Path| {
        let selection = Selection::named(path.display().to_string());
        Plugins::load(&[selection], &finder())
            .map(drop)
            .map_err(|error| error.to_string())
    };
    let library = compile("counts.c", "counts", 0, folder.path());
    let whole = std::fs::read(&library).unwrap();
    let damaged = folder.path().join("damaged.so");
    let mut lengths: Vec<usize> = (0..64).map(|part| whole.len() / 64 * part).collect();
    lengths.extend([1, 5, 20, 63, 65, 100, whole.len() - 1]);
    for length in lengths {
        std::fs::write(&damaged, &whole[..length]).unwrap();
        let error = load(&damaged).unwrap_err();
        assert!(
            error.contains("cannot be loaded"),
            "{length} bytes: {error}"
        );
    }
    // The machine, and the entry's name in the table of strings.
    let name = b"brl_plugin_entry";
    let at = whole.windows(name.len()).position(|bytes| bytes == name);
    let mut machine = whole.clone();
    machine[18] ^= 0xff;
    let mut nameless = whole.clone();
    for at in 0..whole.len() - name.len() {
        if &whole[at..at + name.len()] == name {
            nameless[at] = b'x';
        }
    }
    assert!(at.is_some());
    for (bytes, expected) in [
        (machine, "another kind of machine"),
        (nameless, "no function brl_plugin_entry"),
    ] {
        std::fs::write(&damaged, bytes).unwrap();
        let error = load(&damaged).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    std::fs::remove_file(&damaged).unwrap();
    std::fs::create_dir(&damaged).unwrap();
    let error = load(&damaged).unwrap_err();
    assert!(error.contains("folder"), "{error}");
    load(&library).unwrap();
}

#[test]
fn a_library_is_loaded_once_for_all_runs() {
    let folder = tempfile::tempdir().unwrap();
    let library = compile("counts.c", "counts", 0, folder.path());
    let selection = Selection::named(library.display().to_string());
    let loader = Loader::new(finder());
    let mut runs = Vec::new();
    for _request in 0..3 {
        let loaded = loader.load(std::slice::from_ref(&selection)).unwrap();
        for _choice in 0..2 {
            runs.push(loaded.instantiate().unwrap());
        }
    }
    let reports = runs[0].reports(&Call::new(0, 0, 0)).unwrap();
    assert_eq!(
        reports["org.brillm.test.counts"],
        json!({"entries": 1, "instances": 6, "hosts": 1})
    );
    // The checksum of the loaded file counts, not that of a file written over it since.
    let wrong = Selection {
        sha256: Some("00".into()),
        ..selection
    };
    let error = loader.load(&[wrong]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Checksum, "{error}");
}

#[test]
fn a_manifest_that_does_not_match_its_library_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let built = build(&root().join("plugins/recent"), folder.path(), false).unwrap();
    let load = || {
        let selection = Selection::named(built.library.display().to_string());
        Plugins::load(&[selection], &finder())
    };
    assert!(load().is_ok());
    let honest: Value = serde_json::from_slice(&std::fs::read(&built.manifest).unwrap()).unwrap();
    let lie = |change: &dyn Fn(&mut Value)| {
        let mut changed = honest.clone();
        change(&mut changed);
        std::fs::write(&built.manifest, changed.to_string()).unwrap();
        load().unwrap_err()
    };
    for (error, says) in [
        (
            lie(&|manifest| manifest["plugins"][0]["hooks"] = json!(["edge/1"])),
            "hooks is",
        ),
        (
            lie(&|manifest| manifest["plugins"][0]["id"] = json!("org.other")),
            "names org.other",
        ),
        (
            lie(&|manifest| manifest["plugins"][0]["version"] = json!("9.9.9")),
            "9.9.9",
        ),
        (
            lie(&|manifest| manifest["abi"] = json!("1.7")),
            "interface 1.7",
        ),
        (
            lie(&|manifest| manifest["sha256"] = json!("00")),
            "manifest lists 00",
        ),
        (
            lie(&|manifest| manifest["more"] = json!(1)),
            "not a plugin's manifest",
        ),
    ] {
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn fans_of_every_size_are_returned_completely() {
    let hooks = load(&["half"]).hooks().clone();
    let call = Call::new(0, 0, 0);
    for size in [1, 7, 4000] {
        let energies = vec![1.0; size];
        let mut resistance: Vec<f32> = (0..size).map(|place| place as f32).collect();
        let fan = Fan {
            source: 0,
            energies: &energies,
            targets: &[],
            counts: &[],
        };
        assert_eq!(
            hooks.edge[0].resist(&call, &fan, &mut resistance).unwrap(),
            Answer::Given
        );
        assert!(
            resistance
                .iter()
                .enumerate()
                .all(|(place, &value)| value == 0.5 * place as f32)
        );
    }
}
