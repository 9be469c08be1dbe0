use super::*;

const SEVEN_BILLION: Lengths = Lengths {
    recent: 0.2,
    ratio: 0.9,
    curve: Curve::Cosine,
    minimum: 64,
    clamp: false,
    interval: 1,
};

fn options() -> Options {
    serde_json::from_value(json!({
        "recent": 0.2, "ratio": 0.9, "curve": "cosine", "minimum": 64, "clamp": false, "interval": 1, "sinks": 4,
        "weight": 1.2, "every": 16, "generation-ratio": 0.1, "generation-fraction": 0.9, "order": "attention",
    }))
    .unwrap()
}

#[test]
fn lengths_are_those_of_the_authors_code() {
    let golden = [
        1000, 1000, 999, 998, 996, 992, 987, 980, 971, 959, 945, 928, 908, 886, 861, 834, 805, 774,
        742, 709, 676, 643, 610, 578, 547, 517, 488, 461, 436, 413, 392, 373,
    ];
    assert_eq!(SEVEN_BILLION.all(32, 1000), golden);
    let mean = |lengths: Lengths, layers: usize, prompt: usize| {
        let held: usize = lengths.all(layers, prompt).iter().sum();
        held as f64 / (layers * prompt) as f64
    };
    let thirteen = Lengths {
        ratio: 0.8,
        interval: 2,
        ..SEVEN_BILLION
    };
    let seventy = Lengths {
        interval: 3,
        ..SEVEN_BILLION
    };
    for (lengths, layers, golden) in [
        (SEVEN_BILLION, 32, [0.758, 0.757, 0.762, 0.765, 0.766]),
        (thirteen, 40, [0.743, 0.723, 0.722, 0.723, 0.724]),
        (seventy, 80, [0.769, 0.774, 0.778, 0.780, 0.782]),
    ] {
        for (prompt, golden) in [256, 512, 1024, 2048, 8192].into_iter().zip(golden) {
            let mean = mean(lengths, layers, prompt);
            assert!((mean - golden).abs() < 6e-4, "{layers} {prompt}: {mean}");
        }
    }
}

#[test]
fn short_prompts_are_left_alone() {
    for prompt in [1, 2, 5, 64, 80] {
        assert_eq!(SEVEN_BILLION.all(8, prompt), [prompt; 8], "{prompt}");
    }
    let whole = Lengths {
        ratio: 1.0,
        ..SEVEN_BILLION
    };
    assert_eq!(whole.all(8, 1000), [1000; 8]);
}

#[test]
fn a_context_can_be_clamped_to_the_minimum() {
    let of = |clamp, curve| {
        Lengths {
            ratio: 0.5,
            curve,
            clamp,
            minimum: 30,
            ..SEVEN_BILLION
        }
        .all(4, 100)
    };
    // 21 recent tokens and 79 before them.
    assert_eq!(of(false, Curve::Constant), [100, 60, 60, 60]);
    assert_eq!(of(true, Curve::Constant), [100, 60, 51, 51]);
    assert_eq!(of(false, Curve::Linear), [100, 100, 90, 72]);
}

#[test]
fn the_ratio_that_retains_a_share_is_found() {
    let lengths = Lengths {
        minimum: 8,
        clamp: true,
        ..SEVEN_BILLION
    };
    for share in [0.7, 0.8, 0.9] {
        let ratio = lengths.solve(8, 1000, share);
        let held: usize = Lengths { ratio, ..lengths }.all(8, 1000).iter().sum();
        assert!(
            (held as f64 / 8000.0 - share).abs() < 2e-3,
            "{share}: {ratio}"
        );
    }
}

#[test]
fn the_stream_keeps_sinks_the_heavy_and_the_recent() {
    let options = Options {
        ratio: 0.5,
        curve: Curve::Constant,
        minimum: 0,
        sinks: 1,
        ..options()
    };
    // Ten tokens: the last three are recent, three of the seven others go on.
    let scores = [0.0, 0.1, 0.9, 0.2, 0.8, 0.3, 0.4, 9.0, 9.0, 9.0];
    assert_eq!(
        options.prune(&options.lengths(4, 10), 1, 0, 4, 10, &scores),
        Some(vec![0, 2, 4, 7, 8, 9])
    );
    for (order, expected) in [
        (RankingOrder::Recency, vec![0, 5, 6, 7, 8, 9]),
        (RankingOrder::Reversed, vec![0, 1, 3, 7, 8, 9]),
    ] {
        let options = Options {
            order,
            ..self::options()
        };
        let options = Options {
            ratio: 0.5,
            curve: Curve::Constant,
            minimum: 0,
            sinks: 1,
            ..options
        };
        assert_eq!(
            options.prune(&options.lengths(4, 10), 1, 0, 4, 10, &scores),
            Some(expected)
        );
    }
    assert_eq!(
        options.prune(&options.lengths(4, 10), 1, 3, 4, 10, &scores),
        None,
        "no layer follows"
    );
}

#[test]
fn what_leaves_the_window_is_thinned() {
    // The published k of 32 layers, with E = 16, c = .9, g = .1.
    let golden = [
        14, 14, 14, 14, 13, 13, 13, 12, 12, 12, 11, 10, 10, 9, 9, 8, 7, 7, 6, 6, 5, 4, 4, 3, 3, 2,
        2, 2, 1, 1, 1, 1,
    ];
    let options = options();
    // Twenty of the prompt, five generated before that survived, sixteen to be thinned, a tail of nine.
    let scores: Vec<f32> = (0..50).map(|slot| (slot * 37 % 50) as f32).collect();
    for (layer, golden) in golden.into_iter().enumerate() {
        let eviction = options.thin(1, layer, 32, 9, 20, &scores).unwrap();
        assert_eq!(eviction.len(), 50 - 16 + golden, "layer {layer}");
        assert!((0..25).chain(41..50).all(|slot| eviction.contains(&slot)));
        let least = eviction[25..25 + golden]
            .iter()
            .map(|&slot| scores[slot as usize] as u32)
            .min();
        let dropped = (25..41).filter(|slot| !eviction.contains(slot));
        assert!(dropped.map(|slot| scores[slot as usize] as u32).max() < least);
    }
    // Fewer than E have left the window: nothing happens, and the prompt is never touched.
    assert_eq!(options.thin(1, 31, 32, 9, 26, &scores), None);
    assert_eq!(options.thin(1, 31, 32, 60, 20, &scores), None);
}
