//! The hooks of a run, from the plugins of the server or those that a request names.

use super::api_error::ApiResult;
use super::state::ServerState;
use crate::hook::Hooks;
#[cfg(feature = "plugin")]
use crate::plugin::{LoadedPlugins, Plugins, Selection};
use crate::{Error, ErrorKind};

/// The hooks of a run, with the plugins that they call.
#[derive(Default)]
pub(super) struct RunHooks {
    pub(super) hooks: Hooks,
    #[cfg(feature = "plugin")]
    pub(super) plugins: Plugins,
}

#[cfg(feature = "plugin")]
impl RunHooks {
    /// Create instances of the plugins that a request names. They must be installed with a manifest: a request that
    /// could name a path could run any library.
    pub(super) fn named(state: &ServerState, names: &[String]) -> ApiResult<Self> {
        let mut selections = Vec::new();
        for name in names {
            let selection: Selection = name.parse()?;
            let installed = state.loader.finder().manifests().into_iter().flatten();
            let mut installed = installed.flat_map(|manifest| manifest.plugins);
            if !installed
                .any(|plugin| plugin.id == selection.name || plugin.short() == selection.name)
            {
                return Err(Error::new(
                    ErrorKind::Configuration,
                    format!("no plugin is named {:?}", selection.name),
                )
                .advice("GET /api/v1/plugins lists them")
                .into());
            }
            selections.push(selection);
        }
        Self::instantiate(&state.loader.load(&selections)?)
    }

    /// Create instances of the plugins that the server was started with.
    pub(super) fn of_server(state: &ServerState) -> ApiResult<Self> {
        Self::instantiate(&state.plugins)
    }

    fn instantiate(loaded: &LoadedPlugins) -> ApiResult<Self> {
        let plugins = loaded.instantiate()?;
        Ok(Self {
            hooks: plugins.hooks().clone(),
            plugins,
        })
    }
}

#[cfg(not(feature = "plugin"))]
impl RunHooks {
    pub(super) fn named(_: &ServerState, names: &[String]) -> ApiResult<Self> {
        if names.is_empty() {
            return Ok(Self::default());
        }
        let error = Error::new(ErrorKind::Unsupported, "this build has no plugins");
        Err(error.advice("build with the feature plugin").into())
    }

    pub(super) fn of_server(_: &ServerState) -> ApiResult<Self> {
        Ok(Self::default())
    }
}
