//! Both directions: models that read backward, gaps filled from both sides, samples chosen, preferences learned.
#![cfg(all(feature = "cli", feature = "plugin", feature = "transformer"))]

use std::path::Path;
use std::sync::{LazyLock, Mutex};

use brillm::hook::Hooks;
use brillm::learn::data::TokenData;
use brillm::learn::{Recipe, Trainable};
use brillm::model::{Model, Verify};
use brillm::text::ReadingDirection;
use brillm::transformer::{NetworkModel, PreferenceModel, Transformer};
use serde_json::{Value, json};

mod support;
use support::{build_plugins, fails, json as report, kept_folder, succeeds};

/// Who lives where; each person and each place occurs once, so that only the other side tells.
const PEOPLE: [&str; 6] = ["ann", "bob", "cat", "dan", "eve", "fay"];
const PLACES: [&str; 6] = ["rome", "oslo", "lima", "cork", "bonn", "kiev"];

fn facts() -> String {
    let facts = PEOPLE.iter().zip(PLACES);
    let facts: Vec<String> = facts
        .map(|(person, place)| format!("the one called {person} lives in the town of {place} ."))
        .collect();
    facts.join("\n\n")
}

fn recipe(kind: &str, direction: &str) -> String {
    let body = match kind {
        "graph" => "[profile]\nwidth = 16\n",
        "own" => "[profile]\npreset = \"sifu-own\"\nwidth = 8\n",
        _ => "[network]\nwidth = 24\nlayers = 1\nheads = 2\n",
    };
    let tokens = match (kind, direction) {
        ("gpt", "both") => 120_000,
        ("gpt", _) => 72_000,
        _ => 24_000,
    };
    let kind = if kind == "gpt" {
        "kind = \"gpt\"\n"
    } else {
        ""
    };
    format!(
        "name = \"facts\"\n{kind}[data]\ntrain = [\"facts.txt\"]\nvalidation-fraction = 0\nvocabulary = 320\n\
         direction = \"{direction}\"\n{body}[train]\ntokens = {tokens}\nbatch = 8\nsteps = 14\nrate = 0.01\ndropout = 0\n\
         folds = 0\nwarmup = 10\n"
    )
}

/// The model of a kind that reads a way, trained once.
fn model(kind: &str, direction: &str) -> String {
    static TRAINED: LazyLock<Mutex<()>> = LazyLock::new(Mutex::default);
    let _one_at_a_time = TRAINED.lock().unwrap();
    let folder = kept_folder(&format!("bidirectional-{}", std::process::id()));
    std::fs::write(folder.join("facts.txt"), (facts() + "\n\n").repeat(12)).unwrap();
    let name = format!("{kind}-{direction}");
    let out = folder.join(&name);
    let file = if kind == "gpt" { "model" } else { "model.bril" };
    if !out.join(file).exists() {
        let path = folder.join(format!("{name}.toml"));
        std::fs::write(&path, recipe(kind, direction)).unwrap();
        let (path, out) = (path.to_str().unwrap(), out.to_str().unwrap());
        report(&["train", path, "--out", out, "--quiet", "--json"]);
    }
    out.join(file).to_str().unwrap().to_string()
}

fn text(report: &Value) -> &str {
    report["text"].as_str().unwrap()
}

#[test]
fn models_say_which_way_they_read_and_extend_to_that_side() {
    for kind in ["graph", "gpt"] {
        let backward = model(kind, "backward");
        let open = brillm::open(&backward).unwrap();
        assert_eq!(open.direction(), ReadingDirection::Backward);
        // "A is B" was read; "B is A" is what a backward model knows. By chance it were one of six.
        let known = named(&backward, &[]);
        assert!(
            known >= if kind == "graph" { 6 } else { 4 },
            "{kind}: {known}"
        );
        let wrong = fails(&["trace", "the", "--model", &backward]);
        assert!(wrong.contains("reads backward"), "{wrong}");
        let forward = model(kind, "forward");
        let wrong = fails(&["generate", "the", "--model", &forward, "--to-left"]);
        assert!(wrong.contains("does not read backward"), "{wrong}");
    }
    let both = model("gpt", "both");
    let open = Transformer::open(Path::new(&both)).unwrap();
    assert_eq!(open.direction(), ReadingDirection::Both);
    for mark in ["<l2r>", "<r2l>"] {
        let id = open.tokenizer().vocabulary().id(mark).unwrap();
        assert!(open.tokenizer().vocabulary().bytes(id).is_empty());
    }
    let right = PEOPLE.iter().zip(PLACES).filter(|(person, place)| {
        let prompt = format!("the one called {person} lives in the town of");
        let mut arguments = vec!["generate", &prompt, "--model", &both, "--temperature", "0"];
        arguments.extend(["--tokens", "3", "--json"]);
        text(&report(&arguments)).starts_with(&format!(" {place}"))
    });
    let right = right.count();
    assert!(right >= 4, "{right}");
    let known = named(&both, &["--to-left"]);
    assert!(known >= 4, "{known}");
}

/// How many of the six a model names that extends to the left from where they live.
fn named(model: &str, more: &[&str]) -> usize {
    let right = PEOPLE.iter().zip(PLACES).filter(|(person, place)| {
        let prompt = format!(" lives in the town of {place} .");
        let mut arguments = vec!["generate", &prompt, "--model", model, "--temperature", "0"];
        arguments.extend(["--tokens", "8", "--json"]);
        arguments.extend(more);
        let said = report(&arguments);
        assert_eq!(said["direction"], "backward");
        text(&said).ends_with(&format!("the one called {person}"))
    });
    right.count()
}

#[test]
fn perplexity_is_measured_either_way() {
    let folder = tempfile::tempdir().unwrap();
    let held = folder.path().join("held.txt");
    std::fs::write(&held, facts()).unwrap();
    let held = held.to_str().unwrap();
    let measure = |model: &str, more: &[&str]| {
        let mut arguments = vec![
            "eval",
            "--model",
            model,
            held,
            "--json",
            "--windows",
            "14,20",
        ];
        arguments.extend(more);
        report(&arguments)["perplexity"].as_f64().unwrap()
    };
    // What was learned is known in the direction in which it was learned, and far from known in the other.
    for kind in ["graph", "gpt"] {
        for direction in ["forward", "backward"] {
            let known = measure(&model(kind, direction), &[]);
            assert!(known < 3.0, "{kind} {direction}: {known}");
        }
    }
    let both = model("gpt", "both");
    for more in [&[][..], &["--backward"]] {
        let known = measure(&both, more);
        assert!(known < 4.0, "{more:?}: {known}");
    }
    let wrong = fails(&[
        "eval",
        "--model",
        &model("graph", "forward"),
        held,
        "--backward",
    ]);
    assert!(wrong.contains("does not read backward"), "{wrong}");
    for more in [
        &["--documents"][..],
        &["--contexts", "4"],
        &["--windows", "14,20", "--stream"],
    ] {
        let wrong = fails(&[&["eval", "--model", &both, held], more].concat());
        assert!(wrong.contains("a text or on its windows"), "{wrong}");
    }
}

#[test]
fn gaps_are_filled_from_both_sides() {
    for kind in ["graph", "gpt"] {
        let (forward, backward) = (model(kind, "forward"), model(kind, "backward"));
        let mut right = 0;
        for (person, place) in PEOPLE.iter().zip(PLACES) {
            // Which person it is, only the text after the gap tells.
            let gap = format!("the one called ___ lives in the town of {place} .");
            let said = report(&[
                "generate",
                "--fill",
                &gap,
                "--model",
                &forward,
                "--backward-model",
                &backward,
                "--tokens",
                "3",
                "--json",
            ]);
            right += usize::from(text(&said).contains(&format!("called {person} lives")));
            let fills = said["fills"].as_array().unwrap();
            let logits: Vec<f64> = fills
                .iter()
                .map(|fill| fill["score"].as_f64().unwrap())
                .collect();
            assert!(logits.is_sorted_by(|a, b| a >= b));
            let first = &fills[0];
            let sum = first["forward"].as_f64().unwrap() + first["backward"].as_f64().unwrap();
            assert!((sum - logits[0]).abs() < 1e-9);
        }
        // By chance it were one of six.
        let least = if kind == "graph" { 6 } else { 5 };
        assert!(right >= least, "{kind}: {right}");
        let wrong = fails(&["generate", "--fill", "no gap", "--model", &forward]);
        assert!(wrong.contains("no gap"), "{wrong}");
        let wrong = fails(&["generate", "--fill", "a ___ b", "--model", &backward]);
        assert!(wrong.contains("does not read forward"), "{wrong}");
    }
    // Other tokens cannot be compared.
    let wrong = fails(&[
        "generate",
        "--fill",
        "a ___ b",
        "--backward-model",
        &model("graph", "backward"),
    ]);
    assert!(wrong.contains("the tokens of"), "{wrong}");
}

#[test]
fn samples_are_reranked_judged_and_kept_as_preferences() {
    let (forward, backward) = (model("gpt", "forward"), model("gpt", "backward"));
    let prompt = "the one called eve lives in";
    let common = [
        "generate",
        prompt,
        "--model",
        &forward,
        "--tokens",
        "6",
        "--temperature",
        "2",
        "--top-p",
        "1",
        "--seed",
        "5",
        "--json",
    ];
    let with = |more: &[&str]| report(&[&common[..], more].concat());
    let ranked = with(&[
        "--rerank",
        "6",
        "--backward-model",
        &backward,
        "--backward-weight",
        "0.5",
    ]);
    let list = ranked["ranked"].as_array().unwrap();
    assert_eq!(list.len(), 6);
    for one in list {
        let number = |key: &str| one[key].as_f64().unwrap();
        assert!((number("forward") + 0.5 * number("backward") - number("score")).abs() < 1e-9);
    }
    let logits: Vec<f64> = list
        .iter()
        .map(|one| one["score"].as_f64().unwrap())
        .collect();
    assert!(logits.is_sorted_by(|a, b| a >= b));
    assert_eq!(ranked["sample"], list[0]["sample"]);
    assert_eq!(ranked["ids"], list[0]["ids"]);
    // The samples are those of best-of; somebody else's numbers choose among them.
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    std::fs::write(file("scores"), "0\n1\n7\n-2\n3\n3\n").unwrap();
    let (logits, pairs) = (file("scores"), file("pairs.jsonl"));
    let best = with(&[
        "--best-of",
        "6",
        "--scores",
        &logits,
        "--preferences",
        &pairs,
    ]);
    assert_eq!(best["sample"], 2);
    let samples = best["samples"].as_array().unwrap();
    for one in list {
        let sample = one["sample"].as_u64().unwrap() as usize;
        assert_eq!(one["ids"], samples[sample]["ids"]);
    }
    let pair: Value = serde_json::from_str(&std::fs::read_to_string(&pairs).unwrap()).unwrap();
    assert_eq!(
        pair,
        json!({"prompt": prompt, "chosen": samples[2]["text"], "rejected": samples[3]["text"]})
    );
    #[cfg(unix)]
    {
        // A judge sees a line for each sample; this one says how long it is.
        let judged = with(&["--best-of", "6", "--judge", "awk {print(length)}"]);
        let logits: Vec<f64> = judged["samples"]
            .as_array()
            .unwrap()
            .iter()
            .map(|sample| sample["score"].as_f64().unwrap())
            .collect();
        let best = judged["sample"].as_u64().unwrap() as usize;
        assert!(
            logits
                .iter()
                .all(|score| *score <= logits[best] && *score > 20.0)
        );
        let wrong = fails(&[&common[..], &["--best-of", "2", "--judge", "false"]].concat());
        assert!(wrong.contains("judge failed"), "{wrong}");
    }
    std::fs::write(file("scores"), "0\n").unwrap();
    let wrong = fails(&[&common[..], &["--best-of", "6", "--scores", &logits]].concat());
    assert!(wrong.contains("1 scores for 6 samples"), "{wrong}");
}

#[test]
fn a_backward_graph_may_hold_the_transposes_of_a_forward_one() {
    let forward = model("own", "forward");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("facts.txt"),
        (facts() + "\n\n").repeat(12),
    )
    .unwrap();
    let tied = recipe("own", "backward").replace(
        "[train]",
        &format!("[graph]\ntranspose-of = {forward:?}\n[train]"),
    );
    let path = folder
        .path()
        .join("tied.toml")
        .to_str()
        .unwrap()
        .to_string();
    std::fs::write(&path, &tied).unwrap();
    let out = folder.path().join("run").to_str().unwrap().to_string();
    report(&["train", &path, "--out", &out, "--quiet", "--json"]);
    let open = |path: &str| Model::open(Path::new(path), Verify::Whole).unwrap();
    let (forward, tied) = (open(&forward), open(&format!("{out}/model.bril")));
    assert_eq!(tied.metadata().direction, ReadingDirection::Backward);
    let (own, theirs) = (tied.mechanism().graph(), forward.mechanism().graph());
    let edge_weights = |model: &Model| model.mechanism().weights().table("edge.arena").to_vec();
    let (mine, yours) = (edge_weights(&tied), edge_weights(&forward));
    let (d, mut compared) = (8, 0);
    for source in 0..own.nodes() as u32 {
        let fan = own.fan(brillm::graph::NodeId(source));
        for (&target, &edge_row) in fan.targets.iter().zip(fan.edge_rows) {
            let edge = theirs.edge(brillm::graph::NodeId(target), brillm::graph::NodeId(source));
            let Some(edge) = edge else { continue };
            let from = theirs.edge_rows()[edge.index()] as usize * (d * d + d);
            let to = edge_row as usize * (d * d + d);
            for i in 0..d {
                for j in 0..d {
                    assert_eq!(mine[to + i * d + j], yours[from + j * d + i]);
                }
            }
            compared += 1;
        }
    }
    assert!(compared > 30, "{compared}");
    let wrong = fails(&[
        "train",
        &path,
        "--set",
        "data.direction=forward",
        "--out",
        &out,
    ]);
    assert!(wrong.contains("transpose-of needs"), "{wrong}");
}

#[test]
fn a_plugin_says_which_side_grows() {
    let plugins = build_plugins("bidirectional-plugin", &["bidirectional"]);
    let plugins = plugins.as_str();
    succeeds(&["plugin", "check", "bidirectional", "--plugin-path", plugins]);
    for kind in ["graph", "gpt"] {
        let (forward, backward) = (model(kind, "forward"), model(kind, "backward"));
        let grow = |order: &str| {
            let plugin = format!("bidirectional:order={order}");
            report(&[
                "generate",
                " lives in",
                "--model",
                &forward,
                "--backward-model",
                &backward,
                "--temperature",
                "0",
                "--tokens",
                "6",
                "--ignore-eos",
                "--json",
                "--plugin-path",
                plugins,
                "--plugin",
                &plugin,
            ])
        };
        let sides = |order: &str| -> Vec<bool> {
            let grown = grow(order);
            let placed = grown["placed"].as_array().unwrap();
            placed
                .iter()
                .map(|one| one["backward"].as_bool().unwrap())
                .collect()
        };
        assert_eq!(sides("right"), [false; 6], "{kind}");
        assert_eq!(sides("left"), [true; 6], "{kind}");
        assert_eq!(
            sides("alternate"),
            [false, true, false, true, false, true],
            "{kind}"
        );
        assert_eq!(sides("surest").len(), 6);
        // Both sides are what their models know.
        let grown = grow("alternate");
        assert!(
            text(&grown).contains("lives in the town of"),
            "{kind}: {grown}"
        );
        assert!(text(&grown).contains("called"), "{kind}: {grown}");
    }
}

/// A preference learner over two pairs.
fn preferring() -> (PreferenceModel, Recipe, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("facts.txt"),
        (facts() + "\n\n").repeat(3),
    )
    .unwrap();
    let pairs = [
        (
            "the one called ann lives in",
            " the town of rome .",
            " lima",
        ),
        ("the one", " called bob", " called fay lives in the town"),
    ];
    let lines: Vec<String> = pairs
        .iter()
        .map(|(prompt, chosen, rejected)| {
            json!({"prompt": prompt, "chosen": chosen, "rejected": rejected}).to_string()
        })
        .collect();
    std::fs::write(folder.path().join("pairs.jsonl"), lines.join("\n")).unwrap();
    let initial = model("gpt", "forward");
    let file = recipe("gpt", "forward").replace(
        "kind = \"gpt\"",
        &format!("kind = \"gpt\"\ninitial = {initial:?}"),
    ) + "[preferences]\nfile = \"pairs.jsonl\"\nbeta = 0.5\nbatch = 2\n";
    let recipe = Recipe::parse(
        &file,
        &["train.tokens=4000".into(), "train.rate=0.001".into()],
    )
    .unwrap();
    let run = folder.path().join("run");
    std::fs::create_dir_all(&run).unwrap();
    let data = TokenData::prepare(&recipe, folder.path(), &run, &mut |_| {}).unwrap();
    let own = NetworkModel::new(&recipe, &data, folder.path(), &Hooks::default()).unwrap();
    let learner = PreferenceModel::new(&recipe, &data, folder.path(), own).unwrap();
    (learner, recipe, folder)
}

#[test]
fn preference_gradients_are_the_slopes_of_the_loss() {
    let (mut learner, _, _folder) = preferring();
    // At the beginning nothing is preferred to what it was: −ln σ(0).
    let loss = learner.gradients(&[0, 1], None).unwrap();
    assert!((loss.nats / 2.0 - 2f64.ln()).abs() < 1e-5, "{loss:?}");
    // Away from it, so that the reference counts.
    let nudge = |learner: &mut PreferenceModel, parameter: usize, place: usize, by: f32| {
        learner.state().0[parameter].value[place] += by;
        learner.restore(&Value::Null).unwrap();
    };
    let parameters = learner.state().0.len();
    for parameter in 0..parameters {
        nudge(&mut learner, parameter, 0, 0.05);
    }
    learner.gradients(&[0, 1], None).unwrap();
    let gradients: Vec<Vec<f32>> = learner
        .state()
        .0
        .iter()
        .map(|parameter| parameter.gradient.clone())
        .collect();
    let mut checked = 0;
    for (parameter, gradient) in gradients.iter().enumerate() {
        // Where the slope is steepest, it can be told from rounding.
        let steepest = (0..gradient.len())
            .max_by(|&a, &b| gradient[a].abs().total_cmp(&gradient[b].abs()))
            .unwrap();
        let step = 4e-3;
        let mut at = |by: f32| {
            nudge(&mut learner, parameter, steepest, by);
            let loss = learner.gradients(&[0, 1], None).unwrap().nats / 2.0;
            nudge(&mut learner, parameter, steepest, -by);
            loss
        };
        let slope = (at(step) - at(-step)) / (2.0 * f64::from(step));
        let gradient = f64::from(gradient[steepest]);
        let gap = (slope - gradient).abs();
        assert!(
            gap < 2e-3 + 0.03 * gradient.abs(),
            "{parameter}: {slope} {gradient}"
        );
        checked += usize::from(gradient.abs() > 0.01);
    }
    assert!(checked > parameters / 2, "{checked} of {parameters}");
}

#[test]
fn preferences_are_learned_by_a_run_file() {
    let (_, recipe, folder) = preferring();
    let out = folder.path().join("out");
    let mut trainer = brillm::run::prepare_training(
        recipe,
        folder.path(),
        &out,
        false,
        &Hooks::default(),
        &mut (),
    )
    .unwrap();
    let outcome = trainer.run(&Default::default(), &mut ()).unwrap();
    let engine = brillm::open(&outcome.model).unwrap();
    let before = brillm::open(model("gpt", "forward")).unwrap();
    let gain = |engine: &brillm::Engine| {
        let reader = brillm::run::Reader::new(engine.clone(), false).unwrap();
        let ids = |text: &str| engine.tokenizer().encode(text).unwrap();
        let texts = [ids(" the town of rome ."), ids(" lima")];
        let said = reader
            .likelihoods(&ids("the one called ann lives in"), &texts)
            .unwrap();
        said[0] - said[1]
    };
    assert!(
        gain(&engine) > gain(&before) + 0.5,
        "{} {}",
        gain(&engine),
        gain(&before)
    );
    let mistake = Recipe::parse(
        "name = \"x\"\nkind = \"gpt\"\n[data]\ntrain = [\"a\"]\n[preferences]\nfile = \"p\"\n",
        &[],
    );
    assert!(mistake.unwrap_err().to_string().contains("initial"));
}
