//! Cache slots against a plain list of tokens, under arbitrary sequences of operations.

use proptest::collection::vec;
use proptest::prelude::*;

use super::cache_slots::{Slots, Visibility};
use crate::hook::CodecAxis;
use crate::transformer::{Codec, LayerPlan, Storage};

const HEADS: usize = 2;
const WIDTH: usize = 4;

/// An operation on the slots.
#[derive(Clone, Debug)]
enum Operation {
    /// Store this many tokens.
    Push(usize),
    /// Evict the kept tokens whose order modulo the first number is the second.
    Evict(usize, usize),
    /// Evict all kept tokens but the newest.
    Empty,
    /// Quantise what is old enough.
    Pack,
    /// Compare attention over a window.
    Attend(usize),
}

/// A kept token.
#[derive(Clone, Debug)]
struct Token {
    position: u32,
    key: Vec<f32>,
    value: Vec<f32>,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        4 => (1usize..150).prop_map(Operation::Push),
        3 => (1usize..7, 0usize..7).prop_map(|(by, rest)| Operation::Evict(by, rest)),
        1 => Just(Operation::Empty),
        3 => Just(Operation::Pack),
        2 => (0usize..90).prop_map(Operation::Attend),
    ]
}

fn storage() -> impl Strategy<Value = Storage> {
    let codec = (
        prop_oneof![Just(2u8), Just(4), Just(8), Just(16)],
        1usize..100,
        any::<bool>(),
    );
    let quantised = codec.prop_map(|(bits, group, channel)| {
        let axis = if channel {
            CodecAxis::Channel
        } else {
            CodecAxis::Token
        };
        Storage::Quantised(Codec { bits, group, axis })
    });
    prop_oneof![Just(Storage::F32), quantised]
}

/// Numbers between −1 and 1 that differ from token to token.
fn numbers(position: u32, salt: u32) -> Vec<f32> {
    (0..HEADS * WIDTH)
        .map(|index| ((position * 37 + salt * 11 + index as u32 * 5) as f32).sin())
        .collect()
}

/// Attention of one query row over the kept tokens, by its definition. `[HEADS · WIDTH]`
fn attention(tokens: &[Token], query: &[f32], visibility: Visibility) -> Vec<f32> {
    let visible = |token: &&Token| {
        let age = visibility.position - token.position;
        visibility.window == 0 || (age as usize) < visibility.window
    };
    let seen: Vec<&Token> = tokens.iter().filter(visible).collect();
    let mut output = vec![0.0; HEADS * WIDTH];
    for head in 0..HEADS {
        let columns = head * WIDTH..(head + 1) * WIDTH;
        let weight = |token: &&Token| {
            let pairs = token.key[columns.clone()]
                .iter()
                .zip(&query[columns.clone()]);
            pairs.map(|(k, q)| f64::from(k * q)).sum::<f64>().exp()
        };
        let weights: Vec<f64> = seen.iter().map(weight).collect();
        let sum: f64 = weights.iter().sum();
        for (token, weight) in seen.iter().zip(weights) {
            for column in columns.clone() {
                output[column] += (weight / sum * f64::from(token.value[column])) as f32;
            }
        }
    }
    output
}

/// Greatest error of a stored number: the values lie in [−1, 1].
fn error(storage: Storage) -> f32 {
    match storage {
        Storage::F32 => 1e-5,
        Storage::Quantised(codec) if codec.bits == 16 => 1e-3,
        // Half a step of the range 2, and the rounding of a scale in half precision.
        Storage::Quantised(codec) => 1.05 / ((1u32 << codec.bits) - 1) as f32 + 2e-3,
    }
}

fn check(slots: &Slots, plan: &LayerPlan, tokens: &[Token]) -> Result<(), TestCaseError> {
    prop_assert_eq!(slots.live(), tokens.len());
    let order = slots.ordered();
    let positions: Vec<u32> = order.iter().map(|&(position, _)| position).collect();
    let expected: Vec<u32> = tokens.iter().map(|token| token.position).collect();
    prop_assert_eq!(positions, expected);
    prop_assert!(slots.allocated_bytes() >= slots.live_bytes() || slots.live() == 0);
    let read = slots.read();
    let page = slots.capacity() / read.len().max(1);
    let (key_error, value_error) = (error(plan.keys), error(plan.values));
    let norms = slots.key_norms();
    for (token, &(_, slot)) in tokens.iter().zip(&order) {
        let (index, at) = (slot as usize / page, slot as usize % page);
        let (keys, values) = &read[index];
        for component in 0..HEADS * WIDTH {
            let (head, column) = (component / WIDTH, component % WIDTH);
            let key = keys[component * page + at];
            let value = values[(head * page + at) * WIDTH + column];
            prop_assert!(
                (key - token.key[component]).abs() <= key_error,
                "key {key} of {token:?}"
            );
            prop_assert!(
                (value - token.value[component]).abs() <= value_error,
                "value {value} of {token:?}"
            );
        }
        for head in 0..HEADS {
            let key = &token.key[head * WIDTH..][..WIDTH];
            let norm = key.iter().map(|k| k * k).sum::<f32>().sqrt();
            let found = norms[slot as usize * HEADS + head];
            prop_assert!(
                (found - norm).abs() <= key_error * WIDTH as f32,
                "norm {found}, not {norm}"
            );
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn slots_hold_what_a_plain_list_holds(
        keys in storage(),
        values in storage(),
        residual in 0usize..80,
        operations in vec(operation(), 1..12),
    ) {
        let plan = LayerPlan { source: 0, keys, values, residual, per_head: false };
        let mut slots = Slots::new(HEADS, WIDTH, plan);
        let mut tokens: Vec<Token> = Vec::new();
        let (mut next, mut most) = (0, 0);
        for operation in operations {
            match operation {
                Operation::Push(count) => {
                    for _ in 0..count {
                        let token = Token { position: next, key: numbers(next, 1), value: numbers(next, 2) };
                        let slot = slots.push(next, &token.key, &token.value);
                        prop_assert_eq!(slots.positions[slot], next);
                        tokens.push(token);
                        next += 1;
                    }
                }
                Operation::Evict(by, rest) => {
                    let evicted = |index: usize| index % by == rest % by;
                    for (index, (_, slot)) in slots.ordered().into_iter().enumerate() {
                        if evicted(index) {
                            slots.evict(slot as usize);
                            // A second time changes nothing.
                            slots.evict(slot as usize);
                        }
                    }
                    let mut index = 0;
                    tokens.retain(|_| {
                        index += 1;
                        !evicted(index - 1)
                    });
                }
                Operation::Empty => {
                    for (_, slot) in slots.ordered() {
                        slots.evict(slot as usize);
                    }
                    tokens.clear();
                }
                Operation::Pack => slots.pack(next),
                Operation::Attend(window) => {
                    let exact = plan.keys == Storage::F32 && plan.values == Storage::F32;
                    // The newest token sees itself, as in the network.
                    let Some(newest) = tokens.last().filter(|_| exact) else { continue };
                    let visibility = Visibility { position: newest.position, window };
                    let query = numbers(next, 3);
                    let (mut output, mut probabilities) = (vec![9.0; HEADS * WIDTH], Vec::new());
                    slots.attend(&slots.read(), &query, (1.0, 0.0), visibility, false, &mut output, &mut probabilities);
                    for (found, expected) in output.iter().zip(attention(&tokens, &query, visibility)) {
                        prop_assert!((found - expected).abs() < 1e-4, "{found}, not {expected}");
                    }
                    let sum: f32 = probabilities.iter().sum();
                    prop_assert!((sum - HEADS as f32).abs() < 1e-3, "probabilities sum to {sum}");
                }
            }
            most = most.max(tokens.len());
            check(&slots, &plan, &tokens)?;
        }
        // Slots that were freed are reused before a page is added.
        if plan.keys == Storage::F32 && plan.values == Storage::F32 {
            prop_assert_eq!(slots.capacity(), most.next_multiple_of(64));
        }
    }
}
