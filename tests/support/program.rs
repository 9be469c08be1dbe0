//! Running `brillm` and reading what it prints.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::{kept_folder, root};

/// Prepare a call of the program in the root of the repository, without plugins from the environment.
pub fn brillm<S: AsRef<OsStr>>(arguments: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_brillm"));
    command
        .args(arguments)
        .current_dir(root())
        .stdin(Stdio::null())
        .env_remove("BRILLM_PLUGIN_PATH")
        // Mesa's Vulkan layer looks for a display and prints to standard error when there is none.
        .env("NODEVICE_SELECT", "1");
    command
}

/// Run the program.
pub fn run<S: AsRef<OsStr>>(arguments: &[S]) -> Output {
    brillm(arguments).output().unwrap()
}

/// Decode output for an assertion.
pub fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Check that a command succeeded; return its standard output.
pub fn stdout_of(output: &Output, what: &str) -> String {
    let errors = text_of(&output.stderr);
    assert!(output.status.success(), "{what}: {errors}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Check that a command failed with exit code 1 and one line on standard error; return that line.
pub fn error_of(output: &Output, what: &str) -> String {
    let error = text_of(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{what}: {error}");
    assert!(!error.contains("panicked"), "{what}: {error}");
    assert!(
        error.starts_with("brillm: ") && error.trim_end().lines().count() == 1,
        "{what}: {error:?}"
    );
    error
}

/// Run a command that must succeed; return its standard output.
pub fn succeeds(arguments: &[&str]) -> String {
    stdout_of(&run(arguments), &format!("{arguments:?}"))
}

/// Run a command that must fail; return its error message.
pub fn fails(arguments: &[&str]) -> String {
    error_of(&run(arguments), &format!("{arguments:?}"))
}

/// Run a command that must succeed; parse its report.
pub fn json(arguments: &[&str]) -> Value {
    let text = succeeds(arguments);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
}

/// Add a folder of plugins and `--plugin` for each name to a command.
pub fn with_plugins<'a>(
    arguments: &[&'a str],
    folder: &'a str,
    plugins: &[&'a str],
) -> Vec<&'a str> {
    let mut all = arguments.to_vec();
    all.extend(["--plugin-path", folder]);
    all.extend(plugins.iter().flat_map(|plugin| ["--plugin", plugin]));
    all
}

/// Wait until no other test process holds the lock of a kept folder; it is held until the file is dropped.
fn lock(folder: &Path) -> File {
    let file = File::create(folder.with_extension("lock")).unwrap();
    file.lock().unwrap();
    file
}

/// Fill a kept folder once for each build of the program, in the first test process that needs it.
pub fn made_once(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let folder = kept_folder(name);
    let _lock = lock(&folder);
    let stamp = folder.join("made");
    let modified = |path: &Path| path.metadata().and_then(|meta| meta.modified()).ok();
    if modified(&stamp) < modified(Path::new(env!("CARGO_BIN_EXE_brillm"))) {
        std::fs::remove_dir_all(&folder).unwrap();
        std::fs::create_dir_all(&folder).unwrap();
        make(&folder);
        File::create(stamp).unwrap();
    }
    folder
}

/// Build plugins into a kept folder: names under `plugins/` or folders; all of `plugins/` if none is named.
pub fn build_plugins(folder: &str, names: &[&str]) -> String {
    let folder = kept_folder(folder);
    let _lock = lock(&folder);
    let folder = folder.display().to_string();
    let mut arguments = vec!["plugin", "build", "--out", &folder];
    arguments.extend(names);
    succeeds(&arguments);
    folder
}
