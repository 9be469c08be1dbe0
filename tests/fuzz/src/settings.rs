//! Run files.

use brillm::learn::Recipe;

use crate::parts;

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
