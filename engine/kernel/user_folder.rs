//! Folders of the user.

use std::path::PathBuf;

/// Find the folder that the environment variable `variable` names, or `in_home` in the user's home folder.
///
/// Relative and empty values are ignored, as the XDG Base Directory Specification requires.
pub fn user_folder(variable: &str, in_home: &str) -> Option<PathBuf> {
    let absolute = |name: &str| {
        let folder = std::env::var_os(name).map(PathBuf::from);
        folder.filter(|folder| folder.is_absolute())
    };
    absolute(variable).or_else(|| absolute("HOME").map(|home| home.join(in_home)))
}
