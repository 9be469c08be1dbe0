//! Folders of the user.

use std::path::PathBuf;

/// Find the folder that the environment variable `variable` names, or `in_home` in the user's home folder.
///
/// Relative and empty values are ignored, as the XDG Base Directory Specification requires.
pub fn user_folder(variable: &str, in_home: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    let absolute = |folder: &PathBuf| folder.is_absolute();
    named.filter(absolute).or_else(|| {
        let home = home().filter(absolute);
        home.map(|home| home.join(in_home))
    })
}

/// Find the user's home folder. On Unix only `HOME` names it: a service that runs without one has no folder of a user.
fn home() -> Option<PathBuf> {
    if cfg!(unix) {
        std::env::var_os("HOME").map(PathBuf::from)
    } else {
        std::env::home_dir()
    }
}

#[cfg(test)]
mod tests {
    use super::{home, user_folder};

    #[test]
    fn only_absolute_values_name_a_folder() {
        let home = home().filter(|home| home.is_absolute());
        let default = home.map(|home| home.join("part/of/it"));
        assert_eq!(
            user_folder("BRILLM_NO_SUCH_VARIABLE", "part/of/it"),
            default
        );
        // Cargo sets one variable to a version, which is not an absolute path, and one to the absolute folder of the crate.
        assert_eq!(user_folder("CARGO_PKG_VERSION", "part/of/it"), default);
        let folder = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        assert_eq!(user_folder("CARGO_MANIFEST_DIR", "x"), Some(folder));
    }
}
