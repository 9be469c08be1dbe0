//! The rival, the protocol and the log of a run, each against an independent second opinion.

use brillm::ErrorKind;
use brillm::kernel::random::Random;
use brillm::measure::{KneserNey, Perplexity, Windows};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Modified Kneser-Ney word for word from Chen and Goodman's formulas, by scanning the whole text anew.
struct BruteForce<'a> {
    tokens: &'a [u32],
    vocabulary_size: usize,
    order: usize,
}

impl BruteForce<'_> {
    /// The counts of all n-grams of one order: occurrences at the top, different predecessors below.
    fn counts(&self, order: usize) -> BTreeMap<Vec<u32>, usize> {
        let mut counts = BTreeMap::new();
        if order == self.order {
            for gram in self.tokens.windows(order) {
                *counts.entry(gram.to_vec()).or_insert(0) += 1;
            }
        } else {
            let longer: BTreeSet<&[u32]> = self.tokens.windows(order + 1).collect();
            for gram in longer {
                *counts.entry(gram[1..].to_vec()).or_insert(0) += 1;
            }
        }
        counts
    }

    fn discount(counts: &BTreeMap<Vec<u32>, usize>, count: usize) -> f64 {
        let n = |r: usize| counts.values().filter(|&&count| count == r).count() as f64;
        if count == 0 {
            return 0.0;
        }
        let r = count.min(3);
        if (1..=4).any(|r| n(r) == 0.0) {
            return 0.5 * r as f64;
        }
        let y = n(1) / (n(1) + 2.0 * n(2));
        (r as f64 - (r as f64 + 1.0) * y * n(r + 1) / n(r)).clamp(1e-3, r as f64)
    }

    fn probability(&self, context: &[u32], token: u32, order: usize) -> f64 {
        if order == 0 {
            return 1.0 / self.vocabulary_size as f64;
        }
        let context = &context[context.len().saturating_sub(order - 1)..];
        if context.len() < order - 1 {
            return self.probability(context, token, context.len() + 1);
        }
        let shorter = context.get(1..).unwrap_or(&[]);
        let counts = self.counts(order);
        let count = |token: u32| {
            let gram = [context, &[token]].concat();
            counts.get(&gram).copied().unwrap_or(0)
        };
        let all = 0..self.vocabulary_size as u32;
        let total: usize = all.clone().map(count).sum();
        let lower = self.probability(shorter, token, order - 1);
        if total == 0 {
            return lower;
        }
        let given: f64 = all.map(|v| Self::discount(&counts, count(v))).sum();
        let kept = count(token) as f64 - Self::discount(&counts, count(token));
        (kept + given * lower) / total as f64
    }
}

/// A text over 9 tokens with habits, so that counts of every size occur at every order.
fn habitual(length: usize) -> Vec<u32> {
    let mut random = Random::new(7);
    let mut tokens = vec![0, 3];
    while tokens.len() < length {
        let last = tokens[tokens.len() - 1] + 2 * tokens[tokens.len() - 2];
        let step = (random.uniform() * random.uniform() * 9.0) as u32;
        tokens.push((last + step) % 9);
    }
    tokens
}

fn close(left: f64, right: f64) -> bool {
    (left - right).abs() < 1e-12
}

#[test]
fn kneser_ney_agrees_with_the_formulas_at_every_order() {
    // Token 9 is in the vocabulary and never in the text.
    for length in [7, 60, 400] {
        let tokens = habitual(length);
        for order in 1..=5 {
            let model = KneserNey::train(&tokens, 10, order).unwrap();
            let brute = BruteForce {
                tokens: &tokens,
                vocabulary_size: 10,
                order,
            };
            let unseen = [9, 1, 2, 3];
            let contexts = [
                &tokens[..0],
                &tokens[..1],
                &tokens[1..4],
                &tokens[length - 5..],
                &tokens[length - 2..],
                &unseen,
            ];
            for context in contexts {
                let distribution = model.distribution(context);
                for token in 0..10 {
                    let ours = model.probability(context, token);
                    let theirs = brute.probability(context, token, order);
                    assert!(
                        close(ours, theirs),
                        "order {order}, {context:?} → {token}: {ours} and {theirs}"
                    );
                    assert!(close(distribution[token as usize], ours));
                    assert!(ours > 0.0);
                }
                assert!(close(distribution.iter().sum(), 1.0));
            }
        }
    }
}

#[test]
fn a_bigram_worked_by_hand() {
    // Bigrams of 0 1 0 1 0 2: 01 twice, 10 twice, 02 once, so c(0·) = 3 and c(1·) = 2. Too few counts for
    // an estimate: D = .5, 1, 1.5. Continuations: 0 follows {1}, 1 follows {0}, 2 follows {0}: one each.
    // p1(w) = (1 − .5)/3 + (1.5/3)/4 for w = 0, 1, 2 and (1.5/3)/4 for w = 3.
    let model = KneserNey::train(&[0, 1, 0, 1, 0, 2], 4, 2).unwrap();
    let seen = 0.5 / 3.0 + 0.125;
    assert!(close(model.probability(&[], 0), seen));
    assert!(close(model.probability(&[], 3), 0.125));
    // λ(0) = (1 + .5)/3; λ(1) = 1/2; 2 has no fan.
    assert!(close(model.probability(&[0], 1), 1.0 / 3.0 + 0.5 * seen));
    assert!(close(model.probability(&[0], 2), 0.5 / 3.0 + 0.5 * seen));
    assert!(close(model.probability(&[0], 3), 0.5 * 0.125));
    assert!(close(model.probability(&[1], 0), 0.5 + 0.5 * seen));
    assert!(close(model.probability(&[2], 1), seen));
    assert_eq!((model.grams(1), model.grams(2), model.grams(3)), (3, 3, 0));
}

#[test]
fn a_fan_that_gives_nothing_up_still_leaves_something() {
    // Among the bigrams n1 = 4, n2 = 1, n3 = 2, n4 = 1, so D2 = 2 − 3 (4/6) 2/1 is clamped to zero, and the
    // only bigram after 0 occurs twice: without a least discount nothing else could follow 0.
    let tokens = [0, 1, 0, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 4];
    let model = KneserNey::train(&tokens, 6, 2).unwrap();
    let distribution = model.distribution(&[0]);
    assert!(distribution[5] > 0.0 && distribution[5] < 1e-3);
    assert!(close(distribution.iter().sum(), 1.0));
    let certain = KneserNey::train(&[1; 50], 3, 5).unwrap();
    assert!(certain.probability(&[1; 4], 0) > 0.0);
    assert!(close(certain.distribution(&[1; 4]).iter().sum(), 1.0));
}

#[test]
fn evaluation_uses_the_window_or_the_whole_stream() {
    let tokens = habitual(300);
    let model = KneserNey::train(&tokens, 10, 3).unwrap();
    let heldout = &habitual(340)[290..];
    for stream in [false, true] {
        let windows = Windows::new(5, 8).streaming(stream);
        for order in 1..=3 {
            let mut expected = Perplexity::new(10);
            for window in 0..8 {
                for target in window * 4 + 1..window * 4 + 5_usize {
                    let first = if stream { 0 } else { window * 4 };
                    let first = first.max((target + 1).saturating_sub(order));
                    expected.add(model.probability(&heldout[first..target], heldout[target]));
                }
            }
            let measured = model.evaluate(heldout, &windows, order).unwrap();
            assert_eq!(measured.tokens(), 32);
            assert_eq!(measured.candidates(), 10);
            assert!(close(measured.nats(), expected.nats()));
        }
    }
    // Only 12 whole windows are there.
    let all = model.evaluate(heldout, &Windows::new(5, 400), 3).unwrap();
    assert_eq!(all.tokens(), 48);
}

#[test]
fn what_cannot_be_counted_or_measured_is_refused_in_words() {
    let refusals = [
        (KneserNey::train(&[0, 1], 2, 0).err(), "expected 1 to 5"),
        (KneserNey::train(&[0, 1], 2, 6).err(), "expected 1 to 5"),
        (KneserNey::train(&[], 2, 1).err(), "too few"),
        (KneserNey::train(&[0, 1], 2, 3).err(), "too few"),
        (KneserNey::train(&[0], 0, 1).err(), "token 0: id 0"),
        (KneserNey::train(&[0, 1, 7, 8], 7, 2).err(), "token 2: id 7"),
    ];
    for (error, words) in refusals {
        let error = error.expect("refused");
        assert_eq!(error.kind(), ErrorKind::Input);
        assert!(error.to_string().contains(words), "{error}");
    }
    let model = KneserNey::train(&[0, 1, 0], 2, 2).unwrap();
    let windows = Windows::new(3, 9);
    assert!(model.evaluate(&[0, 1, 5], &windows, 2).is_err());
    assert!(model.evaluate(&[0, 1, 0], &windows, 3).is_err());
    assert!(model.evaluate(&[0, 1, 0], &windows, 0).is_err());
    assert!(model.evaluate(&[0, 1], &windows, 2).is_err());
    // An id behind the last window is never looked at.
    assert!(model.evaluate(&[0, 1, 0, 5], &windows, 2).is_ok());
    assert_eq!(model.probability(&[0], 2), 0.0);
    assert!(close(
        model.probability(&[77], 1),
        model.probability(&[], 1)
    ));
}

#[test]
fn training_is_the_same_on_any_number_of_threads() {
    let tokens = habitual(5000);
    let figure = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(|| {
            let model = KneserNey::train(&tokens, 10, 5).unwrap();
            let windows = Windows::new(31, 50);
            model.evaluate(&tokens, &windows, 5).unwrap().nats()
        })
    };
    assert_eq!(figure(1).to_bits(), figure(3).to_bits());
}

/// The published Kneser-Ney perplexities, on the texts in the folder `BRILLM_BENCH_DIR`.
#[test]
#[ignore = "needs BRILLM_BENCH_DIR, a folder with the benchmark texts"]
fn reproduces_the_published_kneser_ney_perplexities() {
    let folder = std::env::var_os("BRILLM_BENCH_DIR").expect("BRILLM_BENCH_DIR is set");
    let read = |name: &str| -> Vec<u32> {
        let bytes = std::fs::read(Path::new(&folder).join(name)).unwrap();
        bytes
            .chunks_exact(2)
            .map(|pair| u32::from(u16::from_le_bytes([pair[0], pair[1]])))
            .collect()
    };
    let heldout = read("heldout.u16");
    let windows: Windows = "31,400".parse().unwrap();
    for (name, bars, streaming) in [
        ("c1", [82.4, 65.4, 64.9, 63.4], Some(62.1)),
        ("c2", [89.9, 60.7, 59.2, 57.0], None),
    ] {
        let tokens = read(&format!("{name}.train.u16"));
        let check = |model: &KneserNey, order: usize, windows: Windows, bar: f64| {
            let measured = model.evaluate(&heldout, &windows, order).unwrap();
            assert_eq!((measured.tokens(), measured.candidates()), (12_000, 4000));
            let figure = measured.perplexity();
            println!("{name} KN-{order} {windows}: {figure:.2}, published {bar}");
            assert!((figure / bar - 1.0).abs() < 0.01);
        };
        for order in [2, 3] {
            let model = KneserNey::train(&tokens, 4000, order).unwrap();
            check(&model, order, windows, bars[order - 2]);
        }
        // The published KN-4 is the order-4 level inside the model of order 5.
        let model = KneserNey::train(&tokens, 4000, 5).unwrap();
        check(&model, 4, windows, bars[2]);
        check(&model, 5, windows, bars[3]);
        if let Some(bar) = streaming {
            check(&model, 5, windows.streaming(true), bar);
        }
    }
}
