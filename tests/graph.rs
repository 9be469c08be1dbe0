//! The graph room against plain counting, brute force and petgraph's own algorithms.

use std::collections::{BTreeMap, HashSet};

use brillm::ErrorKind;
use brillm::graph::{
    Direction, EdgeId, GraphBuilder, NodeId, PageRank, RankWeight, Reachability, TokenGraph,
    least_paths,
};
use petgraph::algo;
use petgraph::data::DataMap;
use petgraph::visit::{
    Bfs, Dfs, EdgeCount, EdgeIndexable, EdgeRef, GetAdjacencyMatrix, GraphProp, IntoEdgeReferences,
    IntoEdges, IntoEdgesDirected, IntoNeighborsDirected, IntoNodeIdentifiers, IntoNodeReferences,
    NodeCount, NodeIndexable, NodeRef, Reversed, VisitMap, Visitable,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// Triples of a graph, by CSR order.
fn triples(graph: &TokenGraph) -> Vec<(u32, u32, u32)> {
    let edges = graph.edge_references();
    edges
        .map(|edge| (edge.source().0, edge.target().0, edge.count()))
        .collect()
}

/// Everything a graph promises about its arrays, checked from outside.
fn check_arrays(graph: &TokenGraph) {
    let (rows, targets) = (graph.rows(), graph.targets());
    assert_eq!(rows.len(), graph.nodes() + 1);
    assert_eq!(
        (rows[0], *rows.last().unwrap() as usize),
        (0, graph.edges())
    );
    assert!(rows.windows(2).all(|pair| pair[0] <= pair[1]));
    let mut next = 0;
    let mut edge_row = 1;
    for node in 0..graph.nodes() as u32 {
        let fan = graph.fan(NodeId(node));
        assert_eq!(fan.first.index(), next, "fans partition the edges");
        next += fan.len();
        assert!(fan.targets.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(
            fan.targets
                .iter()
                .all(|&target| (target as usize) < graph.nodes())
        );
        assert!(fan.counts.iter().all(|&count| count > 0));
        let own: Vec<u32> = fan
            .edge_rows
            .iter()
            .copied()
            .filter(|&edge_row| edge_row > 0)
            .collect();
        let range = graph.own_slots(NodeId(node));
        assert_eq!(
            range
                .clone()
                .map(|edge_row| edge_row as u32)
                .collect::<Vec<_>>(),
            own
        );
        assert!(
            own.iter()
                .copied()
                .eq(edge_row..edge_row + own.len() as u32),
            "own slots are contiguous"
        );
        edge_row += own.len() as u32;
        for (position, &target) in fan.targets.iter().enumerate() {
            let edge = EdgeId(fan.first.0 + position as u32);
            assert_eq!(graph.edge(NodeId(node), NodeId(target)), Some(edge));
            assert_eq!(graph.ends(edge), (NodeId(node), NodeId(target)));
            let own = fan.counts[position] >= graph.own_minimum();
            assert_eq!(fan.edge_rows[position] > 0, own);
        }
    }
    assert_eq!(next, targets.len());
    assert_eq!(graph.own_edges(), edge_row as usize - 1);
}

/// −ln p(v|u), whether the edge is listed or not.
fn resistance(graph: &TokenGraph, source: u32, target: u32) -> f32 {
    match graph.edge(NodeId(source), NodeId(target)) {
        Some(edge) => graph.resistance().seen()[edge.index()],
        None => graph.resistance().unseen(source, target),
    }
}

/// Small graphs with loops, cycles and dead ends: the nodes and the triples.
fn small() -> impl Strategy<Value = TokenGraph> {
    (1usize..7).prop_flat_map(|nodes| {
        let end = 0..nodes as u32;
        vec((end.clone(), end, 1u32..20), 0..20)
            .prop_map(move |edges| TokenGraph::from_edges(nodes, &edges).unwrap())
    })
}

/// All loopless paths between two nodes with their resistance, least first.
fn all_paths(graph: &TokenGraph, source: u32, target: u32) -> Vec<(f64, Vec<u32>)> {
    fn extend(
        graph: &TokenGraph,
        goal: u32,
        path: &mut Vec<u32>,
        cost: f64,
        all: &mut Vec<(f64, Vec<u32>)>,
    ) {
        let last = *path.last().unwrap();
        if last == goal {
            all.push((cost, path.clone()));
            return;
        }
        for target in 0..graph.nodes() as u32 {
            if let (false, Some(edge)) = (
                path.contains(&target),
                graph.edge(NodeId(last), NodeId(target)),
            ) {
                path.push(target);
                let hop = f64::from(graph.resistance().seen()[edge.index()]);
                extend(graph, goal, path, cost + hop, all);
                path.pop();
            }
        }
    }
    let mut all = Vec::new();
    extend(graph, target, &mut vec![source], 0.0, &mut all);
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    all
}

/// PageRank by a dense matrix, as its definition reads.
fn dense_rank(graph: &TokenGraph, damping: f64, iterations: usize, by_count: bool) -> Vec<f64> {
    let nodes = graph.nodes();
    let mut ranks = vec![1.0 / nodes as f64; nodes];
    for _ in 0..iterations {
        let step = |target: usize| -> f64 {
            let from = |source: usize| {
                let fan = graph.fan(NodeId(source as u32));
                let weight = |count: u32| if by_count { f64::from(count) } else { 1.0 };
                let total: f64 = fan.counts.iter().map(|&count| weight(count)).sum();
                let follow = match fan.position(target as u32) {
                    _ if fan.is_empty() => 1.0 / nodes as f64,
                    Some(place) => weight(fan.counts[place]) / total,
                    None => 0.0,
                };
                ranks[source] * (damping * follow + (1.0 - damping) / nodes as f64)
            };
            (0..nodes).map(from).sum()
        };
        ranks = (0..nodes).map(step).collect();
    }
    ranks
}

/// No files of failures beside the sources: a failure prints its smallest case, which becomes a test.
fn settings() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn building_counts_what_a_map_counts(
        runs in vec(vec(0u32..9, 0..40), 0..12),
        added in vec((0u32..9, 0u32..9, 0u32..5), 0..6),
        minimum in 0u32..4,
        maximum in prop_oneof![Just(usize::MAX), 0usize..6],
    ) {
        let mut builder = GraphBuilder::new(9).minimum_count(minimum).maximum_fan(maximum);
        let mut naive: BTreeMap<(u32, u32), u32> = BTreeMap::new();
        for (place, run) in runs.iter().enumerate() {
            builder.walk(run.iter().copied()).unwrap();
            for pair in run.windows(2) {
                *naive.entry((pair[0], pair[1])).or_default() += 1;
            }
            // Additions between runs meet counts both buffered and settled.
            if let Some(&(source, target, count)) = added.get(place) {
                builder.add(source, target, count).unwrap();
                *naive.entry((source, target)).or_default() += count;
            }
        }
        naive.retain(|_, count| *count >= minimum.max(1));
        let mut expected = Vec::new();
        for node in 0..9 {
            let mut fan: Vec<_> = naive.range((node, 0)..=(node, u32::MAX)).collect();
            fan.sort_by_key(|&(&(_, target), &count)| (std::cmp::Reverse(count), target));
            fan.truncate(maximum);
            expected.extend(fan.into_iter().map(|(&(source, target), &count)| (source, target, count)));
        }
        expected.sort_unstable();
        let graph = builder.build().unwrap();
        prop_assert_eq!(triples(&graph), expected);
        check_arrays(&graph);
    }

    #[test]
    fn both_constructors_agree_and_own_slots_follow_the_minimum(
        edges in vec((0u32..12, 0u32..12, 0u32..9), 0..80),
        minimum in prop_oneof![0u32..10, Just(u32::MAX)],
    ) {
        let mut graph = TokenGraph::from_edges(12, &edges).unwrap();
        let mut naive: BTreeMap<(u32, u32), u32> = BTreeMap::new();
        for &(source, target, count) in edges.iter().filter(|edge| edge.2 > 0) {
            *naive.entry((source, target)).or_default() += count;
        }
        prop_assert!(triples(&graph).into_iter().eq(naive.iter().map(|(&(u, v), &c)| (u, v, c))));
        let rows = graph.rows().to_vec();
        let again = TokenGraph::from_rows(rows, graph.targets().to_vec(), graph.counts().to_vec()).unwrap();
        prop_assert_eq!(triples(&again), triples(&graph));
        prop_assert_eq!(again.resistance().seen(), graph.resistance().seen());
        prop_assert_eq!(again.edge_rows(), graph.edge_rows());
        graph.set_own_minimum(minimum);
        check_arrays(&graph);
    }

    #[test]
    fn the_fan_of_every_node_is_a_distribution_over_all_nodes(
        nodes in 1usize..40,
        edges in vec((0u32..40, 0u32..40, prop_oneof![1u32..9, Just(u32::MAX)]), 0..200),
    ) {
        let edges: Vec<_> = edges.into_iter()
            .map(|(u, v, count)| (u % nodes as u32, v % nodes as u32, count))
            .collect();
        let graph = TokenGraph::from_edges(nodes, &edges).unwrap();
        for source in 0..nodes as u32 {
            let all = (0..nodes as u32).map(|target| resistance(&graph, source, target));
            let all: Vec<f32> = all.collect();
            prop_assert!(all.iter().all(|r| r.is_finite() && r.is_sign_positive()), "{:?}", all);
            let sum: f64 = all.iter().map(|&r| (-f64::from(r)).exp()).sum();
            prop_assert!((sum - 1.0).abs() < 1e-5, "node {} sums to {}", source, sum);
        }
    }

    #[test]
    fn hostile_arrays_give_errors_and_no_panic(
        rows in vec(prop_oneof![0u32..6, any::<u32>()], 0..6),
        targets in vec(prop_oneof![0u32..6, any::<u32>()], 0..6),
        counts in vec(0u32..3, 0..6),
    ) {
        match TokenGraph::from_rows(rows, targets, counts) {
            Ok(graph) => check_arrays(&graph),
            Err(error) => prop_assert_eq!(error.kind(), ErrorKind::Format),
        }
    }

    #[test]
    fn one_wrong_number_in_good_arrays_is_found_or_harmless(
        graph in small(),
        which in 0usize..3,
        place in any::<prop::sample::Index>(),
        value in prop_oneof![0u32..8, any::<u32>()],
    ) {
        let mut arrays = [graph.rows().to_vec(), graph.targets().to_vec(), graph.counts().to_vec()];
        if !arrays[which].is_empty() {
            let index = place.index(arrays[which].len());
            arrays[which][index] = value;
        }
        let [rows, targets, counts] = arrays;
        match TokenGraph::from_rows(rows, targets, counts) {
            Ok(graph) => check_arrays(&graph),
            Err(error) => prop_assert_eq!(error.kind(), ErrorKind::Format),
        }
    }

    #[test]
    fn shortest_paths_of_petgraph_are_those_of_brute_force(graph in small()) {
        for source in 0..graph.nodes() as u32 {
            let start = NodeId(source);
            let cost = algo::dijkstra(&graph, start, None, |edge| edge.resistance());
            let bellman = algo::bellman_ford(&graph, start).unwrap();
            let backwards = algo::dijkstra(Reversed(&graph), start, None, |edge| *edge.weight());
            for target in 0..graph.nodes() as u32 {
                let end = NodeId(target);
                let best = all_paths(&graph, source, target).first().map(|path| path.0);
                let close = |found: Option<f32>| match (found, best) {
                    (Some(found), Some(best)) => (f64::from(found) - best).abs() < 1e-5,
                    (found, best) => found.is_none() && best.is_none(),
                };
                prop_assert!(close(cost.get(&end).copied()));
                let finite = bellman.distances[end.index()];
                prop_assert!(close(finite.is_finite().then_some(finite)));
                let star = algo::astar(&graph, start, |node| node == end, |edge| edge.resistance(), |_| 0.0);
                prop_assert!(close(star.map(|found| found.0)));
                let walks = algo::k_shortest_path(&graph, start, Some(end), 1, |edge| edge.resistance());
                prop_assert!(close(walks.get(&end).copied()));
                prop_assert_eq!(algo::has_path_connecting(&graph, start, end, None), best.is_some());
                let reversed = all_paths(&graph, target, source).first().map(|path| path.0);
                prop_assert_eq!(backwards.contains_key(&end), reversed.is_some());
            }
            let reach = Reachability::from(&graph, start, Direction::Out).unwrap();
            prop_assert_eq!(reach.reached, cost.len());
            let hops = algo::dijkstra(&graph, start, None, |_| 1usize);
            for (distance, &nodes) in reach.hops.iter().enumerate() {
                prop_assert_eq!(hops.values().filter(|&&hops| hops == distance).count(), nodes);
            }
            let entering = Reachability::from(&graph, start, Direction::In).unwrap();
            prop_assert_eq!(entering.reached, backwards.len());
        }
    }

    #[test]
    fn least_paths_are_those_of_brute_force(graph in small(), count in 0usize..40) {
        for source in 0..graph.nodes() as u32 {
            for target in 0..graph.nodes() as u32 {
                let mut all = all_paths(&graph, source, target);
                let known: HashSet<Vec<u32>> = all.iter().map(|path| path.1.clone()).collect();
                all.truncate(count);
                let found = least_paths(&graph, NodeId(source), NodeId(target), count).unwrap();
                prop_assert_eq!(found.len(), all.len());
                let mut seen = HashSet::new();
                for (path, (cost, _)) in found.iter().zip(&all) {
                    prop_assert!((path.resistance - cost).abs() < 1e-9);
                    let nodes: Vec<u32> = path.nodes.iter().map(|node| node.0).collect();
                    prop_assert!(known.contains(&nodes));
                    prop_assert!(seen.insert(nodes));
                    for (pair, &edge) in path.nodes.windows(2).zip(&path.edges) {
                        prop_assert_eq!(graph.edge(pair[0], pair[1]), Some(edge));
                    }
                    prop_assert_eq!(path.edges.len() + 1, path.nodes.len());
                }
            }
        }
    }

    #[test]
    fn ranks_are_those_of_the_dense_definition(graph in small(), damping in 0.0f64..=1.0) {
        for weight in [RankWeight::Alike, RankWeight::Count] {
            let settings = PageRank { damping, tolerance: 0.0, iterations: 12, weight };
            let ranking = settings.of(&graph).unwrap();
            let dense = dense_rank(&graph, damping, 12, weight == RankWeight::Count);
            for (sparse, dense) in ranking.ranks.iter().zip(&dense) {
                prop_assert!((sparse - dense).abs() < 1e-12);
            }
        }
        // petgraph leaves out the random jump along existing edges; at 1 nobody jumps.
        let settings = PageRank { damping: 1.0, tolerance: 0.0, iterations: 7, ..PageRank::default() };
        let theirs = algo::page_rank(&graph, 1.0f64, 7);
        for (ours, theirs) in settings.of(&graph).unwrap().ranks.iter().zip(&theirs) {
            prop_assert!((ours - theirs).abs() < 1e-12);
        }
    }

    #[test]
    fn the_transposed_index_holds_the_same_edges(graph in small()) {
        let mut entering = Vec::new();
        for node in (&graph).node_identifiers() {
            let edges = (&graph).edges_directed(node, petgraph::Direction::Incoming);
            prop_assert_eq!(edges.len(), graph.incoming().degree(node));
            prop_assert!((&graph).neighbors_directed(node, petgraph::Direction::Incoming).eq(graph.sources_of(node)));
            for edge in edges {
                prop_assert_eq!(edge.target(), node);
                entering.push((edge.source().0, edge.target().0, edge.count()));
            }
        }
        entering.sort_unstable();
        prop_assert_eq!(entering, triples(&graph));
    }
}

#[test]
fn a_stream_longer_than_the_buffer_is_counted_whole() {
    // More pairs than the builder holds back, so that counted edges are merged several times.
    let (nodes, laps) = (1_000u32, 9_500u32);
    let mut builder = GraphBuilder::new(nodes as usize);
    builder
        .walk((0..nodes * laps).map(|step| step % nodes))
        .unwrap();
    let graph = builder.build().unwrap();
    assert_eq!(graph.edges(), nodes as usize);
    for edge in graph.edge_references() {
        assert_eq!(edge.target().0, (edge.source().0 + 1) % nodes);
        assert_eq!(edge.count(), laps - u32::from(edge.target().0 == 0));
    }
}

#[test]
fn counts_stop_at_the_largest_number() {
    let mut builder = GraphBuilder::new(2);
    builder.add(0, 1, u32::MAX).unwrap();
    builder.add(0, 1, 7).unwrap();
    builder.walk([0, 1]).unwrap();
    assert_eq!(builder.build().unwrap().counts(), [u32::MAX]);
    let twice = TokenGraph::from_edges(2, &[(0, 1, u32::MAX), (0, 1, 1)]).unwrap();
    assert_eq!(twice.counts(), [u32::MAX]);
}

#[test]
fn tokens_and_edges_from_outside_are_refused() {
    let mut builder = GraphBuilder::new(2);
    assert_eq!(builder.walk([0, 2]).unwrap_err().kind(), ErrorKind::Input);
    assert_eq!(builder.add(2, 0, 1).unwrap_err().kind(), ErrorKind::Input);
    assert_eq!(
        TokenGraph::from_edges(1, &[(0, 1, 1)]).unwrap_err().kind(),
        ErrorKind::Input
    );
    assert_eq!(
        TokenGraph::from_edges(usize::MAX, &[]).unwrap_err().kind(),
        ErrorKind::Input
    );
    assert_eq!(
        GraphBuilder::new(usize::MAX).build().unwrap_err().kind(),
        ErrorKind::Input
    );
    // Pointers that rise past the end and come back.
    let error = TokenGraph::from_rows(vec![0, 10, 2], vec![0, 1], vec![1, 1]).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("row offsets decrease after node 1"),
        "{error}"
    );
    assert!(TokenGraph::from_rows(Vec::new(), Vec::new(), Vec::new()).is_err());
}

/// 0 -> {1, 2} -> 3 -> 4, without a cycle; 5 alone.
fn diamond() -> TokenGraph {
    let edges = [(0, 1, 9), (0, 2, 1), (1, 3, 9), (2, 3, 1), (3, 4, 4)];
    TokenGraph::from_edges(6, &edges).unwrap()
}

#[test]
fn petgraph_walks_orders_and_takes_apart() {
    let graph = diamond();
    let order = algo::toposort(&graph, None).unwrap();
    let place = |node| {
        order
            .iter()
            .position(|&other| other == NodeId(node))
            .unwrap()
    };
    for edge in graph.edge_references() {
        assert!(place(edge.source().0) < place(edge.target().0));
    }
    assert!(!algo::is_cyclic_directed(&graph));

    let mut bfs = Bfs::new(&graph, NodeId(0));
    let walked: Vec<u32> = std::iter::from_fn(|| bfs.next(&graph))
        .map(|node| node.0)
        .collect();
    assert_eq!(walked, [0, 1, 2, 3, 4]);
    let mut dfs = Dfs::new(&graph, NodeId(1));
    let walked: Vec<u32> = std::iter::from_fn(|| dfs.next(&graph))
        .map(|node| node.0)
        .collect();
    assert_eq!(walked, [1, 3, 4]);

    let dominators = algo::dominators::simple_fast(&graph, NodeId(0));
    assert_eq!(dominators.immediate_dominator(NodeId(3)), Some(NodeId(0)));
    assert_eq!(dominators.immediate_dominator(NodeId(4)), Some(NodeId(3)));
    let paths = algo::all_simple_paths::<Vec<_>, _, std::hash::RandomState>(
        &graph,
        NodeId(0),
        NodeId(4),
        0,
        None,
    );
    assert_eq!(paths.count(), 2);
    let all = algo::floyd_warshall(&graph, |edge| edge.resistance()).unwrap();
    let from_zero = algo::dijkstra(&graph, NodeId(0), None, |edge| edge.resistance());
    for (node, cost) in from_zero {
        assert!((all[&(NodeId(0), node)] - cost).abs() < 1e-6);
    }
    let tree = petgraph::data::FromElements::from_elements(algo::min_spanning_tree(&graph));
    let tree: petgraph::Graph<NodeId, f32> = tree;
    assert_eq!((tree.node_count(), tree.edge_count()), (6, 4)); // six nodes in two trees
    assert_eq!(algo::connected_components(&graph), 2);
    assert!(algo::is_isomorphic(&graph, &diamond()));
    let other = TokenGraph::from_edges(6, &[(0, 1, 1), (1, 2, 1), (2, 3, 1), (3, 4, 1), (4, 0, 1)]);
    assert!(!algo::is_isomorphic(&graph, &other.unwrap()));

    let cyclic = [
        (0, 1, 1),
        (1, 2, 1),
        (2, 0, 1),
        (2, 3, 1),
        (3, 4, 1),
        (4, 3, 1),
    ];
    let cyclic = TokenGraph::from_edges(6, &cyclic).unwrap();
    let sorted = |parts: Vec<Vec<NodeId>>| {
        let each = parts.into_iter().map(|mut part| {
            part.sort();
            part.iter().map(|node| node.0).collect::<Vec<_>>()
        });
        let mut parts: Vec<_> = each.collect();
        parts.sort();
        parts
    };
    let expected = vec![vec![0, 1, 2], vec![3, 4], vec![5]];
    assert_eq!(sorted(algo::tarjan_scc(&cyclic)), expected);
    assert_eq!(sorted(algo::kosaraju_scc(&cyclic)), expected);
    assert!(algo::toposort(&cyclic, None).is_err());
}

#[test]
fn petgraph_sees_numbers_weights_and_marks() {
    let graph = diamond();
    let view = &graph;
    assert!(view.is_directed());
    assert_eq!((view.node_count(), view.edge_count()), (6, 5));
    assert_eq!((view.node_bound(), view.edge_bound()), (6, 5));
    assert_eq!(
        NodeIndexable::to_index(&view, NodeIndexable::from_index(&view, 3)),
        3
    );
    assert_eq!(
        EdgeIndexable::to_index(&view, EdgeIndexable::from_index(&view, 4)),
        4
    );
    let loud = IntoEdges::edges(view, NodeId(0)).next().unwrap();
    assert_eq!(
        (loud.source(), loud.target(), loud.id()),
        (NodeId(0), NodeId(1), EdgeId(0))
    );
    assert_eq!((loud.count(), loud.edge_row()), (9, 1));
    assert_eq!(loud.resistance(), graph.fan(NodeId(0)).resistances[0]);
    assert!((loud.probability().ln() + f64::from(loud.resistance())).abs() < 1e-9);
    assert_eq!(graph.edge_weight(EdgeId(0)), Some(&loud.resistance()));
    assert_eq!(graph.edge_weight(EdgeId(5)), None);
    assert_eq!(graph.node_weight(NodeId(5)), Some(&NodeId(5)));
    assert_eq!(graph.node_weight(NodeId(6)), None);
    assert!(
        view.node_references()
            .all(|node| *node.weight() == node.id())
    );
    view.adjacency_matrix();
    assert!(view.is_adjacent(&(), NodeId(0), NodeId(2)));
    assert!(!view.is_adjacent(&(), NodeId(2), NodeId(0)));

    let mut map = view.visit_map();
    assert!(map.visit(NodeId(5)) && !map.visit(NodeId(5)) && map.is_visited(&NodeId(5)));
    assert!(map.unvisit(NodeId(5)) && !map.unvisit(NodeId(5)) && !map.is_visited(&NodeId(5)));
    assert!(map.visit(NodeId(3)));
    view.reset_map(&mut map);
    assert!(!map.is_visited(&NodeId(3)));

    let dot = format!("{}", petgraph::dot::Dot::new(&graph));
    assert!(dot.starts_with("digraph {"));
    assert!(dot.contains(r#"5 [ label = "5" ]"#), "{dot}");
    assert!(dot.contains("3 -> 4 [ label = "), "{dot}");
}
