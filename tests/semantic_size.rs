//! Semantic size: the plugin's three experiments on the models here, and what a probe may ask a model.
#![cfg(all(feature = "plugin", feature = "cli", feature = "transformer"))]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::LazyLock;

use brillm::graph::NodeId;
use brillm::hook::{State, Subject, SubjectKind};
use brillm::model::{Model, Verify};
use brillm::run::ProbedModel;
use serde_json::Value;

mod support;
use support::{
    build_plugins, fails, kept_folder, mean, number, root, stdout_of, succeeds, with_plugins,
};

const GRAPH: &str = "models/english.bril";
const TRANSFORMER: &str = "models/stories260K";
const ID: &str = "org.brillm.semantic-size";

/// A file of this test's own.
fn place(name: &str) -> PathBuf {
    kept_folder("semantic-size").join(name)
}

/// The plugin, built once.
static PLUGINS: LazyLock<String> =
    LazyLock::new(|| build_plugins("semantic-size/plugins", &["semantic-size"]));

fn run(arguments: &[&str]) -> Output {
    support::run(&with_plugins(arguments, &PLUGINS, &[]))
}

fn said(output: Output) -> String {
    stdout_of(&output, "semantic-size")
}

fn probe(model: &str, options: &str, out: &Path, json: bool) -> String {
    let (plugin, out) = (format!("semantic-size{options}"), out.to_str().unwrap());
    let mut arguments = vec!["probe", "--plugin", &plugin, "--model", model, "--quiet"];
    arguments.extend(["--out", out]);
    arguments.extend(json.then_some("--json"));
    said(run(&arguments))
}

/// The plugin's report.
fn report(model: &str, options: &str, out: &str) -> Value {
    let said = probe(model, options, &place(out), true);
    serde_json::from_str::<Value>(&said).unwrap()["probes"][ID].clone()
}

/// The lines of a file of commas, each by the names of its first line.
fn table(folder: &Path, name: &str) -> Vec<HashMap<String, String>> {
    let text = std::fs::read_to_string(folder.join(name)).unwrap();
    let mut lines = text.lines().map(|line| line.split(','));
    let heads: Vec<&str> = lines.next().unwrap().collect();
    lines
        .map(|cells| {
            let row: HashMap<_, _> = heads
                .iter()
                .map(ToString::to_string)
                .zip(cells.map(str::to_string))
                .collect();
            assert_eq!(row.len(), heads.len(), "{name}");
            row
        })
        .collect()
}

fn best(logits: &[f64]) -> usize {
    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    logits.iter().position(|score| *score == most).unwrap()
}

fn opened(model: &str) -> ProbedModel {
    let engine = brillm::open(root().join(model)).unwrap();
    ProbedModel::new(engine, None, || ()).unwrap()
}

/// What a text is preferred by: nats a token under its prompt, over those under another.
fn preference(model: &mut ProbedModel, prompt: &str, neutral: &str, text: &str) -> f64 {
    mean(&model.resist(neutral, text).unwrap()) - mean(&model.resist(prompt, text).unwrap())
}

#[test]
fn it_passes_the_validator_and_refuses_what_it_does_not_understand() {
    let info = said(run(&["plugin", "info", "semantic-size", "--json"]));
    let info: Value = serde_json::from_str(&info).unwrap();
    assert_eq!(info["hooks"], serde_json::json!(["probe/1"]));
    let checked = said(run(&["plugin", "check", "semantic-size", "--json"]));
    let checked: Value = serde_json::from_str(&checked).unwrap();
    assert_eq!(checked["passed"], true, "{checked}");

    let (few, odd) = (place("few.csv"), place("odd.csv"));
    std::fs::write(
        &few,
        "word,arousal,concreteness,size\nsun,1,2,3\nsea,1,2,4\n",
    )
    .unwrap();
    std::fs::write(&odd, "big,small\nlove,hint\n").unwrap();
    for (options, why) in [
        (format!("norms={}", few.display()), "too few"),
        ("norms=no-such-file.csv".into(), "no-such-file.csv"),
        (format!("metaphors={}", odd.display()), "cells"),
        (format!("norms={}", odd.display()), "columns"),
        ("words=3".into(), "words"),
        ("subset=huge".into(), "subset"),
        ("colour=blue".into(), "colour"),
    ] {
        let plugin = format!("semantic-size:{options}");
        let output = run(&["probe", "--plugin", &plugin, "--quiet"]);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && errors.contains(why),
            "{options}: {errors}"
        );
    }
    assert!(fails(&["probe", "--quiet"]).contains("no texts"));
}

#[test]
fn both_paths_print_a_table_and_write_figures_and_pictures() {
    for (model, sets) in [
        (GRAPH, vec!["node", "signal", "energy"]),
        (
            TRANSFORMER,
            vec![
                "hidden 0", "hidden 1", "hidden 2", "hidden 3", "hidden 4", "hidden 5",
            ],
        ),
    ] {
        let folder = place(&format!("both-{}", model.replace('/', "-")));
        let _ = std::fs::remove_dir_all(&folder);
        let options = ":words=90,permutations=3";
        let report = report(model, options, folder.to_str().unwrap());
        // What is printed is the report's table, and where its files are.
        let text = match model {
            GRAPH => {
                let text = probe(model, options, &folder, false);
                assert!(text.starts_with(report["table"].as_str().unwrap().trim_end()));
                for file in report["files"].as_array().unwrap() {
                    assert!(text.contains(&format!("wrote {}", file.as_str().unwrap())));
                }
                text
            }
            _ => report["table"].as_str().unwrap().to_string(),
        };
        for part in [
            "Metaphors, 84 questions",
            "Headlines, 12 products",
            "Probes of 90 words",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        for file in report["files"].as_array().unwrap() {
            let file = file.as_str().unwrap();
            let written = std::fs::read_to_string(file).unwrap();
            if file.ends_with(".svg") {
                assert!(written.starts_with("<svg") && written.trim_end().ends_with("</svg>"));
            }
        }

        // Metaphors: the shares and the certainty are those of the questions, and so is each choice.
        let asked = table(&folder, "metaphors.csv");
        assert_eq!(asked.len(), 84);
        let mut counts: HashMap<(String, String), [f64; 3]> = HashMap::new();
        for row in &asked {
            let logits: Vec<f64> = (1..=3)
                .map(|at| row[&format!("score{at}")].parse().unwrap())
                .collect();
            let chosen: usize = row["chosen"].parse().unwrap();
            assert_eq!(best(&logits) + 1, chosen, "{row:?}");
            let key = (row["set"].clone(), row["big"].clone());
            counts.entry(key).or_default()[chosen - 1] += 1.0 / 21.0;
        }
        for told in report["metaphors"].as_array().unwrap() {
            let set = told["set"].as_str().unwrap().to_string();
            for (key, big) in [("big", "true"), ("small", "false")] {
                let attribution = counts[&(set.clone(), big.to_string())];
                let most = attribution.iter().copied().fold(0.0, f64::max);
                for (at, share) in attribution.iter().enumerate() {
                    assert!((number(&told[key][at]) - share).abs() < 1e-9);
                }
                let certainty = number(&told[format!("certainty_{key}")]);
                assert!((certainty - (most - 1.0 / 3.0)).abs() < 1e-9, "{certainty}");
            }
        }
        // The engine asked in another way gives the same scores.
        let mut subject = opened(model);
        for row in asked.iter().step_by(17) {
            let word = &row["word2"];
            let article = if word.starts_with(['a', 'e', 'i', 'o']) {
                "an"
            } else {
                "a"
            };
            let own = preference(
                &mut subject,
                &format!("Thinking of {} is like {article}", row["about"]),
                &format!("This is like {article}"),
                &format!(" {word}"),
            );
            let told: f64 = row["score2"].parse().unwrap();
            assert!((own - told).abs() < 1e-5, "{row:?}: {own}");
        }
        let shopped = table(&folder, "headlines.csv");
        assert_eq!(shopped.len(), 12);
        let styles = ["original", "polish", "eye-catch", "semantic"];
        for row in &shopped {
            let logits: Vec<f64> = styles
                .iter()
                .map(|style| row[*style].parse().unwrap())
                .collect();
            assert_eq!(styles[best(&logits)], row["chosen"]);
        }
        for style in styles {
            let chosen = shopped.iter().filter(|row| row["chosen"] == style).count();
            let share = number(&report["headlines"][style]);
            assert!((share - chosen as f64 / 12.0).abs() < 1e-9);
        }

        // Probes: every set of features, trained and not, beside the form alone.
        let probes = table(&folder, "probes.csv");
        let names: Vec<&str> = report["probes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["trained"]["features"].as_str().unwrap())
            .collect();
        assert_eq!(names[0], "form alone");
        assert_eq!(names[1..], sets[..]);
        assert_eq!(probes.len(), 1 + 2 * sets.len());
        for row in &probes {
            for name in [
                "spearman",
                "partial_form",
                "partial_all",
                "permuted_spearman",
            ] {
                let value: f64 = row[name].parse().unwrap();
                assert!(value.abs() <= 1.0, "{name}: {row:?}");
            }
            let p: f64 = row["permuted_p"].parse().unwrap();
            assert!((0.25..=1.0).contains(&p), "{row:?}");
        }
        assert_eq!(folder.join("shifts.csv").exists(), model == GRAPH);
        assert_eq!(
            report["shifts"].as_array().unwrap().is_empty(),
            model != GRAPH
        );
    }
}

#[test]
fn a_trained_model_tells_more_of_size_than_chance_and_than_its_untrained_weights() {
    let report = report(GRAPH, ":permutations=9", "trained");
    assert_eq!(report["words"], 670);
    for one in report["probes"].as_array().unwrap() {
        let trained = &one["trained"];
        assert!(number(&trained["permuted_spearman"]).abs() < 0.12, "{one}");
        assert!(
            (number(&trained["permuted_area"]) - 0.5).abs() < 0.1,
            "{one}"
        );
        assert!((number(&trained["permuted_p"]) - 0.1).abs() < 1e-9, "{one}");
        if one["untrained"].is_null() {
            // Taking out of a probe what it was fitted on leaves nothing.
            assert_eq!(trained["features"], "form alone");
            assert!(number(&trained["partial_form"]).abs() < 0.08, "{one}");
            continue;
        }
        let untrained = &one["untrained"];
        let gained = |name: &str| number(&trained[name]) - number(&untrained[name]);
        assert!(
            number(&trained["spearman"]) > 0.25 && gained("spearman") > 0.15,
            "{one}"
        );
        assert!(
            number(&trained["area"]) > 0.6 && gained("area") > 0.05,
            "{one}"
        );
        // Form is in random weights too (longer words have more tokens); the rest is near chance.
        assert!(number(&untrained["partial_form"]).abs() < 0.13, "{one}");
        assert!(number(&untrained["area"]) < 0.62, "{one}");
    }
    let node = &report["probes"][1];
    assert!(number(&node["trained"]["partial_form"]) > 0.2, "{node}");
    assert!(
        number(&node["untrained"]["spearman"]).abs() < 0.08,
        "{node}"
    );
    for one in report["shifts"].as_array().unwrap() {
        assert_eq!(one["others_moved"], 0, "{one}");
        // Energies of some hundred, in f32, leave three digits of their second difference.
        assert!((number(&one["curvature"]) - 1.0).abs() < 0.005, "{one}");
    }
}

#[test]
fn words_of_several_tokens_are_one_row_and_words_of_one_are_told_from_them() {
    let norms = std::fs::read_to_string(root().join("plugins/semantic-size/norms.csv")).unwrap();
    let mut subject = opened(GRAPH);
    let carrier = subject.tokens("the").unwrap().len();
    let mut lists = [Vec::new(), Vec::new()];
    let mut tokens = 0;
    for line in norms.lines().filter(|line| !line.starts_with('#')).skip(1) {
        let word = line.split(',').next().unwrap();
        let own = subject.tokens(&format!("the {word}")).unwrap().len() - carrier;
        if own == 1 && lists[0].len() < 40 {
            lists[0].push(line);
        } else if own > 1 && lists[1].len() < 40 {
            tokens += own;
            lists[1].push(line);
        }
    }
    let [single, several] = lists;
    let one = place("one.csv");
    std::fs::write(
        &one,
        "big,small,a,b,c,d,e,f\nlove,a hint,sun,leg,toe,rat,lid,key\n",
    )
    .unwrap();
    assert!(single.len() == 40 && several.len() == 40);
    for (name, lines, expected) in [
        ("single", single, 1.0),
        ("several", several, tokens as f64 / 40.0),
    ] {
        let path = place(&format!("{name}.csv"));
        let text = format!(
            "word,arousal,concreteness,size,count\n{}\n",
            lines.join("\n")
        );
        std::fs::write(&path, text).unwrap();
        let of = |more: &str| {
            let (norms, one) = (path.display(), one.display());
            let options =
                format!(":norms={norms},metaphors={one},permutations=1,untrained=false{more}");
            report(GRAPH, &options, name)
        };
        let (means, lasts) = (of(",pool=mean"), of(",pool=last"));
        assert_eq!(number(&means["tokens_a_word"]), expected, "{name}");
        assert!(means["probes"][1]["untrained"].is_null());
        assert_eq!(
            means["probes"] == lasts["probes"],
            name == "single",
            "{name}"
        );
        // The carrier is distinguished from the word, however the word is pooled.
        assert_ne!(of(",carrier=a little")["probes"][2], means["probes"][2]);
        // Counting in a text in which none of these stands takes the frequencies away.
        let empty = place("empty.txt");
        std::fs::write(&empty, "1 2 3").unwrap();
        let counted = of(&format!(",corpus={}", empty.display()));
        assert_ne!(counted["probes"][0], means["probes"][0]);
        assert_eq!(
            counted["probes"][1]["trained"]["spearman"],
            means["probes"][1]["trained"]["spearman"]
        );
    }
}

/// Shifts a node after a prompt, and answers the energies at its end before, shifted, and with the shift taken away.
fn shifted(subject: &mut ProbedModel, prompt: &str, node: u32, delta: &[f32]) -> [Vec<f32>; 3] {
    let nodes = subject.shape().nodes;
    let last = |subject: &mut ProbedModel| {
        let all = subject.states(State::Energy, prompt).unwrap();
        all[all.len() - nodes..].to_vec()
    };
    let before = last(subject);
    subject.shift(node, delta).unwrap();
    let during = last(subject);
    subject.shift(node, &[]).unwrap();
    [before, during, last(subject)]
}

fn moved(a: &[f32], b: &[f32]) -> Vec<u32> {
    (0..a.len() as u32)
        .filter(|&at| a[at as usize].to_bits() != b[at as usize].to_bits())
        .collect()
}

#[test]
fn shifting_a_node_moves_the_energies_that_lead_there_and_no_other() {
    let mut subject = opened(GRAPH);
    let model = Model::open(&root().join(GRAPH), Verify::Whole).unwrap();
    let weights = model.mechanism().weights();
    let alpha = f64::from(weights.values("scalars")[0]).exp();
    let width = subject.shape().width;
    let delta: Vec<f32> = (0..width).map(|at| 0.1 * (at as f32 * 0.7).sin()).collect();
    let back: Vec<f32> = delta.iter().map(|value| -value).collect();
    let prompt = "They lived in a large";
    for word in [" house", " dog", " the"] {
        let all = subject.tokens(&format!("{prompt}{word}")).unwrap();
        assert_eq!(all.len(), subject.tokens(prompt).unwrap().len() + 1);
        let node = all[all.len() - 1];
        let at = node as usize;
        let [before, during, after] = shifted(&mut subject, prompt, node, &delta);
        assert_eq!(moved(&before, &during), [node], "{word}");
        assert!(moved(&before, &after).is_empty(), "{word}");
        // The energy is |z + shift|²: the second difference is 2 |shift|², whatever z.
        let [_, opposite, _] = shifted(&mut subject, prompt, node, &back);
        let second = f64::from(during[at]) + f64::from(opposite[at]) - 2.0 * f64::from(before[at]);
        let expected: f64 = delta
            .iter()
            .map(|value| 2.0 * f64::from(value * value))
            .sum();
        // Each of the three energies is rounded to a few units of its last place.
        let rounding = 8.0 * f64::from(f32::EPSILON * before[at]);
        assert!(
            (second - expected).abs() < 1e-4 * expected.max(1.0) + rounding,
            "{second} and {expected}"
        );
        // Choices take the energy above the node's rest, |h + β|² − |β|² = 2 h·β + |h|²: that moves by 2 h·shift, which is
        // half the first difference less 2 β·shift. All other scores stay.
        let resist = |subject: &mut ProbedModel| subject.resist(prompt, word).unwrap()[0];
        let plain = resist(&mut subject);
        subject.shift(node, &delta).unwrap();
        let now = resist(&mut subject);
        subject.shift(node, &[]).unwrap();
        let mut rest = vec![0.0; width];
        weights.table("node.target").read_row(at, &mut rest);
        let along: f64 = rest.iter().zip(&delta).map(|(b, d)| f64::from(b * d)).sum();
        let half = (f64::from(during[at]) - f64::from(opposite[at])) / 2.0;
        let score = alpha * (half - 2.0 * along);
        let expected = (1.0 + (-plain).exp() * (score.exp() - 1.0)).ln() - score;
        let seen = now - plain;
        assert!(
            (seen - expected).abs() < 1e-3,
            "{word}: {seen} and {expected}"
        );
        assert_eq!(resist(&mut subject), plain);
    }
    // A node on the way changes the signal, and so what follows.
    let node = subject.tokens(prompt).unwrap()[2];
    let [before, during, _] = shifted(&mut subject, prompt, node, &delta);
    assert!(moved(&before, &during).len() > before.len() / 2);

    for (node, delta, why) in [
        (u32::MAX, &delta[..], "is outside the graph"),
        (1, &delta[1..], "finite numbers"),
        (1, &vec![f32::NAN; width][..], "finite numbers"),
    ] {
        let error = subject.shift(node, delta).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn on_own_edges_each_edge_to_the_node_moves() {
    let folder = place("own");
    std::fs::create_dir_all(&folder).unwrap();
    let text = "the sun is big and the pea is small .\n\nthe pea is small and the sea is big .\n\n";
    std::fs::write(folder.join("words.txt"), text.repeat(40)).unwrap();
    std::fs::write(
        folder.join("own.toml"),
        "name = \"own\"\n[data]\ntrain = [\"words.txt\"]\nvalidation-fraction = 0\nvocabulary = 280\n\
         [profile]\npreset = \"sifu-own\"\nwidth = 8\n[train]\ntokens = 1000\nbatch = 4\nsteps = 10\nfolds = 0\n",
    )
    .unwrap();
    let (recipe, out) = (folder.join("own.toml"), folder.join("out"));
    let _ = std::fs::remove_dir_all(&out);
    let (recipe, out) = (recipe.to_str().unwrap(), out.to_str().unwrap());
    succeeds(&["train", recipe, "--out", out, "--quiet", "--json"]);
    let path = Path::new(out).join("model.bril");
    let model = Model::open(&path, Verify::Whole).unwrap();
    let graph = model.mechanism().graph();
    let mut subject = opened(path.to_str().unwrap());
    let delta = [0.3, -0.2, 0.1, 0.4, -0.1, 0.2, 0.3, -0.3];
    let prompt = "the sun is";
    let source = *subject.tokens(prompt).unwrap().last().unwrap();
    let (mut own, mut shared) = (0, 0);
    for node in 0..graph.nodes() as u32 {
        if subject.tokens(prompt).unwrap().contains(&node) {
            continue;
        }
        let edge = graph.edge(NodeId(source), NodeId(node));
        let has_own = edge.is_some_and(|edge| graph.edge_rows()[edge.index()] > 0);
        let [before, during, after] = shifted(&mut subject, prompt, node, &delta);
        match has_own {
            true => {
                own += 1;
                assert_eq!(moved(&before, &during), [node]);
            }
            // All shared edges have one matrix and one bias, which belong to no node.
            false => {
                shared += 1;
                assert!(moved(&before, &during).is_empty());
            }
        }
        assert!(moved(&before, &after).is_empty());
    }
    assert!(own > 0 && shared > 0, "{own} and {shared}");
}

#[test]
fn a_probe_may_ask_either_path() {
    let mut transformer = opened(TRANSFORMER);
    let shape = transformer.shape();
    assert_eq!(
        (shape.kind, shape.layers, shape.width),
        (SubjectKind::Transformer, 5, 64)
    );
    let text = "the little dog";
    let tokens = transformer.tokens(text).unwrap().len();
    let hidden = transformer.states(State::Hidden, text).unwrap();
    assert_eq!(hidden.len(), 6 * tokens * 64);
    transformer.untrained(Some(5)).unwrap();
    let random = transformer.states(State::Hidden, text).unwrap();
    assert_eq!(random.len(), hidden.len());
    assert_ne!(random, hidden);
    let surprise = mean(&transformer.resist("the", " little dog").unwrap());
    // Weights that know nothing are surprised as a uniform draw is.
    assert!(
        (surprise - (shape.nodes as f64).ln()).abs() < 1.0,
        "{surprise}"
    );
    transformer.untrained(None).unwrap();
    assert_eq!(transformer.states(State::Hidden, text).unwrap(), hidden);
    assert!(transformer.shift(1, &[0.0; 64]).is_err());
    assert!(transformer.states(State::Signal, text).is_err());
    assert!(
        transformer.resist("", "dog").is_ok(),
        "a mark stands before"
    );

    let mut graph = opened(GRAPH);
    let shape = graph.shape();
    assert_eq!(shape.kind, SubjectKind::Graph);
    let tokens = graph.tokens(text).unwrap();
    for (state, width) in [
        (State::Node, shape.width),
        (State::Signal, shape.width),
        (State::Energy, shape.nodes),
    ] {
        let values = graph.states(state, text).unwrap();
        assert_eq!(values.len(), tokens.len() * width);
    }
    assert!(graph.states(State::Hidden, text).is_err());
    assert!(graph.states(State::Node, "").is_err());
    // The least resistance is what generation takes.
    let resistance = |graph: &mut ProbedModel, word: &str| graph.resist(text, word).unwrap()[0];
    let greedy = succeeds(&[
        "generate",
        text,
        "--model",
        GRAPH,
        "--temperature",
        "0",
        "--tokens",
        "1",
        "--json",
    ]);
    let greedy: Value = serde_json::from_str(&greedy).unwrap();
    let next = greedy["text"].as_str().unwrap();
    let least = resistance(&mut graph, next);
    for other in [" house", " stone", " the"] {
        assert!(other == next || resistance(&mut graph, other) > least);
    }
    let error = graph.resist("", " dog").unwrap_err().to_string();
    assert!(error.contains("empty"), "{error}");
}
