//! Trace documents: schema, exports.

use super::*;

/// The part of JSON Schema 2020-12 that the schema is written in; any other keyword is a fault of the schema.
fn validate(root: &Value, schema: &Value, value: &Value, place: &str, faults: &mut Vec<String>) {
    let mut fault = |what: String| faults.push(format!("{place}: {what}"));
    let is = |name: &str| match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("type {other}"),
    };
    let known = schema.as_object().unwrap();
    for (keyword, given) in known {
        match keyword.as_str() {
            "$schema" | "$id" | "$defs" | "title" | "description" => {}
            "type" => {
                let fits = match given {
                    Value::Array(names) => names.iter().any(|name| is(name.as_str().unwrap())),
                    name => is(name.as_str().unwrap()),
                };
                if !fits {
                    fault(format!("{value} is no {given}"));
                }
            }
            "const" if value != given => fault(format!("{value} is not {given}")),
            "enum" if !given.as_array().unwrap().contains(value) => {
                fault(format!("{value} is none of {given}"));
            }
            "minimum" if value.as_f64().is_some_and(|v| v < given.as_f64().unwrap()) => {
                fault(format!("{value} is less than {given}"));
            }
            "maximum" if value.as_f64().is_some_and(|v| v > given.as_f64().unwrap()) => {
                fault(format!("{value} is more than {given}"));
            }
            "pattern" => {
                let fits: fn(&str) -> bool = match given.as_str().unwrap() {
                    "^[0-9a-f]{64}$" => |text| {
                        text.len() == 64 && text.bytes().all(|b| b"0123456789abcdef".contains(&b))
                    },
                    "^([0-9A-F]{2}( [0-9A-F]{2})*)?$" => |text| {
                        let pair = |pair: &str| {
                            pair.len() == 2
                                && pair.bytes().all(|b| b"0123456789ABCDEF".contains(&b))
                        };
                        text.is_empty() || text.split(' ').all(pair)
                    },
                    other => panic!("pattern {other}"),
                };
                if value.as_str().is_some_and(|text| !fits(text)) {
                    fault(format!("{value} does not fit {given}"));
                }
            }
            "required" => {
                for name in given.as_array().unwrap() {
                    if value.is_object() && value.get(name.as_str().unwrap()).is_none() {
                        fault(format!("{name} is missing"));
                    }
                }
            }
            "additionalProperties" => {
                assert_eq!(given, false);
                for name in value.as_object().into_iter().flat_map(|all| all.keys()) {
                    if known["properties"].get(name).is_none() {
                        fault(format!("{name} is not known"));
                    }
                }
            }
            "const" | "enum" | "minimum" | "maximum" => {}
            "properties" | "items" | "$ref" | "anyOf" => {}
            other => panic!("keyword {other}"),
        }
    }
    if let (Some(Value::Object(properties)), Some(all)) =
        (known.get("properties"), value.as_object())
    {
        for (name, own) in properties {
            if let Some(value) = all.get(name) {
                validate(root, own, value, &format!("{place}/{name}"), faults);
            }
        }
    }
    if let (Some(items), Some(all)) = (known.get("items"), value.as_array()) {
        for (number, value) in all.iter().enumerate() {
            validate(root, items, value, &format!("{place}/{number}"), faults);
        }
    }
    if let Some(Value::String(reference)) = known.get("$ref") {
        let own = root.pointer(reference.strip_prefix('#').unwrap()).unwrap();
        validate(root, own, value, place, faults);
    }
    if let Some(Value::Array(any)) = known.get("anyOf") {
        let fits = |schema: &Value| {
            let mut own = Vec::new();
            validate(root, schema, value, place, &mut own);
            own.is_empty()
        };
        if !any.iter().any(fits) {
            let mut own = Vec::new();
            validate(root, any.last().unwrap(), value, place, &mut own);
            faults.append(&mut own);
        }
    }
}

/// Check that every recalled position of a candidate holds it, and that the shares are part of its probability.
fn recalled(trace: &Trace) {
    let mut positions = 0;
    for step in &trace.steps {
        for candidate in &step.candidates {
            let Some(recall) = &candidate.recall else {
                continue;
            };
            let listed: f64 = recall.positions.iter().map(|one| one.share).sum();
            assert!(listed <= recall.share + 1e-9, "{recall:?}");
            assert!(
                recall.share <= f64::from(candidate.probability) + 1e-6,
                "{recall:?}"
            );
            for one in &recall.positions {
                assert!(one.position < step.position, "{recall:?}");
                assert_eq!(trace.tokens[one.position].id, candidate.id, "{recall:?}");
                positions += 1;
            }
        }
    }
    assert!(
        positions > 6 && trace.recall.is_some(),
        "{positions} positions"
    );
}

#[test]
fn documents_fit_their_schema() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let validate = |value: &Value| {
        let mut faults = Vec::new();
        validate(&schema, &schema, value, "", &mut faults);
        faults
    };
    let mut traces = vec![
        traced(&english(), "Once upon a time", |request| {
            request.intervene([
                Intervention::MuteNode { node: 40 },
                Intervention::ScaleSignal {
                    position: 1,
                    factor: 0.5,
                },
                Intervention::Inject {
                    step: 0,
                    node: 5,
                    energy: 0.5,
                },
            ])
        }),
        traced(
            &english(),
            "the cat and the dog and the cat and the",
            |request| request.recall(Some("16,4,0.5".parse().unwrap())),
        ),
        traced(&chinese(), "龙的☃", |request| request),
        traced(&transformer(), "Once", |request| request),
    ];
    recalled(&traces[1]);
    for layers in [1, 2] {
        let profile = Profile {
            layers,
            ..Profile::layered(8)
        };
        let engine = engine_of(&mechanism(profile, 7));
        let request = TraceRequest::new(vec![3, 4, 5]).tokens(2);
        let trace = Tracing::begin(&engine, request, &Hooks::default())
            .unwrap()
            .collect()
            .unwrap();
        let entries = &trace.steps[0].contributions.as_ref().unwrap().entries;
        let whole = entries.iter().all(|entry| entry.kind != EntryKind::Layers);
        assert_eq!(whole, layers == 1, "{layers} layers: {entries:?}");
        traces.push(trace);
    }
    // A model that fills in masks, given one to fill in.
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/transformer/bert-random");
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(
        source.join("model.safetensors"),
        folder.path().join("model.safetensors"),
    )
    .unwrap();
    let json = std::fs::read_to_string(source.join("config.json")).unwrap();
    let mut shape: Value = serde_json::from_str(&json).unwrap();
    shape["mask_token_id"] = 4.into();
    std::fs::write(folder.path().join("config.json"), shape.to_string()).unwrap();
    let bert = Engine::open(folder.path(), Default::default()).unwrap();
    let request = TraceRequest::new(vec![5, 6, 7]).tokens(2);
    traces.push(
        Tracing::begin(&bert, request, &Hooks::default())
            .unwrap()
            .collect()
            .unwrap(),
    );
    traces[0].annotations = serde_json::from_str(
        r#"{"title":"t","notes":"n","pins":[{"step":0,"node":1}],"groups":[{"name":"g","members":[{"step":1,"node":2}]}]}"#,
    )
    .unwrap();
    for trace in &traces {
        let value: Value = serde_json::from_str(&trace.to_json().unwrap()).unwrap();
        let faults = validate(&value);
        assert!(faults.is_empty(), "{}: {faults:?}", trace.model.name);
    }
    // The schema is one that refuses.
    let whole: Value = serde_json::from_str(&traces[0].to_json().unwrap()).unwrap();
    for (place, value) in [
        ("/steps/0/candidates/0/rank", Value::from(0)),
        ("/steps/0/candidates/0/edge", "none".into()),
        ("/steps/0/entropy", "1".into()),
        ("/model/sha256", "xyz".into()),
        ("/schema", "brillm-trace/2".into()),
        ("/finish", "tired".into()),
        ("/steps/0/contributions/entries/0/kind", "other".into()),
        ("/annotations", serde_json::json!({"title": ""})),
        (
            "/tokens/0",
            serde_json::json!({"id": 1, "text": "", "bytes_hex": "", "display": "", "more": 1}),
        ),
    ] {
        let mut broken = whole.clone();
        *broken.pointer_mut(place).unwrap() = value;
        assert!(!validate(&broken).is_empty(), "{place}");
    }
}

#[test]
fn exports_contain_the_path_and_can_be_read_back() {
    for (engine, text) in [(english(), "Once upon a time"), (chinese(), "春眠不☃")] {
        let mut trace = traced(&engine, text, |request| request);
        trace.annotations.notes = "<&\"]]> \u{1} 春\r\n".into();
        for theme in [Theme::Light, Theme::Dark] {
            let svg = trace.export(TraceFormat::Svg, theme).unwrap();
            let document = roxmltree::Document::parse(&svg).unwrap();
            let chosen: Vec<u32> = document
                .descendants()
                .filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "g")))
                .filter(|node| {
                    node.children().any(|child| {
                        child.has_tag_name(("http://www.w3.org/2000/svg", "rect"))
                            && child.attribute("stroke").is_some()
                    })
                })
                .map(|node| node.attribute("data-id").unwrap().parse().unwrap())
                .collect();
            assert_eq!(chosen, trace.ids()[trace.prompt_tokens..]);
            let back = Trace::read(&svg).unwrap();
            assert_eq!(back.steps, trace.steps);
            assert_eq!(back.tokens, trace.tokens);
            assert_eq!(back.annotations.notes, trace.annotations.notes);
        }
        let json = trace.export(TraceFormat::Json, Theme::Light).unwrap();
        assert_eq!(Trace::read(&json).unwrap(), trace);
        let candidates: usize = trace.steps.iter().map(|step| step.candidates.len()).sum();
        for format in [TraceFormat::GraphMl, TraceFormat::Gexf] {
            let xml = trace.export(format, Theme::Light).unwrap();
            let document = roxmltree::Document::parse(&xml).unwrap();
            let count = |name: &str| {
                let all = document.descendants();
                all.filter(|node| node.tag_name().name() == name).count()
            };
            assert_eq!((count("node"), count("edge")), (candidates + 1, candidates));
            let names: std::collections::BTreeSet<&str> = document
                .descendants()
                .filter(|node| node.tag_name().name() == "node")
                .map(|node| node.attribute("id").unwrap())
                .collect();
            assert_eq!(names.len(), candidates + 1);
            for edge in document
                .descendants()
                .filter(|node| node.tag_name().name() == "edge")
            {
                assert!(names.contains(edge.attribute("source").unwrap()));
                assert!(names.contains(edge.attribute("target").unwrap()));
            }
        }
        let dot = trace.export(TraceFormat::Dot, Theme::Light).unwrap();
        assert_eq!(dot.matches(" -> ").count(), candidates);
        let csv = trace.export(TraceFormat::Csv, Theme::Light).unwrap();
        assert_eq!(csv.lines().count(), candidates + 1);
        assert_eq!(csv.matches(",true\r\n").count(), trace.steps.len());
    }
    for (broken, said) in [
        ("", "not a trace"),
        ("{}", "not a trace"),
        ("<svg/>", "contains no trace"),
        ("\u{feff}<svg", "contains no trace"),
    ] {
        let error = Trace::read(broken).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    let mut other = traced(&english(), "Once", |request| request);
    other.schema = "brillm-trace/9".into();
    let error = Trace::read(&other.to_json().unwrap()).unwrap_err();
    assert_eq!(error.kind(), brillm::ErrorKind::Version);
}

#[test]
fn an_svg_keeps_characters_that_xml_should_not_contain() {
    let mut trace = traced(&english(), "Once upon a time", |request| request.tokens(1));
    trace.annotations.title =
        "nul\0 esc\u{1b} del\u{7f} c1\u{85} \u{fdd0}\u{fffe}\u{ffff}\u{1fffe} \\u0041 \t\r\n"
            .into();
    let svg = trace.export(TraceFormat::Svg, Theme::Light).unwrap();
    assert_eq!(Trace::read(&svg).unwrap(), trace);
}
