//! The KV cache of a transformer: plans, batches, eviction and quantisation.
#![cfg(feature = "transformer")]

mod support;

use std::sync::{Arc, Mutex};

use brillm::Result;
use brillm::hook::{
    Call, CodecAxis, ColumnSum, Eviction, HeadReduction, Keep, KeepNeeds, KeepQuestion, Phase,
};
use brillm::path::{Sampling, Session};
use brillm::transformer::{
    Cache, Codec, EvictionPolicy, LogitsFor, Plan, SessionOptions, Storage, Taps,
    TransformerSession,
};
use support::cases;
use support::transformer::{decode, full_plan, near, network, prefill, stories, text};

#[test]
fn decoding_equals_prefill_for_every_plan() {
    let model = stories();
    let network = network(&model);
    let prompt = text(90);
    let sources: [&[usize]; 6] = [
        &[0, 1, 2, 3, 4],
        &[0, 0, 2, 3, 4],
        &[0, 1, 2, 1, 4],
        &[0, 1, 2, 3, 2],
        &[0, 0, 0, 3, 3],
        &[0, 0, 0, 0, 0],
    ];
    for sources in sources {
        for per_head in [false, true] {
            let mut plan = full_plan(network).sources(sources);
            if per_head {
                plan = plan.per_head();
            }
            let (cache, once) = prefill(network, &plan, &prompt, LogitsFor::Last);
            for split in [1, 40, 89] {
                let (mut cache, _) = prefill(network, &plan, &prompt[..split], LogitsFor::Last);
                let for_plan = network.for_plan(&plan).unwrap();
                let mut last = Vec::new();
                for token in &prompt[split..] {
                    let output = for_plan
                        .advance(
                            &mut cache,
                            &[&[*token]],
                            Phase::Decode,
                            LogitsFor::Last,
                            &mut Taps::default(),
                        )
                        .unwrap();
                    last = output.logits;
                }
                near(
                    &last,
                    &once.logits,
                    1e-4,
                    &format!("{sources:?} from {split}"),
                );
            }
            // A layer that reads another's cache keeps nothing.
            let report = cache.report();
            let owners = plan.owners();
            assert_eq!(report.live_bytes, owners * prompt.len() * 2 * 4 * 8 * 4);
            for (layer, retained) in report.retained.iter().enumerate() {
                let expected = if sources[layer] == layer {
                    prompt.len()
                } else {
                    0
                };
                assert_eq!(*retained, expected);
            }
            let saved = (5 - owners) * 2 * 32 * 64;
            assert_eq!(
                network.parameters() - network.for_plan(&plan).unwrap().parameters(),
                saved
            );
        }
    }
}

#[test]
fn batches_of_unequal_lengths_equal_single_sequences() {
    let model = stories();
    let network = network(&model);
    let long = text(70);
    let prompts: [&[u32]; 4] = [&long[..1], &long[..33], &long, &long[..2]];
    let mut cache = Cache::new(network.configuration(), full_plan(network), 4).unwrap();
    let output = network
        .advance(
            &mut cache,
            &prompts,
            Phase::Prefill,
            LogitsFor::Last,
            &mut Taps::default(),
        )
        .unwrap();
    assert_eq!(output.rows.len(), 4);
    for (index, prompt) in prompts.iter().enumerate() {
        let (_, alone) = prefill(network, &full_plan(network), prompt, LogitsFor::Last);
        near(
            output.row(index),
            &alone.logits,
            1e-5,
            &format!("sequence {index}"),
        );
    }
    // One sequence waits, one adds several tokens, two add one.
    let more: [&[u32]; 4] = [&[5], &[], &[403, 261, 378], &[7]];
    let output = decode(network, &mut cache, &more);
    assert_eq!(output.rows.len(), 3);
    for (row, index) in [(0, 0), (1, 2), (2, 3)] {
        let all = [prompts[index], more[index]].concat();
        let (_, alone) = prefill(network, &full_plan(network), &all, LogitsFor::Last);
        near(
            output.row(row),
            &alone.logits,
            1e-4,
            &format!("sequence {index}"),
        );
    }
    assert_eq!(cache.length(1), 33);
    cache.reset(2);
    assert_eq!(cache.length(2), 0);
    let fork = cache.fork(1).unwrap();
    assert_eq!(cache.positions(fork, 0), cache.positions(1, 0));
}

/// Keeps sinks and a recent window, in prefill and at every later length that is output.
struct Recent {
    sinks: u32,
    window: usize,
}

impl Keep for Recent {
    fn begin(&self, _: &Call, _: usize) -> Result<KeepNeeds> {
        Ok(KeepNeeds::default())
    }

    fn keep(&self, _: &Call, question: &KeepQuestion) -> Result<Option<Eviction>> {
        let first = question.slots().saturating_sub(self.window);
        let lists = (0..question.heads).map(|head| {
            let slots = question.head(head).iter().enumerate();
            slots
                .filter(|&(index, &position)| position < self.sinks || index >= first)
                .map(|(index, _)| index as u32)
                .collect()
        });
        Ok(Some(Eviction {
            slots: Some(lists.collect()),
            stream: None,
            next_check: Some(u64::from(self.sinks) + self.window as u64 + 3),
        }))
    }
}

fn policy(keep: impl Keep + 'static) -> EvictionPolicy {
    EvictionPolicy::new(Arc::new(keep), 0, 0)
}

fn keeping(keep: impl Keep + 'static) -> SessionOptions {
    SessionOptions {
        eviction: Some(policy(keep)),
        ..SessionOptions::default()
    }
}

#[test]
fn evicted_slots_are_reused() {
    let model = stories();
    let network = network(&model);
    for plan in [full_plan(network), full_plan(network).per_head()] {
        let eviction = Recent {
            sinks: 4,
            window: 20,
        };
        let mut session = TransformerSession::begin_with(
            &model,
            &text(60),
            Sampling::greedy(),
            SessionOptions {
                plan: Some(plan),
                eviction: Some(policy(eviction)),
                probe: None,
                ..SessionOptions::default()
            },
        )
        .unwrap();
        for _ in 0..300 {
            session.step().unwrap().unwrap();
        }
        let cache = session.cache().unwrap();
        let report = cache.report();
        for layer in 0..5 {
            for head_group in cache.positions(0, layer) {
                assert_eq!(&head_group[..4], &[0, 1, 2, 3], "sinks stay");
                assert!(
                    head_group.len() >= 24 && head_group.len() < 28,
                    "{}",
                    head_group.len()
                );
                assert_eq!(*head_group.last().unwrap(), 359);
                assert!(head_group.windows(2).all(|pair| pair[0] < pair[1]));
            }
            assert!(report.retained[layer] < 28);
        }
        // 360 tokens went through; one page (64 slots) of each layer was enough.
        assert!(
            report.allocated_bytes <= 5 * 64 * 2 * 4 * 8 * 4,
            "{report:?}"
        );
    }
}

#[test]
fn a_policy_that_keeps_everything_changes_nothing() {
    let model = stories();
    let prompt = text(50);
    let mut plain = TransformerSession::begin(&model, &prompt, Sampling::greedy()).unwrap();
    let eviction = Recent {
        sinks: 0,
        window: 1000,
    };
    let mut kept =
        TransformerSession::begin_with(&model, &prompt, Sampling::greedy(), keeping(eviction))
            .unwrap();
    for _ in 0..40 {
        assert_eq!(plain.logits(), kept.logits());
        assert_eq!(plain.step().unwrap(), kept.step().unwrap());
    }
}

#[test]
fn the_order_of_slots_does_not_change_attention() {
    // Evict the same positions of two caches, one filled at once and one token by token and in two rounds, so that
    // their slots are in different orders.
    let model = stories();
    let network = network(&model);
    let prompt = text(80);
    let (mut cache, _) = prefill(network, &full_plan(network), &prompt, LogitsFor::Last);
    let dropped = |position: u32| position % 3 != 1;
    for layer in 0..5 {
        cache.retain(0, layer, dropped);
    }
    let mut other = Cache::new(network.configuration(), full_plan(network), 1).unwrap();
    for token in &prompt {
        decode(network, &mut other, &[&[*token]]);
    }
    for layer in 0..5 {
        other.retain(0, layer, |position| position % 3 != 1 || position > 40);
    }
    for layer in 0..5 {
        other.retain(0, layer, dropped);
    }
    for layer in 0..5 {
        assert_eq!(cache.positions(0, layer), other.positions(0, layer));
    }
    for token in [410, 261, 376, 298, 315] {
        let step = |cache: &mut Cache| decode(network, cache, &[&[token]]).logits;
        near(&step(&mut cache), &step(&mut other), 1e-4, "order of slots");
    }
}

/// Keeps the last `tail` rows of the stream and every second of the others; asks for all statistics.
struct Halving {
    tail: usize,
    lengths: Mutex<Vec<usize>>,
    heads: HeadReduction,
    next_check: Option<u64>,
}

impl Keep for Halving {
    fn begin(&self, _: &Call, _: usize) -> Result<KeepNeeds> {
        Ok(KeepNeeds {
            column: Some(ColumnSum {
                window: self.tail,
                oldest: 1.0,
                newest: 1.2,
                heads: self.heads,
            }),
            // Sums over all queries are means over heads.
            accumulated: self.heads != HeadReduction::GroupMaximum,
            key_norm: true,
        })
    }

    fn keep(&self, _: &Call, question: &KeepQuestion) -> Result<Option<Eviction>> {
        let (slots, rows) = (question.slots(), question.stream.len());
        let column_rows = if self.heads == HeadReduction::All {
            1
        } else {
            4
        };
        assert_eq!(question.column.len(), column_rows * slots);
        assert_eq!(question.key_norm.len(), 4 * slots);
        assert!(question.key_norm.iter().all(|norm| *norm > 0.0));
        if self.heads != HeadReduction::GroupMaximum {
            // The attention of each query sums to 1.
            assert_eq!(question.accumulated.len(), 4 * slots);
            let sum: f32 = question.accumulated.iter().sum();
            assert!((sum - 4.0 * rows as f32).abs() < 1e-2, "{sum} of {rows}");
            let window = self.tail.min(rows);
            let weights: f32 = (0..window)
                .map(|i| 1.0 + 0.2 * i as f32 / (window.max(2) - 1) as f32)
                .sum();
            let sum: f32 = question.column.iter().sum();
            assert!(
                (sum - weights * column_rows as f32).abs() < 1e-2,
                "{sum} of {weights}"
            );
        }
        self.lengths.lock().unwrap().push(rows);
        let context = rows.saturating_sub(self.tail);
        let stream = (0..rows as u32)
            .filter(|&row| row as usize >= context || row % 2 == 0)
            .collect();
        Ok(Some(Eviction {
            stream: Some(stream),
            next_check: self.next_check,
            ..Eviction::default()
        }))
    }
}

#[test]
fn pruned_rows_are_not_computed_by_later_layers() {
    let model = stories();
    let network = network(&model);
    let prompt = text(90);
    for (heads, next_check) in [
        (HeadReduction::All, None),
        (HeadReduction::GroupMean, Some(1000)),
        (HeadReduction::GroupMaximum, None),
    ] {
        let halving = Arc::new(Halving {
            tail: 10,
            lengths: Mutex::default(),
            heads,
            next_check,
        });
        let mut eviction = EvictionPolicy::new(halving.clone(), 0, 0);
        let mut cache = Cache::new(network.configuration(), full_plan(network), 1).unwrap();
        let mut taps = Taps {
            eviction: Some(&mut eviction),
            probe: None,
        };
        let output = network
            .advance(
                &mut cache,
                &[&prompt],
                Phase::Prefill,
                LogitsFor::Last,
                &mut taps,
            )
            .unwrap();
        assert_eq!(output.computed, [90, 50, 30, 20, 15]);
        assert_eq!(*halving.lengths.lock().unwrap(), [90, 50, 30, 20, 15]);
        assert_eq!(cache.report().retained, [90, 50, 30, 20, 15]);
        // Original positions survive, the tail is whole, and the next token goes at position 90.
        assert_eq!(
            &cache.positions(0, 4)[0][5..],
            &(80..90).collect::<Vec<u32>>()[..]
        );
        let output = decode(network, &mut cache, &[&[261]]);
        assert_eq!(output.rows[0].position, 90);
        assert!(output.logits.iter().all(|logit| logit.is_finite()));
        // A policy that is not asked again needs no sums of attention.
        let bytes = cache.report().attention_bytes;
        assert_eq!(bytes > 0, next_check.is_some(), "{heads:?}: {bytes}");
    }
}

/// Keeps everything, is asked again at some lengths, and remembers the sums of the last queries' attention there.
struct Watching {
    window: usize,
    /// Kept tokens above which it is asked, ascending.
    lengths: Vec<u64>,
    columns: Mutex<Vec<(usize, usize, Vec<f32>)>>,
}

impl Keep for Watching {
    fn begin(&self, _: &Call, _: usize) -> Result<KeepNeeds> {
        Ok(KeepNeeds {
            column: Some(ColumnSum {
                window: self.window,
                oldest: 1.0,
                newest: 1.5,
                heads: HeadReduction::GroupMean,
            }),
            ..KeepNeeds::default()
        })
    }

    fn keep(&self, _: &Call, question: &KeepQuestion) -> Result<Option<Eviction>> {
        let column = question.column.to_vec();
        let seen = (question.length, question.layer, column);
        self.columns.lock().unwrap().push(seen);
        let later = |length: &&u64| **length >= question.slots() as u64;
        Ok(Some(Eviction {
            next_check: self.lengths.iter().find(later).copied(),
            ..Eviction::default()
        }))
    }
}

#[test]
fn sums_do_not_depend_on_how_seldom_a_policy_is_asked() {
    let model = stories();
    let network = network(&model);
    let prompt = text(30);
    for window in [1, 3, 6, 20] {
        let run = |lengths: Vec<u64>| {
            let watching = Arc::new(Watching {
                window,
                lengths,
                columns: Mutex::default(),
            });
            let mut eviction = EvictionPolicy::new(watching.clone(), 0, 0);
            let mut cache = Cache::new(network.configuration(), full_plan(network), 1).unwrap();
            let mut taps = Taps {
                eviction: Some(&mut eviction),
                probe: None,
            };
            let mut step = |tokens: &[u32], phase| {
                let last = LogitsFor::Last;
                let output = network.advance(&mut cache, &[tokens], phase, last, &mut taps);
                output.unwrap();
            };
            step(&prompt, Phase::Prefill);
            for token in 300..306 {
                step(&[token], Phase::Decode);
            }
            let mut columns = std::mem::take(&mut *watching.columns.lock().unwrap());
            columns.retain(|(length, ..)| *length == 36);
            columns
        };
        let often = run((30..36).collect());
        assert_eq!(often.len(), 5);
        assert_eq!(run(vec![35]), often, "{window}");
        assert_eq!(run(vec![32, 35]), often, "{window}");
    }
}

/// Returns a fixed eviction.
struct Fixed(Eviction);

impl Keep for Fixed {
    fn begin(&self, _: &Call, _: usize) -> Result<KeepNeeds> {
        Ok(KeepNeeds::default())
    }

    fn keep(&self, _: &Call, _: &KeepQuestion) -> Result<Option<Eviction>> {
        Ok(Some(self.0.clone()))
    }
}

#[test]
fn invalid_evictions_and_plans_are_errors() {
    let model = stories();
    let prompt = text(10);
    let keep = |list: Vec<u32>| Eviction {
        slots: Some(vec![list]),
        ..Eviction::default()
    };
    let stream = |list: Vec<u32>| Eviction {
        stream: Some(list),
        ..Eviction::default()
    };
    let answers = [
        (keep(vec![3, 2, 9]), "ascend"),
        (keep(vec![3, 3, 9]), "ascend"),
        (keep(vec![3, 10]), "ascend"),
        (keep(vec![3, 4]), "newest"),
        (keep(vec![]), "newest"),
        (stream(vec![0, 1]), "last row"),
        (stream(vec![9, 1]), "ascend"),
        (
            Eviction {
                slots: Some(vec![vec![9]; 3]),
                ..Eviction::default()
            },
            "3 lists",
        ),
    ];
    cases(answers, |(answer, word)| {
        let options = keeping(Fixed(answer.clone()));
        let error = TransformerSession::begin_with(&model, &prompt, Sampling::greedy(), options)
            .err()
            .expect("it was accepted");
        assert!(error.to_string().contains(*word), "{error}");
        assert!(error.to_string().contains("layer 0"), "{error}");
    });
    for sources in [[0, 2, 2, 3, 4], [0, 0, 1, 3, 4]] {
        let plan = Plan::full(5).sources(&sources);
        let error = Cache::new(model.configuration(), plan, 1).unwrap_err();
        assert!(error.to_string().contains("layer"), "{error}");
    }
}

#[test]
fn quantised_caches_are_smaller_and_close() {
    let model = stories();
    let network = network(&model);
    let prompt = text(300);
    let (plain, expected) = prefill(network, &full_plan(network), &prompt, LogitsFor::Last);
    let next = |cache: &mut Cache| decode(network, cache, &[&[261]]).logits;
    let exact = next(&mut plain.clone());
    let mut worst = Vec::new();
    for bits in [8, 4, 2] {
        let codec = |axis| {
            Storage::Quantised(Codec {
                bits,
                group: 32,
                axis,
            })
        };
        let plan =
            full_plan(network).stored(codec(CodecAxis::Channel), codec(CodecAxis::Token), 32);
        let (mut cache, output) = prefill(network, &plan, &prompt, LogitsFor::Last);
        // Attention of the prompt precedes quantisation.
        near(&output.logits, &expected.logits, 1e-5, "prefill");
        let ratio = cache.report().live_bytes as f64 / plain.report().live_bytes as f64;
        assert!(
            ratio < [0.0, 0.0, 0.5, 0.0, 0.6, 0.0, 0.0, 0.0, 0.75][bits as usize],
            "{bits}: {ratio}"
        );
        let found = next(&mut cache);
        let off = found
            .iter()
            .zip(&exact)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        worst.push(off);
        // Decoding continues with evicted tokens in quantised pages.
        for layer in 0..5 {
            cache.retain(0, layer, |position| position >= 128);
        }
        for _ in 0..40 {
            assert!(next(&mut cache).iter().all(|logit| logit.is_finite()));
        }
    }
    assert!(
        worst[0] < 0.1 && worst[0] < worst[1] && worst[1] < worst[2],
        "{worst:?}"
    );
    // With all tokens in the residual, nothing is quantised.
    let codec = Storage::Quantised(Codec {
        bits: 2,
        group: 32,
        axis: CodecAxis::Channel,
    });
    let plan = full_plan(network).stored(codec, codec, 1000);
    let (mut cache, _) = prefill(network, &plan, &prompt, LogitsFor::Last);
    assert_eq!(next(&mut cache), exact);
}
