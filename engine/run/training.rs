//! Training runs of graphs and of networks.

use std::path::Path;

use crate::Result;
use crate::hook::Hooks;
use crate::learn::recipe::Kind;
use crate::learn::{ProgressObserver, Recipe, Trainer};

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
    if recipe.kind == Kind::Graph {
        let _ = hooks;
        return Trainer::prepare(recipe, base, folder, resume, observer);
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
