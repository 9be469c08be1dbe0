//! `brillm train` on a text without a run file, `brillm init`, and runs that are extended.
#![cfg(feature = "cli")]

use std::fs;
use std::path::Path;
use std::process::Output;

use brillm::learn::{CorpusSize, Recipe};

mod support;
use support::*;

/// Run the program in a folder.
fn run_in(folder: &Path, arguments: &[&str]) -> Output {
    brillm(arguments).current_dir(folder).output().unwrap()
}

fn succeeds_in(folder: &Path, arguments: &[&str]) -> String {
    stdout_of(&run_in(folder, arguments), &format!("{arguments:?}"))
}

fn fails_in(folder: &Path, arguments: &[&str]) -> String {
    error_of(&run_in(folder, arguments), &format!("{arguments:?}"))
}

#[test]
fn a_text_is_trained_with_settings_that_are_written_as_a_run_file() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("my story.txt"), sentences(1, 250)).unwrap();
    let output = run_in(at, &["train", "my story.txt", "--set", "train.tokens=8192"]);
    let (said, plan) = (stdout_of(&output, "train"), text_of(&output.stderr));
    for part in [
        "vocabulary 3",
        "width 32",
        "validation:",
        "runs/my-story/run.toml",
    ] {
        assert!(plan.contains(part), "{part}: {plan}");
    }
    assert!(said.contains("validation perplexity"), "{said}");
    assert!(
        said.contains("brillm generate '") && said.contains("--model runs/my-story/model.bril"),
        "{said}"
    );
    let text = succeeds_in(
        at,
        &[
            "generate",
            "the cat",
            "--model",
            "runs/my-story/model.bril",
            "--tokens",
            "5",
        ],
    );
    assert!(text.starts_with("the cat"), "{text}");
    let run_file = fs::read_to_string(at.join("runs/my-story/run.toml")).unwrap();
    assert!(
        run_file.contains("\"../../my story.txt\"") && run_file.contains("# number of tokens"),
        "{run_file}"
    );
    // The run file repeats the run in a new folder, and gives the same model.
    let said = succeeds_in(at, &["train", "runs/my-story/run.toml", "--quiet"]);
    assert!(said.contains("runs/my-story-2/model.bril"), "{said}");
    let model = |name: &str| fs::read(at.join("runs").join(name).join("model.bril")).unwrap();
    assert!(
        model("my-story") == model("my-story-2"),
        "the models differ"
    );
    // So does the text, with changes that become part of the run file.
    let set = [
        "train",
        "my story.txt",
        "--quiet",
        "--set",
        "train.tokens=2000",
    ];
    assert!(succeeds_in(at, &set).contains("runs/my-story-3/"));
    let run_file = Recipe::open(&at.join("runs/my-story-3/run.toml"), &[]).unwrap();
    assert_eq!(run_file.train.tokens, 2000);
    // A finished run is extended by the text too.
    let more = [
        "train",
        "my story.txt",
        "--quiet",
        "--resume",
        "--set",
        "train.tokens=12288",
    ];
    assert!(succeeds_in(at, &more).contains("runs/my-story/"));
}

#[test]
fn a_default_recipe_takes_changes_of_every_form() {
    let size = CorpusSize {
        bytes: 400_000,
        files: 1,
        ..CorpusSize::default()
    };
    let table: [(&[&str], &str); 7] = [
        (&[], "layered"),
        (&["profile.layers=3", "profile.inner=8"], "layered"),
        (&["train.carry=false", "train.dropout-node=0.1"], "layered"),
        (
            &["profile.preset=layered", "train.dropout-memory=0.2"],
            "layered",
        ),
        (&["profile.preset=sifu", "graph.order=3"], "sifu"),
        (&["profile.preset=reference"], "reference"),
        (&["kind=gpt", "network.layers=2"], ""),
    ];
    cases(table, |(changes, preset)| {
        let changes: Vec<String> = changes.iter().map(|change| change.to_string()).collect();
        let given = Recipe::of_changes(&changes).unwrap();
        let recipe = Recipe::for_text("a", vec!["a.txt".into()], &size, &given).unwrap();
        let recipe = Recipe::parse(&recipe.to_run_file("").unwrap(), &changes).unwrap();
        let found = recipe.profile.get("preset").and_then(toml::Value::as_str);
        assert_eq!(found.unwrap_or_default(), *preset);
    });
    // A mistake is reported before the text is read.
    let mistake = Recipe::of_changes(&["profile.preset=sifu".into(), "profile.layers=2".into()]);
    assert!(
        mistake
            .unwrap_err()
            .to_string()
            .contains("layered edges only")
    );
}

#[test]
fn folders_globs_and_several_files_are_trained() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::create_dir(at.join("texts")).unwrap();
    for (name, seed) in [("a.txt", 1), ("b.txt", 2), (".DS_Store", 3)] {
        fs::write(at.join("texts").join(name), sentences(seed, 120)).unwrap();
    }
    for (arguments, name) in [
        (vec!["texts"], "texts"),
        (vec!["texts/*.txt"], "texts"),
        (vec!["texts/a.txt", "texts/b.txt"], "texts"),
        (vec!["."], at.file_name().unwrap().to_str().unwrap()),
    ] {
        let mut all = vec!["train"];
        all.extend(&arguments);
        all.extend(["--set", "train.tokens=1024", "--json"]);
        let output = run_in(at, &all);
        let report: serde_json::Value = serde_json::from_str(&stdout_of(&output, "train")).unwrap();
        let model = report["model"].as_str().unwrap();
        let start = format!("runs/{}", name.trim_matches('.'));
        assert!(model.starts_with(&start), "{arguments:?}: {model}");
        if arguments == ["texts"] {
            assert_eq!(report["skipped_files"], 1);
            assert!(
                text_of(&output.stderr).contains("1 hidden file skipped"),
                "{output:?}"
            );
        }
        fs::remove_dir_all(at.join("runs")).unwrap();
    }
}

#[test]
fn texts_and_run_files_are_told_apart() {
    let folder = recipe_folder();
    let at = folder.path();
    fs::write(at.join("prose.toml"), "It was a dark night.\nThe end.\n").unwrap();
    fs::write(at.join("run.txt"), RECIPE).unwrap();
    fs::write(
        at.join("marked.toml"),
        format!("\u{feff}{}", RECIPE.replace('\n', "\r\n")),
    )
    .unwrap();
    for (arguments, expected) in [
        (
            &["train", "prose.toml"][..],
            &["prose.toml", "line 1", "rename it to .txt"][..],
        ),
        (
            &["train", "run.toml", "text.txt"],
            &["run.toml", "together with other sources"],
        ),
        (
            &["train", "text.txt", "--data", "."],
            &["--data applies to a run file"],
        ),
        (
            &["train", "missing.txt"],
            &["missing.txt", "check the path"],
        ),
        (&["train", "*.none"], &["*.none", "no file matches"]),
    ] {
        let error = fails_in(at, arguments);
        for part in expected {
            assert!(error.contains(part), "{arguments:?}: {error}");
        }
    }
    assert!(!at.join("runs").exists(), "a mistake leaves no folder");
    // A run file is recognised without its extension, and with a byte-order mark.
    for (file, out) in [("run.txt", "a"), ("marked.toml", "b")] {
        let said = succeeds_in(
            at,
            &[
                "train",
                file,
                "--out",
                out,
                "--quiet",
                "--set",
                "train.tokens=640",
            ],
        );
        assert!(said.contains("model.bril"), "{said}");
    }
    for (arguments, expected) in [
        (["train", "a"], "is a run"),
        (["train", "a/run.json"], "record of a run"),
        (["train", "a/model.bril"], ".bril model"),
    ] {
        let error = fails_in(at, &arguments);
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
    // A text that is too short, or a start that failed, leaves nothing that blocks the next.
    fs::write(at.join("short.txt"), "A few words.").unwrap();
    assert!(fails_in(at, &["train", "short.txt"]).contains("too few"));
    let wrong = RECIPE.replace("text.txt", "absent.txt");
    fs::write(at.join("run.toml"), wrong).unwrap();
    assert!(fails_in(at, &["train", "run.toml", "--out", "c", "--quiet"]).contains("absent.txt"));
    fs::write(at.join("run.toml"), RECIPE).unwrap();
    fs::write(at.join("text.txt"), "a b c").unwrap();
    let short = fails_in(at, &["train", "run.toml", "--out", "c", "--quiet"]);
    assert!(short.contains("too few for sequences"), "{short}");
    fs::write(at.join("text.txt"), sentences(1, 600)).unwrap();
    succeeds_in(
        at,
        &[
            "train",
            "run.toml",
            "--out",
            "c",
            "--quiet",
            "--set",
            "train.tokens=640",
        ],
    );
}

#[test]
fn a_run_file_with_every_key_is_written_once() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    assert!(succeeds_in(at, &["init"]).contains("brillm train run.toml"));
    let written = fs::read_to_string(at.join("run.toml")).unwrap();
    for part in [
        "vocabulary = 4000",
        "rate = 0.008",
        "# highest learning rate",
        "# tokenizer = ",
    ] {
        assert!(written.contains(part), "{part}: {written}");
    }
    fs::write(at.join("run.toml"), "mine").unwrap();
    let error = fails_in(at, &["init", "run.toml"]);
    assert!(
        error.contains("run.toml") && error.contains("--force"),
        "{error}"
    );
    assert_eq!(fs::read_to_string(at.join("run.toml")).unwrap(), "mine");
    succeeds_in(at, &["init", "run.toml", "--force"]);
    assert_eq!(fs::read_to_string(at.join("run.toml")).unwrap(), written);
    // It trains once its text is there.
    fs::write(at.join("my.txt"), sentences(1, 300)).unwrap();
    let small = [
        "train.tokens=4096",
        "profile.width=8",
        "data.validation-fraction=0.1",
    ];
    let mut arguments = vec!["train", "run.toml", "--quiet"];
    arguments.extend(small.iter().flat_map(|change| ["--set", change]));
    succeeds_in(at, &arguments);
}

#[test]
fn a_finished_run_can_be_extended_and_a_refused_key_is_named() {
    let folder = recipe_folder();
    let at = folder.path();
    let start = ["train", "run.toml", "--out", "run", "--json", "--quiet"];
    let with = |more: &[&'static str]| -> Vec<&'static str> { [&start[..], more].concat() };
    let report = |output: &Output| -> serde_json::Value {
        serde_json::from_str(&stdout_of(output, "train")).unwrap()
    };
    let first = report(&run_in(at, &start));
    assert_eq!(first["steps"], 500);
    let output = run_in(
        at,
        &with(&[
            "--resume",
            "--set",
            "train.tokens=32000",
            "--set",
            "train.validate-every=50",
        ]),
    );
    assert_eq!(report(&output)["steps"], 1000);
    let warning = text_of(&output.stderr);
    assert!(
        warning.contains("1000 steps long (was 500)") && warning.contains("learning rate"),
        "{warning}"
    );
    let log = fs::read_to_string(at.join("run/log.jsonl")).unwrap();
    assert!(
        log.lines().any(|line| line.contains("\"step\":950")),
        "no validation every 50 steps"
    );
    // The settings it goes on with are its own now.
    let same = run_in(
        at,
        &with(&[
            "--resume",
            "--set",
            "train.tokens=32000",
            "--set",
            "train.validate-every=50",
        ]),
    );
    assert_eq!(report(&same)["steps"], 1000);
    for (changes, expected) in [
        (&["--set", "profile.width=16"][..], "profile.width differs"),
        (
            &["--set", "train.batch=8", "--set", "data.vocabulary=400"],
            "data.vocabulary, train.batch differ",
        ),
        (&["--set", "train.rate=0.5"], "train.rate differs"),
        (&["--set", "seed=9"], "seed differs"),
        (
            &["--set", "train.tokens=16000"],
            "less than the 32000 tokens",
        ),
    ] {
        let mut arguments = with(&["--resume"]);
        arguments.extend(changes);
        let record = fs::read(at.join("run/run.json")).unwrap();
        let error = fails_in(at, &arguments);
        assert!(error.contains(expected), "{changes:?}: {error}");
        let kept = fs::read(at.join("run/run.json")).unwrap();
        assert_eq!(kept, record, "{changes:?} changed the record of the run");
    }
}

#[test]
fn an_existing_run_file_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("my.txt"), sentences(1, 250)).unwrap();
    succeeds_in(at, &["init", "run.toml"]);
    let own = fs::read(at.join("run.toml")).unwrap();
    let error = fails_in(at, &["train", "my.txt", "--out", "."]);
    assert!(error.contains("another run file"), "{error}");
    assert_eq!(fs::read(at.join("run.toml")).unwrap(), own);
}

#[test]
#[cfg(unix)]
fn sources_are_found_from_a_linked_run_folder() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let project = at.join("project");
    fs::create_dir_all(at.join("disk/deep/runs")).unwrap();
    fs::create_dir(&project).unwrap();
    std::os::unix::fs::symlink("../disk/deep/runs", project.join("runs")).unwrap();
    fs::write(project.join("book [1].txt"), sentences(1, 250)).unwrap();
    let short = ["--set", "train.tokens=2048"];
    succeeds_in(&project, &[&["train", "book [1].txt"], &short[..]].concat());
    assert!(project.join("runs/book--1/model.bril").exists());
    let outside = ["train", "book [1].txt", "--out", "../out"];
    succeeds_in(&project, &[&outside, &short[..]].concat());
    assert!(at.join("out/model.bril").exists());
}

#[test]
fn a_checksum_of_no_source_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("my.txt"), sentences(1, 250)).unwrap();
    let run = "[data]\ntrain = [\"my.txt\"]\n[data.sha256]\n\"other.txt\" = \"00\"\n";
    fs::write(at.join("run.toml"), format!("name = \"m\"\n{run}")).unwrap();
    let error = fails_in(at, &["train", "run.toml"]);
    assert!(error.contains("\"other.txt\""), "{error}");
}

#[test]
fn a_recipe_is_written_as_a_run_file_and_read_again() {
    let table: [&[&str]; 4] = [
        &[],
        &[
            "data.lossy=true",
            "data.field=story",
            "train.edge-rate=0.5",
            "graph.maximum-fan=9",
        ],
        &[
            "profile.banks=3",
            "profile.blend=decay",
            "data.sha256.a=00",
            "about=a \"b\"\\c",
        ],
        &[
            "kind=gpt",
            "network.layers=3",
            "initial=x.bril",
            "plugin=[{name=\"a\", options={b=1}}]",
        ],
    ];
    cases(table, |changes| {
        let changes: Vec<String> = changes.iter().map(|change| change.to_string()).collect();
        let text = "name = \"a\"\n[data]\ntrain = [\"it's.txt\", \"b*\"]\n";
        let recipe = Recipe::parse(text, &changes).unwrap();
        let written = recipe.to_run_file("Heading").unwrap();
        let read =
            Recipe::parse(&written, &[]).unwrap_or_else(|error| panic!("{error}: {written}"));
        assert_eq!(read, recipe, "{written}");
    });
}

#[test]
fn every_key_of_the_template_exists_and_has_the_value_of_a_new_recipe() {
    let template = Recipe::template();
    let least = "name = \"my-model\"\n[data]\ntrain = [\"my.txt\"]\n[graph]\norder = 5\nprune = 0.25\n\
        [profile]\npreset = \"layered\"\n[train]\ncarry = true\naverage = 0.998\ndropout-memory = 0.1\n";
    let default = Recipe::parse(least, &[]).unwrap();
    assert_eq!(Recipe::parse(&template, &[]).unwrap(), default);
    // Examples are comments of the form `# key = value  # meaning`.
    let mut section = String::new();
    let mut examples = Vec::new();
    for line in template.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.replace(']', ".");
        } else if let Some((key, value)) = line
            .strip_prefix("# ")
            .and_then(|line| line.split_once(" = "))
        {
            let value = value.split("  #").next().unwrap();
            examples.push(format!("{section}{key}={value}"));
        } else if !line.starts_with('#') && !line.is_empty() {
            assert!(line.contains("  # "), "{line} has no meaning");
        }
    }
    assert!(examples.len() >= 7, "{examples:?}");
    cases(examples, |example| {
        // Only a graph has a profile.
        let text = if example.starts_with("kind") {
            least.split("[profile]").next().unwrap()
        } else {
            &template
        };
        let changed = Recipe::parse(text, std::slice::from_ref(example)).unwrap();
        assert!(
            changed != default || example.starts_with("profile."),
            "{example} changes nothing"
        );
    });
}

#[test]
fn a_plain_resume_continues_with_the_settings_of_the_last() {
    let folder = recipe_folder();
    let at = folder.path();
    fs::write(at.join("my.txt"), sentences(1, 250)).unwrap();
    // A run file, and a text whose run file the program writes.
    for (name, source) in [("run", "run.toml"), ("text", "my.txt")] {
        let steps = |more: &[&str]| {
            let start = ["train", source, "--out", name, "--json", "--quiet"];
            let output = run_in(at, &[&start[..], more].concat());
            let report: serde_json::Value =
                serde_json::from_str(&stdout_of(&output, "train")).unwrap();
            report["steps"].as_u64().unwrap()
        };
        let first = steps(&["--set", "train.tokens=4096"]);
        assert_eq!(steps(&["--resume"]), first, "{name}");
        let more = steps(&["--resume", "--set", "train.tokens=8192"]);
        assert_eq!(more, 2 * first, "{name}");
        assert_eq!(steps(&["--resume"]), more, "{name}");
        // An edited run file is right again.
        let file = if name == "run" {
            "run.toml"
        } else {
            "text/run.toml"
        };
        let text = fs::read_to_string(at.join(file)).unwrap();
        let is_length = |line: &&str| {
            let length = line.strip_prefix("tokens = ");
            length.is_some_and(|length| length.starts_with(|one: char| one.is_ascii_digit()))
        };
        let line = text.lines().find(is_length).unwrap();
        fs::write(at.join(file), text.replacen(line, "tokens = 12288", 1)).unwrap();
        assert_eq!(steps(&["--resume"]), 3 * first, "{name}");
    }
}

#[test]
fn paths_on_the_command_line_are_relative_to_the_current_folder() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for (name, seed, count) in [("my.txt", 1, 250), ("other one.txt", 2, 100)] {
        fs::write(at.join(name), sentences(seed, count)).unwrap();
    }
    fs::write(at.join("map.txt"), "a\te\n").unwrap();
    let start = ["train", "my.txt", "--quiet", "--set", "train.tokens=1024"];
    let with = |more: &[&'static str]| [&start[..], more].concat();
    succeeds_in(at, &with(&["--out", "first"]));
    let tokenizer = root().join("models/stories-8x1024/tokenizer.json");
    fs::copy(tokenizer, at.join("tokenizer.json")).unwrap();
    // A file that is missing is named as on the command line, and no run file is left behind.
    let error = fails_in(at, &with(&["--set", "data.validation=none.txt"]));
    assert!(
        error.starts_with("brillm: none.txt: no such file"),
        "{error}"
    );
    assert!(!at.join("runs").exists());
    let absolute = format!("data.validation=[{:?}]", at.join("other one.txt"));
    let changes: [&[&str]; 8] = [
        &["data.validation=other one.txt"],
        &["data.validation=[\"other one.txt\"]"],
        &["data={train=[\"my.txt\"], validation=[\"./other one.txt\"]}"],
        &["data.train=[\"my.txt\", \"other*.txt\"]"],
        &["data.simplify=map.txt"],
        &["data.tokenizer=tokenizer.json"],
        &["initial=first/model.bril", "data.vocabulary=300"],
        &[&absolute],
    ];
    cases(changes.iter().enumerate(), |(index, changes)| {
        let out = format!("out/run {index}");
        let mut arguments = with(&[]);
        arguments.extend(["--out", &out]);
        for change in **changes {
            arguments.extend(["--set", change]);
        }
        succeeds_in(at, &arguments);
        // The same command continues the run.
        arguments.push("--resume");
        succeeds_in(at, &arguments);
    });
}

#[test]
fn printed_commands_are_quoted_for_a_shell() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::create_dir(at.join("it's here")).unwrap();
    fs::write(at.join("my.txt"), sentences(1, 250)).unwrap();
    let said = succeeds_in(at, &["init", "it's here/a $b.toml"]);
    assert!(
        said.contains(r"brillm train 'it'\''s here/a $b.toml'"),
        "{said}"
    );
    let out = [
        "train",
        "my.txt",
        "--out",
        "it's here/run",
        "--set",
        "train.tokens=1024",
    ];
    let said = succeeds_in(at, &out);
    let model = r"--model 'it'\''s here/run/model.bril'";
    assert_eq!(said.matches(model).count(), 2, "{said}");
    let run_file = fs::read_to_string(at.join("it's here/run/run.toml")).unwrap();
    assert!(
        run_file.contains(r"brillm train 'it'\''s here/run/run.toml'"),
        "{run_file}"
    );
    // The folder of a run does not open as a model, so the model inside it is opened.
    let error = fails_in(at, &["generate", "a", "--model", "it's here/run"]);
    assert!(
        error.contains("the model of this run is it's here/run/model.bril"),
        "{error}"
    );
    let error = fails_in(at, &["train", "it's here/run"]);
    assert!(
        error.contains(r"brillm train 'it'\''s here/run/run.toml' --resume"),
        "{error}"
    );
}
