//! Documentation matches the tree: links lead somewhere, named files exist, and words are the project's.

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files with one of these endings that belong to the project (tracked, or new and not ignored).
fn files(endings: &[&str]) -> Vec<PathBuf> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git lists the files of the project");
    assert!(output.status.success(), "the tests run in a git checkout");
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(PathBuf::from)
        .filter(|path| {
            let ending = path.extension().and_then(|ending| ending.to_str());
            ending.is_some_and(|ending| endings.contains(&ending)) && root().join(path).exists()
        })
        .filter(|path| !path.components().any(|part| part.as_os_str() == "vendor"))
        .collect()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// Targets of the inline links and images of a Markdown text.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("](").filter_map(|(at, _)| {
        let rest = &text[at + 2..];
        rest.find(')').map(|end| &rest[..end])
    })
}

/// The anchor that a Markdown renderer gives a heading.
fn anchor(heading: &str) -> String {
    heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .chars()
        .filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter))
        .map(|letter| if letter == ' ' { '-' } else { letter })
        .collect()
}

#[test]
fn every_relative_link_leads_to_a_file_and_a_heading() {
    let mut broken = Vec::new();
    for file in files(&["md"]) {
        let text = read(&file);
        let folder = file.parent().unwrap();
        for link in links(&text) {
            let target = link.split(' ').next().unwrap_or(link);
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, heading) = target.split_once('#').unwrap_or((target, ""));
            let mut to = if path.is_empty() {
                file.clone()
            } else {
                folder.join(path)
            };
            // A folder is shown with its README.
            if !heading.is_empty() && root().join(&to).is_dir() {
                to = to.join("README.md");
            }
            if !root().join(&to).exists() {
                broken.push(format!("{}: {link}", file.display()));
            } else if !heading.is_empty()
                && !read(&to)
                    .lines()
                    .filter(|line| line.starts_with('#'))
                    .any(|line| anchor(line) == heading)
            {
                broken.push(format!("{}: no heading for {link}", file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
}

#[test]
fn files_that_the_guides_name_exist() {
    let mut absent = Vec::new();
    for guide in [
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "README.md",
    ] {
        for span in read(Path::new(guide)).split('`').skip(1).step_by(2) {
            let named = span.contains('/')
                && ["engine/", "shaders/", "plugins/", "models/", "tests/"]
                    .iter()
                    .any(|folder| span.starts_with(folder))
                && !span.contains([' ', '*', '<', '{'])
                && !span.contains("STEM")
                && !span.contains("NAME");
            if named && !root().join(span).exists() {
                absent.push(format!("{guide}: {span}"));
            }
        }
    }
    assert!(
        absent.is_empty(),
        "files that are not there:\n{}",
        absent.join("\n")
    );
}

/// Words and phrases that the project replaced by the field's terms, with what to write.
const REPLACED: [(&str, &str); 22] = [
    ("a house", "the crate layout"),
    ("the house", "the crate layout"),
    ("rooms", "modules"),
    ("this room", "this module"),
    ("the room", "the module"),
    ("furnish", "name what is done"),
    ("the door", "the plugin ABI"),
    ("whoever", "name the subject"),
    ("who looks on", "observer"),
    ("likewise", "say it again, or use \"also\""),
    ("nonsense", "invalid"),
    ("licence", "license"),
    ("hidden stream", "residual stream"),
    ("keeper", "eviction policy"),
    ("holds a run already", "already contains a run"),
    ("is no number", "is not a number"),
    ("are no ", "are not"),
    ("is told", "receives"),
    ("are told", "receive"),
    ("the arena", "the edge weights"),
    ("scores of all", "logits of all"),
    ("way back", "backward pass"),
];

#[test]
fn replaced_words_do_not_return() {
    let mut found = Vec::new();
    for file in files(&["rs", "md", "wgsl", "h", "c", "js", "html", "toml", "sh"]) {
        // These name the replaced words: the list itself, tests of the help, the guide and the changelog.
        if [
            "tests/documents.rs",
            "tests/cli_help.rs",
            "CHANGELOG.md",
            "CONTRIBUTING.md",
        ]
        .iter()
        .any(|own| file.ends_with(own))
        {
            continue;
        }
        for (number, line) in read(&file).lines().enumerate() {
            let lower = line.to_lowercase();
            for (word, instead) in REPLACED {
                let whole = lower.match_indices(word).any(|(at, _)| {
                    let before = lower[..at].chars().next_back();
                    let after = lower[at + word.len()..].chars().next();
                    let inner = |letter: Option<char>| letter.is_some_and(char::is_alphanumeric);
                    !inner(before)
                        && (!inner(after) || word.ends_with(' '))
                        && !lower[..at].ends_with("there ")
                });
                // Old keys stay readable: serde aliases name them.
                if whole && !line.contains("alias") {
                    found.push(format!(
                        "{}:{}: \"{word}\" (write: {instead})",
                        file.display(),
                        number + 1
                    ));
                }
            }
        }
    }
    assert!(
        found.is_empty(),
        "{} uses of replaced words:\n{}",
        found.len(),
        found.join("\n")
    );
}
