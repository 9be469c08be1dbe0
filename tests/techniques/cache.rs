//! Plugins that manage the KV cache.

use super::*;

fn ids_file(name: &str, ids: &[u16]) -> String {
    let path = place(name);
    write_ids(&path, ids);
    path.display().to_string()
}

/// Token ids of the twelve stories.
static IDS: LazyLock<Vec<u16>> = LazyLock::new(|| {
    let stories = root().join("tests/golden/transformer/tinystories_12.json");
    let stories: Vec<String> =
        serde_json::from_str(&std::fs::read_to_string(stories).unwrap()).unwrap();
    let text = stories.join("\n");
    let arguments = [
        "generate",
        &text,
        "--model",
        TRANSFORMER,
        "--tokens",
        "1",
        "--json",
    ];
    let report = json(&arguments);
    let ids = report["prompt_ids"].as_array().unwrap();
    ids.iter().map(|id| id.as_u64().unwrap() as u16).collect()
});

static STORIES: LazyLock<String> = LazyLock::new(|| ids_file("stories.u16", &IDS));

/// How a pyramid is said to look.
struct Pyramid {
    ratio: f64,
    minimum: usize,
    interval: usize,
    every: usize,
}

impl Pyramid {
    fn plugin(&self) -> String {
        format!(
            "kv-pyramid:ratio={},minimum={},interval={},every={}",
            self.ratio, self.minimum, self.interval, self.every
        )
    }

    fn curve(last: f64, layer: usize) -> f64 {
        let cosine = (std::f64::consts::PI * layer as f64 / LAYERS as f64).cos();
        last + (1.0 - last) * (cosine + 1.0) / 2.0
    }

    /// Tokens of a prompt that each layer sees.
    fn prompt(&self, prompt: usize) -> Vec<f64> {
        let tail = prompt / 5 + 1;
        let mut rows = prompt;
        (0..LAYERS)
            .map(|layer| {
                let seen = rows;
                let context = rows - tail;
                let kept = (context as f64 * Self::curve(self.ratio, layer)) as usize;
                let minimum = self.minimum.min(prompt - tail);
                if layer % self.interval == 0 && context > minimum && kept > minimum {
                    rows = tail + kept;
                }
                seen as f64
            })
            .collect()
    }

    /// Tokens that each layer holds when `new` more have come.
    fn generated(&self, prompt: usize, new: usize) -> Vec<f64> {
        let tail = prompt / 5 + 1;
        self.prompt(prompt)
            .into_iter()
            .enumerate()
            .map(|(layer, held)| {
                let mut held = held as usize;
                let mut before = held;
                let kept = (self.every as f64 * 0.9 * Self::curve(0.1, layer)) as usize;
                for _ in 0..new {
                    held += 1;
                    if held >= before + tail + self.every {
                        held -= self.every - kept.clamp(1, self.every);
                        before = held - tail;
                    }
                }
                held as f64
            })
            .collect()
    }
}

fn nats(report: &Value) -> f64 {
    number(report, "nats_per_token") * number(report, "tokens")
}

fn continued_of(ids: &str, texts: &str, plugins: &[&str]) -> Value {
    let arguments = [
        "eval",
        "--ids",
        ids,
        "--model",
        TRANSFORMER,
        "--continuation",
        texts,
        "--divergence",
        "--json",
    ];
    report(&arguments, plugins)
}

/// The stories' tokens predicted one by one: `prompt,new,count`, beside the model as it is.
fn continued(texts: &str, plugins: &[&str]) -> Value {
    continued_of(&STORIES, texts, plugins)
}

/// Every plugin, and what it is asked.
const ALL: [(&str, &[&str]); 10] = [
    ("bidirectional", &["order/1"]),
    ("kv-heavy", &["kv.keep/1"]),
    ("kv-pyramid", &["kv.keep/1", "probe/1"]),
    ("kv-quant", &["kv.codec/1"]),
    ("kv-share", &["kv.plan/1", "probe/1"]),
    ("kv-snap", &["kv.keep/1"]),
    ("mask-decay", &["mask/1"]),
    ("mask-weighted", &["mask/1"]),
    ("quats", &["sample/1", "probe/1"]),
    ("recent", &["kv.keep/1"]),
];

#[test]
fn every_plugin_passes_the_validator() {
    for (name, hooks) in ALL {
        let info = report(&["plugin", "info", name, "--json"], &[]);
        assert_eq!(info["hooks"], serde_json::json!(hooks), "{name}");
        let checked = report(&["plugin", "check", name, "--json"], &[]);
        assert_eq!(checked["passed"], true, "{name}: {checked}");
    }
    let listed = report(&["plugin", "list", "--json"], &[]);
    // Beside the program there may be others, and these once more.
    let listed = listed["plugins"].to_string();
    for (name, _) in ALL {
        assert!(
            listed.contains(&format!("\"org.brillm.{name}\"")),
            "{name}: {listed}"
        );
    }
}

#[test]
fn plugins_that_evict_nothing_change_nothing() {
    let plain = continued("96,48,2", &[]);
    for plugin in [
        "kv-share:source=0-1-2-3-4",
        "kv-pyramid:ratio=1,every=100000",
        "kv-pyramid:minimum=1000,every=100000",
        "kv-pyramid:ratio=0.3,minimum=0,recent=1,every=100000",
        "kv-heavy:heavy=500,recent=500",
        "kv-snap:budget=500",
        "kv-quant:residual=1000,bits=2",
        "recent:window=1000",
    ] {
        let with = continued("96,48,2", &[plugin]);
        assert_eq!(number(&with, "divergence"), 0.0, "{plugin}");
        assert_eq!(number(&with, "agreement"), 1.0, "{plugin}");
        assert_eq!(nats(&with), nats(&plain), "{plugin}");
        for key in ["retained", "computed", "kv_live_bytes"] {
            assert_eq!(with[key], plain[key], "{plugin} {key}");
        }
    }
}

#[test]
fn aliased_layers_decode_as_they_prefill() {
    let plain = continued("96,32,1", &[]);
    for (map, owners) in [
        ("0-0-2-3-4", 4),
        ("0-1-1-3-4", 4),
        ("0-1-2-3-3", 4),
        ("0-1-2-3-0", 4),
        ("0-1-0-1-4", 3),
        ("0-0-2-2-2", 2),
        ("0-0-0-0-4", 2),
        ("0-0-0-0-0", 1),
    ] {
        let plugin = format!("kv-share:source={map}");
        let of = |texts: &str| continued(texts, &[&plugin]);
        let whole = of("96,32,1");
        // The last token after 31 decoded ones, and after all of them were prefilled at once.
        let last = nats(&whole) - nats(&of("96,31,1"));
        close(last, nats(&of("127,1,1")), 1e-4);
        assert_ne!(nats(&whole), nats(&plain), "{map}");
        let bytes = number(&plain, "kv_live_bytes") * f64::from(owners) / LAYERS as f64;
        assert_eq!(number(&whole, "kv_live_bytes"), bytes, "{map}");
        let held: Vec<bool> = numbers(&whole, "retained")
            .iter()
            .map(|&n| n > 0.0)
            .collect();
        let owns: Vec<bool> = map
            .split('-')
            .enumerate()
            .map(|(layer, source)| source == layer.to_string())
            .collect();
        assert_eq!(held, owns, "{map}");
    }
}

#[test]
fn a_sharing_map_is_searched_written_and_read() {
    let map = place("map.json");
    let _ = std::fs::remove_file(&map);
    let calibration = place("calibration.txt");
    let stories = root().join("tests/golden/transformer/tinystories_12.json");
    let stories: Vec<String> =
        serde_json::from_str(&std::fs::read_to_string(stories).unwrap()).unwrap();
    std::fs::write(&calibration, stories.join("\n")).unwrap();
    let calibration = calibration.display().to_string();
    let arguments = [
        "eval",
        "--ids",
        &*STORIES,
        "--model",
        TRANSFORMER,
        "--continuation",
        "64,16,1",
        "--json",
    ];
    let mut tried = arguments.to_vec();
    tried.extend(["--calibration", &calibration]);
    let plugin = format!("kv-share:target=2,map={}", map.display());
    assert!(failure(&arguments, &[&plugin]).contains("calibration"));
    let searched = report(&tried, &[&plugin]);
    let found = &searched["probes"]["org.brillm.kv-share"];
    assert_eq!(
        (&found["achieved"], &found["pairs"]),
        (&2.into(), &10.into())
    );
    let source = numbers(found, "source");
    let shared = source
        .iter()
        .enumerate()
        .filter(|(at, from)| **from != *at as f64)
        .count();
    assert_eq!(shared, 2, "{found}");
    let accepted = found["accepted"].as_array().unwrap();
    assert!(accepted.iter().all(|pair| number(pair, "similarity") > 0.5));
    assert!(number(&accepted[0], "distance") >= number(&accepted[1], "distance"));
    let written: Value = serde_json::from_str(&std::fs::read_to_string(&map).unwrap()).unwrap();
    assert_eq!(&written, found);
    // A second run needs no text, and is the same.
    let read = report(&arguments, &[&plugin]);
    assert_eq!(read["nats_per_token"], searched["nats_per_token"]);
    // Nothing is above a cosine of 1: said, or an error.
    let none = report(&tried, &["kv-share:threshold=1"]);
    assert_eq!(none["probes"]["org.brillm.kv-share"]["achieved"], 0);
    let error = failure(&tried, &["kv-share:threshold=1,exact=true"]);
    assert!(
        error.contains("0 of 1 layers") && error.contains("kv.plan/1"),
        "{error}"
    );
    for order in ["similar", "random"] {
        let other = report(&tried, &[&format!("kv-share:target=2,order={order}")]);
        let other = &other["probes"]["org.brillm.kv-share"];
        assert_eq!(other["achieved"], 2, "{order}");
        assert_ne!(other["accepted"], found["accepted"], "{order}");
    }
    for (map, says) in [
        ("0-2-2-3-4", "layer 1 cannot read layer 2"),
        ("0-0-1-3-4", "layer 2 cannot read layer 1"),
        ("0-0", "the map has 2 layers, the model 5"),
        ("zero", "invalid map"),
    ] {
        let error = failure(&arguments, &[&format!("kv-share:source={map}")]);
        assert!(error.contains(says), "{map}: {error}");
    }
}

#[test]
fn a_pyramid_keeps_as_many_tokens_as_its_formula() {
    for (ratio, minimum, interval, every, prompt, new) in [
        (0.5, 0, 1, 8, 200, 100),
        (0.6, 16, 1, 16, 100, 301),
        (0.3, 64, 1, 16, 100, 50),
        (0.4, 4, 2, 4, 64, 80),
        (0.4, 4, 3, 5, 64, 80),
        (0.9, 64, 1, 16, 1, 60),
        (0.5, 0, 1, 2, 2, 40),
        (0.5, 0, 1, 1, 5, 40),
    ] {
        let pyramid = Pyramid {
            ratio,
            minimum,
            interval,
            every,
        };
        let name = pyramid.plugin();
        let texts = format!("{prompt},{new},1");
        let report = continued(&texts, &[&name]);
        let expected = pyramid.prompt(prompt);
        assert_eq!(
            numbers(&report, "retained_after_prompt"),
            expected,
            "{name} {texts}"
        );
        assert_eq!(numbers(&report, "computed"), expected, "{name} {texts}");
        // The last token is predicted only.
        let expected = pyramid.generated(prompt, new - 1);
        assert_eq!(numbers(&report, "retained"), expected, "{name} {texts}");
        let said = &report["probes"]["org.brillm.kv-pyramid"];
        assert_eq!(said["retained"], report["retained_after_prompt"], "{name}");
    }
}

#[test]
fn a_pyramid_finds_the_ratio_for_a_retained_fraction() {
    for (share, curve) in [(0.7, "constant"), (0.6, "constant"), (0.85, "cosine")] {
        let plugin = format!("kv-pyramid:retain={share},curve={curve},minimum=4,clamp=true");
        let report = continued("256,1,1", &[&plugin]);
        let said = &report["probes"]["org.brillm.kv-pyramid"];
        close(number(said, "mean_retained_fraction"), share, 0.01);
    }
    // So few layers cannot hold so little by a cosine: the run warns.
    let arguments = [
        "eval",
        "--ids",
        &*STORIES,
        "--model",
        TRANSFORMER,
        "--continuation",
        "256,1,1",
        "--json",
    ];
    let plugins = ["kv-pyramid:retain=0.5,minimum=4"];
    let output = run(&with_plugins(&arguments, &PLUGINS, &plugins));
    assert_eq!(output.status.code(), Some(0));
    let warning = text_of(&output.stderr);
    assert!(
        warning.contains("no ratio makes 5 layers hold 0.5"),
        "{warning}"
    );
}

#[test]
fn control_policies_keep_as_many_tokens() {
    for technique in [
        "kv-pyramid:ratio=0.4,minimum=4,every=8",
        "kv-heavy:heavy=20,recent=20",
        "kv-snap:budget=40,window=16",
    ] {
        let of = |order: &str| continued("128,32,2", &[&format!("{technique},order={order}")]);
        let own = of("attention");
        let mut divergences = vec![number(&own, "divergence")];
        for order in ["reversed", "random", "recency"] {
            let control = of(order);
            for key in [
                "retained",
                "retained_after_prompt",
                "computed",
                "kv_live_bytes",
            ] {
                assert_eq!(control[key], own[key], "{technique} {order} {key}");
            }
            divergences.push(number(&control, "divergence"));
        }
        // Four ways to choose differ, and the worst tokens are a worse choice than the best.
        assert!(
            divergences[0] < divergences[1],
            "{technique}: {divergences:?}"
        );
        let mut sorted = divergences.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.dedup();
        assert_eq!(sorted.len(), 4, "{technique}: {divergences:?}");
    }
}

#[test]
fn budgets_are_kept() {
    let of = |plugin: &str| continued("100,41,1", &[plugin]);
    for (plugin, after_prompt, at_end) in [
        ("kv-heavy:heavy=10,recent=30", 40.0, 40.0),
        ("kv-heavy:heavy=0.1,recent=0.2", 30.0, 30.0),
        ("kv-heavy:heavy=0,recent=1", 1.0, 1.0),
        ("kv-snap:budget=50", 50.0, 90.0),
        (
            "kv-snap:budget=0.4,window=8,heads=maximum,pooling=maximum",
            40.0,
            80.0,
        ),
        ("recent:sinks=4,window=20", 24.0, 24.0),
    ] {
        let report = of(plugin);
        assert_eq!(
            numbers(&report, "retained_after_prompt"),
            [after_prompt; LAYERS],
            "{plugin}"
        );
        assert_eq!(numbers(&report, "retained"), [at_end; LAYERS], "{plugin}");
    }
    // With slack a layer grows that far before it is asked again.
    let report = of("kv-heavy:heavy=10,recent=30,slack=15");
    assert_eq!(
        numbers(&report, "retained"),
        [40.0 + (40 % 16) as f64; LAYERS]
    );
}

#[test]
fn sequences_do_not_see_each_other() {
    let (first, second) = (&IDS[..120], &IDS[120..240]);
    let files = [ids_file("first.u16", first), ids_file("second.u16", second)];
    let both = ids_file("both.u16", &IDS[..240]);
    for plugin in [
        "kv-pyramid:ratio=0.4,minimum=4,every=8",
        "kv-heavy",
        "kv-snap:window=8",
        "kv-quant:bits=2,residual=4",
        "kv-share:source=0-1-1-3-4",
    ] {
        let together = nats(&continued_of(&both, "80,40,2", &[plugin]));
        let alone: f64 = files
            .iter()
            .map(|file| nats(&continued_of(file, "80,40,1", &[plugin])))
            .sum();
        close(together, alone, 1e-9);
    }
}

#[test]
fn fewer_bits_take_fewer_bytes_and_cost_more() {
    let of = |bits: u32| continued("192,64,2", &[&format!("kv-quant:bits={bits},residual=0")]);
    let reports: Vec<Value> = [8, 4, 2].into_iter().map(of).collect();
    let plain = number(&continued("192,64,2", &[]), "kv_live_bytes");
    let bytes: Vec<f64> = reports
        .iter()
        .map(|one| number(one, "kv_live_bytes"))
        .collect();
    let loss: Vec<f64> = reports
        .iter()
        .map(|one| number(one, "divergence"))
        .collect();
    assert!(
        plain > bytes[0] && bytes[0] > bytes[1] && bytes[1] > bytes[2],
        "{plain} {bytes:?}"
    );
    assert!(loss[0] < loss[1] && loss[1] < loss[2], "{loss:?}");
    assert!(loss[0] < 1e-3, "{loss:?}");
    // Keys and values can be stored differently.
    let mixed = continued("192,64,2", &["kv-quant:key-bits=8,value-bits=2,residual=0"]);
    let mixed = number(&mixed, "kv_live_bytes");
    assert!(mixed < bytes[0] && mixed > bytes[2]);
}

#[test]
fn plugins_combine() {
    let plugins = [
        "kv-share:source=0-1-1-3-4",
        "kv-pyramid:ratio=0.4,minimum=4,every=8",
        "kv-quant:bits=8,residual=16",
    ];
    let report = continued("128,64,1", &plugins);
    assert_eq!(numbers(&report, "retained")[2], 0.0);
    assert!(number(&report, "divergence").is_finite());
    let computed = numbers(&report, "computed");
    assert!(
        computed.windows(2).all(|pair| pair[0] >= pair[1]) && computed[4] < 128.0,
        "{computed:?}"
    );
    let two = failure(
        &[
            "generate",
            "One day",
            "--model",
            TRANSFORMER,
            "--tokens",
            "2",
        ],
        &["kv-heavy", "kv-snap"],
    );
    assert!(two.contains("kv.keep/1"), "{two}");
}
