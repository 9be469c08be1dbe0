//! Own edges that ranks hold in parts: ranks that are threads of this process, and the results of one that holds all.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use brillm::graph::NodeId;
use brillm::hook::{Answer, Call as HookCall, Edge, Fan, Hooks};
use brillm::kernel::random::Random;
use brillm::kernel::table::Table;
use brillm::measure::Windows;
use brillm::model::{ChargeSettings, Model, Verify};
use brillm::path::{GraphSession, RecallSettings, Sampling, Session, SessionOptions};
use brillm::ranks::{Call, Ranks};
use brillm::run::{
    Engine, Evaluation, Finish, Generated, Request, SequenceRanks, StreamOptions,
    evaluate_documents_over, evaluate_stream, evaluate_stream_over, evaluate_windows_over,
    generate_over,
};
use brillm::signal::{
    BlendKind, FanQuery, FanVerifier, Mechanism, Profile, RemoteFans, Start, Weights,
};
use brillm::text::Tokenizer;
use brillm::{Error, ErrorKind, Result};

#[path = "../engine/ranks/threads.rs"]
mod threads;
use threads::over_threads;

mod support;
use support::{cases, metadata, small_mechanism};

const NODES: u32 = 12;

/// Run `rank` on each of some ranks, with the model that `open` makes for its number.
fn over<T: Send>(
    size: usize,
    open: &(dyn Fn(usize) -> Model + Sync),
    rank: impl Fn(&SequenceRanks, &Model) -> T + Sync,
) -> Vec<T> {
    over_threads(size, |ranks| {
        let model = open(ranks.rank());
        let (sequences, model) = SequenceRanks::new(ranks, &model).unwrap();
        rank(&sequences, &model)
    })
}

fn model(profile: &Profile) -> Model {
    let mechanism = small_mechanism(profile, 2);
    let tokenizer = Tokenizer::ids(NODES as usize).unwrap();
    Model::new(metadata(profile, 2), tokenizer, mechanism).unwrap()
}

/// Profiles of own edges: each blend, both energies, a table of positions.
fn profiles() -> [(&'static str, Profile); 4] {
    let decay = Profile {
        blend: BlendKind::Decay,
        ..Profile::sifu_own(8)
    };
    [
        ("gated", Profile::sifu_own(8)),
        ("decay", decay),
        ("position", Profile::reference(8)),
        ("composed", Profile::sifu(8)),
    ]
}

fn text(length: usize) -> Vec<u32> {
    let mut random = Random::new(9);
    (0..length)
        .map(|_| random.below(u64::from(NODES)) as u32)
        .collect()
}

/// Sets the resistance of one edge to 0, which makes it likely.
struct Open(u32);

impl Edge for Open {
    fn resist(&self, _: &HookCall<'_>, _: &Fan<'_>, resistance: &mut [f32]) -> Result<Answer> {
        resistance[self.0 as usize] = 0.0;
        Ok(Answer::Given)
    }
}

/// Texts from several prompts and seeds, with charges and recall, and with hooks.
fn texts(sequences: &SequenceRanks, model: &Model, hooks: &Hooks) -> Vec<Generated> {
    let engine = Engine::from(model).with_hooks(hooks, 0).unwrap();
    let charges: ChargeSettings = "0.9,0.5,0.5,1".parse().unwrap();
    let recall: RecallSettings = "20,4,0.3".parse().unwrap();
    let request = |number: usize| {
        let prompt = text(1 + number % 5);
        let sampling = Sampling::default().temperature(0.9).seed(number as u64);
        let request = Request::ids(prompt)
            .tokens(5 + number % 7)
            .sampling(sampling)
            .hooks(hooks.clone());
        Ok(match number % 3 {
            0 => request.charges(charges).recall(recall),
            _ => request,
        })
    };
    generate_over(sequences, &engine, 11, &request).unwrap()
}

#[test]
fn every_sequence_has_the_bits_of_one_process() {
    let mut hooks = Hooks::default();
    hooks.edge.push(Arc::new(Open(3)));
    cases(profiles(), |(name, profile)| {
        let run = |sequences: &SequenceRanks, model: &Model| {
            assert_eq!(
                sequences.are_divided(),
                sequences.ranks().size() > 1 && *name != "composed"
            );
            let (mechanism, none) = (model.mechanism(), Hooks::default());
            let tokens = text(150);
            let windows: Windows = "8,17".parse().unwrap();
            let documents: Vec<Vec<u32>> = (0..9).map(|n| tokens[n..2 * n + 1].to_vec()).collect();
            let options = StreamOptions {
                recall: Some("20,4,0.3".parse().unwrap()),
                ..StreamOptions::default()
            };
            let measured: [Evaluation; 3] = [
                evaluate_windows_over(sequences, mechanism, &tokens, &windows, &none).unwrap(),
                evaluate_documents_over(sequences, mechanism, &documents, &none).unwrap(),
                evaluate_stream_over(sequences, mechanism, &tokens, 1, &options).unwrap(),
            ];
            let texts = [&none, &hooks].map(|hooks| texts(sequences, model, hooks));
            (measured, texts)
        };
        let open = |_| model(profile);
        let expected = over(1, &open, run).remove(0);
        assert!(expected.0[0].perplexity > 1.0 && expected.0[0].tokens == 17 * 7);
        assert_ne!(expected.1[0], expected.1[1], "the hook changes texts");
        for size in [2, 3, 5] {
            for found in over(size, &open, run) {
                assert!(found == expected, "{size} ranks: {found:?}");
            }
        }
    });
}

/// The small model with own edges; those of nodes outside of `held` are not numbers.
fn holding(held: &BTreeSet<u32>, verifier: FanVerifier) -> Model {
    let profile = Profile::sifu_own(8);
    let mechanism = small_mechanism(&profile, 2);
    let graph = mechanism.graph();
    let own: usize = (0..NODES)
        .map(|node| graph.own_slots(NodeId(node)).len())
        .sum();
    let weights = Weights::gather(&profile, NODES as usize, own, |block| {
        let weights = mechanism.weights();
        let mut values = match block.narrows {
            true => weights.table(block.name).to_vec(),
            false => weights.values(block.name).to_vec(),
        };
        if block.name == "edge.arena" {
            for node in (0..NODES).filter(|node| !held.contains(node)) {
                let rows = graph.own_slots(NodeId(node));
                values[rows.start * block.columns..rows.end * block.columns].fill(f32::NAN);
            }
        }
        Ok(Some(Table::of(&values, block.rows, block.columns)))
    });
    let mechanism = Mechanism::new(profile.clone(), graph.clone(), weights.unwrap()).unwrap();
    let tokenizer = Tokenizer::ids(NODES as usize).unwrap();
    Model::new(
        metadata(&profile, 2),
        tokenizer,
        mechanism.with_verifier(verifier),
    )
    .unwrap()
}

#[test]
fn a_rank_reads_the_fans_it_owns_alone() {
    let all: BTreeSet<u32> = (0..NODES).collect();
    let run = |sequences: &SequenceRanks, model: &Model| {
        let documents: Vec<Vec<u32>> = (0..6).map(|n| text(90 + n)).collect();
        let none = Hooks::default();
        evaluate_documents_over(sequences, model.mechanism(), &documents, &none)
    };
    // The nodes whose fans each rank verifies, which it does before it reads them.
    let verified: [Mutex<BTreeSet<u32>>; 3] = Default::default();
    let verified = Arc::new(verified);
    let open = |rank: usize| {
        let verified = verified.clone();
        let note = move |node: Option<u32>| {
            verified[rank].lock().unwrap().extend(node);
            Ok(())
        };
        holding(&all, FanVerifier(Arc::new(note)))
    };
    let expected = over(3, &open, run);
    let sets: Vec<BTreeSet<u32>> = verified
        .iter()
        .map(|set| set.lock().unwrap().clone())
        .collect();
    let union: BTreeSet<u32> = sets.iter().flatten().copied().collect();
    // Nodes without own edges have a fan that nobody needs to fetch.
    let graph = small_mechanism(&Profile::sifu_own(8), 2).graph().clone();
    let own = (0..NODES).filter(|&node| !graph.own_slots(NodeId(node)).is_empty());
    let own: BTreeSet<u32> = own.collect();
    assert!(own.len() > 6 && own.is_subset(&union), "{sets:?}");
    let sum: usize = sets.iter().map(BTreeSet::len).sum();
    assert_eq!(sum, union.len(), "two ranks verify a fan: {sets:?}");
    // Without the weights of other fans, results are the same.
    let open = |rank: usize| holding(&sets[rank], FanVerifier(Arc::new(|_| Ok(()))));
    for (found, expected) in over(3, &open, run).into_iter().zip(expected) {
        assert_eq!(found.unwrap(), expected.unwrap());
    }
    // Without any weights of own edges there are none.
    let open = |_| holding(&BTreeSet::new(), FanVerifier(Arc::new(|_| Ok(()))));
    for error in over(3, &open, run) {
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Numeric);
    }
}

#[test]
fn a_cancelled_rank_cancels_all() {
    let open = |_| model(&Profile::sifu_own(8));
    let texts = over(3, &open, |sequences, model| {
        let flag = Arc::new(AtomicBool::new(false));
        let sequences = sequences.clone().cancel(flag.clone());
        let engine = Engine::from(model)
            .with_hooks(&Hooks::default(), 0)
            .unwrap();
        let request = |number: usize| {
            // Rank 2 alone is cancelled.
            if number == 2 {
                flag.store(true, Ordering::Relaxed);
            }
            let request = Request::ids(vec![0]).tokens(100_000).ignore_eos(true);
            Ok(request.cancel(flag.clone()))
        };
        generate_over(&sequences, &engine, 5, &request).unwrap()
    });
    for text in texts.concat() {
        assert_eq!(text.finish, Some(Finish::Cancelled));
        assert!(text.ids.len() < 100);
    }
}

#[test]
fn the_first_failed_sequence_ends_all() {
    let open = |_| model(&Profile::sifu_own(8));
    let errors = over(3, &open, |sequences, model| {
        // Many wait when the first fails: none of them has failed by itself.
        let mut documents: Vec<Vec<u32>> = (0..150).map(|_| text(30)).collect();
        // Both fail before any other document ends, on two ranks.
        documents[4][3] = NODES;
        documents[2][3] = NODES + 1;
        evaluate_documents_over(sequences, model.mechanism(), &documents, &Hooks::default())
            .unwrap_err()
    });
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Input);
        let expected = "token 13 is outside the vocabulary of 12";
        assert_eq!(error.to_string(), expected);
    }
}

/// Save a model of own edges with one damaged byte in the fan of a node.
fn save_damaged(path: &Path, node: u32) {
    let model = model(&Profile::sifu_own(8));
    model.save(path).unwrap();
    let weights = model
        .mechanism()
        .weights()
        .table("edge.arena")
        .bytes()
        .to_vec();
    let mut bytes = std::fs::read(path).unwrap();
    let arena = bytes
        .windows(weights.len())
        .position(|window| window == weights)
        .unwrap();
    let graph = model.mechanism().graph();
    let row = graph.own_slots(NodeId(node)).start;
    bytes[arena + row * (8 * 8 + 8) * 4 + 1] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_fan_is_reported_by_the_rank_that_owns_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.bril");
    save_damaged(&path, 5);
    let open = |_| Model::open(&path, Verify::Touched).unwrap();
    for size in [1, 3] {
        let errors = over(size, &open, |sequences, model| {
            let documents: Vec<Vec<u32>> = (0..6).map(|_| text(60)).collect();
            let hooks = Hooks::default();
            evaluate_documents_over(sequences, model.mechanism(), &documents, &hooks).unwrap_err()
        });
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Checksum, "{error}");
            assert!(error.to_string().contains("part 6"), "{error}");
        }
    }
}

/// Fans that another mechanism holds, and how often they were fetched.
#[derive(Debug)]
struct Counted {
    whole: Mechanism,
    fetched: AtomicUsize,
}

impl RemoteFans for Counted {
    fn holds(&self, _: u32) -> bool {
        false
    }

    fn fetch(&self, query: FanQuery) -> Result<Vec<f32>> {
        self.fetched.fetch_add(1, Ordering::Relaxed);
        self.whole.compute(&query)
    }
}

#[test]
fn a_prediction_of_a_known_token_fetches_once() {
    let whole = small_mechanism(&Profile::sifu_own(8), 2);
    let graph = whole.graph().clone();
    let fans = Arc::new(Counted {
        whole: whole.clone(),
        fetched: AtomicUsize::new(0),
    });
    let mechanism = Arc::new(whole.with_remote_fans(fans.clone()).unwrap());
    let tokens = text(60);
    let (options, hooks) = (StreamOptions::default(), Hooks::default());
    let measured = evaluate_stream(&mechanism, &tokens, 1, &options, &hooks).unwrap();
    let alone = Arc::new(fans.whole.clone());
    let alone = evaluate_stream(&alone, &tokens, 1, &options, &hooks).unwrap();
    assert_eq!(measured, alone);
    let sources = tokens[..59].iter();
    let own = sources.filter(|&&node| !graph.own_slots(NodeId(node)).is_empty());
    let own = own.count();
    assert!(own > 30);
    assert_eq!(fans.fetched.load(Ordering::Relaxed), own);
    // A choice does not know the next token before it has the energies.
    fans.fetched.store(0, Ordering::Relaxed);
    let engine = mechanism.clone();
    let sampling = Sampling::greedy();
    let mut session = GraphSession::begin(engine, &[1], &Start::Profile, sampling).unwrap();
    let next = session.step().unwrap();
    let own = graph.edge_row(NodeId(1), NodeId(next.unwrap())) > 0;
    assert_eq!(fans.fetched.load(Ordering::Relaxed), 1 + usize::from(own));
}

/// Fans of another process that fails, or sends too little.
#[derive(Debug)]
struct Broken(bool);

impl RemoteFans for Broken {
    fn holds(&self, node: u32) -> bool {
        node == 0
    }

    fn fetch(&self, _: FanQuery) -> Result<Vec<f32>> {
        match self.0 {
            true => Err(Error::new(
                ErrorKind::Resource,
                "the other process has ended",
            )),
            false => Ok(vec![1.0]),
        }
    }
}

#[test]
fn what_a_divided_mechanism_cannot_do_is_a_typed_error() {
    let with = |profile: &Profile, fans| small_mechanism(profile, 2).with_remote_fans(fans);
    let composed = with(&Profile::sifu(8), Arc::new(Broken(true)));
    assert_eq!(composed.unwrap_err().kind(), ErrorKind::Unsupported);
    let own = Profile::sifu_own(8);
    for (fails, kind) in [(true, ErrorKind::Resource), (false, ErrorKind::Format)] {
        let mechanism: Mechanism = with(&own, Arc::new(Broken(fails))).unwrap();
        let flow = mechanism.begin(1, &Start::Profile).unwrap();
        let mut energies = vec![0.0; NODES as usize];
        let error = mechanism.energies(&flow, &mut energies).unwrap_err();
        assert_eq!(error.kind(), kind);
    }
    let mechanism = Arc::new(with(&own, Arc::new(Broken(true))).unwrap());
    let options = SessionOptions {
        attribution: true,
        ..SessionOptions::default()
    };
    let session = GraphSession::begin_with(
        mechanism.clone(),
        &[0],
        &Start::Profile,
        Sampling::greedy(),
        options,
    );
    let error = session.unwrap().split(1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let query = |node, width| FanQuery {
        node,
        step: 0,
        energies: true,
        target: None,
        output: vec![0.0; width],
    };
    let own = mechanism.graph().own_slots(NodeId(0)).len();
    let both = FanQuery {
        target: Some(1),
        ..query(0, 8)
    };
    assert_eq!(mechanism.compute(&query(0, 8)).unwrap().len(), own);
    assert_eq!(mechanism.compute(&both).unwrap().len(), own + 8);
    let narrow = mechanism.compute(&query(0, 7)).unwrap_err();
    assert_eq!(narrow.kind(), ErrorKind::Format);
    let outside = mechanism.compute(&query(NODES, 8)).unwrap_err();
    assert_eq!(outside.kind(), ErrorKind::Input);
}
