//! The engine from C and C++: its header, its layout, its examples run against both libraries, threads, misuse, leaks.
//!
//! After a change that is meant, `BRILLM_BLESS=1 cargo test --test capi` writes header and list anew; the change belongs
//! into the table of changes in engine/capi/README.md.
#![cfg(feature = "transformer")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{LazyLock, Mutex, OnceLock};

use brillm::model::{Model, Verify};
use brillm::path::Sampling;
use brillm::run::Engine;
use brillm::text::Tokenizer;
use brillm::{Request, Result};

#[allow(
    dead_code,
    non_camel_case_types,
    reason = "the interface itself, whose layout is listed here"
)]
#[path = "../engine/capi/layout.rs"]
mod layout;
use layout::*;

#[macro_use]
#[path = "support/layouts.rs"]
mod layouts;

mod support;
use support::{golden, kept_folder, missing, root, save_small_model};

const HEAD: &str = "/* brillm.h - the brillm engine from C and C++.
 *
 * Generated from engine/capi; do not edit. Rules that hold for every function:
 *
 *   Errors   A function that can fail returns a brillm_status (negative: an error) and takes `error` last: NULL, or
 *            where an error object goes, NULL when there is none. The caller frees it with brillm_error_free.
 *            No state is kept per thread or per process; only a failed allocation aborts.
 *   Threads  A model never changes: any number of threads use it at once. A session serves one call at a time, on any
 *            thread; a concurrent second call returns BRILLM_ERROR_BUSY. brillm_session_cancel may be called at any
 *            time. A caller holds a reference to each model or session that it uses.
 *   Memory   Results go into the caller's buffers, or are borrowed until a stated moment. The library frees
 *            what it allocates: brillm_model_release, brillm_session_release, brillm_error_free.
 *   Growth   Structs begin with struct_size, set by the caller to sizeof, and only grow at their ends; zero is the
 *            default in every field, so `brillm_parameters p = {.struct_size = sizeof p};` will do. Programs work with
 *            every library of the same BRILLM_ABI_MAJOR; a field that the library does not know and that is not zero
 *            is BRILLM_ERROR_VERSION. brillm_candidate is frozen.
 *   Text     UTF-8. Nothing unwinds or jumps across the boundary, in either direction.
 *
 * The names begin with brillm_, those of brillm_plugin.h with brl_: both headers may be included.
 */";

const AFTER: &str = "
/* As a length: the text ends at its first zero byte. */
#define BRILLM_TERMINATED SIZE_MAX";

/// The header as cbindgen makes it.
fn header() -> String {
    let config = cbindgen::Config {
        language: cbindgen::Language::C,
        cpp_compat: true,
        style: cbindgen::Style::Both,
        header: Some(HEAD.into()),
        after_includes: Some(AFTER.into()),
        include_guard: Some("BRILLM_H".into()),
        no_includes: true,
        sys_includes: vec!["stddef.h".into(), "stdint.h".into()],
        usize_is_size_t: true,
        documentation_style: cbindgen::DocumentationStyle::C,
        sort_by: cbindgen::SortKey::None,
        line_length: 110,
        ..Default::default()
    };
    // Not lib.rs, which would bring in its modules a second time.
    let mut builder = cbindgen::Builder::new().with_config(config);
    for file in [
        "layout", "error", "model", "settings", "session", "generate", "step", "score", "learn",
        "media", "version",
    ] {
        builder = builder.with_src(root().join(format!("engine/capi/{file}.rs")));
    }
    let mut bytes = Vec::new();
    builder.generate().unwrap().write(&mut bytes);
    // Rust's heading of what a caller must keep to.
    String::from_utf8(bytes)
        .unwrap()
        .replace(" # Safety\n", " Pointers:\n")
}

#[test]
fn the_header_is_the_generated_one() {
    golden("engine/capi/brillm.h", &header());
}

layouts! {
    ["brillm.h", "brillm_plugin.h"]
    brillm_open_options { struct_size, verify, order }
    brillm_model_info { struct_size, kind, vocabulary, width, layers, edges, own_edges, context, order }
    brillm_parameters { struct_size, seed, tokens, temperature, top_k, top_p, min_p, repetition_penalty, penalty_window, ignore_eos, stops, stop_count, banned, banned_count, presence_penalty, frequency_penalty, bias_tokens, bias_values, bias_count, modality }
    brillm_piece { struct_size, index, text, length, id, flags }
    brillm_outcome { struct_size, prompt_tokens, tokens, finish }
    brillm_candidate { id, edge, count, energy, logit, probability }
    brillm_score { struct_size, tokens, bytes, nats, perplexity, bits_per_byte }
    brillm_learn_options { struct_size, name, weight, passes, counts_only, rate, new_nodes, seed, replay, replay_count, ids, id_count }
    brillm_progress { struct_size, step, steps, nats }
    brillm_lesson { struct_size, tokens, new_edges, new_nodes, trained_rows, first_perplexity, last_perplexity }
    brillm_forgotten { struct_size, restored_rows, subtracted_rows, removed_edges, removed_nodes, kept_nodes }
}

#[test]
fn the_layout_is_the_golden_one() {
    golden("tests/golden/capi.txt", &layout());
}

#[test]
fn every_struct_of_the_header_is_listed() {
    let header = header();
    let mut found: Vec<&str> = header
        .lines()
        .filter_map(|line| line.strip_prefix("typedef struct ")?.strip_suffix(" {"))
        .collect();
    found.sort_unstable();
    let mut listed = NAMES.to_vec();
    listed.sort_unstable();
    assert_eq!(found, listed);
}

#[test]
fn every_function_is_in_the_header() {
    let header = header();
    let mut functions = 0;
    for file in std::fs::read_dir(root().join("engine/capi")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "rs") {
            continue;
        }
        let source = std::fs::read_to_string(path).unwrap();
        for (_, rest) in source
            .match_indices("extern \"C\" fn brillm_")
            .map(|(at, found)| (at, &source[at + found.len()..]))
        {
            let name = format!("brillm_{}(", rest.split('(').next().unwrap());
            assert!(header.contains(&name), "{name} is not in the header");
            functions += 1;
        }
    }
    assert!(functions > 25, "only {functions} functions were found");
}

/// Where the programs of this file are made.
fn folder() -> &'static Path {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| kept_folder("capi"));
    &FOLDER
}

/// Compiles a C or C++ source, and links it with what `libraries` says.
fn compile(source: &Path, out: &Path, libraries: &[&std::ffi::OsStr]) {
    let (compiler, standard) = match source.extension().unwrap().to_str().unwrap() {
        "c" => ("cc", "-std=c11"),
        _ => ("c++", "-std=c++17"),
    };
    let output = Command::new(compiler)
        .args([
            standard,
            "-Wall",
            "-Wextra",
            "-pedantic",
            "-Werror",
            "-g",
            "-O1",
            "-pthread",
        ])
        .arg("-I")
        .arg(root().join("engine/capi"))
        .arg("-I")
        .arg(root().join("plugins"))
        .arg("-o")
        .arg(out)
        .arg(source)
        .args(libraries)
        .output()
        .unwrap_or_else(|error| panic!("{compiler}: {error}; tests/run --install installs it"));
    assert!(
        output.status.success(),
        "{compiler} {standard} {}: {}",
        source.display(),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn c_and_cpp_see_the_same_layout() {
    for name in ["layout.c", "layout.cpp"] {
        let source = folder().join(name);
        std::fs::write(&source, program()).unwrap();
        let out = folder().join(name.replace('.', "_"));
        compile(&source, &out, &[]);
        let listed = Command::new(&out).output().unwrap();
        assert_eq!(
            String::from_utf8(listed.stdout).unwrap(),
            layout(),
            "{name}"
        );
    }
}

/// The shared and the static library, built together with the engine as these tests have it.
fn libraries() -> &'static (PathBuf, PathBuf) {
    static LIBRARIES: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    LIBRARIES.get_or_init(|| {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--lib", "-p", "brillm", "-p", "brillm-capi"]);
        cargo.arg("--message-format=json-render-diagnostics");
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        let output = cargo.current_dir(root()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let mut made: Vec<PathBuf> = String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .filter(|message| message["target"]["name"] == "brillm_capi")
            .flat_map(|message| message["filenames"].as_array().cloned().unwrap_or_default())
            .map(|name| PathBuf::from(name.as_str().unwrap()))
            .collect();
        made.sort();
        let take = |endings: &[&str]| {
            made.iter()
                .find(|path| {
                    endings
                        .iter()
                        .any(|ending| path.extension().is_some_and(|e| e == *ending))
                })
                .unwrap_or_else(|| panic!("no {endings:?} among {made:?}"))
                .clone()
        };
        (take(&["so", "dylib", "dll"]), take(&["a", "lib"]))
    })
}

#[test]
fn the_program_of_the_readme_runs() {
    let readme = std::fs::read_to_string(root().join("engine/capi/README.md")).unwrap();
    let from = readme.find("```c\n").unwrap() + "```c\n".len();
    let program = &readme[from..from + readme[from..].find("```").unwrap()];
    let source = folder().join("readme.c");
    std::fs::write(&source, program).unwrap();
    let output = Command::new(built(source.to_str().unwrap(), true))
        .current_dir(root())
        .output()
        .unwrap();
    let sampling = Sampling::default().temperature(0.8).top_p(0.95).seed(7);
    let path = root().join("models/english.bril");
    let (text, _) = expected(&path, "Once upon a time", 128, sampling).unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
}

/// An example or a test program, linked with the shared or the static library; made once, as another test may run it.
fn built(source: &str, shared: bool) -> PathBuf {
    static MADE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let (dynamic, archive) = libraries();
    let source = root().join(source);
    let stem = source.file_name().unwrap().to_str().unwrap();
    let linked = if shared { "shared" } else { "static" };
    let out = folder().join(format!("{}_{linked}", stem.replace('.', "_")));
    let mut made = MADE.lock().unwrap();
    if !made.insert(out.clone()) {
        return out;
    }
    if shared {
        // Found again where it was built.
        let mut runpath = std::ffi::OsString::from("-Wl,-rpath,");
        runpath.push(dynamic.parent().unwrap());
        compile(
            &source,
            &out,
            &[dynamic.as_os_str(), &runpath, "-lm".as_ref()],
        );
    } else {
        let system = ["-lm", "-ldl", "-lgcc_s"].map(std::ffi::OsStr::new);
        compile(
            &source,
            &out,
            &[archive.as_os_str(), system[0], system[1], system[2]],
        );
    }
    out
}

fn run(program: &Path, arguments: &[&std::ffi::OsStr]) -> Output {
    Command::new(program).args(arguments).output().unwrap()
}

/// What a program says, which must end well and say nothing on standard error.
fn said(program: &Path, arguments: &[&std::ffi::OsStr]) -> String {
    let output = run(program, arguments);
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{}: {}\n{}{}",
        program.display(),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A graph of twelve letters that has left its symmetric start, and the same with one byte changed beside it.
fn model() -> &'static Path {
    static MODEL: LazyLock<PathBuf> = LazyLock::new(|| {
        let letters = ('a'..='l').map(String::from).collect();
        let path = folder().join("small.bril");
        save_small_model(&path, 2, Tokenizer::characters(letters).unwrap());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[100] ^= 1;
        std::fs::write(folder().join("damaged.bril"), bytes).unwrap();
        path
    });
    &MODEL
}

/// The text that the engine itself gives.
fn expected(
    path: &Path,
    prompt: &str,
    tokens: usize,
    sampling: Sampling,
) -> Result<(String, Vec<u32>)> {
    let engine = Engine::open(path, Verify::Lazy)?;
    let request = Request::ids(engine.encode(prompt)?)
        .tokens(tokens)
        .sampling(sampling);
    engine.start(request)?.collect_text()
}

#[test]
fn the_c_example_says_what_the_engine_says() {
    let folder = root().join("models/stories260K");
    for shared in [true, false] {
        let program = built("engine/capi/examples/generate.c", shared);
        for (path, prompt) in [(model(), "abc"), (folder.as_path(), "Once upon a time")] {
            let (text, ids) = expected(path, prompt, 24, Sampling::greedy()).unwrap();
            let listed = said(&program, &[path.as_ref(), prompt.as_ref()]);
            assert_eq!(
                listed,
                format!("{prompt}{text}\n{} tokens, finish 1\n", ids.len())
            );

            let sampling = Sampling::default().temperature(0.8).seed(7);
            let (text, _) = expected(path, prompt, 24, sampling).unwrap();
            let listed = said(
                &program,
                &[path.as_ref(), prompt.as_ref(), "0.8".as_ref(), "7".as_ref()],
            );
            assert!(listed.starts_with(&format!("{prompt}{text}\n")), "{listed}");
        }
        let output = run(&program, &["absent.bril".as_ref(), "abc".as_ref()]);
        assert_eq!(output.status.code(), Some(1));
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert!(
            complaint.contains("absent.bril") && complaint.contains("check the path"),
            "{complaint}"
        );
    }
}

#[test]
fn the_cpp_example_streams_stops_and_is_cancelled() {
    for shared in [true, false] {
        let program = built("engine/capi/examples/stream.cpp", shared);
        let sampling = Sampling::default().temperature(1.0).seed(7);
        let (text, _) = expected(model(), "abc", 6, sampling).unwrap();
        let listed = said(&program, &[model().as_ref(), "abc".as_ref()]);
        assert_eq!(
            listed,
            format!("abc{text}\n6 tokens, finish 6\ncancelled\n")
        );
    }
}

#[test]
fn the_steps_of_a_path_have_the_engines_energies() {
    let program = built("engine/capi/examples/steps.c", true);
    let opened = Model::open(model(), Verify::Lazy).unwrap();
    let ids = opened.tokenizer().encode("abc").unwrap();
    let mut generation = Request::ids(ids.clone()).start(&opened).unwrap();
    let (mut path, mut list) = (ids, String::new());
    for step in 0..3 {
        let (energies, logits) = generation.session().look().unwrap();
        let (energies, mut probabilities) = (energies.to_vec(), logits.to_vec());
        brillm::kernel::softmax::softmax(&mut probabilities);
        writeln!(list, "step {step}, 12 candidates").unwrap();
        let mut order: Vec<usize> = (0..12).collect();
        order.sort_by(|&a, &b| {
            probabilities[b]
                .total_cmp(&probabilities[a])
                .then(a.cmp(&b))
        });
        for &id in &order[..3] {
            let name = opened.tokenizer().vocabulary().display(id as u32);
            writeln!(
                list,
                "  {:.4}  energy {:.4}  {name}",
                probabilities[id], energies[id]
            )
            .unwrap();
        }
        path.push(generation.next().unwrap().unwrap().id);
    }
    let nothing = brillm::hook::Hooks::default();
    let score =
        brillm::run::evaluate_stream(opened.mechanism(), &path, 1, &Default::default(), &nothing)
            .unwrap();
    writeln!(
        list,
        "{} tokens predicted, perplexity {:.4}",
        score.tokens, score.perplexity
    )
    .unwrap();
    assert_eq!(said(&program, &[model().as_ref(), "abc".as_ref()]), list);
    // The same program on a transformer.
    let folder = root().join("models/stories260K");
    let listed = said(&program, &[folder.as_ref(), "Once upon a time".as_ref()]);
    assert!(
        listed.contains("step 2, 512 candidates") && listed.contains("perplexity"),
        "{listed}"
    );
}

#[test]
fn ten_threads_on_one_model_say_what_one_says() {
    let folder = root().join("models/stories260K");
    for (path, prompt, shared) in [
        (model(), "abc", true),
        (model(), "abc", false),
        (folder.as_path(), "Once", true),
    ] {
        let program = built("engine/capi/examples/threads.c", shared);
        let mut list = String::new();
        for seed in 0..10 {
            let sampling = Sampling::default().temperature(1.0).seed(seed);
            let (text, _) = expected(path, prompt, 12, sampling).unwrap();
            writeln!(list, "{seed}:{text}").unwrap();
        }
        list.push_str("0 of 10 differ\n");
        assert_eq!(said(&program, &[path.as_ref(), prompt.as_ref()]), list);
    }
}

#[test]
fn misuse_is_an_error_and_no_crash() {
    for shared in [true, false] {
        let program = built("tests/capi/border.c", shared);
        assert_eq!(
            said(&program, &[model().as_ref(), folder().as_ref()]),
            "0 faults\n"
        );
    }
}

#[test]
fn a_text_is_learned_and_forgotten() {
    let transformer = root().join("models/stories260K");
    for shared in [true, false] {
        let program = built("tests/capi/learn.c", shared);
        let arguments = [model().as_ref(), folder().as_ref(), transformer.as_ref()];
        assert_eq!(said(&program, &arguments), "0 faults\n");
    }
    // The file that the program has left is a model with the record of the text, and forgets it.
    let taught = Model::open(&folder().join("taught.bril"), Verify::Whole).unwrap();
    let names: Vec<&str> = taught.records().map(|record| &*record.name).collect();
    assert_eq!(names, ["letters"]);
    let forgotten = folder().join("forgotten.bril");
    taught.forget(0).unwrap().0.save(&forgotten).unwrap();
    let bytes = |path: &Path| std::fs::read(path).unwrap();
    assert!(bytes(&forgotten) == bytes(model()), "other bytes");
}

/// A folder with images, sounds and a model that was trained on pairs of them and words, `run/model.bril`.
#[cfg(feature = "modality")]
fn images() -> PathBuf {
    let folder = folder().join("images");
    std::fs::create_dir_all(&folder).unwrap();
    let mut records = String::new();
    for (word, left) in [("light", 255u8), ("dark", 0)] {
        let row = [left, left, 255 - left, 255 - left];
        let image = [b"P5 4 4 255\n".as_slice(), &row.repeat(4)].concat();
        std::fs::write(folder.join(format!("{word}.pgm")), image).unwrap();
        let turn = if left > 0 { 0.3 } else { 1.2 };
        let sound = brillm::modality::Sound {
            rate: 8000,
            samples: (0..1000).map(|at| (at as f32 * turn).sin()).collect(),
        };
        sound.save(&folder.join(format!("{word}.wav"))).unwrap();
        writeln!(
            records,
            "{{\"text\": \"{word}\", \"audio\": \"{word}.wav\"}}"
        )
        .unwrap();
        writeln!(
            records,
            "{{\"image\": \"{word}.pgm\", \"text\": \"{word}\"}}"
        )
        .unwrap();
        writeln!(
            records,
            "{{\"text\": \"{word}\", \"image\": \"{word}.pgm\"}}"
        )
        .unwrap();
    }
    std::fs::write(folder.join("pairs.jsonl"), records.repeat(30)).unwrap();
    let recipe = "name = \"images\"\n[data]\ntrain = [\"pairs.jsonl\"]\nvocabulary = 270\nvalidation-fraction = 0.0\n\
        [data.image]\nwidth = 4\nheight = 4\npatch = 2\ncodes = 4\n[data.audio]\ncodes = 4\nbands = 8\n\
        [profile]\npreset = \"layered\"\nwidth = 16\nlayers = 1\ninner = 16\n\
        [train]\ntokens = 30000\nbatch = 4\nsteps = 16\nrate = 0.01\nfolds = 0\n";
    let run_file = folder.join("run.toml");
    std::fs::write(&run_file, recipe).unwrap();
    let (recipe, out) = (run_file.to_str().unwrap(), folder.join("run"));
    let _ = std::fs::remove_dir_all(&out);
    support::succeeds(&["train", recipe, "--quiet", "--out", out.to_str().unwrap()]);
    folder
}

#[cfg(feature = "modality")]
#[test]
fn an_image_is_named_and_made() {
    let folder = images();
    let trained = folder.join("run/model.bril");
    for shared in [true, false] {
        let program = built("tests/capi/media.c", shared);
        let arguments = [trained.as_ref(), folder.as_ref(), model().as_ref()];
        assert_eq!(said(&program, &arguments), "0 faults\n");
        let bytes = |name: &str| std::fs::read(folder.join(name)).unwrap();
        assert_eq!(bytes("made.pgm")[11..], bytes("light.pgm")[11..]);
    }
}

#[test]
fn valgrind_finds_nothing() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        return missing("valgrind");
    }
    // A program that writes files has a folder of its own here.
    let own = folder().join("valgrind");
    std::fs::create_dir_all(&own).unwrap();
    // The threads of the pool that training uses are alive at the end, with memory of theirs.
    let (all, lost) = ("all", "definite,indirect");
    for (source, arguments, leaks) in [
        ("tests/capi/border.c", [model(), folder()], all),
        ("tests/capi/learn.c", [model(), own.as_path()], lost),
        (
            "engine/capi/examples/threads.c",
            [model(), Path::new("abc")],
            all,
        ),
        (
            "engine/capi/examples/stream.cpp",
            [model(), Path::new("abc")],
            all,
        ),
    ] {
        let output = Command::new("valgrind")
            .args(["--quiet", "--error-exitcode=99", "--leak-check=full"])
            .arg(format!("--show-leak-kinds={leaks}"))
            .arg(format!("--errors-for-leak-kinds={leaks}"))
            .arg(built(source, true))
            .args(arguments)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{source}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
