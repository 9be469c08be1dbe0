//! References become dialogues, with and without a model.

use super::*;

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.collect();
    assert!(!values.is_empty());
    values.iter().sum::<f64>() / values.len() as f64
}

/// The plan's own sizes are for articles; shorter references have shorter dialogues.
#[test]
fn the_default_plan_is_shortened_to_the_reference() {
    let told = lines(&good(corpus("generator=extract", &[ENGLISH, "--no-model"])).stdout);
    assert!(told.len() >= 10, "{} of 12 stories", told.len());
    for record in &told {
        let words = record["word_counts"]["assistant"].as_array().unwrap();
        let planned: u64 = words.iter().map(|words| words.as_u64().unwrap()).sum();
        assert!((50..=320).contains(&planned), "{record}");
    }
}

#[test]
fn references_that_are_too_short_are_reported() {
    let output = good(corpus(
        "generator=extract,step=400",
        &[ENGLISH, "--no-model"],
    ));
    assert!(output.stdout.is_empty());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(errors.matches("fewer than one step of 400").count(), 1);
    assert!(
        errors.contains("lower step and assistant-words"),
        "{errors}"
    );
}

#[test]
fn passes_the_plugin_check() {
    let report = |action| {
        support::json(&[
            "plugin",
            action,
            "refgpt",
            "--json",
            "--plugin-path",
            &PLUGINS,
        ])
    };
    let (checked, info) = (report("check"), report("info"));
    assert_eq!(checked["passed"], true, "{checked}");
    assert_eq!(info["hooks"], json!(["corpus/1"]));
}

#[test]
fn real_texts_of_both_languages_become_dialogues_without_a_model() {
    for (path, language, options) in [
        (ENGLISH, "en", SHORT.to_string()),
        (CHINESE, "zh", SHORT.replace("words=40", "words=80")),
    ] {
        let run = |seed| {
            let arguments = [path, "--no-model", "--seed", seed];
            good(corpus(&format!("{options},dialogues=3"), &arguments)).stdout
        };
        let told = run("1");
        assert_eq!(told, run("1"));
        assert_ne!(told, run("2"));
        let told = lines(&told);
        let least = if language == "en" { 34 } else { 14 };
        assert!(told.len() >= least, "{language}: {}", told.len());
        let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let sources: Vec<String> = fixture(path).iter().map(|text| squeeze(text)).collect();
        let mut keys = HashSet::new();
        for record in &told {
            assert!(keys.insert(record["key"].as_str().unwrap()));
            assert_eq!(
                (&record["language"], &record["type"]),
                (&json!(language), &json!("fact"))
            );
            let place: usize = record["reference_id"].as_str().unwrap().parse().unwrap();
            let source = &sources[place];
            let cut = record["reference"].as_str().unwrap();
            assert!(source.starts_with(&squeeze(cut)), "{cut}");
            let counts = record["word_counts"]["assistant"].as_array().unwrap();
            let budget: u64 = counts.iter().map(|count| count.as_u64().unwrap()).sum();
            let length = match language {
                "en" => cut.split_whitespace().count(),
                _ => cut
                    .chars()
                    .filter(|letter| letter.is_alphanumeric())
                    .count(),
            } as u64;
            assert!(
                5 * length >= 4 * budget && length <= budget,
                "{length} of {budget}"
            );
            assert_eq!(turns(record).len(), 2 * counts.len());
            for (place, turn) in turns(record).iter().enumerate() {
                assert_eq!(turn["speaker"], ["human", "assistant"][place % 2]);
                assert!(turn["words"].as_u64().unwrap() > 0);
                assert_eq!(turn["grounded_edges"], Value::Null);
            }
            for answer in answers(record) {
                assert!(
                    source.contains(&squeeze(answer["text"].as_str().unwrap())),
                    "{answer}"
                );
                assert_eq!(answer["grounding"]["overlap"], 1.0);
                assert_eq!(answer["grounding"]["numbers"], 1.0);
            }
        }
    }
}

#[test]
fn code_becomes_dialogues_that_discuss_write_and_fix_it() {
    let code = std::fs::read_to_string(root().join("plugins/bidirectional/measure.py")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("code.jsonl");
    std::fs::write(&path, json!({"text": code}).to_string() + "\n").unwrap();
    let path = path.display().to_string();
    for kind in ["code-discussion", "code-creation", "code-bug-fix"] {
        let options = format!("kind={kind},language=en,dialogues=4,rounds=1 0,assistant-words=150");
        let told = records(&options, &[&path, "--no-model"]);
        assert_eq!(told.len(), 4, "{kind}");
        for record in &told {
            assert_eq!(record["type"], kind);
            let cut = record["reference"].as_str().unwrap();
            assert!(code.starts_with(cut));
            let [question, answer] = [0, 1].map(|at| turns(record)[at]["text"].as_str().unwrap());
            let fenced = |text: &str| -> Vec<String> {
                let body = text
                    .split_once("```\n")
                    .unwrap()
                    .1
                    .strip_suffix("\n```")
                    .unwrap();
                body.lines().map(str::to_string).collect()
            };
            let right: Vec<&str> = cut.lines().collect();
            if kind == "code-bug-fix" {
                let shown = fenced(question);
                let wrong: Vec<usize> = (0..right.len())
                    .filter(|&at| right[at] != shown[at])
                    .collect();
                assert_eq!(wrong.len(), 1, "{question}");
                assert_eq!(fenced(answer), [right[wrong[0]]]);
            } else {
                assert_eq!(fenced(answer), right);
            }
        }
    }
}

#[test]
fn a_model_is_restricted_to_the_tokens_of_the_reference() {
    let folder = tempfile::tempdir().unwrap();
    let stories = references(folder.path(), "stories.jsonl", 0..5);
    let run = |model: &str, options: &str| {
        let options = format!("generator=turns,{SHORT},{options}");
        records(&options, &[&stories, "--model", model])
    };
    let attribution = |told: &[Value]| -> Vec<f64> {
        let answers = told.iter().flat_map(answers);
        answers
            .map(|turn| turn["grounded_edges"].as_f64().unwrap())
            .collect()
    };
    let overlap = |told: &[Value]| {
        mean(
            told.iter()
                .map(|record| record["grounding"].as_f64().unwrap()),
        )
    };
    let graph = "models/english.bril";
    let (free, biased, restricted) = (
        run(graph, "attempts=9"),
        run(graph, "attempts=9,gain=4"),
        run(graph, "attempts=9,restrict=true"),
    );
    for told in [&free, &biased, &restricted] {
        assert!(told.len() >= 4);
        for turn in told.iter().flat_map(turns) {
            for score in ["overlap", "sentences", "numbers"] {
                let score = turn["grounding"][score].as_f64().unwrap();
                assert!((0.0..=1.0).contains(&score), "{turn}");
            }
        }
    }
    assert!(attribution(&restricted).iter().all(|&share| share == 1.0));
    let [low, high] = [&free, &biased].map(|told| mean(attribution(told).into_iter()));
    assert!(low < 0.3 && high > low + 0.3, "{low} {high}");
    assert!(overlap(&free) < overlap(&biased) && overlap(&biased) < overlap(&restricted));
    // The sub-graph of a reference holds a transformer's tokens as well.
    let stories = references(folder.path(), "three.jsonl", 0..3);
    let options = format!("generator=turns,{SHORT},restrict=true");
    let told = records(&options, &[&stories, "--model", "models/stories260K"]);
    assert!(!told.is_empty());
    assert!(attribution(&told).iter().all(|&share| share == 1.0));
}

#[test]
fn a_resumed_run_generates_the_same_text() {
    let folder = tempfile::tempdir().unwrap();
    let stories = references(folder.path(), "stories.jsonl", 0..3);
    let path = folder.path().join("out.jsonl");
    let out = path.display().to_string();
    let options = format!("generator=turns,dialogues=2,{SHORT}");
    let arguments = [&stories, "--model", "models/english.bril", "--out", &out];
    good(corpus(&options, &arguments));
    let whole = std::fs::read(&path).unwrap();
    assert!(lines(&whole).len() >= 4);
    // Interrupted within the third record.
    let ends: Vec<usize> = (0..whole.len()).filter(|&at| whole[at] == b'\n').collect();
    std::fs::write(&path, &whole[..ends[1] + 50]).unwrap();
    let mut again = arguments.to_vec();
    again.push("--resume");
    good(corpus(&options, &again));
    assert_eq!(std::fs::read(&path).unwrap(), whole);
}

#[test]
fn invalid_options_are_refused() {
    let path = PathBuf::from(ENGLISH).display().to_string();
    for (options, arguments, why) in [
        ("restrict=true", vec!["--no-model"], "need a model"),
        ("gain=1", vec!["--no-model"], "need a model"),
        ("rounds=0 0", vec!["--no-model"], "rounds"),
        ("rounds=a", vec!["--no-model"], "weight"),
        ("generator=turns", vec!["--no-model"], "no model"),
    ] {
        let mut all = vec![path.as_str()];
        all.extend(arguments);
        let options = if options.contains("rounds") {
            options.to_string()
        } else {
            format!("{options},{SHORT}")
        };
        let errors = bad(corpus(&options, &all));
        assert!(errors.contains(why), "{options}: {errors}");
    }
    let endpoint = Endpoint::start(|asked, _| said(&obedient(asked.prompt()), "stop"));
    let mut all = vec![path.as_str()];
    all.extend(at(&endpoint));
    let errors = bad(corpus(
        &format!("generator=chat,restrict=true,{SHORT}"),
        &all,
    ));
    assert!(errors.contains("sub-graph"), "{errors}");
    assert!(endpoint.asked().is_empty());
}
