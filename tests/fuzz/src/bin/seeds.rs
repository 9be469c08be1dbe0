//! Write the seeds: small inputs of every target, made by the project's own writers.
//!
//! `cargo run --bin seeds FOLDER`; the folder holds one folder per target.

use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use brillm::Engine;
use brillm::hook::Hooks;
use brillm::kernel::element::Element;
use brillm::kernel::random::Random;
use brillm::learn::Recipe;
use brillm::path::{Charges, GraphSession, Sampling, Session};
use brillm::run::prepare_training;
use brillm::run::trace::{Theme, Trace, TraceFormat, TraceRequest, Tracing};
use brillm::signal::{Profile, Start};
use brillm_fuzz::{FILES, SEPARATOR, small_model};
// Its functions count what instrumented code covers.
use libfuzzer_sys as _;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

struct Seeds(PathBuf);

impl Seeds {
    fn add(&self, target: &str, name: &str, bytes: impl AsRef<[u8]>) {
        let folder = self.0.join(target);
        fs::create_dir_all(&folder).expect("a folder of seeds");
        fs::write(folder.join(name), bytes).expect("a seed");
    }

    /// Add an input whose first byte chooses how the rest is read.
    fn choose(&self, target: &str, name: &str, first: u8, bytes: impl AsRef<[u8]>) {
        self.add(target, name, [&[first], bytes.as_ref()].concat());
    }
}

fn main() {
    let folder = std::env::args().nth(1).expect("usage: seeds FOLDER");
    let seeds = Seeds(PathBuf::from(folder));
    let scratch = std::env::temp_dir().join(format!("brillm-seeds-{}", std::process::id()));
    fs::create_dir_all(&scratch).expect("a folder for temporary files");
    graphs(&seeds, &scratch);
    networks(&seeds, &scratch);
    pickles(&seeds);
    tokenizers(&seeds);
    texts(&seeds);
    requests(&seeds);
    plugins(&seeds);
    fs::remove_dir_all(&scratch).expect("the folder is removed");
}

fn graphs(seeds: &Seeds, scratch: &Path) {
    let profiles = [
        ("sifu", Profile::sifu(2), Element::F32),
        ("reference", Profile::reference(2), Element::F16),
        ("own", Profile::sifu_own(2), Element::I8),
        (
            "residual",
            Profile {
                residual: Some(1),
                rank: 1,
                ..Profile::sifu(2)
            },
            Element::I8,
        ),
    ];
    for (name, profile, element) in profiles {
        let model = small_model(&profile)
            .quantized(element)
            .expect("finite weights");
        let charges = "0.9,0.5,0.5,1".parse().expect("charges");
        let recall = "4,2,0.3".parse().expect("recall");
        let model =
            model.described(|metadata| {
                metadata.charges = (name == "sifu").then_some(charges);
                metadata.recall = (name == "sifu").then_some(recall);
            });
        let path = scratch.join("m.bril");
        model.save(&path).expect("a model file");
        seeds.add("bril", name, fs::read(&path).expect("a model file"));
    }
    let profiles = [
        Profile::sifu(4),
        Profile::reference(4),
        Profile {
            residual: Some(2),
            rank: 2,
            ..Profile::sifu(4)
        },
        Profile::sifu_own(4),
    ];
    for (index, profile) in profiles.iter().enumerate() {
        let model = small_model(profile);
        let mut session = GraphSession::begin(
            model.mechanism().clone(),
            &[1, 2],
            &Start::Profile,
            Sampling::greedy(),
        )
        .expect("a session");
        session.set_charges(Charges::new(0.9, 0.5, 0.5, 1.0));
        session.set_recall("4,2,0.3".parse().expect("recall")).expect("recall");
        session.walk(&[3, 1]).expect("nodes of the graph");
        session.inject(2, 0.5).expect("a node");
        let json = session.state().to_bytes().expect("a finite session");
        seeds.choose("session", &index.to_string(), index as u8, json);
    }
    let model = small_model(&Profile::sifu(4));
    let request = TraceRequest::new(vec![1, 2]).tokens(2).candidates(3);
    let tracing =
        Tracing::begin(&Engine::from(&model), request, &Hooks::default()).expect("a trace");
    let trace: Trace = tracing.collect().expect("a trace");
    seeds.add(
        "trace",
        "graph.json",
        trace.export(TraceFormat::Json, Theme::Light).expect("JSON"),
    );
    seeds.add(
        "svg",
        "graph.svg",
        trace.export(TraceFormat::Svg, Theme::Light).expect("SVG"),
    );
    seeds.add(
        "svg",
        "graph.json",
        serde_json::to_string(&trace)
            .expect("JSON")
            .replace('"', "&quot;"),
    );
}

fn networks(seeds: &Seeds, scratch: &Path) {
    let mut random = Random::new(1);
    let ids: Vec<u8> = (0..400)
        .flat_map(|_| (random.below(8) as u16).to_le_bytes())
        .collect();
    fs::write(scratch.join("t.u16"), ids).expect("a file of ids");
    for (name, kind) in [
        ("llama", "gpt"),
        ("gpt2", "gpt"),
        ("bert", "bert"),
        ("lstm", "lstm"),
    ] {
        let shape = match name {
            "llama" => "kv-heads = 1\n",
            "gpt2" => "style = \"gpt2\"\n",
            _ => "",
        };
        let file = format!(
            "name = \"{name}\"\nkind = \"{kind}\"\n[data]\ntrain = [\"t.u16\"]\nvalidation-fraction = 0.1\ntokens = \"ids\"\nvocabulary = 8\n\
             [network]\nwidth = 4\nlayers = 2\nheads = 2\nfeed-forward = 4\ncontext = 16\n{shape}[train]\nbatch = 2\nsteps = 8\ntokens = 16\n"
        );
        let recipe = Recipe::parse(&file, &[]).expect("a run file");
        let run = scratch.join(name);
        let mut training =
            prepare_training(recipe, scratch, &run, false, &Hooks::default(), &mut ())
                .expect("a run");
        training
            .run(&AtomicBool::new(false), &mut ())
            .expect("a trained model");
        let model = find(&run).expect("a model folder");
        let parts: Vec<Vec<u8>> = FILES
            .iter()
            .map(|file| fs::read(model.join(file)).unwrap_or_default())
            .collect();
        seeds.add("folder", name, parts.join(SEPARATOR));
        seeds.add("recipe", name, &file);
        if name == "llama" {
            let mut sharded = parts.clone();
            sharded[2] = br#"{"eos_token_id":[2,7]}"#.to_vec();
            sharded[4] = std::mem::take(&mut sharded[1]);
            sharded[3] =
                br#"{"weight_map":{"model.norm.weight":"model-00001-of-00001.safetensors"}}"#
                    .to_vec();
            seeds.add("folder", "sharded", sharded.join(SEPARATOR));
            seeds.add("checkpoint", "safetensors", &parts[1]);
        }
    }
    let graph = "name = \"g\"\nlicense = \"MIT\"\n[data]\ntrain = [\"a.txt\", \"b/*.jsonl\"]\nformat = \"jsonl\"\nfield = \"text\"\n[graph]\nminimum-count = 2\nmaximum-fan = 9\n\
        [profile]\npreset = \"sifu\"\nwidth = 8\nresidual = 1\n[train]\nbatch = 4\nsteps = 8\nrate = 0.002\n[[plugin]]\nname = \"x\"\noptions = { a = 1 }\n";
    seeds.add(
        "recipe",
        "graph",
        [
            graph.as_bytes(),
            SEPARATOR,
            b"train.batch=7\nprofile.width=16",
        ]
        .concat(),
    );
}

/// Find the folder with a `config.json`.
fn find(folder: &Path) -> Option<PathBuf> {
    if folder.join("config.json").exists() {
        return Some(folder.to_path_buf());
    }
    let entries = fs::read_dir(folder).ok()?.flatten();
    entries
        .filter(|entry| entry.path().is_dir())
        .find_map(|entry| find(&entry.path()))
}

/// The pickle of `{"positions": tensor of 4 x 4 numbers in storage `key`}`.
fn pickled(key: &str) -> Vec<u8> {
    let mut out = b"\x80\x02}q\x00X\x09\x00\x00\x00positionsq\x01ctorch._utils\n_rebuild_tensor_v2\nq\x02((X\x07\x00\x00\x00storageq\x03ctorch\nFloatStorage\nq\x04X\x01\x00\x00\x00".to_vec();
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"q\x05X\x03\x00\x00\x00cpuq\x06K\x10tq\x07QK\x00K\x04K\x04\x86q\x08K\x04K\x01\x86q\x09\x89ccollections\nOrderedDict\nq\x0a)Rq\x0btq\x0cRq\x0ds.");
    out
}

fn pickles(seeds: &Seeds) {
    seeds.choose("pickle", "legacy", 0, pickled("a"));
    seeds.choose("pickle", "zip", 1, pickled("0"));
    // Forms that other versions of Python and PyTorch write.
    seeds.choose("pickle", "protocol4", 1, b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x10model_state_dict\x94}\x94\x8c\x05epoch\x94K\x02\x8c\x04loss\x94G?\xf0\x00\x00\x00\x00\x00\x00u.");
    seeds.choose("pickle", "objects", 1, b"\x80\x02]q\x00(K\x01M\x00\x01J\x00\x00\x01\x00\x8a\x05\x00\x00\x00\x00\x01NN\x88\x89e\x85\x86c__builtin__\nset\n]a\x85R}X\x01\x00\x00\x00ab.");
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in [
        ("m/data.pkl", pickled("0")),
        ("m/byteorder", b"little".to_vec()),
        ("m/data/0", vec![0; 64]),
        ("m/version", b"3\n".to_vec()),
    ] {
        archive
            .start_file(name, SimpleFileOptions::default())
            .expect("an entry");
        archive.write_all(&content).expect("an entry");
    }
    let archive = archive.finish().expect("an archive").into_inner();
    seeds.add("zip", "torch", &archive);
    seeds.add("checkpoint", "zip", &archive);
}

fn tokenizers(seeds: &Seeds) {
    let bpe = r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[{"id":0,"content":"<s>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],
"normalizer":{"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Replace","pattern":{"String":" "},"content":"▁"},{"type":"Prepend","prepend":"▁"}]},
"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true},
"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[{"Sequence":{"id":"A","type_id":0}},{"Sequence":{"id":"B","type_id":1}}],"special_tokens":{"<s>":{"id":"<s>","ids":[0],"tokens":["<s>"]}}},
"decoder":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true},
"model":{"type":"BPE","dropout":null,"unk_token":"<unk>","continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":true,"ignore_merges":false,"vocab":{"<s>":0,"<unk>":1,"t":2,"h":3,"e":4,"th":5,"the":6,"<0x61>":7},"merges":[["t","h"],["th","e"]]}}"#;
    seeds.choose("tokenizer", "bpe", 0, bpe);
    let word_piece = r###"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true},
"pre_tokenizer":{"type":"BertPreTokenizer"},"post_processor":{"type":"BertProcessing","sep":["[SEP]",2],"cls":["[CLS]",1]},"decoder":{"type":"WordPiece","prefix":"##","cleanup":true},
"model":{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##","max_input_chars_per_word":100,"vocab":{"[UNK]":0,"[CLS]":1,"[SEP]":2,"the":3,"##x":4,"cat":5}}}"###;
    seeds.choose("tokenizer", "wordpiece", 0, word_piece);
    let unigram = r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,"pre_tokenizer":{"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":true},"post_processor":null,
"decoder":{"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":true},"model":{"type":"Unigram","unk_id":0,"vocab":[["<unk>",0.0],["▁the",-1.5],["▁",-2.0],["c",-3.0],["at",-3.5]],"byte_fallback":false}}"#;
    seeds.choose("tokenizer", "unigram", 0, unigram);
    seeds.choose(
        "tokenizer",
        "authors",
        1,
        r#"{"[PAD]":0,"[UNK]":1,"a":2,"the":3,"猫":4}"#,
    );
    for (name, stored) in [
        (
            "characters",
            r#"{"kind":"characters","tokens":["<unk>","a","<0x41>","é"]}"#,
        ),
        ("pieces", r#"{"kind":"pieces","tokens":["a","the","Ġcat"]}"#),
        (
            "scored",
            r#"{"kind":"scored","tokens":["<unk>","<s>","</s>","a","th"],"scores":[0.0,0.0,0.0,-1.0,-2.0]}"#,
        ),
        ("ids", r#"{"kind":"ids","size":9}"#),
    ] {
        seeds.choose("tokenizer", name, 2, stored);
    }
    let settings = br#"{"tokenizer_class":"LlamaTokenizer","bos_token":"<s>","eos_token":{"content":"</s>","special":true},"unk_token":"<unk>","add_bos_token":true,"add_eos_token":true,"added_tokens_decoder":{"3":{"content":"<x>","special":true}}}"#;
    // Pieces of SentencePiece: text, score, type; then the trainer's kind of model, 1 for unigrams and 2 for pairs.
    let mut model = Vec::new();
    for (piece, score, kind) in [
        ("<unk>", 0.0f32, 2u8),
        ("<s>", 0.0, 3),
        ("</s>", 0.0, 3),
        ("<0x41>", 0.0, 6),
        ("\u{2581}th", -1.0, 1),
        ("e", -2.0, 1),
        ("\u{2581}the", -1.5, 1),
    ] {
        let piece = [
            &[0x0a, piece.len() as u8],
            piece.as_bytes(),
            &[0x15],
            &score.to_le_bytes()[..],
            &[0x18, kind],
        ]
        .concat();
        model.extend_from_slice(&[0x0a, piece.len() as u8]);
        model.extend_from_slice(&piece);
    }
    for kind in [1, 2] {
        let layout = [
            &model[..],
            &[0x12, 2, 0x18, kind],
            SEPARATOR,
            b"{\"model_type\":\"llama\"}",
            SEPARATOR,
            settings,
        ]
        .concat();
        seeds.choose("tokenizer", &format!("sentencepiece{kind}"), 4, layout);
    }
    let vocabulary = br#"{"<|endoftext|>":0,"t":1,"h":2,"th":3,"\u0120th":4,"\u0120":5}"#;
    let layout = [
        &vocabulary[..],
        SEPARATOR,
        b"#version: 0.2\nt h\n\xc4\xa0 th\n",
        SEPARATOR,
        br#"{"tokenizer_class":"GPT2Tokenizer"}"#,
        SEPARATOR,
        br#"{"<y>":6}"#,
    ]
    .concat();
    seeds.choose("tokenizer", "pairs", 5, layout);
    let layout = [
        &b"[UNK]\n[CLS]\n[SEP]\nthe\n##x\ncat\n"[..],
        SEPARATOR,
        br#"{"cls_token":"[CLS]"}"#,
        SEPARATOR,
        br#"{"do_lower_case":false}"#,
    ]
    .concat();
    seeds.choose("tokenizer", "words", 6, layout);
    seeds.choose(
        "tokenizer",
        "folder",
        7,
        [
            bpe.as_bytes(),
            SEPARATOR,
            br#"{"bos_token":"<s>"}"#,
            SEPARATOR,
            settings,
        ]
        .concat(),
    );
    let mut scored = 4i32.to_le_bytes().to_vec();
    for (piece, score) in [
        ("<unk>", 0.0f32),
        ("\n<s>\n", 0.0),
        ("\n</s>\n", 0.0),
        ("a", -1.0),
        (" the", -2.0),
    ] {
        scored.extend_from_slice(&score.to_le_bytes());
        scored.extend_from_slice(&(piece.len() as i32).to_le_bytes());
        scored.extend_from_slice(piece.as_bytes());
    }
    seeds.choose("tokenizer", "llama2c", 3, scored);
}

fn texts(seeds: &Seeds) {
    let schema = r#"{"type":"object","properties":{"sinks":{"type":"integer","minimum":0,"maximum":9,"default":4},"names":{"type":"array","items":{"type":"string"}},"way":{"enum":["a","b"]},"x":{"type":"number","exclusiveMinimum":0}},"required":["way"],"additionalProperties":false}"#;
    let manifest = format!(
        r#"{{"library":"libx.so","sha256":"00","abi":"1.0","plugins":[{{"id":"org.x","name":"x","version":"1","license":"MIT","about":"","hooks":["edge/1"],"schema":{schema}}}]}}"#
    );
    seeds.add(
        "manifest",
        "one",
        [manifest.as_bytes(), SEPARATOR, br#"{"way":"a","sinks":3}"#].concat(),
    );
    seeds.choose(
        "corpus",
        "plain",
        0,
        "one line\r\nanother, na\u{ef}ve\n\n\u{feff}third",
    );
    seeds.choose(
        "corpus",
        "jsonl",
        1,
        "\u{feff}{\"text\":\"abc \\ud83d\\ude00\"}\n\"a string\"\n{\"paragraphs\":[\"x\",\"y\"]}\n",
    );
    seeds.choose(
        "corpus",
        "array",
        2,
        "[\"a\", {\"text\":\"b\", \"c\":[1,{\"d\":null}]}, {\"desc\":\"e\"}]",
    );
    seeds.choose(
        "corpus",
        "lossy",
        1 | 16 | 32,
        "{\"a\":\"broken \\ud83d here\"}\n",
    );
    seeds.choose("corpus", "doc", 7, "<doc id=\"1\" url=\"u\" title=\"t\">\nt\n\nAT&amp;T 1 &lt; 2\n</doc>\n<doc id=\"2\">\nx\n</doc>\n");
    seeds.choose("corpus", "ids", 3, [1, 0, 2, 0, 44, 1]);
    seeds.choose("corpus", "gzip", 5, b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\x4b\x4c\x4a\xe6\x02\x00\x4e\x81\x88\x47\x04\x00\x00\x00");
    seeds.choose(
        "corpus",
        "zstd",
        7,
        b"\x28\xb5\x2f\xfd\x20\x04\x21\x00\x00abc\n",
    );
    seeds.choose("corpus", "utf16", 0, b"\xff\xfea\x00b\x00\n\x00");
    seeds.choose(
        "labelled",
        "jsonl",
        0,
        "{\"text\":\"a\",\"label\":1}\n{\"text\":\"b\",\"label\":\"x\"}\n",
    );
    seeds.choose("labelled", "columns", 3, "a text\t1\nanother\t0\n");
    seeds.choose("labelled", "pairs", 5, "a\tb\tc\n1\tfirst\tsecond\n");
}

fn requests(seeds: &Seeds) {
    let host = "Host: localhost:8137\r\n";
    let get = |name: &str, path: &str| {
        seeds.add("http", name, format!("GET {path} HTTP/1.1\r\n{host}\r\n"))
    };
    get("index", "/");
    get("health", "/health");
    get("metrics", "/metrics");
    get("models", "/v1/models");
    get("model", "/v1/models/small");
    get("about", "/api/v1/about");
    get("nodes", "/api/v1/nodes?q=a&limit=3&sort=rank");
    get("out", "/api/v1/nodes/1/out?limit=2&offset=1");
    get("in", "/api/v1/nodes/2/in");
    get("map", "/api/v1/map?model=small&limit=5");
    get("library", "/api/v1/library");
    let post = |name: &str, path: &str, body: &str| {
        let length = body.len();
        seeds.add("http", name, format!("POST {path} HTTP/1.1\r\n{host}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"));
    };
    post(
        "completion",
        "/v1/completions",
        r#"{"model":"small","prompt":"ab","max_tokens":3,"temperature":0.5,"top_p":0.9,"stop":["e"],"logprobs":2,"echo":true,"seed":1}"#,
    );
    post(
        "stream",
        "/v1/completions",
        r#"{"prompt":[1,2],"max_tokens":2,"stream":true,"n":2,"stream_options":{"include_usage":true},"logit_bias":{"3":5.0},"presence_penalty":1.0,"frequency_penalty":0.5}"#,
    );
    post(
        "trace",
        "/api/v1/trace",
        r#"{"prompt":"ab","tokens":2,"candidates":3,"interventions":[{"kind":"force","step":0,"node":2}]}"#,
    );
    post("fan", "/api/v1/fan", r#"{"prompt":"ab","candidates":3}"#);
    post("tokens", "/api/v1/tokens", r#"{"text":"ab c"}"#);
    let chunked = format!(
        "POST /api/v1/tokens HTTP/1.1\r\n{host}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{{\"text\":\"ab c\"}} \r\n0\r\n\r\n"
    );
    seeds.add(
        "http",
        "chunked",
        chunked + &format!("GET /health HTTP/1.1\r\n{host}\r\n"),
    );
}

fn plugins(seeds: &Seeds) {
    for index in 0..24u64 {
        let mut random = Random::stream(5, 1, index);
        // Answers that are mostly valid go far; the fuzzer breaks them.
        let bytes: Vec<u8> = (0..200)
            .map(|_| {
                if random.below(3) == 0 {
                    0
                } else {
                    random.below(256) as u8
                }
            })
            .collect();
        seeds.choose("plugin", &index.to_string(), index as u8 | 64, bytes);
    }
}
