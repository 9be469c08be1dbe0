//! Sessions of a batched transformer: forward passes that several texts share.
#![cfg(feature = "transformer")]

mod support;

use brillm::path::{Sampling, Session};
use brillm::transformer::{Transformer, TransformerSession};
use support::transformer::{near, stories, text};

/// Prompts of different lengths.
fn prompts() -> Vec<Vec<u32>> {
    [1, 7, 30, 64, 65, 12]
        .map(|length| text(90)[..length].to_vec())
        .to_vec()
}

fn begin(model: &Transformer, prompt: &[u32], seed: u64) -> TransformerSession {
    let sampling = Sampling::default().seed(seed);
    TransformerSession::begin(model, prompt, sampling).unwrap()
}

/// Tokens and logits of a session of its own.
fn alone(prompt: &[u32], seed: u64, tokens: usize) -> (Vec<u32>, Vec<f32>) {
    let mut session = begin(&stories(), prompt, seed);
    let tokens = (0..tokens).map(|_| session.step().unwrap().unwrap());
    let tokens = tokens.collect();
    (tokens, session.look().unwrap().1.to_vec())
}

#[test]
fn sessions_in_turn_say_what_each_says_alone() {
    let model = stories().batched().unwrap();
    let prompts = prompts();
    let mut sessions: Vec<_> = (0..)
        .zip(&prompts)
        .map(|(seed, p)| begin(&model, p, seed))
        .collect();
    let mut tokens = vec![Vec::new(); prompts.len()];
    // The texts end at different lengths: later passes have fewer rows.
    for step in 0..40 {
        for (index, session) in sessions.iter_mut().enumerate() {
            if step < 40 - index {
                tokens[index].push(session.step().unwrap().unwrap());
            }
        }
    }
    for (index, (prompt, session)) in prompts.iter().zip(&mut sessions).enumerate() {
        let (expected, logits) = alone(prompt, index as u64, 40 - index);
        assert_eq!(tokens[index], expected, "prompt {index}");
        assert_eq!(session.look().unwrap().1, logits, "prompt {index}");
    }
}

#[test]
fn sessions_on_threads_say_what_each_says_alone() {
    let model = stories().batched().unwrap();
    let prompts = prompts();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..24)
            .map(|seed| {
                let (model, prompt) = (&model, &prompts[seed as usize % prompts.len()]);
                scope.spawn(move || {
                    let mut session = begin(model, prompt, seed);
                    (0..20)
                        .map(|_| session.step().unwrap().unwrap())
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        for (seed, thread) in threads.into_iter().enumerate() {
            let prompt = &prompts[seed % prompts.len()];
            assert_eq!(
                thread.join().unwrap(),
                alone(prompt, seed as u64, 20).0,
                "seed {seed}"
            );
        }
    });
}

#[test]
fn a_session_takes_the_place_of_one_that_ended() {
    let model = stories().batched().unwrap();
    let mut other = begin(&model, &text(9), 1);
    for seed in 0..5 {
        let mut session = begin(&model, &text(20), seed);
        other.step().unwrap();
        let tokens: Vec<u32> = (0..10).map(|_| session.step().unwrap().unwrap()).collect();
        assert_eq!(tokens, alone(&text(20), seed, 10).0, "seed {seed}");
        // Its last token waits for a pass that it does not see.
    }
    let tokens: Vec<u32> = (0..5).map(|_| other.step().unwrap().unwrap()).collect();
    assert_eq!(tokens, alone(&text(9), 1, 10).0[5..]);
}

#[test]
fn forks_continue_on_their_own() {
    let model = stories().batched().unwrap();
    let mut session = begin(&model, &text(12), 3);
    session.step().unwrap();
    // Once with a token that no pass has read, once without.
    let mut unread = session.fork().unwrap();
    let bytes = session.state_bytes();
    let logits = session.look().unwrap().1.to_vec();
    let mut read = session.fork().unwrap();
    for (name, fork) in [("unread", &mut unread), ("read", &mut read)] {
        assert_eq!(fork.look().unwrap().1, logits, "{name}");
        assert_eq!(fork.state_bytes(), bytes, "{name}");
        fork.force(7).unwrap();
    }
    assert_eq!(unread.look().unwrap().1, read.look().unwrap().1);
    assert_ne!(unread.look().unwrap().1, logits);
    assert_eq!(session.look().unwrap().1, logits);
}

#[test]
fn an_error_of_one_session_leaves_the_others() {
    let model = stories().batched().unwrap();
    let mut session = begin(&model, &text(12), 3);
    let mut other = begin(&model, &text(5), 4);
    let error = other.force(1 << 20).unwrap_err();
    assert!(error.to_string().contains("vocabulary"), "{error}");
    assert!(TransformerSession::begin(&model, &[1 << 20], Sampling::greedy()).is_err());
    assert_eq!(other.step().unwrap(), Some(alone(&text(5), 4, 1).0[0]));
    assert_eq!(session.step().unwrap(), Some(alone(&text(12), 3, 1).0[0]));
}

#[test]
fn predictions_and_injected_energy_are_those_of_a_session_alone() {
    let batched = stories().batched().unwrap();
    let tokens = text(40);
    let predicted = |model: &Transformer| {
        let mut session = begin(model, &tokens[..10], 0);
        session.inject(3, 2.5).unwrap();
        let mut nats = vec![session.resistance(3).unwrap() as f32];
        session
            .predict(&tokens[10..], &mut |index, logits| {
                nats.push(logits[tokens[10 + index] as usize]);
                Ok(())
            })
            .unwrap();
        nats.push(session.resistance(5).unwrap() as f32);
        nats
    };
    let (found, expected) = (predicted(&batched), predicted(&stories()));
    near(&found, &expected, 1e-4, "predictions");
}
