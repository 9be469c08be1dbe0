//! Layout of a graph on a plane: communities as discs, attracted by the counts between them.
//!
//! Communities are placed by forces (Fruchterman and Reingold 1991, *Graph drawing by force-directed placement*):
//! all repel each other and linked ones attract; then overlapping discs are moved apart. Within a disc, nodes lie on a
//! sunflower spiral, the most frequent in the middle. The layout is deterministic.

use std::collections::BTreeMap;

use crate::graph::{NodeId, TokenGraph, communities};

/// Communities at most.
const CLUSTERS: usize = 200;
/// Communities at least, where the graph has them.
const FEW: usize = 60;
/// Area of the nodes with edges: horizontal and vertical range, from the top left.
const FIELD: [[f64; 2]; 2] = [[0.02, 0.98], [0.02, 0.94]];
/// Vertical coordinates of the two rows of nodes without edges, from the top.
const ROW: [f64; 2] = [0.97, 0.99];
/// Iterations of the force-directed placement.
const ROUNDS: usize = 300;
/// Minimum distance of discs, as a multiple of the sum of their radii.
const GAP: f64 = 1.08;
/// The golden angle, between successive nodes of a spiral.
const GOLDEN_ANGLE: f64 = 2.399_963_229_728_653;

/// Positions of all nodes on a plane.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeMap {
    /// Coordinates of each node in `[0, 1]`. `[V]`
    pub positions: Vec<[f32; 2]>,
    /// The community of each node. `[V]`
    pub clusters: Vec<u32>,
    /// The disc of each community.
    pub discs: Vec<Disc>,
    /// `(source, target, count)` between communities, by descending count.
    pub links: Vec<(u32, u32, u64)>,
}

/// A community on the plane.
#[derive(Clone, Debug, PartialEq)]
pub struct Disc {
    /// Centre of the disc.
    pub middle: [f32; 2],
    /// Its nodes, the most frequent first.
    pub nodes: Vec<u32>,
    /// Sum of the counts of edges into its nodes.
    pub count: u64,
}

impl NodeMap {
    /// Compute the layout of a graph.
    ///
    /// ```
    /// use brillm::graph::{NodeMap, TokenGraph};
    /// let graph = TokenGraph::from_edges(3, &[(0, 1, 2), (1, 2, 1)])?;
    /// let map = NodeMap::of(&graph);
    /// assert!(map.positions.iter().flatten().all(|x| (0.0..=1.0).contains(x)));
    /// # Ok::<(), brillm::Error>(())
    /// ```
    ///
    /// # Complexity
    /// That of [`communities`], and O(C²) per iteration for C ≤ 200 communities.
    pub fn of(graph: &TokenGraph) -> Self {
        let nodes = graph.nodes();
        let (clusters, count) = communities(graph, FEW, CLUSTERS);
        let (counts, links) = counted(graph, &clusters);
        let members = members(&clusters, count, &counts);
        // Nodes without edges, if any, are the last community, which is drawn as two rows at the bottom.
        let lonely = |all: &Vec<u32>| {
            let incoming = graph.incoming();
            let edges = |&node: &u32| graph.row(NodeId(node)).len() + incoming.degree(NodeId(node));
            all.iter().all(|node| edges(node) == 0)
        };
        let alone = members.last().filter(|&all| lonely(all)).cloned();
        let linked = &members[..count - usize::from(alone.is_some())];
        let radii: Vec<f64> = linked.iter().map(|all| (all.len() as f64).sqrt()).collect();
        let mut middles = placed(&radii, &links);
        let mut positions = vec![[0.0f64; 2]; nodes];
        for (all, middle) in linked.iter().zip(&middles) {
            for (rank, &node) in all.iter().enumerate() {
                let (radius, angle) = ((rank as f64).sqrt(), rank as f64 * GOLDEN_ANGLE);
                positions[node as usize] = [
                    middle[0] + radius * angle.cos(),
                    middle[1] + radius * angle.sin(),
                ];
            }
        }
        let drawn = linked
            .iter()
            .flatten()
            .map(|&node| positions[node as usize]);
        let fit = fitted(&drawn.collect::<Vec<_>>());
        for &node in linked.iter().flatten() {
            positions[node as usize] = fit(&positions[node as usize]);
        }
        middles.iter_mut().for_each(|middle| *middle = fit(middle));
        if let Some(alone) = &alone {
            middles.push(in_rows(alone, &mut positions));
        }
        let narrow = |position: &[f64; 2]| position.map(|x| x.clamp(0.0, 1.0) as f32);
        let discs = members
            .into_iter()
            .zip(&middles)
            .map(|(nodes, middle)| Disc {
                middle: narrow(middle),
                count: nodes.iter().map(|&node| counts[node as usize]).sum(),
                nodes,
            })
            .collect();
        let mut links: Vec<(u32, u32, u64)> =
            links.into_iter().map(|((a, b), w)| (a, b, w)).collect();
        links.sort_by_key(|&(a, b, walks)| (std::cmp::Reverse(walks), a, b));
        Self {
            positions: positions.iter().map(narrow).collect(),
            clusters,
            discs,
            links,
        }
    }
}

/// Sum the counts of the edges into each node `[V]`, and of the edges between each two communities.
fn counted(graph: &TokenGraph, clusters: &[u32]) -> (Vec<u64>, BTreeMap<(u32, u32), u64>) {
    let mut counts = vec![0u64; graph.nodes()];
    let mut links: BTreeMap<(u32, u32), u64> = BTreeMap::new();
    for (source, &from) in clusters.iter().enumerate() {
        for edge in graph.row(NodeId(source as u32)) {
            let (target, walks) = (graph.targets()[edge] as usize, graph.counts()[edge]);
            counts[target] += u64::from(walks);
            if from != clusters[target] {
                *links.entry((from, clusters[target])).or_default() += u64::from(walks);
            }
        }
    }
    (counts, links)
}

/// Place nodes in two rows, and return their centre.
fn in_rows(nodes: &[u32], positions: &mut [[f64; 2]]) -> [f64; 2] {
    let [from, to] = FIELD[0];
    for (rank, &node) in nodes.iter().enumerate() {
        let along = (rank as f64 + 0.5) / nodes.len() as f64;
        // Alternate between the two rows.
        positions[node as usize] = [from + (to - from) * along, ROW[rank % 2]];
    }
    [0.5, (ROW[0] + ROW[1]) / 2.0]
}

/// List the nodes of each community, the most frequent first.
fn members(clusters: &[u32], count: usize, counts: &[u64]) -> Vec<Vec<u32>> {
    let mut members: Vec<Vec<u32>> = vec![Vec::new(); count];
    for (node, &cluster) in clusters.iter().enumerate() {
        members[cluster as usize].push(node as u32);
    }
    for all in &mut members {
        all.sort_by_key(|&node| (std::cmp::Reverse(counts[node as usize]), node));
    }
    members
}

/// Return the map that stretches the bounding box of `positions` to the [`FIELD`].
fn fitted(positions: &[[f64; 2]]) -> impl Fn(&[f64; 2]) -> [f64; 2] + use<> {
    let (mut low, mut high) = ([f64::INFINITY; 2], [f64::NEG_INFINITY; 2]);
    for position in positions {
        for axis in 0..2 {
            low[axis] = low[axis].min(position[axis]);
            high[axis] = high[axis].max(position[axis]);
        }
    }
    move |position| {
        [0, 1].map(|axis| {
            let [from, to] = FIELD[axis];
            match high[axis] - low[axis] {
                span if span > 1e-9 => from + (to - from) * (position[axis] - low[axis]) / span,
                _ => (from + to) / 2.0,
            }
        })
    }
}

/// Return the attraction of each two linked discs.
fn attractions(count: usize, links: &BTreeMap<(u32, u32), u64>) -> Vec<(usize, usize, f64)> {
    let mut pulls: BTreeMap<(u32, u32), f64> = BTreeMap::new();
    let mut flows = vec![0.0; count];
    for (&(a, b), &walks) in links {
        flows[a as usize] += walks as f64;
        flows[b as usize] += walks as f64;
        *pulls.entry((a.min(b), a.max(b))).or_default() += walks as f64;
    }
    // Attraction: the count between two communities over the count expected by chance, at most 8.
    let total: f64 = flows.iter().sum::<f64>().max(1.0);
    pulls
        .into_iter()
        .map(|((a, b), walks)| {
            let (a, b) = (a as usize, b as usize);
            (a, b, (walks * total / (flows[a] * flows[b])).min(8.0))
        })
        .collect()
}

/// Place discs of the given radii by forces, and return their centres.
fn placed(radii: &[f64], links: &BTreeMap<(u32, u32), u64>) -> Vec<[f64; 2]> {
    let count = radii.len();
    let area: f64 = radii.iter().map(|radius| 4.0 * radius * radius).sum();
    let side = (2.0 * area).sqrt().max(1.0);
    let ideal = side / (count as f64).sqrt().max(1.0);
    let pulls = attractions(count, links);
    let mut positions: Vec<[f64; 2]> = (0..count)
        .map(|one| {
            let radius = side / 2.0 * ((one as f64 + 0.5) / count as f64).sqrt();
            let angle = one as f64 * GOLDEN_ANGLE;
            [radius * angle.cos(), radius * angle.sin()]
        })
        .collect();
    for round in 0..ROUNDS {
        let heat = side / 10.0 * (1.0 - round as f64 / ROUNDS as f64) + 0.01;
        let mut moves = vec![[0.0; 2]; count];
        let mut push = |a: usize, b: usize, by: f64, between: [f64; 2], far: f64| {
            for axis in 0..2 {
                let step = by * between[axis] / far;
                moves[a][axis] += step;
                moves[b][axis] -= step;
            }
        };
        for a in 0..count {
            for b in 0..a {
                let (between, far) = apart(&positions, a, b);
                let overlap = (radii[a] + radii[b] - far).max(0.0);
                push(a, b, ideal * ideal / far + 2.0 * overlap, between, far);
            }
        }
        for &(a, b, pull) in &pulls {
            let (between, far) = apart(&positions, a, b);
            let free = (far - radii[a] - radii[b]).max(0.0);
            push(a, b, -0.05 * pull * free * free / ideal, between, far);
        }
        for (position, step) in positions.iter_mut().zip(&moves) {
            // A weak attraction to the origin keeps unlinked discs near; `heat` limits the step.
            let step = [step[0] - 0.3 * position[0], step[1] - 0.3 * position[1]];
            let length = step[0].hypot(step[1]).max(1e-9);
            let by = length.min(heat) / length;
            position[0] += step[0] * by;
            position[1] += step[1] * by;
        }
    }
    separate(&mut positions, radii);
    positions
}

/// Separate overlapping discs, each by half the overlap, until none overlap or after [`ROUNDS`] passes.
fn separate(positions: &mut [[f64; 2]], radii: &[f64]) {
    for _ in 0..ROUNDS {
        let mut moved = false;
        for a in 0..positions.len() {
            for b in 0..a {
                let (between, far) = apart(positions, a, b);
                let wanted = GAP * (radii[a] + radii[b] + 1.0);
                if far < wanted {
                    moved = true;
                    for axis in 0..2 {
                        let step = 0.5 * (wanted - far) * between[axis] / far;
                        positions[a][axis] += step;
                        positions[b][axis] -= step;
                    }
                }
            }
        }
        if !moved {
            break;
        }
    }
}

fn apart(positions: &[[f64; 2]], a: usize, b: usize) -> ([f64; 2], f64) {
    let between = [
        positions[a][0] - positions[b][0],
        positions[a][1] - positions[b][1],
    ];
    match between[0].hypot(between[1]) {
        far if far > 1e-6 => (between, far),
        // Coincident centres: any fixed direction separates them.
        _ => ([1e-6, 1e-6 * (a as f64 - b as f64).signum()], 1.5e-6),
    }
}
