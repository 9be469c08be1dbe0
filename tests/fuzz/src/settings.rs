//! Run files, and manifests of plugins.

use brillm::learn::Recipe;
use brillm::plugin::{Manifest, Schema};
use serde_json::Value;

use crate::{files, parts};

/// Read the first part as a run file, changed by the lines of the second as `--set` changes it.
pub fn recipe(data: &[u8]) {
    let [file, changes] = parts(data);
    let (file, changes) = (
        String::from_utf8_lossy(file),
        String::from_utf8_lossy(changes),
    );
    let changes: Vec<String> = changes.lines().map(String::from).collect();
    if let Ok(recipe) = Recipe::parse(&file, &changes) {
        let profile = recipe.profile().expect("a checked recipe has a profile");
        assert!(profile.check().is_ok());
        // The copy that a run keeps must be the same run.
        if let Ok(text) = toml::to_string(&recipe) {
            let again = Recipe::parse(&text, &[]).expect("a written run file is read back");
            assert_eq!(toml::to_string(&again).ok(), Some(text));
        }
    }
}

/// Read the first part as the manifest of a plugin, and the second as options for its plugins.
pub fn manifest(data: &[u8]) {
    let [file, options] = parts(data);
    let path = files::write("x.plugin.json", file);
    let Ok(manifest) = Manifest::open(&path) else {
        return;
    };
    assert_eq!(
        manifest.library_path().parent(),
        path.parent(),
        "the library is in another folder"
    );
    let options: Option<Value> = serde_json::from_slice(options).ok();
    let options = options
        .and_then(|options| options.as_object().cloned())
        .unwrap_or_default();
    for plugin in &manifest.plugins {
        let Ok(schema) = Schema::from_value(&plugin.schema) else {
            continue;
        };
        if let Ok(filled) = schema.fill(&options) {
            assert_eq!(
                schema.fill(&filled).ok(),
                Some(filled),
                "complete options are changed"
            );
        }
    }
}
