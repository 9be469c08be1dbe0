//! Help: every command documents itself, `engine/cli/README.md` is generated from it, usage errors exit with 2.
#![cfg(all(
    feature = "cli",
    feature = "endpoint",
    feature = "gpu",
    feature = "import",
    feature = "plugin",
    feature = "serve",
    feature = "transformer"
))]

mod support;
use support::*;

const HEAD: &str = "\
# Commands

Generated from `brillm --help`; do not edit. `BRILLM_BLESS=1 cargo test --test cli_help` writes this file.

Commands print their result as text, or as JSON with `--json` (keys in snake_case). Messages and progress go to standard
error. Exit codes: 0 success, 1 error, 2 arguments that cannot be parsed, 130 stopped by Ctrl-C.
";

/// Print help as in a terminal of 100 columns.
fn help(arguments: &[&str]) -> String {
    let output = brillm(arguments).env("COLUMNS", "100").output().unwrap();
    stdout_of(&output, &format!("{arguments:?}"))
}

/// Read the names of the commands that a help text lists.
fn commands(help: &str) -> Vec<String> {
    let list = help.split("Commands:\n").nth(1).unwrap_or_default();
    list.lines()
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_string)
        .collect()
}

#[test]
fn the_command_reference_is_generated_from_help() {
    let all = help(&["--help"]);
    let names = commands(&all);
    assert!(names.len() > 20, "{names:?}");
    let mut text = format!("{HEAD}\n```text\n{}\n```\n", all.trim_end());
    for name in &names {
        let own = help(&[name, "--help"]);
        text += &format!("\n## brillm {name}\n\n```text\n{}\n```\n", own.trim_end());
        for inner in commands(&own) {
            let own = help(&[name, &inner, "--help"]);
            text += &format!(
                "\n### brillm {name} {inner}\n\n```text\n{}\n```\n",
                own.trim_end()
            );
        }
    }
    let text: Vec<&str> = text.lines().map(str::trim_end).collect();
    golden("engine/cli/README.md", &(text.join("\n") + "\n"));
}

#[test]
fn every_option_has_a_description() {
    for command in commands(&help(&["--help"])) {
        let text = help(&[&command, "-h"]);
        assert!(text.contains(&format!("Usage: brillm {command}")), "{text}");
        let lines: Vec<&str> = text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let option = line.trim_start();
            if !line.starts_with("  ") || !option.starts_with('-') {
                continue;
            }
            // The description follows two spaces or is on the next line.
            let same = option.contains("  ");
            let next = lines
                .get(index + 1)
                .is_some_and(|next| !next.trim().is_empty());
            assert!(same || next, "{command}: {line}");
        }
    }
    let version = help(&["--version"]);
    assert!(version.contains(env!("CARGO_PKG_VERSION")));
    let format = format!(".bril format {},", brillm::model::VERSION);
    assert!(version.contains(&format), "{version}");
}

#[test]
fn the_help_uses_the_terms_of_the_field() {
    let reference = std::fs::read_to_string(root().join("engine/cli/README.md")).unwrap();
    for word in [
        " beside",
        " goes on",
        "whoever",
        "no number",
        " by itself",
        "hidden stream",
        "may be given several times",
    ] {
        assert!(!reference.contains(word), "{word:?}");
    }
}

#[test]
fn invalid_numbers_state_what_is_expected() {
    cases(
        [
            (
                &["generate", "a", "--tokens", "-3"][..],
                "a whole number of at least 0",
            ),
            (
                &["generate", "a", "--seed", "1x"],
                "a whole number of at least 0",
            ),
            (&["generate", "a", "--temperature", "warm"], "a number"),
            (&["generate", "a", "--inject", "3=nan"], "a finite number"),
            (
                &["generate", "--prompt-ids", "1,99999999999"],
                "0 to 4294967295",
            ),
            (&["serve", "--port", "-1"], "0 to 65535"),
            (&["serve", "--host", "here"], "an IP address"),
            (
                &["generate", "a", "--plugin", "kv-snap:budget"],
                "KEY=VALUE",
            ),
        ],
        |(arguments, expected)| {
            let output = run(arguments);
            assert_eq!(output.status.code(), Some(2));
            let error = text_of(&output.stderr);
            assert!(error.contains(&format!("expected {expected}")), "{error}");
        },
    );
    // A negative number is the value of the option before it.
    let error = fails(&["generate", "a", "--temperature", "-1"]);
    assert!(error.contains("invalid temperature -1"), "{error}");
}

#[test]
fn usage_errors_exit_with_2() {
    cases(
        [
            &["no-such-command"][..],
            &["generate"],
            &["trace"],
            &["generate", "a", "--no-such-option"],
            &["generate", "a", "--prompt-ids", "1"],
            &["generate", "--prompt-ids", "x"],
            &["generate", "a", "--temperature", "warm"],
            &["generate", "a", "--seed", "one"],
            &["generate", "a", "--start", "random:x"],
            &["generate", "a", "--inject", "3"],
            &["eval"],
            &["eval", "a.txt", "--divergence"],
            &["quantize", "a.bril", "--element", "f64", "--out", "b.bril"],
            &["compare"],
            &[],
        ],
        |arguments| {
            let output = run(arguments);
            assert_eq!(output.status.code(), Some(2));
            assert!(!output.stderr.is_empty());
        },
    );
}

#[test]
fn completions_are_scripts_of_their_shells() {
    let mut faults = Vec::new();
    for (shell, begin) in [
        ("bash", "_brillm() {"),
        ("zsh", "#compdef brillm"),
        ("fish", "function __fish_brillm"),
        ("powershell", "using namespace System.Management.Automation"),
        ("elvish", "use builtin;"),
    ] {
        let output = brillm(&["completions", shell]).output().unwrap();
        let script = stdout_of(&output, shell);
        for part in [begin, "generate", "temperature", "plugin-path"] {
            if !script.contains(part) {
                faults.push(format!("{shell}: {part:?} is missing"));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    let output = brillm(&["completions", "tcsh"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    // The shell itself accepts the script.
    let script = stdout_of(&brillm(&["completions", "bash"]).output().unwrap(), "bash");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("brillm");
    std::fs::write(&file, script).unwrap();
    let loaded = std::process::Command::new("bash")
        .args(["--norc", "-c", "source \"$0\" && complete -p brillm"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(loaded.status.success(), "{loaded:?}");
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("man1");
    let output = brillm(&["man", "--out", out.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut names = vec!["brillm".to_string()];
    for command in commands(&help(&["--help"])) {
        for inner in commands(&help(&[&command, "--help"])) {
            names.push(format!("brillm-{command}-{inner}"));
        }
        names.push(format!("brillm-{command}"));
    }
    for name in &names {
        let page = std::fs::read_to_string(out.join(format!("{name}.1"))).unwrap();
        assert!(
            page.contains(".SH NAME") && page.contains(".SH SYNOPSIS"),
            "{name}"
        );
    }
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), names.len());
    let page = stdout_of(
        &brillm(&["man", "plugin", "build"]).output().unwrap(),
        "man",
    );
    assert_eq!(
        page,
        std::fs::read_to_string(out.join("brillm-plugin-build.1")).unwrap()
    );
    let output = brillm(&["man", "fly"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no command is named \"fly\""));
}
