//! Explanations of a choice: parts of a margin, what happens without them, and the test on texts.

use std::sync::atomic::AtomicBool;

use brillm::ErrorKind;
use brillm::kernel::random::Random;
use brillm::run::Engine;
use brillm::run::explain::{TermKind, explain, faithfulness};
use brillm::run::trace::EntryKind;
use brillm::signal::{
    Attribution, ContributionSource, Flow, MarginSource, Mechanism, Profile, Start,
};
use serde_json::Value;

mod support;
use support::{fails, run, small_mechanism, succeeds, text_of};

/// One mechanism of each form of edges, layered ones of one, two and three layers.
fn mechanisms() -> Vec<(&'static str, Mechanism)> {
    let reference = Profile {
        positions: 512,
        ..Profile::reference(8)
    };
    let layered = |layers| Profile {
        layers,
        ..Profile::layered(8)
    };
    [
        ("reference", reference),
        ("own", Profile::sifu_own(8)),
        ("composed", Profile::sifu(8)),
        (
            "low rank",
            Profile {
                rank: 3,
                ..Profile::sifu(8)
            },
        ),
        (
            "residual",
            Profile {
                residual: Some(2),
                ..Profile::sifu(8)
            },
        ),
        ("one layer", layered(1)),
        ("two layers", layered(2)),
        ("three layers", layered(3)),
    ]
    .map(|(name, profile)| (name, small_mechanism(&profile, 2)))
    .into()
}

/// A path of some hops, its attribution and the logits of the next node.
fn path(mechanism: &Mechanism, hops: usize) -> (Flow, Attribution, Vec<f32>) {
    let mut random = Random::new(3);
    let mut flow = mechanism.begin(0, &Start::Profile).unwrap();
    let mut attribution = Attribution::begin(mechanism, &flow);
    for _ in 0..hops {
        let next = random.below(mechanism.nodes() as u64) as u32;
        mechanism.hop(&mut flow, next).unwrap();
        attribution.hop(mechanism, &flow);
    }
    let logits = logits(mechanism, &flow);
    (flow, attribution, logits)
}

fn logits(mechanism: &Mechanism, flow: &Flow) -> Vec<f32> {
    let mut energies = vec![0.0; mechanism.nodes()];
    let mut logits = energies.clone();
    mechanism.energies(flow, &mut energies).unwrap();
    mechanism.logits(flow, &energies, &mut logits);
    logits
}

#[test]
fn the_parts_add_up_to_the_margin() {
    for (name, mechanism) in mechanisms() {
        for hops in [0, 1, 9] {
            let (flow, attribution, logits) = path(&mechanism, hops);
            for (chosen, alternative) in [(1, 2), (4, 0), (3, 3)] {
                let targets = (chosen, alternative);
                let margin = attribution
                    .margin(&mechanism, &flow, &logits, targets)
                    .unwrap();
                let sum: f64 = margin.terms.iter().map(|term| term.1).sum();
                let largest = margin
                    .terms
                    .iter()
                    .map(|term| term.1.abs())
                    .fold(1.0, f64::max);
                assert!(
                    (sum - margin.value).abs() < 1e-4 * largest,
                    "{name}, {hops} hops, {targets:?}: {sum} of {}",
                    margin.value
                );
                let exact = !matches!(name, "reference" | "own" | "residual");
                assert_eq!(margin.linear, exact, "{name}");
            }
        }
    }
}

#[test]
fn a_part_is_what_the_margin_loses_without_the_token() {
    let mut compared = 0;
    for (name, mechanism) in mechanisms() {
        let (flow, attribution, before) = path(&mechanism, 9);
        let margin = attribution
            .margin(&mechanism, &flow, &before, (1, 2))
            .unwrap();
        for (source, value) in &margin.terms {
            let MarginSource::Signal(ContributionSource::Token { position, .. }) = source else {
                continue;
            };
            let muted = match attribution.mute(&mechanism, &flow, *position) {
                Ok(muted) => muted,
                Err(error) => {
                    assert_eq!((error.kind(), name), (ErrorKind::Unsupported, "residual"));
                    continue;
                }
            };
            let after = logits(&mechanism, &muted);
            let lost = margin.value - f64::from(after[1] - after[2]);
            // The bias, the counts and the scale of the read-out stay.
            if margin.linear {
                assert!(
                    (lost - value).abs() < 1e-4,
                    "{name}, {position}: {value}, not {lost}"
                );
                compared += 1;
            }
        }
        let error = attribution.mute(&mechanism, &flow, 10).unwrap_err();
        assert_ne!(error.kind(), ErrorKind::Numeric, "{name}");
    }
    // Ten tokens in each of five forms.
    assert_eq!(compared, 50);
}

#[test]
fn steps_are_those_of_greedy_decoding() {
    let engine = brillm::open("models/english.bril").unwrap();
    let model = engine.as_graph().unwrap();
    let prompt = engine
        .encode("Once upon a time, there was a little")
        .unwrap();
    let explained = explain(model.mechanism(), &prompt, 6, None, &[]).unwrap();
    let mut session = engine
        .session(&prompt, brillm::path::Sampling::greedy())
        .unwrap();
    for (step, one) in explained.iter().enumerate() {
        assert_eq!(one.source, session.token());
        assert_eq!(one.position, prompt.len() + step);
        assert_eq!(session.step().unwrap(), Some(one.chosen));
        let [chosen, other] = one.probabilities;
        assert!(((chosen / other).ln() - one.margin).abs() < 1e-3 && one.margin >= 0.0);
        // Every earlier token is a part, with the edge that led to it.
        let tokens: Vec<_> = one
            .terms
            .iter()
            .filter(|term| term.position.is_some())
            .collect();
        assert_eq!(tokens.len(), prompt.len() + step);
        for (position, term) in tokens.iter().enumerate() {
            assert_eq!(term.position, Some(position));
            assert_eq!(term.edge_source.is_none(), position == 0);
            assert_eq!(term.kind, TermKind::Signal(EntryKind::Token));
        }
    }
    // A named alternative; the chosen token itself is compared with the next likeliest.
    let boy = engine.encode(" boy").unwrap()[0];
    let over =
        |id: u32| explain(model.mechanism(), &prompt, 1, Some(id), &[]).unwrap()[0].alternative;
    assert_eq!(over(boy), boy);
    assert_eq!(over(explained[0].chosen), explained[0].alternative);
    assert!(explain(model.mechanism(), &prompt, 1, Some(1 << 20), &[]).is_err());
    assert!(explain(model.mechanism(), &[], 1, None, &[]).is_err());
}

#[test]
fn a_token_that_cannot_follow_is_no_alternative() {
    let (name, mechanism) = mechanisms().swap_remove(0);
    assert!(!mechanism.profile().self_loops, "{name}");
    let error = explain(&mechanism, &[0, 3], 1, Some(3), &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Input);
    assert!(
        error.to_string().contains("cannot follow itself"),
        "{error}"
    );
    for one in explain(&mechanism, &[0, 3], 4, None, &[]).unwrap() {
        assert!(
            one.margin.is_finite() && one.alternative != one.source,
            "{one:?}"
        );
    }
}

/// Test explanations on a few texts: on three, the averages depend on the model by chance.
fn tested(engine: &Engine, seed: u64) -> brillm::run::explain::Faithfulness {
    let texts = [
        "Once upon a time, there was a little girl who loved to play",
        "The dog ran to the park with his friend and they were very",
        "One day, Tom and his mom went to the store to buy some",
        "The little bird wanted to fly high in the sky but it was",
        "Lily found a big red ball in the garden and she gave it",
        "The boy was sad because his toy was broken and he could not",
        "They went to the beach and made a big castle of sand with",
        "The old man had a small boat and he liked to catch fish",
        "Mom said that it was time to go to bed but the girl",
        "The cat saw a mouse under the table and tried to get it",
    ];
    let texts: Vec<Vec<u32>> = texts
        .iter()
        .map(|text| engine.encode(text).unwrap())
        .collect();
    faithfulness(engine, &texts, seed, &mut || (), &AtomicBool::new(false)).unwrap()
}

#[test]
fn flips_at_a_step_of_a_graph_are_predicted() {
    let engine = brillm::open("models/english.bril").unwrap();
    let measured = tested(&engine, 1);
    let muted = measured.muted.unwrap();
    assert!(
        muted.removals > 30 && muted.largest_error < 1e-3,
        "{muted:?}"
    );
    assert_eq!(
        (muted.predicted, muted.false_alarms),
        (muted.flips, 0),
        "{muted:?}"
    );
    let names: Vec<_> = measured.methods.iter().map(|row| row.method).collect();
    assert_eq!(names, ["contribution, counts", "contribution", "random"]);
    let [contribution, _, random] = &measured.methods[..] else {
        unreachable!()
    };
    // The same removals, whatever the method says of them.
    assert_eq!(
        (contribution.flips, contribution.removals),
        (random.flips, random.removals)
    );
    assert!(contribution.correlation.mean > 0.5, "{contribution:?}");
    assert!(contribution.comprehensiveness.mean > random.comprehensiveness.mean);
    assert!(contribution.deletion.mean < random.deletion.mean);
    for row in &measured.methods {
        for figure in [
            row.correlation,
            row.comprehensiveness,
            row.sufficiency,
            row.deletion,
            row.insertion,
        ] {
            assert!(
                figure.low <= figure.mean && figure.mean <= figure.high,
                "{row:?}"
            );
        }
    }
    assert_eq!(tested(&engine, 1), measured);
}

#[cfg(feature = "transformer")]
#[test]
fn explanations_of_transformers_are_tested_on_the_same_texts() {
    let engine = brillm::open("models/stories260K").unwrap();
    let measured = tested(&engine, 1);
    assert!(measured.muted.is_none());
    let names: Vec<_> = measured.methods.iter().map(|row| row.method).collect();
    assert_eq!(
        names,
        [
            "attention",
            "attention rollout",
            "gradient x input",
            "integrated gradients",
            "random"
        ]
    );
    let flips: Vec<_> = measured.methods.iter().map(|row| row.flips).collect();
    assert!(flips.iter().all(|&count| count == flips[0]));
}

#[test]
fn the_command_explains_a_prompt_and_reports_mistakes() {
    let output = succeeds(&["explain", "Once upon a time, there was a little"]);
    assert!(
        output.contains(" over ") && output.contains("static resistances"),
        "{output}"
    );
    let json = succeeds(&[
        "explain",
        "Once upon a time, there was a little",
        "--alternative",
        " boy",
        "--tokens",
        "2",
        "--json",
    ]);
    let json: Value = serde_json::from_str(&json).unwrap();
    let steps = json["explanations"].as_array().unwrap();
    assert_eq!(steps.len(), 2);
    for step in steps {
        let terms = step["terms"].as_array().unwrap();
        let sum: f64 = terms
            .iter()
            .map(|term| term["value"].as_f64().unwrap())
            .sum();
        assert!((sum - step["margin"].as_f64().unwrap()).abs() < 1e-3);
        assert_eq!(step["exact"], true);
    }
    let mistakes: [(&[&str], &str); 5] = [
        (&["explain", ""], "the prompt is empty"),
        (&["explain", "Once", "--alternative", "a b c"], "expected 1"),
        (
            &["explain", "Once", "--model", "models/stories260K"],
            "needs a graph",
        ),
        (
            &["explain", "--test", "README.md", "--texts", "100000"],
            "too few",
        ),
        (&["explain", "--test", "absent.txt"], "absent.txt"),
    ];
    for (arguments, message) in mistakes {
        let error = fails(arguments);
        assert!(error.contains(message), "{arguments:?}: {error}");
    }
    // Without a prompt the command prints how it is used.
    let usage = run(&["explain"]);
    assert_eq!(usage.status.code(), Some(2));
    assert!(text_of(&usage.stderr).contains("required"));
}
