//! Plugins that sample, answer questions and mask training tokens.

use super::*;

/// A small corpus and a recipe that trains a bert on it, in a folder of their own.
fn masked_training(tags: &str) -> PathBuf {
    let folder = place("masks");
    std::fs::create_dir_all(&folder).unwrap();
    let words = ["sun", "moon", "star", "sky", "sea", "stone", "tree", "leaf"];
    let (mut text, mut state, mut at) = (String::new(), 7u32, 0);
    for _ in 0..6000 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        at = (at + if state >> 28 == 0 { 3 } else { 1 }) % words.len();
        text.push_str(words[at]);
        text.push(if state >> 27 == 5 { '\n' } else { ' ' });
    }
    std::fs::write(folder.join("text.txt"), text).unwrap();
    let recipe = format!(
        "name = \"masks\"\nkind = \"bert\"\n[data]\ntrain = [\"text.txt\"]\nvalidation-fraction = 0.4\ntokens = \"bpe\"\n\
         vocabulary = 280\n[network]\nwidth = 16\nlayers = 2\nheads = 2\n{tags}\n[train]\nbatch = 4\nsteps = 12\n\
         tokens = 1440\nrate = 5e-3\nwarmup = 5\nvalidate-every = 10\ncheckpoint-every = 10\n"
    );
    let path = folder.join(format!("recipe-{}.toml", tags.len()));
    std::fs::write(&path, recipe).unwrap();
    path
}

#[test]
fn a_head_is_trained_and_used_on_both_paths() {
    let of = |name: &str| place(name).display().to_string();
    let heads = [of("transformer.json"), of("graph.json")];
    for (model, head) in [TRANSFORMER, GRAPH].into_iter().zip(&heads) {
        let report = asked(model, &format!("learn=true,held-out=0.3,head={head}"));
        let learned = &report["learned"];
        assert_eq!(number(learned, "train") + number(learned, "held_out"), 84.0);
        for key in [
            "auroc",
            "auroc_shuffled_labels",
            "auroc_first_words",
            "auroc_entropy",
        ] {
            assert!(
                (0.0..=1.0).contains(&number(learned, key)),
                "{key}: {learned}"
            );
        }
        let losses = numbers(learned, "losses");
        assert!(losses[9] < losses[0], "{losses:?}");
        assert!(number(&report["labels"]["closed"], "log_kurtosis") > 0.0);
        let report = asked(model, &format!("head={head}"));
        let temperature = number(&report["all"], "temperature");
        assert!(temperature > 0.2 && temperature < 1.2, "{report}");
        // It has seen most of these.
        assert!(number(&report, "auroc") > 0.6, "{report}");
    }
    let error = failure(
        &["generate", "Why?", "--model", GRAPH, "--tokens", "2"],
        &[&format!("quats:head={}", heads[0])],
    );
    assert!(error.contains("train it on this model"), "{error}");
}

#[test]
fn controls_of_question_awareness() {
    let oracle = asked(TRANSFORMER, "judge=oracle");
    close(
        number(&oracle["labels"]["closed"], "temperature"),
        0.2,
        1e-6,
    );
    close(number(&oracle["labels"]["open"], "temperature"), 1.2, 1e-6);
    assert_eq!(number(&oracle, "auroc"), 1.0);
    let random = asked(TRANSFORMER, "judge=random");
    close(number(&random, "auroc"), 0.5, 0.25);
    let fixed = asked(TRANSFORMER, "mode=fixed,temperature=0.6");
    close(number(&fixed["all"], "temperature"), 0.6, 1e-6);
    let edt = asked(TRANSFORMER, "mode=edt,temperature=0.6");
    assert!(number(&edt["all"], "temperature") < 0.6);
}

#[test]
fn answers_are_predicted_at_the_temperature_that_is_set() {
    let file = place("answers.jsonl");
    let records = [
        ("What did Tom see?", "Tom saw a big red ball.", "closed"),
        ("What happened then?", "They went home and played.", "open"),
        ("Who was happy?", "Lily was happy.", "closed"),
    ];
    let lines: String = records
        .iter()
        .map(|(prompt, answer, label)| {
            let record = serde_json::json!({"prompt": prompt, "answer": answer, "label": label});
            format!("{record}\n")
        })
        .collect();
    std::fs::write(&file, lines).unwrap();
    let file = file.display().to_string();
    for model in [TRANSFORMER, GRAPH] {
        let answers = |plugins: &[&str]| {
            let arguments = ["probe", &file, "--model", model, "--quiet", "--json"];
            report(&arguments, plugins)["answers"].clone()
        };
        let plain = answers(&[]);
        let tokens = |label: &str| number(&plain[label], "tokens");
        assert_eq!(tokens("all"), tokens("closed") + tokens("open"));
        let one = answers(&["quats:mode=fixed,temperature=1"]);
        let half = answers(&["quats:mode=fixed,temperature=0.5"]);
        close(
            number(&plain["all"], "perplexity"),
            number(&one["all"], "perplexity"),
            1e-4,
        );
        assert_ne!(
            number(&one["all"], "perplexity"),
            number(&half["all"], "perplexity")
        );
        // Each label at its own temperature: the closed ones change, the open ones stay.
        let file = format!("quats:judge=oracle,low=0.5,high=1,questions={file}");
        let oracle = answers(&[&file]);
        for (label, same) in [("closed", &half), ("open", &one)] {
            let (found, wanted) = (
                number(&oracle[label], "perplexity"),
                number(&same[label], "perplexity"),
            );
            close(found, wanted, 1e-3 * wanted);
        }
    }
}

#[test]
fn samplers_choose_by_their_options() {
    for model in [TRANSFORMER, GRAPH] {
        let generate = |temperature: &str, plugin: Option<&str>| {
            let arguments = [
                "generate",
                "The sun",
                "--model",
                model,
                "--tokens",
                "12",
                "--temperature",
                temperature,
                "--seed",
                "3",
                "--json",
            ];
            report(&arguments, plugin.as_slice())["ids"].clone()
        };
        let greedy = generate("0", None);
        for plugin in [
            "quats:mode=fixed,temperature=0",
            "quats:mode=min-p,min-p=1",
            "quats:mode=edt,temperature=0",
        ] {
            assert_eq!(generate("1", Some(plugin)), greedy, "{model} {plugin}");
        }
        // The same temperature by the run and by the plugin.
        let fixed = generate("0", Some("quats:mode=fixed,temperature=0.9"));
        assert_eq!(fixed, generate("0.9", None), "{model}");
        assert_ne!(fixed, greedy, "{model}");
    }
    let log = place("log.jsonl");
    let plugin = format!("quats:mode=edt,log={}", log.display());
    let arguments = [
        "generate",
        "One day",
        "--model",
        TRANSFORMER,
        "--tokens",
        "9",
        "--json",
    ];
    report(&arguments, &[&plugin]);
    let lines = std::fs::read_to_string(&log).unwrap();
    assert_eq!(lines.lines().count(), 9);
    for (step, line) in lines.lines().enumerate() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(
            (&line["t"], &line["candidates"]),
            (&step.into(), &512.into())
        );
        assert!((0.0..=1.0).contains(&number(&line, "normalised_entropy")));
        assert!(number(&line, "temperature") <= 1.0);
    }
}

#[test]
fn masks_are_scheduled_weighted_and_resumed() {
    let recipe = masked_training("mask-tags = \"deciles\"");
    let recipe = recipe.display().to_string();
    let out = |name: &str| place("masks").join(name);
    let train = |name: &str, more: &[&str], plugins: &[&str]| {
        let out = out(name).display().to_string();
        let mut arguments = vec!["train", &recipe, "--out", &out, "--quiet", "--json"];
        arguments.extend(more);
        number(&report(&arguments, plugins), "validation_perplexity")
    };
    let fresh = |name: &str, plugins: &[&str]| {
        let _ = std::fs::remove_dir_all(out(name));
        train(name, &[], plugins)
    };
    let plain = fresh("plain", &[]);
    assert_eq!(fresh("fixed", &["mask-decay:schedule=fixed"]), plain);
    let decayed = fresh("decayed", &["mask-decay"]);
    assert_ne!(decayed, plain);
    // Without weights, the curve is the same curve.
    let alike = fresh("alike", &["mask-weighted:weigh=false,schedule=cosine"]);
    assert_eq!(alike, decayed);
    let weighted = ["mask-weighted:tags=10,schedule=cosine,memory=0.9"];
    let whole = fresh("weighted", &weighted);
    assert_ne!(whole, decayed);
    // Its scores are in the checkpoint: a run that goes on ends where one without a pause ends.
    std::fs::remove_file(out("weighted").join("step-000000030.checkpoint")).unwrap();
    std::fs::remove_dir_all(out("weighted").join("model")).unwrap();
    assert_eq!(train("weighted", &["--resume"], &weighted), whole);
    let untagged = masked_training("").display().to_string();
    let _ = std::fs::remove_dir_all(out("untagged"));
    let end = out("untagged").display().to_string();
    let arguments = ["train", &untagged, "--out", &end, "--quiet"];
    assert!(failure(&arguments, &["mask-weighted"]).contains("the run gives no tags"));
}
