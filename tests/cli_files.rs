//! Files and folders that commands cannot read or write.
#![cfg(feature = "cli")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

mod support;
use support::*;

#[test]
fn files_that_cannot_be_read_are_reported_with_path_and_advice() {
    let folder = tempfile::tempdir().unwrap();
    let missing = path(folder.path(), "missing.bril");
    let here = folder.path().to_str().unwrap();
    for (arguments, words) in [
        (
            &["generate", "a", "--model", &missing][..],
            ["missing.bril", "check the path"],
        ),
        (&["inspect", &missing], ["missing.bril", "check the path"]),
        (&["train", &missing], ["missing.bril", "check the path"]),
        (&["generate", "a", "--model", here], [here, "config.json"]),
        (&["plot", here], [here, "log"]),
        (&["eval", &missing], ["missing.bril", "check the path"]),
    ] {
        let said = fails(arguments);
        for word in words {
            assert!(said.contains(word), "{arguments:?}: {said}");
        }
    }
    let text = path(folder.path(), "text.bril");
    std::fs::write(&text, "this is text").unwrap();
    assert!(fails(&["inspect", &text]).contains("not a .bril file"));
    std::fs::write(&text, "").unwrap();
    assert!(fails(&["inspect", &text]).contains("empty"));
    let adapter = fails(&["generate", "a", "--adapter", "no such adapter"]);
    assert!(adapter.contains("--backend cpu"), "{adapter}");
}

#[test]
fn a_full_disk_keeps_existing_files() {
    let (_, model) = trained();
    let folder = tempfile::tempdir().unwrap();
    // Standard output that takes nothing.
    if Path::new("/dev/full").exists() {
        for arguments in [
            &["generate", "the cat", "--model", model][..],
            &["inspect", model, "--json"],
        ] {
            let full = std::fs::OpenOptions::new()
                .write(true)
                .open("/dev/full")
                .unwrap();
            let output = brillm(arguments).stdout(full).output().unwrap();
            let said = error_of(&output, "/dev/full");
            assert!(
                said.contains("standard output") && said.contains("space"),
                "{said}"
            );
        }
    }
    // A file system with no room: what was there before stays as it was.
    let disk = folder.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=16k", "brillm-test"])
        .arg(&disk)
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    let limited = |arguments: &[&str]| -> Output {
        if mounted {
            return run(arguments);
        }
        // Without the right to mount: no file may grow past 16 KiB, which a write meets as an error as well.
        let line = "ulimit -f 32; trap '' XFSZ; exec \"$0\" \"$@\"";
        let mut shell = Command::new("sh");
        shell
            .args(["-c", line, env!("CARGO_BIN_EXE_brillm")])
            .args(arguments);
        shell.stdin(Stdio::null()).output().unwrap()
    };
    println!(
        "a full disk: {}",
        if mounted {
            "a file system of 16 KiB"
        } else {
            "a limit on the size of files"
        }
    );
    let outcome = std::panic::catch_unwind(|| {
        let target = path(&disk, "m.bril");
        std::fs::write(&target, "what was there").unwrap();
        for arguments in [
            &["quantize", model, "--element", "f32", "--out", &target][..],
            &["export", "--model", model, &path(&disk, "w.safetensors")],
            &[
                "export",
                "--model",
                model,
                &target,
                "--format",
                "safetensors",
            ],
            &["export", "--model", model, &target, "--format", "graphml"],
        ] {
            let said = error_of(&limited(arguments), "full disk");
            assert!(said.contains(disk.to_str().unwrap()), "{said}");
        }
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "what was there");
        let left = partial_files(&disk);
        assert!(left.is_empty(), "{left:?} was left");
        // A training run says so too, and its folder stays usable.
        let (work, out) = (recipe_folder(), path(&disk, "run"));
        let recipe = path(work.path(), "run.toml");
        let said = error_of(
            &limited(&["train", &recipe, "--out", &out, "--quiet"]),
            "training",
        );
        assert!(said.contains(disk.to_str().unwrap()), "{said}");
    });
    if mounted {
        let unmounted = Command::new("umount").arg(&disk).status().unwrap();
        assert!(unmounted.success());
    }
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

#[cfg(unix)]
#[test]
fn a_read_only_folder_is_reported() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;
    let (_, model) = trained();
    let folder = recipe_folder();
    let mode = |path: &Path, bits: u32| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(bits)).unwrap();
    };
    let closed = folder.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    let program = folder.path().join("brillm");
    // Another process copies: a test that starts a program meanwhile would inherit our handle on the copy,
    // and a program that someone may still write cannot be run.
    let copied = Command::new("cp")
        .arg(env!("CARGO_BIN_EXE_brillm"))
        .arg(&program)
        .status();
    assert!(copied.unwrap().success());
    let input = folder.path().join("m.bril");
    std::fs::copy(model, &input).unwrap();
    mode(folder.path(), 0o755);
    mode(&program, 0o755);
    mode(&input, 0o644);
    mode(&closed, 0o555);
    let root = std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0);
    let run = |arguments: &[&str]| -> Output {
        let mut command = Command::new(&program);
        command.args(arguments).stdin(Stdio::null());
        if root {
            // Root may write everywhere: run as another user.
            command.uid(65534).gid(65534);
        }
        command.output().unwrap()
    };
    let (input, recipe) = (input.to_str().unwrap(), path(folder.path(), "run.toml"));
    for arguments in [
        &[
            "quantize",
            input,
            "--element",
            "f16",
            "--out",
            &path(&closed, "q.bril"),
        ][..],
        &["train", &recipe, "--out", &path(&closed, "run"), "--quiet"],
        &["export", "--model", input, &path(&closed, "w.safetensors")],
        &["export", "--model", input, &path(&closed, "g.dot")],
        &[
            "generate",
            "a",
            "--model",
            input,
            "--save-session",
            &path(&closed, "s.json"),
        ],
    ] {
        let said = error_of(&run(arguments), &format!("{arguments:?}"));
        assert!(
            said.contains("closed") && said.contains("ermission"),
            "{arguments:?}: {said}"
        );
    }
    mode(&closed, 0o755);
}

/// The temporary files in a folder.
fn partial_files(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap();
    names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".partial"))
        .collect()
}

/// Each command that writes a file, with the option or argument before its path last.
#[cfg(unix)]
fn writing(model: &str) -> Vec<Vec<&str>> {
    let mut commands = vec![
        vec!["export", "--model", model, "--format", "safetensors"],
        vec!["export", "--model", model, "--format", "graphml"],
        vec!["quantize", model, "--element", "f16", "--out"],
        vec![
            "generate",
            "the",
            "--model",
            model,
            "--tokens",
            "2",
            "--save-session",
        ],
    ];
    commands[0].push("--");
    commands[1].push("--");
    commands
}

#[cfg(unix)]
fn with_path<'a>(command: &[&'a str], path: &'a str) -> Vec<&'a str> {
    command.iter().copied().chain([path]).collect()
}

#[cfg(unix)]
#[test]
fn links_are_kept_and_their_targets_replaced() {
    use std::os::unix::fs::symlink;
    let (_, model) = trained();
    let mut wrong = Vec::new();
    for command in writing(model) {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path();
        std::fs::create_dir(here.join("deep")).unwrap();
        std::fs::write(here.join("deep/target"), "before").unwrap();
        symlink("deep/target", here.join("relative")).unwrap();
        symlink("relative", here.join("chain")).unwrap();
        symlink(here.join("deep/new"), here.join("dangling")).unwrap();
        for (link, target) in [
            ("relative", "target"),
            ("chain", "target"),
            ("dangling", "new"),
        ] {
            let target = here.join("deep").join(target);
            let before = std::fs::read(&target).ok();
            let at = path(here, link);
            let output = run(&with_path(&command, &at));
            let kept = std::fs::symlink_metadata(&at).unwrap().is_symlink();
            let written = std::fs::read(&target).ok();
            if !output.status.success() || !kept || written.is_none() || written == before {
                wrong.push(format!("{command:?} {link}: {}", text_of(&output.stderr)));
            }
            std::fs::write(here.join("deep/target"), "before").unwrap();
        }
        symlink("loop", here.join("loop")).unwrap();
        fails(&with_path(&command, &path(here, "loop")));
        assert!(partial_files(&here.join("deep")).is_empty());
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[cfg(unix)]
#[test]
fn special_files_are_written_through() {
    use std::os::unix::fs::FileTypeExt;
    let (_, model) = trained();
    let folder = tempfile::tempdir().unwrap();
    for command in writing(model) {
        let expected = path(folder.path(), "expected");
        succeeds(&with_path(&command, &expected));
        let expected = std::fs::read(&expected).unwrap();

        // A pipe with a name.
        let fifo = path(folder.path(), "fifo");
        assert!(
            Command::new("mkfifo")
                .arg(&fifo)
                .status()
                .unwrap()
                .success()
        );
        let reader = std::thread::spawn({
            let fifo = fifo.clone();
            move || std::fs::read(fifo).unwrap()
        });
        succeeds(&with_path(&command, &fifo));
        assert!(reader.join().unwrap() == expected, "{command:?} to a pipe");
        assert!(std::fs::metadata(&fifo).unwrap().file_type().is_fifo());
        std::fs::remove_file(&fifo).unwrap();

        // Descriptors that the shell has opened, on a file and on a pipe.
        let file = path(folder.path(), "descriptor");
        for line in [
            "exec \"$0\" \"$@\" /dev/fd/3 3>\"$FILE\" >/dev/null",
            "{ \"$0\" \"$@\" /dev/fd/3 >/dev/null; } 3>&1 | cat >\"$FILE\"",
        ] {
            let output = Command::new("sh")
                .args(["-c", line, env!("CARGO_BIN_EXE_brillm")])
                .args(&command)
                .env("FILE", &file)
                .output()
                .unwrap();
            stdout_of(&output, line);
            assert!(
                std::fs::read(&file).unwrap() == expected,
                "{command:?}: {line}"
            );
        }

        // Devices; standard output has what the command prints as well.
        succeeds(&with_path(&command, "/dev/null"));
        let stdout = run(&with_path(&command, "/dev/stdout")).stdout;
        assert!(stdout.windows(expected.len()).any(|part| part == expected));
        let null = std::fs::metadata("/dev/null").unwrap();
        assert!(null.file_type().is_char_device());
        if Path::new("/dev/full").exists() {
            let said = fails(&with_path(&command, "/dev/full"));
            assert!(said.contains("space"), "{command:?}: {said}");
        }
    }
}

#[cfg(unix)]
#[test]
fn new_files_have_the_mode_of_the_umask_and_old_ones_keep_theirs() {
    use std::os::unix::fs::PermissionsExt;
    let (_, model) = trained();
    let folder = tempfile::tempdir().unwrap();
    let mode = |file: &str| std::fs::metadata(file).unwrap().permissions().mode() & 0o7777;
    let mut wrong = Vec::new();
    for command in writing(model) {
        for (umask, expected) in [("022", 0o644), ("077", 0o600), ("002", 0o664)] {
            let file = path(folder.path(), "out");
            let line = format!("umask {umask}; exec \"$0\" \"$@\"");
            let output = Command::new("sh")
                .args(["-c", &line, env!("CARGO_BIN_EXE_brillm")])
                .args(with_path(&command, &file))
                .output()
                .unwrap();
            stdout_of(&output, &line);
            if mode(&file) != expected {
                wrong.push(format!("{command:?} umask {umask}: {:o}", mode(&file)));
            }
            let kept = std::fs::Permissions::from_mode(0o640);
            std::fs::set_permissions(&file, kept).unwrap();
            succeeds(&with_path(&command, &file));
            if mode(&file) != 0o640 {
                wrong.push(format!("{command:?} over 640: {:o}", mode(&file)));
            }
            std::fs::remove_file(&file).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[cfg(unix)]
#[test]
fn a_killed_command_leaves_the_old_file() {
    let (_, model) = trained();
    let folder = tempfile::tempdir().unwrap();
    let target = path(folder.path(), "out.graphml");
    let arguments = ["export", "--model", model, &target, "--max-edges", "100000"];
    succeeds(&arguments);
    let whole = std::fs::read(&target).unwrap();
    for number in 0..12 {
        std::fs::write(&target, "before").unwrap();
        let mut child = brillm(&arguments).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(5 * number));
        // It may have ended already.
        drop(child.kill());
        child.wait().unwrap();
        let found = std::fs::read(&target).unwrap();
        assert!(
            found == b"before" || found == whole,
            "killed: {} bytes",
            found.len()
        );
    }
    // What a killed process left is removed by the next one.
    let stale = folder.path().join(".out.graphml.1-0.partial");
    std::fs::write(&stale, "stale").unwrap();
    succeeds(&arguments);
    assert!(partial_files(folder.path()).is_empty());
    assert_eq!(std::fs::read(&target).unwrap(), whole);
}
