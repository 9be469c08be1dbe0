//! The layout of the sources: the order of modules, names and sizes of files, where `unsafe` is allowed, and what an
//! embedded engine depends on.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The modules in the order in which data flows; a module uses only modules before it.
const MODULES: [&str; 19] = [
    "error",
    "kernel",
    "ranks",
    "modality",
    "text",
    "hook",
    "graph",
    "signal",
    "path",
    "model",
    "measure",
    "learn",
    "transformer",
    "plugin",
    "run",
    "serve",
    "cli",
    // A crate of its own: the engine from C.
    "capi",
    // A crate of its own: the engine from Python.
    "python",
];
/// Modules that may use `unsafe`, each block with its reason.
const UNSAFE: [&str; 4] = ["kernel", "model", "plugin", "capi"];
/// Names that the crate's root re-exports, with the module they come from.
const REEXPORTS: [(&str, &str); 7] = [
    ("Error", "error"),
    ("ErrorKind", "error"),
    ("ErrorParts", "error"),
    ("Result", "error"),
    ("Model", "model"),
    ("Generation", "run"),
    ("Request", "run"),
];
/// Folders of `engine/` that are not modules.
const OTHER: [&str; 1] = ["examples"];
/// Lines after which a file holds more than one noun.
const LONG: usize = 500;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a folder, in order.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else {
        return found;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn folders(folder: &Path) -> BTreeSet<String> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect()
}

/// A source without its comments, strings and characters: what the compiler takes for code.
fn code(source: &str) -> String {
    let letters: Vec<char> = source.chars().collect();
    let mut out = String::new();
    let mut at = 0;
    let is = |at: usize, letter: char| letters.get(at) == Some(&letter);
    while at < letters.len() {
        let letter = letters[at];
        let word = at > 0 && (letters[at - 1].is_alphanumeric() || letters[at - 1] == '_');
        if letter == '/' && is(at + 1, '/') {
            while at < letters.len() && letters[at] != '\n' {
                at += 1;
            }
        } else if letter == '/' && is(at + 1, '*') {
            let mut depth = 0;
            loop {
                if is(at, '/') && is(at + 1, '*') {
                    (depth, at) = (depth + 1, at + 2);
                } else if is(at, '*') && is(at + 1, '/') {
                    (depth, at) = (depth - 1, at + 2);
                } else {
                    at += 1;
                }
                if depth == 0 || at >= letters.len() {
                    break;
                }
            }
        } else if letter == 'r' && !word && (is(at + 1, '"') || is(at + 1, '#')) {
            let hashes = letters[at + 1..].iter().take_while(|&&l| l == '#').count();
            if !is(at + 1 + hashes, '"') {
                // A raw identifier.
                out.push(letter);
                at += 1;
                continue;
            }
            at += 2 + hashes;
            while at < letters.len()
                && !(letters[at] == '"' && (1..=hashes).all(|hash| is(at + hash, '#')))
            {
                at += 1;
            }
            at += 1 + hashes;
        } else if letter == '"' {
            at += 1;
            while at < letters.len() && letters[at] != '"' {
                at += if letters[at] == '\\' { 2 } else { 1 };
            }
            at += 1;
        } else if letter == '\'' && (is(at + 1, '\\') || is(at + 2, '\'')) {
            at += if is(at + 1, '\\') { 3 } else { 2 };
            while at < letters.len() && letters[at] != '\'' {
                at += 1;
            }
            at += 1;
        } else {
            out.push(letter);
            at += 1;
        }
    }
    out
}

fn identifier(text: &str) -> &str {
    let end = text
        .find(|letter: char| !(letter.is_alphanumeric() || letter == '_'))
        .unwrap_or(text.len());
    &text[..end]
}

/// The first words behind a path prefix: one, or those of a group in braces.
fn first_words(rest: &str) -> Vec<String> {
    let rest = rest.trim_start();
    if !rest.starts_with('{') {
        return vec![identifier(rest).to_string()];
    }
    let (mut depth, mut words, mut fresh) = (0, Vec::new(), false);
    for (at, letter) in rest.char_indices() {
        match letter {
            '{' => (depth, fresh) = (depth + 1, depth == 0),
            '}' if depth == 1 => break,
            '}' => depth -= 1,
            ',' if depth == 1 => fresh = true,
            _ if fresh && !letter.is_whitespace() => {
                words.push(identifier(&rest[at..]).to_string());
                fresh = false;
            }
            _ => {}
        }
    }
    words
}

/// The modules that a source names, for a source `depth` levels below the crate's root.
fn named(source: &str, depth: usize) -> Vec<String> {
    let code = code(source);
    let mut words = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if !code[..at].ends_with(|letter: char| letter.is_alphanumeric() || letter == '_') {
            words.extend(first_words(&code[at + "crate::".len()..]));
        }
    }
    // Enough steps up reach the root as well.
    let upward = "super::".repeat(depth);
    for (at, _) in code.match_indices(&upward) {
        if !code[..at].ends_with("super::") {
            let rest = code[at + upward.len()..].trim_start_matches("super::");
            words.extend(first_words(rest));
        }
    }
    words
        .into_iter()
        .filter_map(|word| {
            REEXPORTS
                .iter()
                .find(|(name, _)| *name == word)
                .map(|(_, module)| module.to_string())
                .or_else(|| MODULES.contains(&word.as_str()).then_some(word))
        })
        .collect()
}

fn rank(module: &str) -> usize {
    MODULES.iter().position(|&known| known == module).unwrap()
}

#[test]
fn a_module_uses_only_modules_before_it() {
    let engine = root().join("engine");
    let mut uses = 0;
    for file in sources(&engine) {
        let inside = file.strip_prefix(&engine).unwrap();
        let parts: Vec<&str> = inside.iter().map(|part| part.to_str().unwrap()).collect();
        let module = parts[0].trim_end_matches(".rs");
        if ["lib", "main", "build"].contains(&module) || OTHER.contains(&module) {
            continue;
        }
        assert!(
            MODULES.contains(&module),
            "{} is not in a known module",
            inside.display()
        );
        // mod.rs is the module of its folder.
        let depth = parts.len() - usize::from(parts.last() == Some(&"mod.rs"));
        for used in named(&std::fs::read_to_string(&file).unwrap(), depth) {
            assert!(
                rank(&used) <= rank(module),
                "engine/{} uses the module {used}, which comes after {module}",
                inside.display()
            );
            uses += 1;
        }
    }
    assert!(
        uses > 200,
        "only {uses} uses were found: does the search work?"
    );
}

#[test]
fn uses_of_modules_are_found_in_a_source() {
    let source = r##"
        //! crate::cli in a comment, [`crate::serve`].
        use crate::kernel::{real, blend};
        use crate::{Error, graph::{NodeId, TokenGraph}, run};
        /* crate::cli /* crate::cli */ */
        fn f(x: &'static str) -> char { let _ = "crate::cli \" crate::cli"; let _ = r#"crate::cli"#; '"' }
        use super::super::measure::Windows;
        use super::learn;
        fn g() { my_crate::cli::f(); $crate::text::f(); crate::Model::open(); }
    "##;
    let mut found = named(source, 2);
    found.sort();
    assert_eq!(
        found,
        [
            "error", "graph", "kernel", "measure", "model", "run", "text"
        ]
    );
    assert!(named("use super::learn;", 1).contains(&"learn".to_string()));
}

#[test]
fn the_guide_lists_the_modules_in_order() {
    let guide = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let modules: Vec<&str> = guide
        .lines()
        .filter_map(|line| line.strip_prefix("| `engine/"))
        .filter_map(|line| line.split_once("` |"))
        .map(|(name, _)| name.trim_end_matches(".rs"))
        .collect();
    let mut found = folders(&root().join("engine"));
    found.retain(|folder| !OTHER.contains(&folder.as_str()));
    found.insert("error".into());
    let named: BTreeSet<String> = modules.iter().map(|name| name.to_string()).collect();
    assert_eq!(
        named, found,
        "the table in ARCHITECTURE.md and engine/ differ"
    );
    assert!(
        modules.windows(2).all(|pair| rank(pair[0]) < rank(pair[1])),
        "the table in ARCHITECTURE.md is not in the order of modules: {modules:?}"
    );
    // Other folders are ignored by git.
    let whole = ["engine", "shaders", "plugins", "models", "tests"];
    for folder in folders(root()) {
        let kept = !folder.starts_with('.') && folder != "target" && folder != "runs";
        assert!(
            !kept || whole.contains(&folder.as_str()),
            "the folder {folder} is not part of the layout"
        );
    }
}

#[test]
fn files_have_specific_names_and_are_short() {
    let empty = [
        "util", "utils", "common", "manager", "helper", "helpers", "misc",
    ];
    let mut faults = Vec::new();
    for file in sources(&root().join("engine")) {
        let name = file.file_stem().unwrap().to_str().unwrap();
        for word in name.split('_').filter(|word| empty.contains(word)) {
            faults.push(format!("{}: {word} is not specific", file.display()));
        }
        let lines = std::fs::read_to_string(&file).unwrap().lines().count();
        if lines > LONG {
            faults.push(format!("{} has {lines} lines: split it", file.display()));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn unsafe_is_confined_to_its_modules() {
    let engine = root().join("engine");
    for file in sources(&engine) {
        let inside = file.strip_prefix(&engine).unwrap();
        let module = inside.iter().next().unwrap().to_str().unwrap();
        if UNSAFE.contains(&module) {
            continue;
        }
        let source = std::fs::read_to_string(&file).unwrap();
        let code = code(&source);
        let uses = code.match_indices("unsafe").any(|(at, word)| {
            let before = code[..at].chars().next_back();
            let after = code[at + word.len()..].chars().next();
            let inner = |letter: Option<char>| {
                letter.is_some_and(|letter| letter.is_alphanumeric() || letter == '_')
            };
            !inner(before) && !inner(after)
        });
        assert!(!uses, "engine/{} uses unsafe", inside.display());
        // The compiler checks too, from each module's root file; the crate's root cannot forbid what some modules may use.
        let front = inside.iter().count() == 1 || inside.ends_with("mod.rs");
        let below = inside.iter().count() > 2;
        if front && !below && !["lib.rs", "build.rs"].contains(&module) {
            assert!(
                code.contains("#![forbid(unsafe_code)]"),
                "engine/{} does not forbid unsafe code",
                inside.display()
            );
        }
    }
}

/// Everything that opens a file for writing or gives a file its name.
const WRITERS: [&str; 10] = [
    "File::create",
    "File::options",
    "OpenOptions",
    "fs::write",
    "fs::copy",
    "fs::hard_link",
    "rename(",
    "serialize_to_file",
    "NamedTempFile",
    ".persist(",
];

/// The calls of a source, outside its tests, that write files.
fn writers(source: &str) -> Vec<&'static str> {
    let code = code(source);
    let code = code.split("#[cfg(test)]\nmod").next().unwrap();
    let mut found = WRITERS.to_vec();
    // `OutputFile::create` is another function than `File::create`.
    let inner = |letter: char| letter.is_alphanumeric() || letter == '_';
    found.retain(|writer| {
        code.match_indices(writer)
            .any(|(at, _)| !code[..at].ends_with(inner))
    });
    found
}

#[test]
fn only_one_crate_opens_files_for_writing() {
    let home = root().join("plugins/file");
    let examples = root().join("engine/examples");
    let mut found = Vec::new();
    for folder in ["engine", "plugins"] {
        for file in sources(&root().join(folder)) {
            let tests = file.iter().any(|part| part == "tests");
            if file.starts_with(&home) || file.starts_with(&examples) || tests {
                continue;
            }
            for writer in writers(&std::fs::read_to_string(&file).unwrap()) {
                found.push(format!("{}: {writer}", file.display()));
            }
        }
    }
    assert!(found.is_empty(), "call brillm_file instead: {found:#?}");
    // The search finds what is there.
    let source = "fn f() { std::fs::write(a, b); } #[cfg(test)]\nmod tests { File::create(a); }";
    assert_eq!(writers(source), ["fs::write"]);
    let names = ["lib", "target", "temporary"].map(|name| home.join(name).with_extension("rs"));
    let text: String = names
        .iter()
        .map(|file| std::fs::read_to_string(file).unwrap())
        .collect();
    for writer in ["File::create", "OpenOptions", "rename("] {
        assert!(writers(&text).contains(&writer), "{writer}");
    }
}

#[test]
fn an_embedded_engine_is_small() {
    let listed = |features: &[&str]| -> BTreeSet<String> {
        let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args([
                "tree",
                "--locked",
                "--package",
                "brillm",
                "--no-default-features",
            ])
            .args([
                "--edges",
                "normal,build",
                "--prefix",
                "none",
                "--format",
                "{p}",
            ])
            .args(features)
            .current_dir(root())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .filter_map(|line| line.split(' ').next())
            .map(String::from)
            .collect()
    };
    let heavy = [
        "ash",
        "axum",
        "candle-core",
        "clap",
        "gemm",
        "hyper",
        "libloading",
        "naga",
        "plotters",
        "reqwest",
        "tokio",
        "wgpu",
        "wgpu-core",
    ];
    let found = listed(&[]);
    for name in heavy {
        assert!(
            !found.contains(name),
            "default-features = false brings {name}"
        );
    }
    assert!(found.contains("petgraph") && found.len() < 130, "{found:?}");
    // The search finds what is there.
    let all = listed(&["--features", "gpu,plugin,transformer"]);
    for name in ["candle-core", "libloading", "naga", "wgpu"] {
        assert!(all.contains(name), "{name} is not found");
    }
}

/// Counts with `grep -rnE "Engine::(Graph|Transformer)\b" engine --include=*.rs | grep -v engine/run/engine/`.
#[test]
fn engines_are_distinguished_in_one_folder() {
    let engine = root().join("engine");
    let mut found = Vec::new();
    for file in sources(&engine) {
        if file.starts_with(engine.join("run/engine")) {
            continue;
        }
        let code = code(&std::fs::read_to_string(&file).unwrap());
        for kind in ["Engine::Graph", "Engine::Transformer"] {
            found.extend(code.match_indices(kind).map(|_| file.display().to_string()));
        }
    }
    assert!(found.len() <= 3, "{found:?}");
}
