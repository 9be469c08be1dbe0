//! Training runs of graphs and of networks.

use std::path::Path;
use std::sync::Arc;

use crate::Result;
use crate::hook::Hooks;
use crate::learn::recipe::Kind;
use crate::learn::{ProgressObserver, Recipe, Trainer};
#[cfg(feature = "plugin")]
use crate::plugin::{Plugins, Selection};
use crate::ranks::{OneProcess, Ranks};
#[cfg(feature = "plugin")]
use crate::{Error, ErrorKind};

/// Prepare the run of a recipe of any kind, as [`Trainer::prepare`] does for graphs. Masked training calls `mask/1`.
///
/// # Errors
/// As [`Trainer::prepare`]; [`crate::ErrorKind::Unsupported`] for a network in a build without transformers.
pub fn prepare_training(
    recipe: Recipe,
    base: &Path,
    folder: &Path,
    resume: bool,
    hooks: &Hooks,
    observer: &mut dyn ProgressObserver,
) -> Result<Trainer> {
    let ranks = Arc::new(OneProcess);
    prepare_training_over(ranks, recipe, base, folder, resume, hooks, observer)
}

/// As [`prepare_training`], on every rank: [`Trainer::prepare_over`]. Networks train in one process.
///
/// # Errors
/// As [`Trainer::prepare_over`]; [`crate::ErrorKind::Unsupported`] for a network on several ranks.
pub fn prepare_training_over(
    ranks: Arc<dyn Ranks>,
    recipe: Recipe,
    base: &Path,
    folder: &Path,
    resume: bool,
    hooks: &Hooks,
    observer: &mut dyn ProgressObserver,
) -> Result<Trainer> {
    if recipe.kind == Kind::Graph {
        let _ = hooks;
        return Trainer::prepare_over(ranks, recipe, base, folder, resume, observer);
    }
    if ranks.size() > 1 {
        let what = "transformers and recurrent networks train in one process";
        return Err(crate::Error::new(crate::ErrorKind::Unsupported, what).at(&recipe.name));
    }
    #[cfg(feature = "transformer")]
    return Trainer::prepare_with(
        recipe,
        base,
        folder,
        resume,
        observer,
        &|recipe, data, _| {
            let learner = crate::transformer::NetworkModel::new(recipe, data, base, hooks)?;
            if recipe.preferences.is_some() {
                let learner =
                    crate::transformer::PreferenceModel::new(recipe, data, base, learner)?;
                return Ok(Box::new(learner) as Box<dyn crate::learn::Trainable>);
            }
            Ok(Box::new(learner) as Box<dyn crate::learn::Trainable>)
        },
    );
    #[cfg(not(feature = "transformer"))]
    Err(crate::Error::new(
        crate::ErrorKind::Unsupported,
        "this build trains no transformers",
    )
    .at(&recipe.name)
    .advice("build it with the feature transformer"))
}

/// Return the plugins that a recipe names in `[[plugin]]`.
///
/// # Errors
/// [`ErrorKind::Configuration`] for an entry that does not name a plugin and its options.
#[cfg(feature = "plugin")]
pub fn plugins_of(recipe: &Recipe) -> Result<Vec<Selection>> {
    let tables = recipe.plugin.iter().cloned();
    tables
        .map(|table| {
            table.try_into().map_err(|error: toml::de::Error| {
                Error::new(ErrorKind::Configuration, error.message().to_string()).at("[[plugin]]")
            })
        })
        .collect()
}

/// Record the plugins of a run in its recipe, with checksums and effective options.
///
/// # Errors
/// [`ErrorKind::Configuration`] for an option that TOML cannot hold.
#[cfg(feature = "plugin")]
pub fn record_plugins(recipe: &mut Recipe, plugins: &Plugins) -> Result<()> {
    let selections = plugins.selections();
    recipe.plugin = selections
        .iter()
        .map(|selection| {
            toml::Table::try_from(selection).map_err(|error| {
                Error::new(ErrorKind::Configuration, error.to_string()).at("[[plugin]]")
            })
        })
        .collect::<Result<_>>()?;
    Ok(())
}
