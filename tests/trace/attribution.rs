//! Contributions of tokens to pre-activations.

use super::*;

fn gelu(x: f64) -> f64 {
    brillm::kernel::activation::reference(x).0
}

fn profiles() -> Vec<(&'static str, Profile)> {
    let sifu = || Profile::sifu(8);
    let own = || Profile::sifu_own(8);
    vec![
        ("reference", Profile::reference(8)),
        (
            "reference, training's offset",
            Profile {
                offset: PositionOffset::Train,
                ..Profile::reference(8)
            },
        ),
        ("sifu", sifu()),
        ("sifu, low rank", Profile { rank: 3, ..sifu() }),
        (
            "sifu, residual",
            Profile {
                rank: 2,
                residual: Some(3),
                ..sifu()
            },
        ),
        (
            "sifu, residual bias",
            Profile {
                residual: Some(0),
                ..sifu()
            },
        ),
        (
            "sifu, decay",
            Profile {
                blend: BlendKind::Decay,
                ..sifu()
            },
        ),
        (
            "sifu, position",
            Profile {
                blend: BlendKind::Position,
                banks: 1,
                ..sifu()
            },
        ),
        ("layered", Profile::layered(8)),
        (
            "layered, one layer",
            Profile {
                layers: 1,
                ..Profile::layered(8)
            },
        ),
        ("own, gated", own()),
        (
            "own, decay, norm",
            Profile {
                blend: BlendKind::Decay,
                energy: EnergyKind::Norm,
                ..own()
            },
        ),
    ]
}

#[test]
fn contributions_add_up_to_every_edges_preactivation() {
    let mut worst: f64 = 0.0;
    for (name, profile) in profiles() {
        let mechanism = mechanism(profile.clone(), 11);
        let mut random = Random::new(5);
        let options = SessionOptions {
            attribution: true,
            ..SessionOptions::default()
        };
        let mut session = GraphSession::begin_with(
            mechanism.clone(),
            &[3],
            &Start::Profile,
            Sampling::greedy(),
            options,
        )
        .unwrap();
        let mut path = vec![3u32];
        let (mut own, mut shared) = (0, 0);
        for step in 0..40 {
            let energies = session.look().unwrap().0.to_vec();
            let source = session.flow().node;
            // All edges: those with parameters of their own, those walked, those never walked.
            for target in 0..NODES as u32 {
                let edge = mechanism.graph().edge(NodeId(source), NodeId(target));
                if edge.is_some_and(|edge| mechanism.graph().edge_rows()[edge.index()] > 0) {
                    own += 1
                } else {
                    shared += 1
                }
                let split = session.split(target).unwrap();
                let norm = split.norm();
                let scale = norm.max(1.0);
                for (place, &z) in split.preactivation.iter().enumerate() {
                    let sum: f64 = split
                        .contributions
                        .iter()
                        .map(|term| term.vector[place])
                        .sum();
                    let off = (sum - f64::from(z)).abs() / scale;
                    worst = worst.max(off);
                    assert!(
                        off < 1e-5,
                        "{name}, step {step}, target {target}: {sum} for {z}"
                    );
                }
                let values: f64 = split.values().iter().sum();
                assert!(
                    (values - norm).abs() < 1e-5 * scale,
                    "{name}: {values} for {norm}"
                );
                // What was split is what the energy is made of.
                let z = split.preactivation.iter().map(|&z| f64::from(z));
                let square: f64 = match profile.form {
                    EdgeForm::Own => z.map(|z| gelu(z).powi(2)).sum(),
                    EdgeForm::Composed | EdgeForm::Layered => z.map(|z| z * z).sum(),
                };
                let energy = match profile.energy {
                    EnergyKind::Norm => square.sqrt(),
                    EnergyKind::Squared => square,
                };
                let found = f64::from(energies[target as usize]);
                assert!(
                    (energy - found).abs() < 1e-4 * energy.max(1.0),
                    "{name}, step {step}, target {target}: energy {found}, not {energy}"
                );
                // Every contribution names a token of the path, at its position.
                for contribution in &split.contributions {
                    if let ContributionSource::Token { position, node } = contribution.source {
                        assert_eq!(path[position], node, "{name}, step {step}");
                    }
                }
            }
            let next = random.below(NODES as u64) as u32;
            session.force(next).unwrap();
            path.push(next);
        }
        assert!(
            own > 100 && shared > 100,
            "{name}: {own} own, {shared} shared"
        );
    }
    println!("largest distance of a sum from its pre-activation: {worst:.1e}");
}

/// Where gates do not depend on content, taking the last token's signal away takes exactly its contribution away.
#[test]
fn muting_a_signal_removes_its_contribution() {
    for (name, profile) in profiles() {
        if profile.blend == BlendKind::Gated {
            continue;
        }
        let mechanism = mechanism(profile, 23);
        let path = [5u32, 9, 1, 9, 30];
        let begin = |gain: f32| {
            let options = SessionOptions {
                attribution: true,
                gains: [(4, gain)].into(),
                ..SessionOptions::default()
            };
            let start = Start::Profile;
            let sampling = Sampling::greedy();
            GraphSession::begin_with(mechanism.clone(), &path, &start, sampling, options).unwrap()
        };
        let (whole, muted) = (begin(1.0), begin(0.0));
        for target in [0u32, 3, 17, 30] {
            let (whole, muted) = (whole.split(target).unwrap(), muted.split(target).unwrap());
            let last = whole
                .contributions
                .iter()
                .find(|term| matches!(term.source, ContributionSource::Token { position: 4, .. }))
                .unwrap();
            for (place, part) in last.vector.iter().enumerate() {
                let missed =
                    f64::from(whole.preactivation[place]) - f64::from(muted.preactivation[place]);
                assert!(
                    (missed - part).abs() < 1e-5 * whole.norm().max(1.0),
                    "{name}, target {target}: {missed} is missed of {part}"
                );
            }
        }
    }
}

#[test]
fn contributions_of_a_candidate_match_its_step() {
    let engine = english();
    let trace = traced(&engine, "Once upon a time", |request| request);
    let step = &trace.steps[3];
    let look = FanLook::of(
        &engine,
        &FanRequest {
            tokens: trace.ids()[..step.position].to_vec(),
            prompt_tokens: Some(trace.prompt_tokens),
            candidates: 24,
            targets: vec![step.chosen, 2],
            against: Some(step.chosen),
            vectors: true,
            ..FanRequest::default()
        },
        &Hooks::default(),
    )
    .unwrap();
    let over = &look.explanations[1];
    assert_eq!((over.chosen, over.alternative), (step.chosen, 2));
    let probability = |id: u32| {
        let found = look.candidates.iter().find(|one| one.id == id);
        f64::from(found.unwrap().probability)
    };
    let ratio = probability(step.chosen) / probability(2);
    assert!((over.margin - ratio.ln()).abs() < 1e-3, "{over:?}");
    let sum: f64 = over.terms.iter().map(|term| term.value).sum();
    assert!((sum - over.margin).abs() < 1e-3, "{over:?}");
    assert_eq!(look.explanations[0].margin, 0.0);
    assert_eq!(look.candidates[..24], step.candidates[..24]);
    assert_eq!((look.source, look.entropy), (step.source, step.entropy));
    let (found, known) = (&look.contributions[0], step.contributions.as_ref().unwrap());
    assert_eq!(found.norm, known.norm);
    assert!(
        found
            .entries
            .iter()
            .zip(&known.entries)
            .all(|(a, b)| a.value == b.value)
    );
    let z = found.preactivation.as_ref().unwrap();
    for (place, &z) in z.iter().enumerate() {
        let parts = found
            .entries
            .iter()
            .map(|entry| entry.vector.as_ref().unwrap()[place]);
        assert!((parts.sum::<f64>() - f64::from(z)).abs() < 1e-5 * found.norm.max(1.0));
    }
    assert_eq!(look.contributions[1].target, 2);
    assert!(look.candidates.iter().any(|one| one.id == 2));
}
