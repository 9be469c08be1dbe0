//! Paths on a device and on the CPU: every mechanism, sampling, batches, small buffers, paging.

use std::sync::Arc;

use brillm::graph::{GraphBuilder, NodeId, PathGraph, PathSettings, TokenGraph};
use brillm::kernel::element::Element;
use brillm::kernel::gpu::{Device, DeviceOptions, KernelShape};
use brillm::kernel::random::Random;
use brillm::learn::edge_trainer::EdgeTrainer;
use brillm::path::{Decoder, GraphSession, Sampling, Session};
use brillm::signal::{BlendKind, DeviceMechanism, EnergyKind, Flow, Mechanism, Profile, Start};

use crate::{Bed, Test};

pub const TESTS: &[Test] = &[
    (
        "every_mechanism_decodes_as_on_the_cpu",
        every_mechanism_decodes_as_on_the_cpu,
    ),
    (
        "layered_edges_decode_as_on_the_cpu",
        layered_edges_decode_as_on_the_cpu,
    ),
    (
        "walks_longer_than_an_edge_decode_as_on_the_cpu",
        walks_longer_than_an_edge_decode_as_on_the_cpu,
    ),
    ("sampling_matches_the_cpu", sampling_matches_the_cpu),
    (
        "small_buffers_and_paging_keep_the_paths",
        small_buffers_and_paging_keep_the_paths,
    ),
    (
        "lists_contain_the_likeliest_nodes",
        lists_contain_the_likeliest_nodes,
    ),
    (
        "a_hop_of_two_dispatches_keeps_the_paths",
        a_hop_of_two_dispatches_keeps_the_paths,
    ),
    (
        "the_bytes_of_own_edges_are_counted",
        the_bytes_of_own_edges_are_counted,
    ),
];

pub const NODES: usize = 12;

pub fn text() -> Vec<u32> {
    let mut random = Random::new(4);
    let mut node = 0u32;
    (0..400)
        .map(|_| {
            node = if random.uniform() < 0.7 {
                (node * 5 + 1) % 12
            } else {
                random.below(12) as u32
            };
            node
        })
        .collect()
}

pub fn graph() -> TokenGraph {
    let mut builder = GraphBuilder::new(NODES);
    builder.walk(text()).unwrap();
    let mut graph = builder.build().unwrap();
    graph.set_own_minimum(2);
    graph
}

/// Small profiles of every mechanism.
pub fn profiles() -> Vec<(String, Profile)> {
    let mut all = vec![("reference".to_string(), Profile::reference(8))];
    for blend in [BlendKind::Position, BlendKind::Decay, BlendKind::Gated] {
        let banks = if blend == BlendKind::Position { 1 } else { 2 };
        for energy in [EnergyKind::Norm, EnergyKind::Squared] {
            let profile = Profile {
                blend,
                banks,
                energy,
                ..Profile::sifu_own(8)
            };
            all.push((format!("own {blend:?} {energy:?}"), profile));
        }
        for (rank, residual) in [(0, None), (2, None), (0, Some(0)), (3, Some(2))] {
            let profile = Profile {
                blend,
                banks,
                rank,
                residual,
                ..Profile::sifu(8)
            };
            all.push((
                format!("composed {blend:?} rank {rank} residual {residual:?}"),
                profile,
            ));
        }
    }
    all
}

/// Layered edges: layers, banks, and widths that are and are not multiples of 4.
pub fn layered_profiles() -> Vec<(String, Profile)> {
    let of = |(layers, banks, width, inner)| Profile {
        layers,
        banks,
        inner,
        ..Profile::layered(width)
    };
    [(1, 1, 8, 12), (1, 2, 6, 5), (2, 2, 8, 12), (3, 3, 10, 7)]
        .map(of)
        .map(|profile| {
            let (layers, banks, inner) = (profile.layers, profile.banks, profile.inner);
            let name = format!("layered L {layers} K {banks} D {} w {inner}", profile.width);
            (name, profile)
        })
        .into()
}

/// A mechanism with random parameters.
pub fn learned(profile: &Profile, element: Element) -> Arc<Mechanism> {
    let graph = graph();
    let mut learner = EdgeTrainer::new(profile, &graph, 0.0, 3);
    let mut random = Random::new(8);
    for parameter in learner.parameters() {
        for value in &mut parameter.value {
            *value += 0.2 * random.normal() as f32;
        }
    }
    let weights = learner
        .weights(profile, &graph)
        .unwrap()
        .converted(element)
        .unwrap();
    Arc::new(Mechanism::new(profile.clone(), graph, weights).unwrap())
}

/// Flows that begin at these nodes.
pub fn flows(mechanism: &Mechanism, nodes: &[u32], start: &Start) -> Vec<Flow> {
    nodes
        .iter()
        .map(|&node| mechanism.begin(node, start).unwrap())
        .collect()
}

/// A greedy decoder with these flows.
pub fn decoder(device: &Device, mechanism: &Arc<Mechanism>, flows: &[Flow]) -> Decoder {
    sampler(device, mechanism, flows, &Sampling::greedy())
}

fn sampler(
    device: &Device,
    mechanism: &Arc<Mechanism>,
    flows: &[Flow],
    sampling: &Sampling,
) -> Decoder {
    let on_device = Arc::new(DeviceMechanism::upload(device, mechanism.clone()).unwrap());
    let mut decoder = Decoder::new(on_device, flows.len(), 40, sampling.clone(), &[], 5).unwrap();
    for (sequence, flow) in flows.iter().enumerate() {
        let random = Random::new(sampling.seed + sequence as u64);
        decoder.set(sequence, flow, &random, &[flow.node]).unwrap();
    }
    decoder
}

/// The same path on the CPU.
fn on_cpu(
    mechanism: &Arc<Mechanism>,
    flow: &Flow,
    sampling: &Sampling,
    hops: usize,
) -> (Vec<u32>, GraphSession) {
    let mut session = GraphSession::begin(
        mechanism.clone(),
        &[flow.node],
        &Start::Profile,
        sampling.clone(),
    )
    .unwrap();
    let path = (0..hops)
        .map(|_| session.step().unwrap().unwrap())
        .collect();
    (path, session)
}

fn near(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!(
            (a - b).abs() <= tolerance * (1.0 + b.abs()),
            "{what}[{index}]: {a} instead of {b}"
        );
    }
}

fn every_mechanism_decodes_as_on_the_cpu(bed: &Bed) {
    for (name, profile) in profiles() {
        let mechanism = learned(&profile, Element::F32);
        decodes_as_on_the_cpu(&bed.device, &name, &mechanism, &[3, 5, 3]);
    }
}

/// From every node, in every element, with every shape of the kernels.
fn layered_edges_decode_as_on_the_cpu(bed: &Bed) {
    let nodes: Vec<u32> = (0..NODES as u32).collect();
    let lanes = DeviceOptions {
        shape: Some(KernelShape::Lanes),
        ..DeviceOptions::default()
    };
    let shared = DeviceOptions {
        without_subgroups: true,
        ..lanes
    };
    let mut devices = vec![bed.device.clone()];
    if bed.is_thorough() {
        devices.extend([lanes, shared].map(|options| bed.with(options)));
    }
    let mut worst = 0.0f32;
    for device in devices {
        for (name, profile) in layered_profiles() {
            for element in [Element::F32, Element::F16, Element::I8] {
                let mechanism = learned(&profile, element);
                let name = format!("{name} {element} {:?}", device.options());
                let found = decodes_as_on_the_cpu(&device, &name, &mechanism, &nodes);
                assert!(found < 2e-6, "{name}: energies within {found:.1e}");
                worst = worst.max(found);
            }
        }
    }
    println!("  largest relative difference of an energy {worst:.1e}");
}

fn walks_longer_than_an_edge_decode_as_on_the_cpu(bed: &Bed) {
    for (name, profile) in profiles().into_iter().chain(layered_profiles()) {
        if !profile.static_resistance || profile.blend != BlendKind::Gated {
            continue;
        }
        let learned = learned(&profile, Element::F32);
        let graph = learned.graph().clone();
        let paths = PathGraph::estimate(&graph, &text(), &PathSettings::whole(5)).unwrap();
        let graph = graph.with_paths(Some(paths));
        let whole = Mechanism::new(profile, graph, learned.weights().clone()).unwrap();
        for order in [5, 3, 2] {
            let mechanism = Arc::new(whole.clone().with_order(order).unwrap());
            let name = format!("{name}, order {order}");
            decodes_as_on_the_cpu(&bed.device, &name, &mechanism, &[3, 5, 3]);
        }
    }
}

/// Returns the largest relative difference of an energy.
fn decodes_as_on_the_cpu(
    device: &Device,
    name: &str,
    mechanism: &Arc<Mechanism>,
    nodes: &[u32],
) -> f32 {
    let mut worst = 0.0f32;
    let starts = flows(mechanism, nodes, &Start::Profile);
    let mut decoder = decoder(device, mechanism, &starts);
    // Two submissions: the second continues the first.
    let first = decoder.decode(9).unwrap();
    let second = decoder.decode(16).unwrap();
    for (sequence, flow) in starts.iter().enumerate() {
        let (path, mut session) = on_cpu(mechanism, flow, &Sampling::greedy(), 25);
        let found = [first[sequence].as_slice(), &second[sequence]].concat();
        assert_eq!(found, path, "{name}, sequence {sequence}");
        let (now, then) = (decoder.flow(sequence).unwrap(), session.flow().clone());
        assert_eq!((now.node, now.step), (then.node, then.step), "{name}");
        assert_eq!(now.earlier, then.earlier, "{name}");
        near(&now.signal, &then.signal, 1e-5, &format!("{name}: signal"));
        near(&now.output, &then.output, 1e-5, &format!("{name}: output"));
        near(
            &now.blended,
            &then.blended,
            1e-5,
            &format!("{name}: blended"),
        );
        assert!((now.normaliser - then.normaliser).abs() < 1e-9, "{name}");
        for (index, (a, b)) in now.banks.iter().zip(&then.banks).enumerate() {
            let near = (a - b).abs() <= 1e-5 * (1.0 + b.abs());
            assert!(near, "{name}: bank[{index}]: {a} instead of {b}");
        }
        assert_eq!(now.banks.len(), then.banks.len(), "{name}");
        let (energies, logits) = session.look().unwrap();
        let (all_energies, all_logits) = decoder.look().unwrap();
        near(
            &all_energies[sequence],
            energies,
            1e-5,
            &format!("{name}: energies"),
        );
        near(
            &all_logits[sequence],
            logits,
            2e-5,
            &format!("{name}: logits"),
        );
        let pairs = all_energies[sequence].iter().zip(energies);
        worst = pairs.fold(worst, |worst, (a, b)| worst.max((a - b).abs() / b));
    }
    worst
}

fn sampling_matches_the_cpu(bed: &Bed) {
    let sampled = Sampling::default().temperature(0.9).seed(5);
    let samplings = [
        sampled.clone(),
        sampled.clone().top_k(3),
        sampled.clone().top_p(0.8),
        sampled.clone().min_p(0.1),
        sampled.clone().top_k(6).top_p(0.7).min_p(0.02),
        sampled.clone().repetition_penalty(1.8, 5).banned([1, 4]),
        Sampling::greedy().repetition_penalty(3.0, 4),
    ];
    let (mut same, mut all) = (0, 0);
    let profiles = [Profile::sifu(8), Profile::reference(8), Profile::layered(8)];
    for profile in profiles {
        let mechanism = learned(&profile, Element::F32);
        for sampling in &samplings {
            let starts = flows(&mechanism, &[3, 5, 0, 3], &Start::Profile);
            let mut decoder = sampler(&bed.device, &mechanism, &starts, sampling);
            let found = decoder.decode(40).unwrap();
            for (sequence, flow) in starts.iter().enumerate() {
                let own = sampling.clone().seed(sampling.seed + sequence as u64);
                let (path, session) = on_cpu(&mechanism, flow, &own, 40);
                // A draw at the border of two nodes may rarely fall on the other side.
                let together = found[sequence]
                    .iter()
                    .zip(&path)
                    .take_while(|(a, b)| a == b)
                    .count();
                same += usize::from(together == 40);
                all += 1;
                assert!(!found[sequence].contains(&1) || !sampling.banned.contains(&1));
                if together == 40 {
                    let state = serde_json::to_value(session.state()).unwrap();
                    let random = serde_json::to_value(decoder.random(sequence).unwrap()).unwrap();
                    assert_eq!(state["random"], random, "{sampling:?}");
                }
            }
        }
    }
    assert!(
        same + 1 >= all,
        "{same} of {all} sampled paths are the same"
    );
}

/// Buffers of a few fans, and memory for a few of them: the same paths, with paging.
fn small_buffers_and_paging_keep_the_paths(bed: &Bed) {
    let mut tried = 0;
    for (name, profile) in profiles().into_iter().chain(layered_profiles()) {
        let own = name.starts_with("own") || name == "reference";
        let residual = profile.residual.is_some();
        let gated = name.contains("Gated") && (name.contains("Squared") || !own);
        if !(name == "reference" || gated || profile.layers == 2) {
            continue;
        }
        let mut elements = vec![Element::F32, Element::F16, Element::I8];
        if !bed.is_thorough() {
            // One element each: a device compiles all its kernels again for every element.
            elements = vec![elements[tried % 3]];
        }
        tried += 1;
        for element in elements {
            let mechanism = learned(&profile, element);
            // A run of 8 numbers fills whole words of 16 bytes.
            let run = (8 * element.size()).next_multiple_of(16);
            let row = if own {
                9 * run
            } else {
                (1 + profile.residual.unwrap_or(0)) * run
            };
            let binding = Some((14 * row).next_multiple_of(16) as u64);
            for paged in [false, true] {
                if paged && !own && !residual {
                    continue;
                }
                let device = bed.with(DeviceOptions {
                    binding_bytes: binding,
                    fan_bytes: paged.then_some(28 * row as u64),
                    ..DeviceOptions::default()
                });
                let starts = flows(&mechanism, &[3], &Start::Profile);
                let on_device =
                    Arc::new(DeviceMechanism::upload(&device, mechanism.clone()).unwrap());
                let mut decoder =
                    Decoder::new(on_device.clone(), 1, 30, Sampling::greedy(), &[], 0).unwrap();
                decoder.set(0, &starts[0], &Random::new(0), &[]).unwrap();
                let found = decoder.decode(30).unwrap();
                let (path, _) = on_cpu(&mechanism, &starts[0], &Sampling::greedy(), 30);
                assert_eq!(found[0], path, "{name} {element} paged {paged}");
                if own || residual {
                    assert!(on_device.fan_buffers() > 1, "{name} {element}: one buffer");
                }
                let counts = on_device.page_counts();
                assert_eq!(counts.is_some(), paged, "{name} {element}");
                if let Some(counts) = counts {
                    assert_eq!(counts.hops, 30, "{name} {element}: {counts:?}");
                    // Some fans are used again before they are evicted, and some are not.
                    assert!(counts.misses > 0, "{name} {element}: {counts:?}");
                    let rate = counts.hit_rate();
                    assert!(rate > 0.0 && rate < 1.0, "{name} {element}: {counts:?}");
                }
            }
        }
    }
}

fn lists_contain_the_likeliest_nodes(bed: &Bed) {
    let profiles = [Profile::sifu(8), Profile::reference(8), Profile::layered(8)];
    for profile in profiles {
        let mechanism = learned(&profile, Element::F32);
        let starts = flows(&mechanism, &[3, 7], &Start::Profile);
        let mut decoder = sampler(
            &bed.device,
            &mechanism,
            &starts,
            &Sampling::greedy().banned([2]),
        );
        let lists = decoder.nearest().unwrap();
        for (flow, list) in starts.iter().zip(lists) {
            let mut session = GraphSession::begin(
                mechanism.clone(),
                &[flow.node],
                &Start::Profile,
                Sampling::greedy(),
            )
            .unwrap();
            let mut logits = session.look().unwrap().1.to_vec();
            if !profile.self_loops {
                logits[flow.node as usize] = f32::NEG_INFINITY;
            }
            let total: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
            assert!(
                (list.normaliser - total.ln()).abs() < 1e-5,
                "{} {}",
                list.normaliser,
                total.ln()
            );
            logits[2] = f32::NEG_INFINITY;
            let mut order: Vec<u32> = (0..NODES as u32).collect();
            order.sort_by(|&a, &b| {
                logits[b as usize]
                    .total_cmp(&logits[a as usize])
                    .then(a.cmp(&b))
            });
            let mut expected = order[..5].to_vec();
            expected.sort_unstable();
            let found: Vec<u32> = list.nodes.iter().map(|&(_, node)| node).collect();
            assert_eq!(found, expected);
            for &(logit, node) in &list.nodes {
                assert!((logit - logits[node as usize]).abs() < 1e-5 * (1.0 + logit.abs()));
            }
        }
    }
}

/// The kernels of GPUs on every adapter: one dispatch for the energies of all buffers of fans and one for the rest, the
/// largest logits of own edges, and more sequences at a node than a pass over its edges serves.
fn a_hop_of_two_dispatches_keeps_the_paths(bed: &Bed) {
    let nodes = [3, 5, 3, 3, 3, 3, 3, 3, 3, 3, 3, 7, 3, 3, 3, 3, 3, 3, 3];
    for (name, profile) in profiles() {
        let own = name == "reference" || name == "own Gated Squared";
        if !own && name != "composed Gated rank 3 residual Some(2)" {
            continue;
        }
        let elements = [Element::F32, Element::F16, Element::I8];
        let elements = &elements[..if bed.is_thorough() && own { 3 } else { 1 }];
        for &element in elements {
            let mechanism = learned(&profile, element);
            // Buffers of a few fans each.
            let row = (if own { 9 } else { 3 }) * (8 * element.size()).next_multiple_of(16);
            let device = bed.with(DeviceOptions {
                shape: Some(KernelShape::Lanes),
                merged: Some(true),
                binding_bytes: Some((40 * row) as u64),
                ..DeviceOptions::default()
            });
            let starts = flows(&mechanism, &nodes, &Start::Profile);
            // Greedy, and with nodes that the largest energies may belong to.
            for sampling in [Sampling::greedy(), Sampling::greedy().banned([1, 4, 6, 9])] {
                let mut decoder = sampler(&device, &mechanism, &starts, &sampling);
                let found = decoder.decode(12).unwrap();
                for (sequence, flow) in starts.iter().enumerate() {
                    let (path, _) = on_cpu(&mechanism, flow, &sampling, 12);
                    assert_eq!(
                        found[sequence], path,
                        "{name} {element}, sequence {sequence}"
                    );
                }
                // Node tables of this size lie in one buffer, except for tables of composed edges.
                let buffers = decoder.mechanism().fan_buffers();
                assert!(buffers > 1 || !own, "{name} {element}: one buffer");
                if name == "reference" && bed.device.storage_buffers() >= 27 {
                    assert_eq!(decoder.dispatches().unwrap(), 2, "{name} {element}");
                }
            }
        }
    }
}

/// The table of times says how many bytes of edges were read: of each node that a sequence is at, once a hop.
fn the_bytes_of_own_edges_are_counted(bed: &Bed) {
    let options = DeviceOptions {
        profile: true,
        ..DeviceOptions::default()
    };
    let device = match Device::open(&bed.adapter, options) {
        Ok(device) => device,
        Err(error) => {
            assert_eq!(error.kind(), brillm::ErrorKind::Unsupported, "{error}");
            assert_eq!(bed.device.report().backend, "gl", "{error}");
            return;
        }
    };
    let mechanism = learned(&Profile::sifu_own(8), Element::F32);
    let starts = [3, 3, 7];
    let flows = flows(&mechanism, &starts, &Start::default());
    let paths = decoder(&device, &mechanism, &flows).decode(9).unwrap();
    let mut edges = 0;
    for hop in 0..9 {
        let at = starts
            .iter()
            .zip(&paths)
            .filter(|(_, path)| hop < path.len());
        let nodes = at.map(|(&start, path)| if hop == 0 { start } else { path[hop - 1] });
        let nodes: std::collections::BTreeSet<u32> = nodes.collect();
        let fans = nodes
            .iter()
            .map(|&node| mechanism.graph().fan(NodeId(node)));
        edges += fans
            .map(|fan| fan.edge_rows.iter().filter(|&&row| row > 0).count())
            .sum::<usize>();
    }
    let times = device.kernel_times().unwrap();
    let energies = times
        .iter()
        .find(|time| time.kernel.contains("energies"))
        .unwrap();
    // A matrix of 8 × 8 numbers and a bias for each edge.
    let bytes = energies.gb_per_s.unwrap() * 1e3 * energies.microseconds;
    assert_eq!(bytes.round(), (edges * 9 * 8 * 4) as f64, "{times:?}");
}
