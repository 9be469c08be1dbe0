//! What plugins change through each hook.

use super::*;

struct Imagined;

impl Trial for Imagined {
    fn distances(
        &mut self,
        _: Distance,
        keys: &mut [f64],
        values: &mut [f64],
    ) -> brillm::Result<()> {
        keys.copy_from_slice(&[0.0, 1.0, 5.0, 2.0].repeat(4));
        for (place, key) in keys.iter_mut().enumerate() {
            *key = [0.0, 1.0, 5.0, 2.0][place / 4];
        }
        values.fill(0.0);
        Ok(())
    }
    fn similarity(&mut self, source: &[u32]) -> brillm::Result<f64> {
        assert_eq!(source, [0, 1, 0, 3]);
        Ok(0.9)
    }
}

#[test]
fn a_plugin_that_declines_every_call_changes_nothing() {
    let mechanism = mechanism();
    let hooks = load(&["decline"]).hooks().clone();
    assert!(!hooks.is_empty());
    for sampling in [
        Sampling::greedy(),
        Sampling::default().temperature(0.9).top_p(0.9).seed(5),
    ] {
        assert_eq!(
            walk(&mechanism, sampling.clone(), &hooks).unwrap(),
            walk(&mechanism, sampling, &Hooks::default()).unwrap()
        );
    }
    let (mut with, mut without) = (
        session(&mechanism, Sampling::greedy(), &hooks).unwrap(),
        session(&mechanism, Sampling::greedy(), &Hooks::default()).unwrap(),
    );
    assert_eq!(with.look().unwrap(), without.look().unwrap());
    assert_eq!(
        with.resistance(5).unwrap().to_bits(),
        without.resistance(5).unwrap().to_bits()
    );
    let of = |hooks: &Hooks| {
        let tokens: Vec<u32> = (0..60).map(|place| place * 5 % 12).collect();
        evaluate_windows(&mechanism, &tokens, &Windows::new(11, 5), hooks).unwrap()
    };
    assert_eq!(of(&hooks), of(&Hooks::default()));
    let of = |hooks: &Hooks| {
        beam(
            &mechanism,
            &[3],
            &Start::Profile,
            &BeamOptions::new(4, 5),
            hooks,
        )
        .unwrap()
    };
    assert_eq!(of(&hooks), of(&Hooks::default()));
}

#[test]
fn edge_and_start_hooks_steer_the_path() {
    let mechanism = mechanism();
    let walked = walk(&mechanism, Sampling::greedy(), &Hooks::default()).unwrap();
    let steered = load(&["steer:to=7,bonus=1000"]).hooks().clone();
    // Self-loops are allowed in this profile, so the free way is always taken.
    assert_eq!(
        walk(&mechanism, Sampling::greedy(), &steered).unwrap(),
        [7; 20]
    );
    assert_ne!(walked, [7; 20]);
    let paths = beam(
        &mechanism,
        &[3],
        &Start::Profile,
        &BeamOptions::new(1, 4),
        &steered,
    )
    .unwrap();
    assert_eq!(paths[0].nodes, [7; 4]);
    let mut one = session(&mechanism, Sampling::greedy(), &steered).unwrap();
    assert!(one.resistance(7).unwrap().abs() < 1e-6);
    // A chain is asked in the order of its names, and each sees what the one before it left.
    let ahead = |named: &[&str]| {
        let hooks = load(named).hooks().clone();
        let mut session = session(&mechanism, Sampling::greedy(), &hooks).unwrap();
        let (_, logits) = session.look().unwrap();
        f64::from(logits[7] - logits[2])
    };
    let plain = ahead(&["watch"]);
    for (named, expected) in [
        (["half", "steer:to=7,bonus=3"], 0.5 * plain + 3.0),
        (["steer:to=7,bonus=3", "half"], 0.5 * (plain + 3.0)),
    ] {
        assert!((ahead(&named) - expected).abs() < 1e-4, "{named:?}");
    }

    let ones = load(&["steer:start=1"]).hooks().clone();
    let asked = session(&mechanism, Sampling::greedy(), &ones).unwrap();
    let own =
        GraphSession::begin(mechanism.clone(), &[3, 4], &Start::Ones, Sampling::greedy()).unwrap();
    assert_eq!(asked.flow(), own.flow());
    let plain = session(&mechanism, Sampling::greedy(), &Hooks::default()).unwrap();
    assert_ne!(asked.flow(), plain.flow());
}

#[test]
fn only_one_plugin_may_give_the_start() {
    let two: Vec<Selection> = ["steer", "decline"]
        .iter()
        .map(|name| name.parse().unwrap())
        .collect();
    let error = Plugins::load(&two, &finder()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains("signal/1"), "{error}");
}

#[test]
fn path_and_tap_hooks_see_every_step() {
    let mechanism = mechanism();
    let plugins = load(&["watch"]);
    let path = walk(
        &mechanism,
        Sampling::default().temperature(1.0).seed(2),
        plugins.hooks(),
    )
    .unwrap();
    let plain = walk(
        &mechanism,
        Sampling::default().temperature(1.0).seed(2),
        &Hooks::default(),
    )
    .unwrap();
    assert_eq!(path, plain, "a probe changes nothing");
    let seen = &plugins.reports(&Call::new(0, 0, 0)).unwrap()["org.brillm.test.watch"];
    let hops = seen["hops"].as_array().unwrap();
    assert_eq!(hops.len(), 21);
    assert_eq!(
        hops[0],
        json!([3, 4, null]),
        "hops of the prompt have no rank"
    );
    for (hop, node) in hops[1..].iter().zip(&path) {
        assert_eq!(hop[1], *node);
        assert!(hop[2].as_u64().unwrap() < NODES as u64);
    }
    assert_eq!(
        (&seen["signals"], &seen["energies"]),
        (&json!(22), &json!(20))
    );
    assert_eq!(seen["width"], NODES);
    assert!(seen["least_resistance"].as_f64().unwrap() > 0.0);
}

#[test]
fn sample_hooks_change_logits_and_choose_tokens() {
    let mechanism = mechanism();
    let hot = Sampling::default().temperature(2.0).seed(9);
    let cold = load(&["choose:temperature=0"]).hooks().clone();
    assert_eq!(
        walk(&mechanism, hot.clone(), &cold).unwrap(),
        walk(&mechanism, Sampling::greedy(), &Hooks::default()).unwrap()
    );
    let same = load(&["choose:temperature=0.7,hidden=true"])
        .hooks()
        .clone();
    assert_eq!(
        walk(&mechanism, hot.clone(), &same).unwrap(),
        walk(&mechanism, hot.clone().temperature(0.7), &Hooks::default()).unwrap()
    );
    let uniform = load(&["choose:uniform=true,temperature=1"]).hooks().clone();
    let (one, two) = (
        walk(&mechanism, hot.clone(), &uniform),
        walk(&mechanism, hot.clone(), &uniform),
    );
    let one = one.unwrap();
    assert_eq!(one, two.unwrap(), "random numbers of the host replay");
    assert_ne!(one, walk(&mechanism, hot.seed(10), &uniform).unwrap());
    let mut measured = session(&mechanism, Sampling::greedy(), &same).unwrap();
    let mut plain = session(&mechanism, Sampling::greedy(), &Hooks::default()).unwrap();
    let logits: Vec<f64> = plain
        .look()
        .unwrap()
        .1
        .iter()
        .map(|&score| f64::from(score) / 0.7)
        .collect();
    let top = logits.iter().copied().fold(f64::MIN, f64::max);
    let sum: f64 = logits.iter().map(|score| (score - top).exp()).sum();
    let expected = top + sum.ln() - logits[5];
    assert!((measured.resistance(5).unwrap() - expected).abs() < 1e-4);
    assert!(
        session(&mechanism, Sampling::greedy(), &cold)
            .unwrap()
            .resistance(5)
            .is_err()
    );
}

#[test]
fn an_order_hook_extends_a_text_at_both_ends() {
    let mechanism = mechanism();
    let hooks = load(&["outward"]).hooks().clone();
    let sampling = Sampling::default().temperature(0.8).seed(1);
    let grown = grow(
        &mechanism,
        &[3, 4],
        &Start::Profile,
        &sampling,
        9,
        None,
        &hooks,
    )
    .unwrap();
    assert_eq!((grown.ids.len(), grown.before), (11, 5));
    assert_eq!(grown.ids[5..7], [3, 4]);
    for (step, placed) in grown.placed.iter().enumerate() {
        assert_eq!(placed.backward, step % 2 == 0);
        assert_eq!(grown.ids[(placed.position + 5) as usize], placed.token);
        assert!(placed.resistance >= 0.0);
    }
    // To the left only walked edges are taken.
    for pair in grown.ids[..6].windows(2) {
        let graph = mechanism.graph();
        assert!(
            graph
                .fan(brillm::graph::NodeId(pair[0]))
                .position(pair[1])
                .is_some(),
            "{pair:?}"
        );
    }
    let again = grow(
        &mechanism,
        &[3, 4],
        &Start::Profile,
        &sampling,
        9,
        None,
        &hooks,
    )
    .unwrap();
    assert_eq!(grown, again);
    // Nobody asked: it grows to the right, as a session does.
    let right = grow(
        &mechanism,
        &[3, 4],
        &Start::Profile,
        &sampling,
        20,
        None,
        &Hooks::default(),
    );
    assert_eq!(
        right.unwrap().ids[2..],
        walk(&mechanism, sampling, &Hooks::default()).unwrap()
    );
}

#[test]
fn kv_hooks_plan_and_evict() {
    let hooks = load(&["memory"]).hooks().clone();
    let call = Call::new(1, 0, 0);
    let plan = hooks.plan.as_ref().unwrap();
    assert!(plan.tries());
    let ones = [1; 4];
    let shape = KvShape {
        layers: 4,
        query_heads: &ones,
        kv_heads: &ones,
        head_width: &ones,
        context: 64,
    };
    let (mut source, mut storage) = ([0, 1, 2, 3], [0; 4]);
    let planned = Planned {
        source: &mut source,
        storage: &mut storage,
    };
    let mut trial = Imagined;
    assert_eq!(
        plan.plan(&call, &shape, Some(&mut trial), planned).unwrap(),
        Answer::Given
    );
    assert_eq!((source, storage), ([0, 1, 0, 3], [16; 4]));
    let planned = Planned {
        source: &mut source,
        storage: &mut storage,
    };
    assert_eq!(
        plan.plan(&call, &shape, None, planned).unwrap(),
        Answer::Declined
    );

    let keep = hooks.keep.as_ref().unwrap();
    let needs = keep.begin(&call, 40).unwrap();
    let column = needs.column.unwrap();
    assert_eq!(
        (column.window, column.heads),
        (10, HeadReduction::GroupMean)
    );
    assert!(needs.accumulated && !needs.key_norm && (column.newest - 1.2).abs() < 1e-6);
    let positions: Vec<u32> = (0..6).collect();
    let weights = [1.0, 9.0, 2.0, 8.0, 3.0, 7.0, 9.0, 1.0, 8.0, 2.0, 7.0, 3.0];
    let question = KeepQuestion {
        phase: Phase::Prefill,
        layer: 0,
        layers: 2,
        heads: 2,
        prompt: 6,
        length: 6,
        positions: &positions.repeat(2),
        stream: &positions,
        column: &[],
        accumulated: &weights,
        key_norm: &[],
    };
    let kept = keep.keep(&call, &question).unwrap().unwrap();
    assert_eq!(kept.slots.unwrap(), [[1, 3, 5], [0, 2, 5]]);
    assert_eq!(
        (kept.stream, kept.next_check),
        (Some(vec![0, 2, 4, 5]), Some(11))
    );

    let format = |side| {
        let question = CodecQuestion {
            layer: 0,
            layers: 4,
            head_width: 8,
            side,
        };
        hooks
            .codec
            .as_ref()
            .unwrap()
            .plan(&call, &question)
            .unwrap()
            .unwrap()
    };
    assert_eq!(format(CodecSide::Key).axis, CodecAxis::Channel);
    assert_eq!(
        (format(CodecSide::Value).axis, format(CodecSide::Value).bits),
        (CodecAxis::Token, 4)
    );
}

#[test]
fn recent_keeps_sinks_and_a_window() {
    let hooks = load(&["recent:sinks=2,window=3"]).hooks().clone();
    let keep = hooks.keep.as_ref().unwrap();
    let call = Call::new(1, 0, 0);
    assert_eq!(keep.begin(&call, 9).unwrap(), Default::default());
    let ask = |positions: &[u32], length: usize| {
        let question = KeepQuestion {
            phase: Phase::Decode,
            layer: 0,
            layers: 1,
            heads: 1,
            prompt: 4,
            length,
            positions,
            stream: &[],
            column: &[],
            accumulated: &[],
            key_norm: &[],
        };
        keep.keep(&call, &question).unwrap().unwrap()
    };
    let nine: Vec<u32> = (0..9).collect();
    let kept = ask(&nine, 9);
    assert_eq!(
        (kept.slots, kept.next_check),
        (Some(vec![vec![0, 1, 6, 7, 8]]), Some(5))
    );
    // One token later the slots hold other positions.
    assert_eq!(
        ask(&[0, 1, 6, 7, 8, 9], 10).slots,
        Some(vec![vec![0, 1, 3, 4, 5]])
    );
    assert_eq!(ask(&[0, 1, 2, 3], 4).slots, None);
}

#[test]
fn mask_hooks_learn_and_save_their_state() {
    let hooks = load(&["memory"]).hooks().clone();
    let mask = hooks.mask.as_ref().unwrap();
    let call = Call::new(1, 0, 5);
    let moment = MaskMoment {
        step: 5,
        steps: 10,
        epoch: 0.5,
    };
    assert!((mask.ratio(&call, &moment).unwrap().unwrap() - 0.15).abs() < 1e-12);
    let mut weights = [1.0; 3];
    let question = MaskTokens {
        tokens: &[0, 1, 3],
        tags: &[],
        words: &[],
        allowed: &[true; 3],
        ratio: 0.15,
    };
    assert_eq!(
        mask.weigh(&call, &question, &mut weights).unwrap(),
        Answer::Given
    );
    assert_eq!(weights, [1.0, 0.5, 0.25]);
    let outcome = MaskOutcome {
        tokens: &[0, 1],
        tags: &[],
        losses: &[0.5, 1.5],
    };
    mask.learn(&call, &outcome).unwrap();
    let state = mask.save().unwrap();
    assert_eq!(state, [2f64.to_le_bytes(), 2u64.to_le_bytes()].concat());
    let other = load(&["memory"]).hooks().clone();
    let other = other.mask.as_ref().unwrap();
    assert_ne!(other.save().unwrap(), state);
    other.restore(&state).unwrap();
    assert_eq!(other.save().unwrap(), state);
    assert!(
        other
            .restore(&[1, 2])
            .unwrap_err()
            .to_string()
            .contains("16 bytes")
    );
}

#[test]
fn corpus_hooks_make_records_of_references() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.txt");
    std::fs::write(&text, "The sun is a star.\n").unwrap();
    let out = folder.path().join("records.jsonl");
    let (text, out) = (text.display().to_string(), out.display().to_string());
    let said = report(&[
        "corpus",
        &text,
        "--out",
        &out,
        "--no-model",
        "--plugin",
        "pairs",
        "--json",
    ]);
    assert_eq!(said["records"], 1);
    assert_eq!(said["plugins"][0]["id"], "org.brillm.test.pairs");
    let record: Value = serde_json::from_str(&std::fs::read_to_string(&out).unwrap()).unwrap();
    assert_eq!(record["reference"], "0");
    assert_eq!(record["answer"], Value::Null);
    if cfg!(feature = "model") {
        let output = brillm(&["corpus", &text, "--plugin", "pairs", "--temperature", "0"]);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let record: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(
            record["answer"]
                .as_str()
                .is_some_and(|answer| !answer.is_empty()),
            "{record}"
        );
    }
    let output = brillm(&["corpus", &text, "--no-model"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("corpus/1"));
}
