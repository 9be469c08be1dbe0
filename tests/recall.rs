//! Recall and dynamic evaluation: definitions, bounds, saved sessions, fits.

use std::sync::Arc;

use brillm::ErrorKind;
use brillm::graph::PathSettings;
use brillm::hook::Hooks;
use brillm::kernel::random::Random;
use brillm::learn::{DynamicSettings, recall};
use brillm::path::{
    Charges, GraphSession, Recall, RecallSettings, Sampling, Session, SessionOptions, SessionState,
};
use brillm::run::{StreamOptions, evaluate_stream};
use brillm::signal::{Mechanism, Profile, Start};

mod support;
use support::small_mechanism;

/// One mechanism of each form of edges.
fn mechanisms() -> Vec<(&'static str, Arc<Mechanism>)> {
    let reference = Profile {
        positions: 512,
        ..Profile::reference(8)
    };
    [
        ("reference", reference),
        ("own", Profile::sifu_own(8)),
        ("composed", Profile::sifu(8)),
        ("layered", Profile::layered(8)),
    ]
    .map(|(name, profile)| (name, Arc::new(small_mechanism(&profile, 2))))
    .into()
}

/// A text over the nodes of [`small_mechanism`] in which walks repeat.
fn text(count: usize) -> Vec<u32> {
    let mut random = Random::new(7);
    let mut node = 0;
    let mut step = || {
        node = if random.uniform() < 0.8 {
            (node * 5 + 2) % 12
        } else {
            random.below(12) as u32
        };
        node
    };
    (0..count).map(|_| step()).collect()
}

fn settings(text: &str) -> RecallSettings {
    text.parse().unwrap()
}

fn session(mechanism: &Arc<Mechanism>, prompt: &[u32], recall: Option<&str>) -> GraphSession {
    let options = SessionOptions {
        recall: recall.map(settings),
        ..SessionOptions::default()
    };
    let sampling = Sampling::default().temperature(1.0).seed(3);
    GraphSession::begin_with(
        mechanism.clone(),
        prompt,
        &Start::Profile,
        sampling,
        options,
    )
    .unwrap()
}

/// Softmax in f64.
fn probabilities(logits: &[f32]) -> Vec<f64> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let values: Vec<f64> = logits.iter().map(|&y| f64::from(y - top).exp()).collect();
    let sum: f64 = values.iter().sum();
    values.iter().map(|value| value / sum).collect()
}

/// The mixture, from the definition: every key and what followed it, in lists.
fn mixture(
    model: &[f64],
    past: &[(Vec<f32>, u32)],
    key: &[f32],
    settings: &RecallSettings,
) -> Vec<f64> {
    let past = &past[past.len().saturating_sub(settings.window)..];
    let similar: Vec<f64> = past
        .iter()
        .map(|(other, _)| {
            let cosine: f64 = key
                .iter()
                .zip(other)
                .map(|(&a, &b)| f64::from(a) * f64::from(b))
                .sum();
            (f64::from(settings.theta) * (cosine - 1.0)).exp()
        })
        .collect();
    let n: f64 = similar.iter().sum();
    if past.is_empty() {
        return model.to_vec();
    }
    let odds = f64::from(settings.mu / (1.0 - settings.mu)) * n.powf(settings.slope.into());
    let mu = odds / (1.0 + odds);
    let mut mixed: Vec<f64> = model.iter().map(|p| (1.0 - mu) * p).collect();
    for ((_, node), one) in past.iter().zip(&similar) {
        mixed[*node as usize] += mu * one / n;
    }
    mixed
}

#[test]
fn recall_is_the_mixture_of_its_definition() {
    let table = [
        "5,4,0.3",
        "40,12,0.2,0.5",
        "3,0,0.9",
        "1,2,0.5,-1",
        "16,60,0.25",
    ];
    for (name, mechanism) in mechanisms() {
        for constants in table {
            let what = format!("{name}, {constants}");
            let text = text(60);
            let constants = settings(constants);
            let mut plain = session(&mechanism, &text[..1], None);
            let mut recalling = session(&mechanism, &text[..1], Some(&constants.to_string()));
            let mut past = Vec::new();
            for &next in &text[1..] {
                let key = mechanism.key(plain.flow());
                let length: f64 = key.iter().map(|&value| f64::from(value).powi(2)).sum();
                assert!(
                    (length - 1.0).abs() < 1e-5,
                    "{what}: a key of norm² {length}"
                );
                let model = probabilities(plain.look().unwrap().1);
                let found = probabilities(recalling.look().unwrap().1);
                let expected = mixture(&model, &past, &key, &constants);
                assert!((expected.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{what}");
                for (node, (found, expected)) in found.iter().zip(&expected).enumerate() {
                    let error = (found - expected).abs();
                    assert!(
                        error < 2e-6,
                        "{what}, step {}, node {node}: {found}, {expected}",
                        past.len()
                    );
                }
                // What each position adds is exactly what the model's part leaves.
                let shares = recalling.recall();
                assert_eq!(shares.len(), past.len().min(constants.window), "{what}");
                let mu: f64 = shares.iter().map(|one| one.share).sum();
                for node in 0..12u32 {
                    let own = shares.iter().filter(|one| one.node == node);
                    let added: f64 = own.map(|one| one.share).sum();
                    let rest = expected[node as usize] - (1.0 - mu) * model[node as usize];
                    assert!((added - rest).abs() < 1e-6, "{what}, node {node}");
                }
                for one in &shares {
                    assert_eq!(one.node, text[past.len() + 1 - one.back], "{what}");
                }
                let resistance = recalling.resistance(next).unwrap();
                assert!(
                    (resistance + expected[next as usize].ln()).abs() < 1e-4,
                    "{what}"
                );
                past.push((key, next));
                plain.force(next).unwrap();
                recalling.force(next).unwrap();
            }
        }
    }
}

#[test]
fn a_window_of_zero_and_a_weight_of_zero_change_nothing() {
    let text = text(40);
    for (name, mechanism) in mechanisms() {
        for constants in ["0,10,0.5", "20,10,0"] {
            let mut plain = session(&mechanism, &text, None);
            let mut recalling = session(&mechanism, &text, Some(constants));
            let logits = plain.look().unwrap().1.to_vec();
            assert_eq!(recalling.look().unwrap().1, logits, "{name}, {constants}");
            assert!(recalling.recall().is_empty(), "{name}, {constants}");
        }
        let off = session(&mechanism, &text, Some("0,10,0.5"))
            .state()
            .to_bytes()
            .unwrap();
        let never = session(&mechanism, &text, None).state().to_bytes().unwrap();
        let off = String::from_utf8(off).unwrap();
        assert_eq!(
            off.contains("\"recall\""),
            String::from_utf8(never).unwrap().contains("\"recall\"")
        );
    }
}

#[test]
fn a_recalling_session_is_saved_restored_and_bounded() {
    for (name, mechanism) in mechanisms() {
        let begin = || session(&mechanism, &text(30), Some("16,8,0.4,0.2"));
        let mut whole = begin();
        let mut parts = begin();
        for step in 0..50 {
            let state = SessionState::from_bytes(&parts.state().to_bytes().unwrap()).unwrap();
            let sampling = Sampling::default().temperature(1.0).seed(3);
            parts = GraphSession::restore(mechanism.clone(), state, sampling).unwrap();
            assert_eq!(
                whole.step().unwrap(),
                parts.step().unwrap(),
                "{name}, step {step}"
            );
            assert_eq!(whole.recall(), parts.recall(), "{name}, step {step}");
        }
        let bytes = whole.state_bytes();
        for _ in 0..200 {
            whole.step().unwrap();
        }
        assert_eq!(
            (whole.recall().len(), whole.state_bytes()),
            (16, bytes),
            "{name}"
        );
        // The latest entries stay when the window shrinks, and all when it grows.
        let last: Vec<u32> = whole.recall().iter().map(|one| one.node).collect();
        for (window, left) in [(40, 16), (5, 5), (5, 5), (9, 5)] {
            whole
                .set_recall(settings(&format!("{window},8,0.4")))
                .unwrap();
            let now: Vec<u32> = whole.recall().iter().map(|one| one.node).collect();
            assert_eq!(now, last[..left], "{name}, window {window}");
        }
        whole.step().unwrap();
        assert_eq!(whole.recall()[1].node, last[0], "{name}");
        whole.set_recall(RecallSettings::default()).unwrap();
        assert!(whole.recall().is_empty(), "{name}");
    }
}

#[test]
fn damaged_recall_of_a_session_is_refused() {
    let mechanism = Arc::new(small_mechanism(&Profile::layered(8), 2));
    let saved =
        serde_json::to_value(session(&mechanism, &text(30), Some("16,8,0.4")).state()).unwrap();
    let mut accepted = Vec::new();
    for (pointer, value) in [
        ("/recall/settings/window", serde_json::json!(15)),
        ("/recall/settings/window", serde_json::json!(1u64 << 40)),
        ("/recall/settings/theta", serde_json::json!(-1.0)),
        ("/recall/settings/mu", serde_json::json!(1.0)),
        ("/recall/oldest", serde_json::json!(16)),
        ("/recall/nodes/3", serde_json::json!(12)),
        ("/recall/nodes", serde_json::json!([1])),
        ("/recall/keys", serde_json::json!([0.5])),
        ("/recall/keys", serde_json::json!([])),
        ("/recall/keys/0", serde_json::json!(1e39)),
    ] {
        let mut state = saved.clone();
        *state.pointer_mut(pointer).expect(pointer) = value.clone();
        let restored = SessionState::from_bytes(state.to_string().as_bytes())
            .and_then(|state| GraphSession::restore(mechanism.clone(), state, Sampling::greedy()));
        match restored {
            Ok(_) => accepted.push(format!("{pointer} = {value}")),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Format, "{pointer}: {error}"),
        }
    }
    assert!(accepted.is_empty(), "accepted: {accepted:?}");
}

#[test]
fn constants_out_of_range_are_refused() {
    let mut accepted = Vec::new();
    for text in [
        "",
        "5",
        "5,1",
        "5,1,0.5,1,2",
        "-5,1,0.5",
        "x,1,0.5",
        "5,x,0.5",
        "70000,1,0.5",
        "5,-1,0.5",
        "5,nan,0.5",
        "5,inf,0.5",
        "5,1,1",
        "5,1,-0.1",
        "5,1,nan",
        "5,1,0.5,inf",
        "5.5,1,0.5",
        "5,,0.5",
    ] {
        match text.parse::<RecallSettings>() {
            Ok(_) => accepted.push(text),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Input, "{text:?}"),
        }
    }
    for text in [
        "", "x", "-1", "nan", "inf", "1,", "1,2", "1,-0.1", "1,0.1,0", "1,nan",
    ] {
        match text.parse::<DynamicSettings>() {
            Ok(_) => accepted.push(text),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Input, "{text:?}"),
        }
    }
    assert!(accepted.is_empty(), "accepted: {accepted:?}");
    let invalid = RecallSettings {
        window: 3,
        theta: f32::NAN,
        ..RecallSettings::default()
    };
    assert_eq!(Recall::new(invalid).unwrap_err().kind(), ErrorKind::Input);
}

#[test]
fn the_fit_finds_constants_that_an_evaluation_confirms() {
    let text = text(400);
    for (name, mechanism) in mechanisms() {
        if name == "reference" {
            continue; // Its paths end before the text does.
        }
        let fitted = recall::fit(&mechanism, &text, 50).unwrap();
        let measure = |recall| {
            let options = StreamOptions {
                recall,
                ..StreamOptions::default()
            };
            evaluate_stream(&mechanism, &text, 1, &options, &Hooks::default())
                .unwrap()
                .nats_per_token
        };
        for (what, found, expected) in [
            ("without", measure(None), fitted.before),
            (
                "constant",
                measure(Some(fitted.constant.0)),
                fitted.constant.1,
            ),
            ("gated", measure(Some(fitted.settings)), fitted.after),
        ] {
            assert!(
                (found - expected).abs() < 1e-4,
                "{name}, {what}: {found}, {expected}"
            );
        }
        assert!(
            fitted.after <= fitted.constant.1 && fitted.constant.1 < fitted.before - 0.01,
            "{name}: {fitted:?}"
        );
        assert_eq!(fitted.constant.0.slope, 0.0, "{name}");
    }
    let mechanism = &mechanisms()[2].1;
    for (count, window) in [(2, 10), (0, 10), (100, 0), (100, 1 << 20)] {
        let refused = recall::fit(mechanism, &text[..count], window).unwrap_err();
        assert_eq!(
            refused.kind(),
            ErrorKind::Input,
            "{count} tokens, window {window}"
        );
    }
}

#[test]
fn dynamic_evaluation_scores_before_it_learns() {
    let text = text(200);
    let options = |rate: &str| StreamOptions {
        dynamic: Some(rate.parse().unwrap()),
        ..StreamOptions::default()
    };
    for (name, mechanism) in mechanisms() {
        let measure = |tokens: &[u32], options: &StreamOptions| {
            evaluate_stream(&mechanism, tokens, 1, options, &Hooks::default())
                .map(|found| found.nats_per_token)
        };
        if name == "reference" || name == "own" {
            let refused = measure(&text[..40], &options("0.3")).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Unsupported, "{name}");
            continue;
        }
        let none = StreamOptions::default();
        // Nothing is learned before the 32nd prediction has been scored, and nothing at a rate of 0.
        assert_eq!(
            measure(&text[..33], &options("0.3")).unwrap(),
            measure(&text[..33], &none).unwrap(),
            "{name}"
        );
        assert_ne!(
            measure(&text[..34], &options("0.3")).unwrap(),
            measure(&text[..34], &none).unwrap(),
            "{name}"
        );
        assert_eq!(
            measure(&text, &options("0")).unwrap(),
            measure(&text, &none).unwrap(),
            "{name}"
        );
        // The same text again and again is learned; going back all the way to the trained weights learns nothing.
        let text = text[..50].repeat(8);
        let (fixed, learned) = (
            measure(&text, &none).unwrap(),
            measure(&text, &options("0.3")).unwrap(),
        );
        assert!(learned < fixed - 0.05, "{name}: {fixed}, dynamic {learned}");
        let pulled = measure(&text, &options("0.3,1")).unwrap();
        assert!(
            (pulled - fixed).abs() < 1e-5,
            "{name}: {fixed}, pulled back {pulled}"
        );
        let diverged = measure(&text, &options("1e38")).unwrap_err();
        assert_eq!(diverged.kind(), ErrorKind::Numeric, "{name}: {diverged}");
        assert!(
            diverged.to_string().contains("dynamic evaluation"),
            "{name}: {diverged}"
        );
        // With recall and charges besides.
        let both = StreamOptions {
            recall: Some(settings("64,8,0.2")),
            charges: Some("0.9,0.1,0.1,1".parse().unwrap()),
            ..options("0.3,0.01")
        };
        assert!(measure(&text, &both).unwrap() < learned, "{name}");
    }
}

#[test]
fn dynamic_evaluation_uses_the_walks_of_a_path_graph() {
    let profile = Profile::layered(8);
    let small = small_mechanism(&profile, 2);
    let text = text(300);
    let paths =
        brillm::graph::PathGraph::estimate(small.graph(), &text, &PathSettings::whole(4)).unwrap();
    let graph = small.graph().clone().with_paths(Some(paths));
    let mechanism = Mechanism::new(profile, graph, small.weights().clone()).unwrap();
    let options = StreamOptions {
        dynamic: Some("0".parse().unwrap()),
        ..StreamOptions::default()
    };
    for (order, supported) in [(2, true), (3, false), (4, true)] {
        let mechanism = Arc::new(mechanism.clone().with_order(order).unwrap());
        let measure = |options: &StreamOptions| {
            evaluate_stream(&mechanism, &text, 1, options, &Hooks::default())
        };
        match measure(&options) {
            Ok(found) => {
                let fixed = measure(&StreamOptions::default()).unwrap();
                assert!(
                    supported && found == fixed,
                    "order {order}: {found:?}, {fixed:?}"
                );
            }
            Err(error) => assert!(
                !supported && error.kind() == ErrorKind::Unsupported,
                "order {order}: {error}"
            ),
        }
    }
}

#[test]
fn recall_and_charges_work_together() {
    let mechanism = Arc::new(small_mechanism(&Profile::layered(8), 2));
    let text = text(40);
    let mut charged = session(&mechanism, &text[..1], None);
    let mut both = session(&mechanism, &text[..1], Some("20,6,0.3"));
    let mut past = Vec::new();
    for one in [&mut charged, &mut both] {
        one.set_charges(Charges::new(0.9, 0.4, 0.3, 1.0));
    }
    for &next in &text[1..] {
        let key = mechanism.key(charged.flow());
        let model = probabilities(charged.look().unwrap().1);
        let expected = mixture(&model, &past, &key, &settings("20,6,0.3"));
        for (found, expected) in probabilities(both.look().unwrap().1).iter().zip(&expected) {
            assert!((found - expected).abs() < 2e-6, "{found}, {expected}");
        }
        past.push((key, next));
        charged.force(next).unwrap();
        both.force(next).unwrap();
    }
}
