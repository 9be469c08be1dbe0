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
        ] {
            let said = error_of(&limited(arguments), "full disk");
            assert!(said.contains(disk.to_str().unwrap()), "{said}");
        }
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "what was there");
        let left: Vec<String> = std::fs::read_dir(&disk)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".partial"))
            .collect();
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
