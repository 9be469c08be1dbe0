//! State shared by all requests: models, settings, run queue, metrics, library, plugins.

use std::sync::{Arc, OnceLock};

use axum::body::Body;
use axum::http::Response;
use serde::Serialize;

use super::api_error::{ApiError, ApiResult};
use super::extract;
use super::library::Library;
use super::metrics::Metrics;
use super::run_queue::RunQueue;
use super::settings::Settings;
use crate::graph::{NodeMap, PageRank, RankWeight, Ranking};
use crate::model::Model;
#[cfg(feature = "plugin")]
use crate::plugin::{LoadedPlugins, Loader};
use crate::run::Engine;
use crate::{Error, ErrorKind, Result};

/// A model to serve.
#[derive(Clone, Debug)]
pub struct ServedModel {
    /// Name that requests use. A name that occurs twice gets a number.
    pub name: String,
    /// The model.
    pub engine: Engine,
    /// Checksum of the model, where it is known; see [`crate::run::fingerprint`].
    pub sha256: Option<String>,
}

/// A served model, with values that are computed on first use.
pub(super) struct ModelState {
    pub(super) model: ServedModel,
    map: OnceLock<NodeMap>,
    ranking: OnceLock<Ranking>,
    counts: OnceLock<Vec<u64>>,
}

impl ModelState {
    /// The graph model, or an error for a transformer.
    pub(super) fn graph(&self) -> ApiResult<&Model> {
        self.model.engine.as_graph().ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                format!("{} is a transformer, which has no edges", self.model.name),
            )
            .advice("choose a graph model")
            .into()
        })
    }

    /// The layout of the nodes on the map.
    pub(super) fn map(&self) -> ApiResult<&NodeMap> {
        let graph = self.graph()?.mechanism().graph();
        Ok(self.map.get_or_init(|| NodeMap::of(graph)))
    }

    /// The nodes by PageRank.
    pub(super) fn ranking(&self) -> ApiResult<&Ranking> {
        let graph = self.graph()?.mechanism().graph();
        if let Some(ranking) = self.ranking.get() {
            return Ok(ranking);
        }
        let ranks = PageRank {
            tolerance: 1e-8,
            iterations: 60,
            weight: RankWeight::Count,
            ..PageRank::default()
        };
        let ranking = ranks.of(graph)?;
        Ok(self.ranking.get_or_init(|| ranking))
    }

    /// Number of times that training reached each node. `[V]`
    pub(super) fn counts(&self) -> ApiResult<&[u64]> {
        let graph = self.graph()?.mechanism().graph();
        Ok(self.counts.get_or_init(|| {
            let mut counts = vec![0; graph.nodes()];
            for (&target, &count) in graph.targets().iter().zip(graph.counts()) {
                counts[target as usize] += u64::from(count);
            }
            counts
        }))
    }
}

/// State shared by all requests.
pub(super) struct ServerState {
    pub(super) settings: Settings,
    pub(super) models: Vec<Arc<ModelState>>,
    pub(super) runs: RunQueue,
    pub(super) metrics: Metrics,
    pub(super) library: Option<Library>,
    /// Port that the server listens on, for the check of `Host`.
    pub(super) port: u16,
    #[cfg(feature = "plugin")]
    pub(super) loader: Loader,
    /// The plugins of all completions.
    #[cfg(feature = "plugin")]
    pub(super) plugins: LoadedPlugins,
}

impl ServerState {
    pub(super) fn new(settings: Settings, models: Vec<ServedModel>, port: u16) -> Result<Self> {
        let mut served: Vec<Arc<ModelState>> = Vec::new();
        for mut model in models {
            // Requests choose a model by its name, which must be unique.
            let base = model.name.clone();
            let mut number = 2;
            while served.iter().any(|other| other.model.name == model.name) {
                model.name = format!("{base}-{number}");
                number += 1;
            }
            model.engine = model.engine.batched_with(settings.limits.prefix_bytes)?;
            served.push(Arc::new(ModelState {
                model,
                map: OnceLock::new(),
                ranking: OnceLock::new(),
                counts: OnceLock::new(),
            }));
        }
        if served.is_empty() {
            return Err(Error::new(ErrorKind::Input, "no model to serve")
                .advice("pass --model, or build with the feature model"));
        }
        #[cfg(feature = "plugin")]
        let loader = Loader::new(settings.finder.clone()).private();
        #[cfg(feature = "plugin")]
        let plugins = loader.load(&settings.plugins)?;
        // A plugin that cannot be instantiated is reported now, rather than in the first completion.
        #[cfg(feature = "plugin")]
        plugins.instantiate()?;
        let library = settings.library.clone().map(Library::open).transpose()?;
        Ok(Self {
            runs: RunQueue::new(&settings.limits),
            metrics: Metrics::default(),
            models: served,
            settings,
            library,
            port,
            #[cfg(feature = "plugin")]
            loader,
            #[cfg(feature = "plugin")]
            plugins,
        })
    }

    /// The model with a name, or the first one.
    pub(super) fn model(&self, name: Option<&str>) -> ApiResult<&Arc<ModelState>> {
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return Ok(&self.models[0]);
        };
        let mut models = self.models.iter();
        models
            .find(|served| served.model.name == name)
            .ok_or_else(|| {
                let names: Vec<&str> = self.models.iter().map(|m| m.model.name.as_str()).collect();
                ApiError::new(
                    axum::http::StatusCode::NOT_FOUND,
                    format!(
                        "model {name:?} is not served (choose one of: {})",
                        names.join(", ")
                    ),
                )
                .param("model")
                .code("model_not_found")
            })
    }

    /// Check a prompt against the limit and the vocabulary.
    pub(super) fn check_prompt(&self, ids: &[u32], vocabulary: usize) -> ApiResult<()> {
        let most = self.settings.limits.prompt_tokens;
        if ids.len() > most {
            return Err(ApiError::input(format!(
                "the prompt has {} tokens, more than this server's limit of {most}",
                ids.len()
            )));
        }
        crate::measure::check_ids(ids, vocabulary).map_err(ApiError::from)
    }

    /// Compute a value as an admitted run, on a thread of its own, and answer with it as JSON.
    pub(super) async fn compute<T: Serialize + Send + 'static>(
        &self,
        work: impl FnOnce() -> ApiResult<T> + Send + 'static,
    ) -> ApiResult<Response<Body>> {
        let run = self.runs.admit().await?;
        let value = run.finish(move |_| work()).await?;
        Ok(extract::json(&value))
    }
}
