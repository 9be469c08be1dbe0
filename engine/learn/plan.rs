//! Plans of a training of own edges over ranks: owners, memory, balance on real batches, and modelled times of a step.

use std::path::Path;

use serde::Serialize;

use crate::graph::{FanCost, NodeId, Owners, TokenGraph, imbalance};
use crate::learn::batch::{Batch, BatchSampler, Order};
use crate::learn::data::TokenData;
use crate::learn::graph_model::counted_graph;
use crate::learn::recipe::{Kind, Recipe};
pub use crate::learn::step_model::ModelledStep;
use crate::learn::step_model::{Elsewhere, NETWORKS, StepModel};
use crate::ranks::OneProcess;
use crate::signal::{EdgeForm, Profile, blocks};
use crate::{Error, ErrorKind, Result};

/// What a plan is made for.
#[derive(Clone, Debug)]
pub struct PlanSettings {
    /// Number of ranks, one on each machine.
    pub ranks: usize,
    /// Fans that cost more than 1/(`cut` · `ranks`) of all are cut; 0 for none. `train.cut` of the recipe by default.
    pub cut: Option<usize>,
    /// Cores of a rank.
    pub cores: usize,
    /// Batches that are walked to measure the balance.
    pub batches: u64,
    /// Tokens whose visits of nodes are balanced; those of the training text by default.
    pub visits: Option<Vec<u32>>,
}

/// What one rank holds.
#[derive(Clone, Debug, Serialize)]
pub struct RankPlan {
    /// Nodes of which it owns the fan or a piece of it.
    pub nodes: usize,
    /// Own edges.
    pub edges: usize,
    /// Bytes of their weights and moments.
    pub bytes: u64,
    /// Expected work of a step, as a multiple of the mean over ranks.
    pub work: f64,
}

/// A fan that several ranks share.
#[derive(Clone, Debug, Serialize)]
pub struct CutFan {
    /// The token of its node.
    pub token: String,
    /// Id of the node.
    pub node: u32,
    /// Own edges.
    pub edges: usize,
    /// Share of the node in all visits.
    pub visits: f64,
    /// Share of the fan in all work.
    pub work: f64,
    /// Pieces.
    pub pieces: usize,
}

/// What walking batches of the training text has measured.
#[derive(Clone, Debug, Serialize)]
pub struct Simulation {
    /// Batches.
    pub batches: u64,
    /// Most work of a rank as a multiple of the mean over ranks, averaged over batches.
    pub imbalance: f64,
    /// The largest of these multiples.
    pub worst: f64,
    /// Pieces of the fan of a visited node.
    pub pieces_a_visit: f64,
    /// Share of hops that end on another rank than the one that computes them.
    pub crossing_hops: f64,
    /// Share of hops between nodes of different homes.
    pub hops_between_homes: f64,
    /// Share of hops that another rank than the home of their node computes.
    pub remote_hops: f64,
}

/// A plan.
#[derive(Clone, Debug, Serialize)]
pub struct RunPlan {
    /// Nodes of the graph.
    pub nodes: usize,
    /// Own edges.
    pub own_edges: usize,
    /// Predictions of a step.
    pub rows: usize,
    /// Cores of a rank that the times assume.
    pub cores: usize,
    /// Bytes that every rank holds besides: graph, static resistances, and what all edges share.
    pub replicated_bytes: u64,
    /// Edges of the fullest rank, as a multiple of an equal share.
    pub fullest: f64,
    /// Expected work of the busiest rank, as a multiple of the mean.
    pub imbalance: f64,
    /// Pieces of the fan of a visited node.
    pub pieces_a_visit: f64,
    /// Bytes a token that cross between ranks, without the sum of what all edges share.
    pub bytes_a_token: f64,
    /// What each rank holds.
    pub ranks: Vec<RankPlan>,
    /// The fans that are cut, the most expensive first.
    pub cut_fans: Vec<CutFan>,
    /// Times of a step on one rank and on all, from a model and not measured.
    pub one_rank_seconds: f64,
    /// Times of a step on all ranks.
    pub modelled_steps: Vec<ModelledStep>,
    /// What walking batches has measured.
    pub simulation: Option<Simulation>,
}

impl RunPlan {
    /// Plan the run of a recipe. Paths are relative to `base`; the tokens of its text are written into `folder`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a recipe without own edges; errors of the data.
    pub fn new(
        recipe: &Recipe,
        base: &Path,
        folder: &Path,
        settings: &PlanSettings,
    ) -> Result<Self> {
        let profile = owned_profile(recipe)?;
        let data = TokenData::prepare(recipe, base, folder, &mut |_| {})?;
        let graph = counted_graph(&OneProcess, recipe, &profile, &data)?;
        let train = &recipe.train;
        let rows = train.batch * train.steps;
        let cost = FanCost::new(profile.width, rows);
        let visits = match &settings.visits {
            Some(tokens) => visits(tokens, graph.nodes())?,
            None => visits(data.train(), graph.nodes())?,
        };
        let fans = own_fans(&graph);
        let cut = settings.cut.unwrap_or(train.cut);
        let owners = Owners::assign(&fans, &visits, &cost, settings.ranks, cut)?;
        let parts = Parts {
            profile: &profile,
            graph: &graph,
            owners: &owners,
            cost: &cost,
            visits: &visits,
        };
        let simulation = (settings.batches > 0).then(|| {
            let (seed, length) = (recipe.seed, data.train().len());
            let folds = 0;
            let sampler =
                BatchSampler::new(seed, length, train.steps, train.batch, train.block, folds);
            parts.simulate(&sampler, data.train(), settings.batches)
        });
        let work = owners.expected(&visits, &cost);
        let mut plan = Self {
            nodes: graph.nodes(),
            own_edges: graph.own_edges(),
            rows,
            cores: settings.cores,
            replicated_bytes: parts.replicated_bytes(train.folds),
            fullest: fullest(&owners),
            imbalance: imbalance(&work),
            pieces_a_visit: owners.pieces_a_visit(&visits),
            bytes_a_token: 0.0,
            ranks: parts.ranks(&work),
            cut_fans: parts.cut_fans(&data),
            one_rank_seconds: work.iter().sum::<f64>() / settings.cores as f64,
            modelled_steps: Vec::new(),
            simulation,
        };
        let elsewhere = Elsewhere::new(&owners, &visits);
        let model = StepModel::new(&plan, &profile, (train.batch, train.steps), elsewhere);
        plan.bytes_a_token = model.bytes_a_token();
        plan.modelled_steps = NETWORKS.iter().map(|network| model.step(network)).collect();
        Ok(plan)
    }
}

/// Return the profile of a recipe that trains own edges.
fn owned_profile(recipe: &Recipe) -> Result<Profile> {
    let refused = |what: &str, advice: &str| {
        let error = Error::new(ErrorKind::Unsupported, what);
        Err(error.at(&recipe.name).advice(advice))
    };
    if recipe.kind != Kind::Graph {
        return refused(
            "transformers and recurrent networks train in one process",
            "plan the run of a graph with own edges",
        );
    }
    let profile = recipe.profile()?;
    if profile.form != EdgeForm::Own {
        return refused(
            "only own edges have owners: every rank holds the whole of a composed or layered model",
            "choose profile.preset = \"sifu-own\" or \"reference\"",
        );
    }
    Ok(profile)
}

/// Count how often each node is the source of a prediction. `[V]`
///
/// # Errors
/// [`ErrorKind::Vocabulary`] for a token outside the graph.
pub(super) fn visits(tokens: &[u32], nodes: usize) -> Result<Vec<u64>> {
    let mut visits = vec![0; nodes];
    // The last token has no successor.
    for &token in &tokens[..tokens.len().saturating_sub(1)] {
        let count = visits.get_mut(token as usize).ok_or_else(|| {
            let what = format!("token {token} is outside the vocabulary of {nodes}");
            Error::new(ErrorKind::Vocabulary, what)
        })?;
        *count += 1;
    }
    Ok(visits)
}

/// Return the number of own edges of each node. `[V]`
pub(crate) fn own_fans(graph: &TokenGraph) -> Vec<usize> {
    let nodes = 0..graph.nodes() as u32;
    nodes
        .map(|node| graph.own_slots(NodeId(node)).len())
        .collect()
}

fn fullest(owners: &Owners) -> f64 {
    let edges: Vec<f64> = owners.edges().into_iter().map(|n| n as f64).collect();
    imbalance(&edges)
}

/// What a plan is computed from.
struct Parts<'a> {
    profile: &'a Profile,
    graph: &'a TokenGraph,
    owners: &'a Owners,
    cost: &'a FanCost,
    visits: &'a [u64],
}

impl Parts<'_> {
    fn ranks(&self, work: &[f64]) -> Vec<RankPlan> {
        let mut nodes = vec![0; self.owners.ranks()];
        let mut last = vec![None; self.owners.ranks()];
        for piece in self.owners.pieces() {
            // Several pieces of one fan may have one owner.
            if last[piece.rank as usize].replace(piece.node) != Some(piece.node) {
                nodes[piece.rank as usize] += 1;
            }
        }
        let mean = (work.iter().sum::<f64>() / work.len() as f64).max(f64::MIN_POSITIVE);
        let d = self.profile.width as u64;
        let edges = self.owners.edges().into_iter();
        let all = edges.zip(nodes).zip(work);
        all.map(|((edges, nodes), work)| RankPlan {
            nodes,
            edges,
            // Each weight has two moments.
            bytes: edges as u64 * (d * d + d) * 12,
            work: work / mean,
        })
        .collect()
    }

    fn cut_fans(&self, data: &TokenData) -> Vec<CutFan> {
        let fans = own_fans(self.graph);
        let total: u64 = self.visits.iter().sum();
        let share = |node: usize| self.visits[node] as f64 / total.max(1) as f64;
        let seconds = |node: usize| self.cost.expected(fans[node], true, share(node));
        let all: f64 = (0..fans.len()).map(seconds).sum();
        let cut = (0..fans.len()).filter(|&node| self.owners.of(node as u32).len() > 1);
        let mut cut: Vec<CutFan> = cut
            .map(|node| CutFan {
                token: data.tokenizer.vocabulary().display(node as u32),
                node: node as u32,
                edges: fans[node],
                visits: share(node),
                work: seconds(node) / all,
                pieces: self.owners.of(node as u32).len(),
            })
            .collect();
        cut.sort_by(|a, b| b.work.total_cmp(&a.work).then(a.node.cmp(&b.node)));
        cut
    }

    /// Bytes of what every rank holds.
    fn replicated_bytes(&self, folds: usize) -> u64 {
        let (nodes, edges) = (self.graph.nodes(), self.graph.edges());
        let shared = blocks(self.profile, nodes, 0);
        let shared: usize = shared.iter().map(|block| block.rows * block.columns).sum();
        let folds = match self.profile.static_resistance {
            true => 1 + folds,
            false => 0,
        };
        // Targets, counts, edge rows and resistances of listed edges, and the lifts of each fold; values, gradients and
        // moments of parameters.
        (4 * edges * (4 + folds) + 4 * nodes * (2 + folds) + 16 * shared) as u64
    }

    /// The rank that computes the hop from `source` to `target`.
    fn rank_of_hop(&self, source: u32, target: u32) -> u32 {
        let row = self.graph.edge_row(NodeId(source), NodeId(target)) as usize;
        let index = match row {
            // The shared edge is computed with the first edges of a fan.
            0 => 0,
            _ => row - self.graph.own_slots(NodeId(source)).start,
        };
        self.owners.rank_of_edge(source, index) as u32
    }

    /// Walk random batches of the text.
    fn simulate(&self, sampler: &BatchSampler, text: &[u32], batches: u64) -> Simulation {
        let mut order = Order::default();
        let (mut sum, mut worst) = (0.0, 0.0f64);
        let mut hops = Hops::default();
        let mut rows_of_all = vec![0u64; self.graph.nodes()];
        // Batches from all over the epoch: they are random windows.
        let stride = (sampler.steps_per_epoch() / batches).max(1);
        for index in 0..batches {
            let batch = sampler.batch(text, index * stride, &mut order);
            let mut rows = vec![0u32; self.graph.nodes()];
            for sequence in 0..batch.sequences() {
                self.walk(&batch, sequence, &mut rows, &mut hops);
            }
            let work = self.owners.of_step(&rows, self.cost);
            let realised = imbalance(&work);
            sum += realised;
            worst = worst.max(realised);
            let all = rows_of_all.iter_mut().zip(rows);
            all.for_each(|(all, rows)| *all += u64::from(rows));
        }
        let share = |count: usize| count as f64 / hops.all.max(1) as f64;
        Simulation {
            batches,
            imbalance: sum / batches as f64,
            worst,
            pieces_a_visit: self.owners.pieces_a_visit(&rows_of_all),
            crossing_hops: share(hops.crossing),
            hops_between_homes: share(hops.between_homes),
            remote_hops: share(hops.remote),
        }
    }

    /// Count the rows of one sequence, and its hops.
    fn walk(&self, batch: &Batch, sequence: usize, rows: &mut [u32], hops: &mut Hops) {
        let sources = &batch.sequence(sequence)[..batch.steps];
        for &source in sources {
            rows[source as usize] += 1;
        }
        for pair in sources.windows(2) {
            let home = |node: u32| self.owners.rank_of(node) as u32;
            let rank = self.rank_of_hop(pair[0], pair[1]);
            hops.all += 1;
            hops.crossing += usize::from(rank != home(pair[1]));
            hops.between_homes += usize::from(home(pair[0]) != home(pair[1]));
            hops.remote += usize::from(rank != home(pair[0]));
        }
    }
}

/// Hops of some batches.
#[derive(Default)]
struct Hops {
    all: usize,
    /// Those that end on another rank than the one that computes them.
    crossing: usize,
    /// Those between nodes of different homes.
    between_homes: usize,
    /// Those that another rank than the home of their node computes.
    remote: usize,
}
