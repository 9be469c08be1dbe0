//! A model of either path that answers a probe: [`ProbedModel`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::graph::NodeId;
use crate::hook::{State, Subject, SubjectKind, SubjectShape};
use crate::kernel::element::Element;
use crate::kernel::table::Table;
use crate::learn::edge_trainer::EdgeTrainer;
use crate::path::{GraphSession, Sampling, Session};
use crate::run::Engine;
use crate::signal::{EdgeForm, Mechanism, Start, Weights};
use crate::{Error, ErrorKind, Result};

/// A model that is asked. Answers are computed in f32, whatever the file keeps, so that two of them differ by what
/// was changed and by nothing else.
pub struct ProbedModel {
    engine: Engine,
    /// The graph's own weights, and those that answer now.
    own: Option<Arc<Mechanism>>,
    now: Option<Arc<Mechanism>>,
    #[cfg(feature = "transformer")]
    other: Option<crate::transformer::Transformer>,
    cancel: Option<Arc<AtomicBool>>,
    told: Box<dyn FnMut() + Send>,
}

impl std::fmt::Debug for ProbedModel {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "ProbedModel({})", self.engine.name())
    }
}

impl ProbedModel {
    /// A model that answers; `told` hears of every question.
    ///
    /// # Errors
    /// As [`Weights::converted`].
    pub fn new(
        engine: Engine,
        cancel: Option<Arc<AtomicBool>>,
        told: impl FnMut() + Send + 'static,
    ) -> Result<Self> {
        let own = match &engine {
            Engine::Graph(model) => {
                let mechanism = model.mechanism();
                let weights = mechanism.weights().converted(Element::F32)?;
                Some(Arc::new(mechanism.with_weights(weights)?))
            }
            #[cfg(feature = "transformer")]
            Engine::Transformer(_) => None,
        };
        Ok(Self {
            engine,
            now: own.clone(),
            own,
            #[cfg(feature = "transformer")]
            other: None,
            cancel,
            told: Box::new(told),
        })
    }

    fn hear(&mut self) -> Result<()> {
        (self.told)();
        match &self.cancel {
            Some(flag) if flag.load(Ordering::Relaxed) => {
                Err(Error::new(ErrorKind::Cancelled, "cancelled"))
            }
            _ => Ok(()),
        }
    }

    fn walk(&self, ids: &[u32]) -> Result<Box<dyn Session + Send>> {
        let sampling = Sampling::greedy();
        match (&self.engine, &self.now) {
            (Engine::Graph(_), Some(mechanism)) => {
                let session =
                    GraphSession::begin(mechanism.clone(), ids, &Start::Profile, sampling)?;
                Ok(Box::new(session))
            }
            #[cfg(feature = "transformer")]
            (Engine::Transformer(model), _) => {
                let model = self.other.as_ref().unwrap_or(model);
                let session = crate::transformer::TransformerSession::begin(model, ids, sampling)?;
                Ok(Box::new(session))
            }
            _ => Err(only("a graph")),
        }
    }
}

fn only(what: &str) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!("this is asked of {what} alone"),
    )
}

/// Shifts a node's bias: what a signal receives on arriving there. Composed edges share the target's vector; own
/// edges have a bias each, and all of them that lead there move.
fn shifted(mechanism: &Mechanism, node: u32, delta: &[f32]) -> Result<Weights> {
    let (profile, graph, weights) = (mechanism.profile(), mechanism.graph(), mechanism.weights());
    let wrong = |what: String| Error::new(ErrorKind::Input, what).at("shift");
    if node as usize >= graph.nodes() {
        return Err(wrong(format!("there is no node {node}")));
    }
    if delta.len() != profile.width || delta.iter().any(|value| !value.is_finite()) {
        return Err(wrong(format!(
            "a shift must be {} finite numbers",
            profile.width
        )));
    }
    let (name, from, rows): (&str, usize, Vec<usize>) = match profile.form {
        EdgeForm::Composed => ("node.target", 0, vec![node as usize]),
        EdgeForm::Own => {
            let edge_rows = (0..graph.nodes() as u32)
                .filter_map(|source| graph.edge(NodeId(source), NodeId(node)))
                .map(|edge| graph.edge_rows()[edge.index()] as usize)
                .filter(|&edge_row| edge_row > 0)
                .collect();
            ("edge.arena", profile.width * profile.width, edge_rows)
        }
    };
    Weights::gather(profile, graph.nodes(), graph.own_edges(), |block| {
        if block.name != name {
            return Ok(Some(match block.narrows {
                true => weights.table(block.name).clone(),
                false => Table::of(weights.values(block.name), block.rows, block.columns),
            }));
        }
        let mut values = weights.table(name).to_vec();
        for &row in &rows {
            let bias = &mut values[row * block.columns + from..][..profile.width];
            for (value, more) in bias.iter_mut().zip(delta) {
                *value += more;
            }
        }
        Ok(Some(Table::of(&values, block.rows, block.columns)))
    })
}

/// What a text leaves on a graph, token by token.
fn graph_states(mechanism: &Mechanism, state: State, ids: &[u32]) -> Result<Vec<f32>> {
    let mut values = Vec::new();
    if state == State::Node {
        let name = match mechanism.profile().form {
            EdgeForm::Composed => "node.target",
            EdgeForm::Own => "node.start",
        };
        let table = mechanism.weights().table(name);
        let mut row = vec![0.0; table.columns()];
        for &id in ids {
            mechanism.check_node(id)?;
            table.read_row(id as usize, &mut row);
            values.extend_from_slice(&row);
        }
        return Ok(values);
    }
    let mut flow = mechanism.begin(ids[0], &Start::Profile)?;
    let mut energies = vec![0.0; mechanism.nodes()];
    for place in 0..ids.len() {
        if place > 0 {
            mechanism.hop(&mut flow, ids[place])?;
        }
        match state {
            State::Signal => values.extend_from_slice(&flow.signal),
            State::Energy => {
                mechanism.energies(&flow, &mut energies);
                values.extend_from_slice(&energies);
            }
            _ => return Err(only("a transformer")),
        }
    }
    Ok(values)
}

impl Subject for ProbedModel {
    fn shape(&self) -> SubjectShape {
        match &self.engine {
            Engine::Graph(model) => SubjectShape {
                kind: SubjectKind::Graph,
                layers: 1,
                width: model.mechanism().profile().width,
                nodes: model.mechanism().nodes(),
            },
            #[cfg(feature = "transformer")]
            Engine::Transformer(model) => SubjectShape {
                kind: SubjectKind::Transformer,
                layers: model.configuration().layers,
                width: model.configuration().width,
                nodes: model.configuration().vocabulary,
            },
        }
    }

    fn tokens(&mut self, text: &str) -> Result<Vec<u32>> {
        self.engine.tokenizer().encode(text)
    }

    fn resist(&mut self, prompt: &str, answer: &str) -> Result<Vec<f64>> {
        self.hear()?;
        let before = self.engine.encode(prompt)?;
        let whole = self.engine.encode(&format!("{prompt}{answer}"))?;
        let shared = before.iter().zip(&whole).take_while(|(a, b)| a == b);
        let shared = shared.count();
        if shared == 0 {
            return Err(Error::new(
                ErrorKind::Input,
                "a resistance needs a token before it: the prompt is empty",
            ));
        }
        let mut walk = self.walk(&whole[..shared])?;
        let mut all = Vec::new();
        for &token in &whole[shared..] {
            all.push(walk.resistance(token)?);
            walk.force(token)?;
        }
        Ok(all)
    }

    fn states(&mut self, state: State, text: &str) -> Result<Vec<f32>> {
        self.hear()?;
        let ids = self.engine.encode(text)?;
        if ids.is_empty() {
            return Err(Error::new(ErrorKind::Input, "the text has no token"));
        }
        if let Some(mechanism) = &self.now {
            return graph_states(mechanism, state, &ids);
        }
        match (&self.engine, state) {
            #[cfg(feature = "transformer")]
            (Engine::Transformer(model), State::Hidden) => {
                let model = self.other.as_ref().unwrap_or(model);
                let marks = ids.len() - model.tokenizer().encode(text)?.len();
                let layers = crate::transformer::residual_stream(model, &ids)?;
                let width = model.configuration().width;
                Ok(layers
                    .iter()
                    .flat_map(|layer| &layer[marks * width..])
                    .copied()
                    .collect())
            }
            _ => Err(only("a graph")),
        }
    }

    fn untrained(&mut self, seed: Option<u64>) -> Result<()> {
        match &self.engine {
            Engine::Graph(model) => {
                let mechanism = model.mechanism();
                let (profile, graph) = (mechanism.profile(), mechanism.graph());
                self.now = match seed {
                    None => self.own.clone(),
                    Some(seed) => {
                        let weights =
                            EdgeTrainer::new(profile, graph, 0.0, seed).weights(profile, graph)?;
                        Some(Arc::new(mechanism.with_weights(weights)?))
                    }
                };
            }
            #[cfg(feature = "transformer")]
            Engine::Transformer(model) => {
                self.other = seed.map(|seed| model.untrained(seed)).transpose()?;
            }
        }
        Ok(())
    }

    fn shift(&mut self, node: u32, delta: &[f32]) -> Result<()> {
        let Some(own) = &self.own else {
            return Err(only("a graph"));
        };
        self.now = Some(match delta.is_empty() {
            true => own.clone(),
            false => Arc::new(own.with_weights(shifted(own, node, delta)?)?),
        });
        Ok(())
    }
}
