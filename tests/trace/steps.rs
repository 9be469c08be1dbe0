//! Steps of a trace.

use super::*;

#[test]
fn a_trace_has_the_tokens_of_the_generation() {
    for engine in [english(), transformer()] {
        let sampling = Sampling::default().temperature(0.8).top_p(0.95).seed(7);
        let trace = traced(&engine, "Once upon a time", |request| {
            request.sampling(sampling.clone()).ignore_eos(true)
        });
        trace.check().unwrap();
        let request = brillm::Request::ids(trace.ids()[..trace.prompt_tokens].to_vec())
            .tokens(6)
            .ignore_eos(true)
            .sampling(sampling);
        let ids = engine.start(request).unwrap().collect_text().unwrap().1;
        assert_eq!(trace.ids()[trace.prompt_tokens..], ids);
        assert_eq!(trace.finish, Some(TraceFinish::Length));
        assert_eq!(trace.steps.len(), 6);
        for (step, pair) in trace
            .steps
            .iter()
            .zip(trace.ids()[trace.prompt_tokens - 1..].windows(2))
        {
            assert_eq!([step.source, step.chosen], [pair[0], pair[1]]);
            let ranks: Vec<usize> = step.candidates.iter().map(|one| one.rank).collect();
            assert_eq!(ranks[..24], (1..=24).collect::<Vec<_>>()[..]);
            let listed: f64 = step
                .candidates
                .iter()
                .map(|one| f64::from(one.probability))
                .sum();
            assert!((listed + step.rest.probability - 1.0).abs() < 1e-5);
            assert_eq!(
                step.candidates.len() + step.rest.count,
                trace.model.vocabulary
            );
            let (first, second) = (&step.candidates[0], &step.candidates[1]);
            let margin = f64::from(first.probability / second.probability).ln();
            assert!((step.margin.unwrap() - margin).abs() < 1e-3);
            let chosen = step.candidates.iter().find(|one| one.id == step.chosen);
            let resistance = -f64::from(chosen.unwrap().probability).ln();
            assert!((step.resistance.unwrap() - resistance).abs() < 1e-3);
            match &engine {
                Engine::Graph(_) => {
                    let split = step.contributions.as_ref().unwrap();
                    let sum: f64 = split.entries.iter().map(|entry| entry.value).sum();
                    assert!((sum - split.norm).abs() < 1e-5 * split.norm.max(1.0));
                    let tokens = split.entries.iter().filter(|e| e.kind == EntryKind::Token);
                    assert_eq!(tokens.count(), step.position);
                    assert!(step.candidates[0].edge.is_some() && step.attention.is_none());
                }
                Engine::Transformer(model) => {
                    let attention = step.attention.as_ref().unwrap();
                    assert_eq!(attention.len(), model.configuration().layers);
                    for layer in attention {
                        assert_eq!(layer.weights.len(), step.position);
                        let sum: f32 = layer.weights.iter().flatten().sum();
                        assert!((sum - 1.0).abs() < 1e-4, "{sum}");
                    }
                    let cache = step.cache.as_ref().unwrap();
                    assert_eq!(cache, &vec![step.position; attention.len()]);
                    assert!(step.contributions.is_none());
                }
            }
        }
    }
}

/// Entropy by the definition, over all candidates.
#[test]
fn entropy_covers_the_whole_distribution() {
    let trace = traced(&english(), "Once", |request| {
        request.tokens(2).candidates(usize::MAX)
    });
    for step in &trace.steps {
        let entropy: f64 = step
            .candidates
            .iter()
            .map(|one| f64::from(one.probability))
            .filter(|&p| p > 0.0)
            .map(|p| -p * p.ln())
            .sum();
        assert!((entropy - step.entropy).abs() < 1e-4 * entropy);
        assert_eq!(step.rest.count, 0);
    }
}

#[test]
fn interventions_have_the_predicted_effect() {
    for engine in [english(), transformer()] {
        let plain = traced(&engine, "Once upon a time", |request| request);
        let first = &plain.steps[0];
        let (best, second) = (&first.candidates[0], &first.candidates[1]);
        let with = |one: Intervention| {
            traced(&engine, "Once upon a time", |request| {
                request.intervene([one])
            })
        };
        let of = |trace: &Trace, id: u32| {
            let found = trace.steps[0].candidates.iter().find(|one| one.id == id);
            found.map_or(0.0, |one| f64::from(one.probability))
        };
        // A factor on odds: p' = f p / (1 + (f − 1) p).
        for factor in [0.25f32, 4.0] {
            let p = f64::from(second.probability);
            let expected = f64::from(factor) * p / (1.0 + (f64::from(factor) - 1.0) * p);
            let edge = with(Intervention::ScaleEdge {
                source: first.source,
                target: second.id,
                factor,
            });
            let node = with(Intervention::ScaleNode {
                node: second.id,
                factor,
            });
            for trace in [&edge, &node] {
                let found = of(trace, second.id);
                assert!((found - expected).abs() < 1e-4, "{found} for {expected}");
            }
        }
        let muted = with(Intervention::MuteNode { node: best.id });
        assert!(!muted.steps.iter().any(|step| step.chosen == best.id));
        assert_eq!(of(&muted, best.id), 0.0);
        assert_eq!(muted.steps[0].chosen, second.id);
        let closed = with(Intervention::MuteEdge {
            source: first.source,
            target: best.id,
        });
        assert_eq!(closed.steps[0].chosen, second.id);
        let forced = with(Intervention::Force {
            step: 2,
            node: second.id,
        });
        assert_eq!(
            forced.ids()[..plain.prompt_tokens + 2],
            plain.ids()[..plain.prompt_tokens + 2]
        );
        assert!(forced.steps[2].forced && forced.steps[2].chosen == second.id);
        let compared = Comparison::of(&plain, &forced);
        assert_eq!(compared.first_divergence, Some(2));
        assert!(
            compared.rows[2]
                .a_in_b
                .is_some_and(|standing| standing.rank == 1)
        );
        let lit = with(Intervention::Inject {
            step: 1,
            node: second.id,
            energy: 1e6,
        });
        assert_eq!(lit.steps[1].chosen, second.id);
        assert_eq!(lit.steps[0], plain.steps[0]);
        // What a silenced token leaves does not depend on which token it was.
        let mut ids = engine.encode("Once upon a time").unwrap();
        let mut parts = Vec::new();
        for token in [ids[1], second.id] {
            ids[1] = token;
            let silenced = Tracing::begin(
                &engine,
                TraceRequest::new(ids.clone())
                    .intervene([Intervention::MuteSignal { position: 1 }]),
                &Hooks::default(),
            );
            if let Engine::Transformer(_) = &engine {
                assert!(silenced.is_err());
                continue;
            }
            let step = silenced.unwrap().collect().unwrap().steps.remove(0);
            let split = step.contributions.unwrap();
            let part = split.entries.iter().find(|entry| entry.position == Some(1));
            parts.push(part.unwrap().norm);
            assert_ne!(step.candidates[0].probability, best.probability);
        }
        if let (Engine::Graph(model), [one, other]) = (&engine, &parts[..]) {
            assert_eq!(one, other);
            let split = first.contributions.as_ref().unwrap();
            let part = split.entries.iter().find(|entry| entry.position == Some(1));
            assert_ne!(part.unwrap().norm, *one);
            // Over layered edges, the edge that leads to the token has its source too.
            let layered = model.mechanism().profile().form == brillm::signal::EdgeForm::Layered;
            assert_eq!(*one == 0.0, !layered);
        }
        for (wrong, said) in [
            (
                r#"{"kind":"mute_node","node":99999999}"#,
                "outside the vocabulary",
            ),
            (
                r#"{"kind":"scale_node","node":3,"factor":-1}"#,
                "cannot be multiplied",
            ),
        ] {
            let wrong: Intervention = serde_json::from_str(wrong).unwrap();
            let request = TraceRequest::new(vec![3]).intervene([wrong]);
            let error = Tracing::begin(&engine, request, &Hooks::default())
                .err()
                .unwrap();
            assert!(error.to_string().contains(said), "{error}");
        }
    }
}

#[test]
fn partial_characters_are_shown_with_the_character_they_form() {
    let engine = chinese();
    let trace = traced(&engine, "☃🐉龙", |request| request.tokens(1));
    let shown: String = trace.tokens[..trace.prompt_tokens]
        .iter()
        .filter(|token| token.text.is_none())
        .map(|token| token.joined.clone().unwrap())
        .collect();
    assert_eq!(shown, "☃☃☃🐉🐉🐉🐉");
    assert!(
        trace
            .tokens
            .iter()
            .all(|token| !token.display.contains('\u{fffd}'))
    );
}

/// Edges say what they are made of, as the graph has it.
#[test]
fn edges_are_marked_own_seen_or_shared() {
    let profile = Profile::reference(8);
    let mechanism = mechanism(profile, 3);
    let graph = mechanism.graph().clone();
    let engine = engine_of(&mechanism);
    let request = TraceRequest::new(vec![4]).tokens(3).candidates(usize::MAX);
    let trace = Tracing::begin(&engine, request, &Hooks::default())
        .unwrap()
        .collect()
        .unwrap();
    let mut kinds = std::collections::BTreeMap::new();
    for step in &trace.steps {
        // A node never follows itself in this profile.
        assert_eq!(step.candidates.len(), NODES - 1);
        for one in &step.candidates {
            let edge = graph.edge(NodeId(step.source), NodeId(one.id));
            let (kind, count) = match edge {
                None => (EdgeKind::Shared, None),
                Some(edge) if graph.counts()[edge.index()] >= 3 => {
                    (EdgeKind::Own, Some(graph.counts()[edge.index()]))
                }
                Some(edge) => (EdgeKind::Seen, Some(graph.counts()[edge.index()])),
            };
            assert_eq!((one.edge, one.count), (Some(kind), count));
            *kinds.entry(format!("{kind:?}")).or_insert(0) += 1;
        }
    }
    assert_eq!(kinds.len(), 3, "{kinds:?}");
}
