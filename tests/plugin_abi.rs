//! The C interface of plugins: its header, its layout in Rust, C and C++, and the types of hooks.
//!
//! After an intended change, `BRILLM_BLESS=1 cargo test --test plugin_abi` writes header and list; record the change in
//! the list of changes in plugins/README.md.
#![cfg(feature = "plugin")]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use brillm_abi::*;

#[macro_use]
#[path = "support/layouts.rs"]
mod layouts;

mod support;
use support::{golden, root};

const HEAD: &str = "/* brillm_plugin.h - the C interface between the brillm engine and its plugins.
 *
 * Generated from plugins/abi; do not edit. Rules that hold for every line:
 *
 *   R1  Memory never changes owner. The callee writes into the caller's buffers or sinks.
 *   R2  Strings are UTF-8 with a length, without a terminating zero, and borrowed until the call returns.
 *   R3  Tables begin with struct_size and only ever grow at the end; every field is a multiple of 8 bytes
 *       wide, so no padding can hide one. Views never change. Read a field of a table only if
 *       BRL_HAS says that the other side knows it.
 *   R4  Nothing unwinds or jumps across the interface. A negative status is an error, BRL_DECLINED no opinion.
 *   R5  Libraries are never unloaded. destroy() frees an instance, not the code.
 *   R6  [static]    any thread, any time, no side effects
 *       [instance]  one call at a time for each instance, on any thread
 *       [shared]    any number of calls at once
 *
 * Native plugins are for 64-bit machines. A library exports one symbol, brl_plugin_entry.
 */";

const AFTER: &str = "
#if defined(_WIN32)
#define BRL_EXPORT __declspec(dllexport)
#else
#define BRL_EXPORT __attribute__((visibility(\"default\")))
#endif

/* Where a field ends, and whether the table that p points at is known that far. */
#define BRL_END(type, field) (offsetof(type, field) + sizeof(((type *)0)->field))
#define BRL_HAS(p, type, field) ((p)->struct_size >= BRL_END(type, field))";

const TAIL: &str = "#ifdef __cplusplus
extern \"C\" {
#endif

/* The one symbol that a library exports. [static] */
BRL_EXPORT const brl_entry *brl_plugin_entry(void);

#ifdef __cplusplus
}
#endif";

/// The header as cbindgen makes it.
fn header() -> String {
    let config = cbindgen::Config {
        language: cbindgen::Language::C,
        cpp_compat: true,
        style: cbindgen::Style::Both,
        header: Some(HEAD.into()),
        after_includes: Some(AFTER.into()),
        trailer: Some(TAIL.into()),
        include_guard: Some("BRILLM_PLUGIN_H".into()),
        no_includes: true,
        sys_includes: vec!["stddef.h".into(), "stdint.h".into()],
        documentation_style: cbindgen::DocumentationStyle::C,
        export: cbindgen::ExportConfig {
            include: [
                "brl_plugin",
                "brl_entry_fn",
                "brl_kv_plan",
                "brl_kv_keep",
                "brl_kv_codec",
                "brl_sample",
                "brl_order",
                "brl_mask",
                "brl_corpus",
                "brl_probe",
                "brl_edge",
                "brl_signal",
                "brl_path",
                "brl_wgsl",
                "brl_u32s",
                "brl_f32s",
                "brl_reference",
            ]
            .map(String::from)
            .to_vec(),
            ..Default::default()
        },
        sort_by: cbindgen::SortKey::None,
        ..Default::default()
    };
    let mut builder = cbindgen::Builder::new().with_config(config);
    for file in [
        "value", "plugin", "cache", "choice", "learning", "corpus", "probe", "graph",
    ] {
        builder = builder.with_src(root().join(format!("plugins/abi/{file}.rs")));
    }
    let mut bytes = Vec::new();
    builder.generate().unwrap().write(&mut bytes);
    String::from_utf8(bytes).unwrap()
}

/// List the types that the sources of a folder define at the top level of a file.
fn types(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            types(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            for line in std::fs::read_to_string(&path).unwrap().lines() {
                let mut words = line.split_whitespace();
                let first = words.next().filter(|_| !line.starts_with(' '));
                let kind = match first {
                    Some(word) if word.starts_with("pub") => words.next(),
                    word => word,
                };
                if let Some("struct" | "enum" | "union" | "trait" | "type") = kind {
                    let name = words.next().unwrap_or("");
                    let end = name.find(|c: char| !c.is_alphanumeric());
                    found.insert(name[..end.unwrap_or(name.len())].to_string());
                }
            }
        }
    }
}

#[test]
fn engine_and_sdk_define_no_type_of_the_same_name() {
    let [mut engine, mut sdk] = [BTreeSet::new(), BTreeSet::new()];
    types(&root().join("engine"), &mut engine);
    types(&root().join("plugins/sdk"), &mut sdk);
    assert!(
        engine.len() > 300 && sdk.len() > 20,
        "{} {}",
        engine.len(),
        sdk.len()
    );
    // Every crate has an error type and a result of its own.
    let both: Vec<&String> = engine
        .intersection(&sdk)
        .filter(|name| !["Error", "Result"].contains(&name.as_str()))
        .collect();
    assert!(both.is_empty(), "{both:?}");
}

#[test]
fn the_header_is_the_generated_one() {
    golden("plugins/brillm_plugin.h", &header());
}

layouts! {
    ["brillm_plugin.h"]
    brl_str { ptr, len }
    brl_f32s { ptr, len }
    brl_u32s { ptr, len }
    brl_ids { ptr, len }
    brl_tensor { ptr, dtype, rank, shape, stride }
    brl_sink { ctx, write }
    brl_host { struct_size, abi, ctx, log, fail, cancelled, random, service }
    brl_plugin { struct_size, id, name, version, license, about, config_schema, create, destroy, hook }
    brl_entry { magic, abi_major, abi_minor, plugin_count, plugins }
    brl_plan_in { struct_size, layers, context, query_heads, kv_heads, head_width, trial_ctx, distances, similarity }
    brl_kv_plan { struct_size, needs, plan }
    brl_keep_needs { struct_size, needs, column_window, column_oldest, column_newest, column_heads }
    brl_keep_in { struct_size, sequence, step, phase, layer, layers, heads, prompt, length, positions, stream, column, accumulated, key_norm }
    brl_eviction { struct_size, slots, slot_count, heads, stream, stream_count, next_check }
    brl_kv_keep { struct_size, needs, begin, keep }
    brl_codec_in { struct_size, layer, layers, head_width, side }
    brl_codec_format { struct_size, bits, group, axis, residual }
    brl_kv_codec { struct_size, needs, plan }
    brl_prompt { struct_size, sequence, tokens, pooled, hidden, logits }
    brl_step { struct_size, sequence, step, generated, token, history, hidden }
    brl_setting { struct_size, temperature }
    brl_sample { struct_size, needs, prompt, step, choose }
    brl_canvas { struct_size, sequence, step, tokens, left, right, left_resistance, right_resistance }
    brl_fill { struct_size, position, direction }
    brl_order { struct_size, needs, next }
    brl_mask_moment { struct_size, step, steps, epoch }
    brl_mask_tokens { struct_size, step, sequence, ratio, tokens, tags, words, allowed }
    brl_mask_outcome { struct_size, step, tokens, tags, losses }
    brl_mask { struct_size, needs, ratio, weigh, learn, save, restore }
    brl_speech { struct_size, system, prompt, tokens, within, gain }
    brl_reference { struct_size, sequence, id, text, generate_ctx, generate, run_ctx, written, speak, grounded }
    brl_corpus { struct_size, needs, write }
    brl_activations { struct_size, sequence, step, tap, layer, layers, tokens, values }
    brl_subject { struct_size, kind, layers, width, nodes, ctx, tokens, resist, states, untrained, shift }
    brl_probe { struct_size, needs, taps, see, report, ask }
    brl_fan { struct_size, sequence, step, source, energies, targets, counts }
    brl_edge { struct_size, needs, resist }
    brl_start { struct_size, sequence, prompt }
    brl_signal { struct_size, needs, start }
    brl_hop { struct_size, sequence, step, source, target, rank, resistance, runners_up, signal }
    brl_path { struct_size, needs, hop }
    brl_wgsl { struct_size, source, entry_point, workgroup }
}

#[test]
fn the_layout_is_the_golden_one() {
    golden("tests/golden/plugin_abi.txt", &layout());
}

#[test]
fn every_table_of_the_header_is_listed() {
    let header = std::fs::read_to_string(root().join("plugins/brillm_plugin.h")).unwrap();
    let mut found: Vec<&str> = header
        .lines()
        .filter_map(|line| line.strip_prefix("typedef struct ")?.strip_suffix(" {"))
        .collect();
    found.sort_unstable();
    let mut listed = NAMES.to_vec();
    listed.sort_unstable();
    assert_eq!(found, listed);
}

fn compile(compiler: &str, standard: &str, source: &Path, out: &Path) {
    let output = Command::new(compiler)
        .args([standard, "-Wall", "-Wextra", "-pedantic", "-Werror", "-I"])
        .arg(root().join("plugins"))
        .arg("-o")
        .arg(out)
        .arg(source)
        .output()
        .unwrap_or_else(|error| panic!("{compiler}: {error}; tests/run --install installs it"));
    assert!(
        output.status.success(),
        "{compiler} {standard}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn c_and_cpp_see_the_same_layout() {
    let folder = tempfile::tempdir().unwrap();
    for (compiler, standard, name) in [
        ("cc", "-std=c11", "layout.c"),
        ("c++", "-std=c++17", "layout.cpp"),
    ] {
        let source: PathBuf = folder.path().join(name);
        std::fs::write(&source, program()).unwrap();
        let out = folder.path().join(name.replace('.', "_"));
        compile(compiler, standard, &source, &out);
        let listed = Command::new(&out).output().unwrap();
        assert_eq!(
            String::from_utf8(listed.stdout).unwrap(),
            layout(),
            "{compiler}"
        );
    }
}
