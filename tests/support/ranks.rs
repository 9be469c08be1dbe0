//! The program under `mpirun`, with 1, 2 and 4 ranks of Open MPI and 2 of MPICH, each run under a time limit.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use brillm::ranks::library;
use serde_json::Value;

use super::{stdout_of, text_of};

/// Seconds within which a job must end when one of its ranks has failed.
const END: f64 = 5.0;
/// Seconds after which a job is killed that does not end.
const LIMIT: u64 = 60;

/// Whether the build uses MPICH.
pub fn is_mpich() -> bool {
    library().unwrap().contains("MPICH")
}

/// Numbers of ranks. More ranks than cores spin under MPICH, and take 15 ms for an exchange.
pub fn sizes() -> &'static [usize] {
    if is_mpich() { &[1, 2] } else { &[1, 2, 4] }
}

/// Prepare a command that starts `size` processes of `program` with the MPI of this build.
pub fn mpirun(size: usize, program: impl AsRef<std::ffi::OsStr>) -> Command {
    launch(is_mpich(), size, program)
}

/// As [`mpirun`], with the launcher of either MPI.
pub fn launch(mpich: bool, size: usize, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", &LIMIT.to_string()]);
    command.arg(if mpich {
        "mpirun.mpich"
    } else {
        "mpirun.openmpi"
    });
    command.args(["-n", &size.to_string()]);
    if !mpich {
        command.args(["--oversubscribe", "--bind-to", "none", "-q"]);
    }
    command
        .arg(program)
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .env_remove("BRILLM_PLUGIN_PATH")
        .stdin(Stdio::null());
    command
}

/// Prepare a training of `folder/run.toml` into `folder/out` on `size` ranks of one thread each.
pub fn training(folder: &Path, size: usize, out: &str, more: &[&str]) -> Command {
    let mut command = mpirun(size, env!("CARGO_BIN_EXE_brillm"));
    command
        .args([
            "--threads",
            "1",
            "train",
            "run.toml",
            "--quiet",
            "--out",
            out,
        ])
        .args(more)
        .current_dir(folder);
    command
}

/// The model of a run, and its log without times.
pub fn outcome(out: &Path) -> (Vec<u8>, Vec<Value>) {
    let log = std::fs::read_to_string(out.join("log.jsonl")).unwrap();
    let records = log.lines().map(|line| {
        let mut record: Value = serde_json::from_str(line).unwrap();
        let keys = record.as_object_mut().unwrap();
        keys.retain(|key, _| !key.starts_with("wall"));
        record
    });
    (
        std::fs::read(out.join("model.bril")).unwrap(),
        records.collect(),
    )
}

/// Run a command that must succeed.
pub fn succeed(command: &mut Command, what: &str) {
    stdout_of(&command.output().unwrap(), what);
}

/// Process ids of the descendants of a process whose program has a name.
pub fn descendants(parent: u32, name: &str) -> Vec<u32> {
    let children = |parent: u32| -> Vec<u32> {
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let is_child = |id: &u32| {
            let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
            status
                .lines()
                .any(|line| line.trim_end() == format!("PPid:\t{parent}"))
        };
        ids.filter(is_child).collect()
    };
    let (mut open, mut found) = (vec![parent], Vec::new());
    while let Some(id) = open.pop() {
        let comm = std::fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
        if comm.trim() == name {
            found.push(id);
        }
        open.extend(children(id));
    }
    found.sort_unstable();
    found
}

/// Send a signal to a process.
pub fn signal(id: u32, name: &str) {
    let done = Command::new("kill").args([name, &id.to_string()]).status();
    assert!(done.unwrap().success(), "kill {name} {id}");
}

/// Wait until the log of a run has `lines` lines.
pub fn wait_for_log(out: &Path, lines: usize) {
    let begun = Instant::now();
    let count = || {
        let log = std::fs::read_to_string(out.join("log.jsonl")).unwrap_or_default();
        log.lines().count()
    };
    while count() < lines {
        assert!(
            begun.elapsed() < Duration::from_secs(LIMIT),
            "{out:?} has no {lines} lines"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Wait for a job that must fail, and soon; return what it printed on standard error.
pub fn fails_soon(child: Child, what: &str) -> String {
    let begun = Instant::now();
    let output = child.wait_with_output().unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    let errors = text_of(&output.stderr);
    assert!(!output.status.success(), "{what}: {errors}");
    assert!(seconds < END, "{what} took {seconds} s: {errors}");
    errors
}
