//! What all exchanges share: the models with what was computed of them, the settings, the work, the counts.

use std::sync::{Arc, OnceLock};

use super::api_error::ApiError;
use super::library::Library;
use super::metrics::Metrics;
use super::settings::Settings;
use super::work::Work;
use crate::graph::{NodeMap, PageRank, RankWeight, Ranking};
use crate::hook::Hooks;
use crate::model::Model;
use crate::run::Engine;
use crate::{Error, ErrorKind, Result};

/// A model that is served, under a name of its own.
#[derive(Clone, Debug)]
pub struct ServedModel {
    /// The name by which requests ask for it.
    pub name: String,
    /// The model.
    pub engine: Engine,
    /// Its checksum, where it is known; see [`crate::run::fingerprint`].
    pub sha256: Option<String>,
}

/// A served model, and what is computed of it once.
pub(super) struct Served {
    pub(super) model: ServedModel,
    map: OnceLock<NodeMap>,
    ranking: OnceLock<Ranking>,
    counts: OnceLock<Vec<u64>>,
}

impl Served {
    /// The graph.
    pub(super) fn graph(&self) -> std::result::Result<&Model, ApiError> {
        match &self.model.engine {
            Engine::Graph(model) => Ok(model),
            #[cfg(feature = "transformer")]
            Engine::Transformer(_) => Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "{} is a transformer: it has no edges to look at",
                    self.model.name
                ),
            )
            .into()),
        }
    }

    /// Where the nodes lie. Computed by who asks first.
    pub(super) fn map(&self) -> std::result::Result<&NodeMap, ApiError> {
        let graph = self.graph()?.mechanism().graph();
        Ok(self.map.get_or_init(|| NodeMap::of(graph)))
    }

    /// PageRank. Computed by who asks first.
    pub(super) fn ranking(&self) -> std::result::Result<&Ranking, ApiError> {
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

    /// How often training reached each node. `[V]`
    pub(super) fn counts(&self) -> std::result::Result<&[u64], ApiError> {
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

/// What all exchanges share.
pub(super) struct ServerState {
    pub(super) settings: Settings,
    pub(super) models: Vec<Arc<Served>>,
    pub(super) work: Work,
    pub(super) metrics: Metrics,
    pub(super) library: Option<Library>,
    /// Where the server was reached at, for the check of `Host`.
    pub(super) port: u16,
}

impl ServerState {
    pub(super) fn new(settings: Settings, models: Vec<ServedModel>, port: u16) -> Result<Self> {
        let mut served: Vec<Arc<Served>> = Vec::new();
        for mut model in models {
            // Names are what requests go by.
            let base = model.name.clone();
            let mut number = 2;
            while served.iter().any(|other| other.model.name == model.name) {
                model.name = format!("{base}-{number}");
                number += 1;
            }
            served.push(Arc::new(Served {
                model,
                map: OnceLock::new(),
                ranking: OnceLock::new(),
                counts: OnceLock::new(),
            }));
        }
        if served.is_empty() {
            return Err(Error::new(ErrorKind::Input, "there is no model to serve")
                .advice("give --model, or build with the feature model"));
        }
        let library = settings.library.clone().map(Library::open).transpose()?;
        Ok(Self {
            work: Work::new(&settings.limits),
            metrics: Metrics::default(),
            models: served,
            settings,
            library,
            port,
        })
    }

    /// The model of a name, or the first.
    pub(super) fn model(&self, name: Option<&str>) -> std::result::Result<&Arc<Served>, ApiError> {
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
                        "no model is named {name:?} (there are {})",
                        names.join(", ")
                    ),
                )
            })
    }

    /// Checks a prompt against the limits and the vocabulary.
    pub(super) fn check_prompt(
        &self,
        ids: &[u32],
        vocabulary: usize,
    ) -> std::result::Result<(), ApiError> {
        let most = self.settings.limits.prompt_tokens;
        if ids.len() > most {
            return Err(ApiError::input(format!(
                "a prompt of {} tokens is more than the {most} allowed",
                ids.len()
            )));
        }
        crate::measure::check_ids(ids, vocabulary).map_err(ApiError::from)
    }
}

/// The hooks of a run, with what records of it say.
#[derive(Default)]
pub(super) struct RunHooks {
    pub(super) hooks: Hooks,
    #[cfg(feature = "plugin")]
    pub(super) plugins: crate::plugin::Plugins,
}

impl RunHooks {
    /// Loads the plugins that a request names. Only those found by their manifests: a path in a request would be a
    /// way to run anything.
    #[cfg(feature = "plugin")]
    pub(super) fn named(
        state: &ServerState,
        names: &[String],
    ) -> std::result::Result<Self, ApiError> {
        use crate::plugin::{Plugins, Selection};
        let mut selections = Vec::new();
        for name in names {
            let selection: Selection = name.parse()?;
            let known = state.settings.finder.manifests().into_iter().flatten();
            let known = known
                .flat_map(|manifest| manifest.plugins)
                .any(|plugin| plugin.id == selection.name || plugin.short() == selection.name);
            if !known {
                return Err(Error::new(
                    ErrorKind::Configuration,
                    format!("no plugin is named {:?}", selection.name),
                )
                .advice("GET /api/v1/plugins lists them")
                .into());
            }
            selections.push(selection);
        }
        let plugins = Plugins::load(&selections, &state.settings.finder)?;
        Ok(Self {
            hooks: plugins.hooks().clone(),
            plugins,
        })
    }

    #[cfg(not(feature = "plugin"))]
    pub(super) fn named(_: &ServerState, names: &[String]) -> std::result::Result<Self, ApiError> {
        match names.is_empty() {
            true => Ok(Self::default()),
            false => Err(Error::new(ErrorKind::Unsupported, "this build has no plugins").into()),
        }
    }

    /// Loads the plugins that the server was started with.
    #[cfg(feature = "plugin")]
    pub(super) fn of_server(state: &ServerState) -> std::result::Result<Self, ApiError> {
        let settings = &state.settings;
        let plugins = crate::plugin::Plugins::load(&settings.plugins, &settings.finder)?;
        Ok(Self {
            hooks: plugins.hooks().clone(),
            plugins,
        })
    }

    #[cfg(not(feature = "plugin"))]
    pub(super) fn of_server(_: &ServerState) -> std::result::Result<Self, ApiError> {
        Ok(Self::default())
    }
}
