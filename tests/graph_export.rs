//! Exported sub-graphs, read back by an XML parser, by graphviz and by networkx where they are installed.

use std::collections::BTreeMap;
use std::process::Command;

use brillm::graph::export::{Export, ExportFormat};
use brillm::graph::{Direction, NodeId, PageRank, Subgraph, TokenGraph};

/// Labels that break careless writers: quotes, markup, escapes, controls, scripts, emptiness.
mod support;
use support::missing;

const LABELS: [&str; 12] = [
    "plain",
    "龍と🐉 naïve",
    "\"quoted\", 'twice'",
    "<b>&amp;</b>]]>",
    "back\\slash \\N \\",
    "line\nfeed\ttab",
    "nul\0 escape\u{1b} end",
    "carriage\r",
    " leading",
    "",
    "{record|<port>}",
    "\u{85}\u{fffe}\u{ffff}",
];

/// What a parser must find for the labels that are not written as they are.
fn shown(label: &str) -> String {
    let label = label.replace('\0', "␀").replace('\u{1b}', "␛");
    let label = label
        .replace('\u{85}', "\\u{85}")
        .replace('\u{fffe}', "\\u{fffe}");
    label.replace('\u{ffff}', "\\u{ffff}")
}

fn label(node: u32) -> String {
    LABELS[node as usize].to_string()
}

/// A ring over all labels, with a chord, a loop and edges that go through the shared edge.
fn graph() -> TokenGraph {
    let nodes = LABELS.len() as u32;
    let mut edges: Vec<_> = (0..nodes)
        .map(|node| (node, (node + 1) % nodes, node + 1))
        .collect();
    edges.extend([(0, 5, 40), (3, 3, 2)]);
    let mut graph = TokenGraph::from_edges(nodes as usize, &edges).unwrap();
    graph.set_own_minimum(3);
    graph
}

fn written(part: &Subgraph, format: ExportFormat) -> String {
    let ranks = PageRank::default().of(part.graph()).unwrap().ranks;
    let text = |node: u32| format!("text of {}", label(node));
    let mut file = Vec::new();
    let export = Export::new(part, &label).text(&text).ranks(&ranks).unwrap();
    export.write(format, &mut file).unwrap();
    String::from_utf8(file).unwrap()
}

/// `(source, target) -> (count, own, probability)`.
type Edges = BTreeMap<(u32, u32), (u32, bool, f64)>;

fn expected_edges(graph: &TokenGraph) -> Edges {
    let whole = Subgraph::whole(graph);
    let edges = whole.walk().map(|(edge, source, target)| {
        let own = graph.edge_rows()[edge.index()] > 0;
        let probability = (-f64::from(graph.resistance().seen()[edge.index()])).exp();
        (
            (source.0, target.0),
            (graph.counts()[edge.index()], own, probability),
        )
    });
    edges.collect()
}

/// Return the output of a program, or `None` if it is not installed.
fn outcome(mut command: Command, name: &str) -> Option<String> {
    match command.output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            missing(name);
            None
        }
        Err(error) => panic!("{name} did not start: {error}"),
        Ok(output) => {
            let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{name} refused: {complaint}");
            Some(String::from_utf8(output.stdout).unwrap())
        }
    }
}

#[test]
fn graphml_is_well_formed_and_complete() {
    let graph = graph();
    let file = written(&Subgraph::whole(&graph), ExportFormat::GraphMl);
    let document = roxmltree::Document::parse(&file).unwrap();
    let of = |name: &'static str| {
        document
            .descendants()
            .filter(move |node| node.has_tag_name(name))
    };
    let keys: Vec<&str> = of("key").map(|key| key.attribute("id").unwrap()).collect();
    let data = |node: roxmltree::Node, key: &str| {
        let mut all = node
            .children()
            .filter(|child| child.attribute("key") == Some(key));
        all.next().unwrap().text().unwrap_or_default().to_string()
    };
    let nodes: Vec<_> = of("node").collect();
    assert_eq!(nodes.len(), LABELS.len());
    for (number, node) in nodes.into_iter().enumerate() {
        assert_eq!(node.attribute("id").unwrap(), number.to_string());
        assert_eq!(data(node, "label"), shown(LABELS[number]));
        assert_eq!(
            data(node, "text"),
            format!("text of {}", shown(LABELS[number]))
        );
        assert_eq!(
            data(node, "out_degree"),
            graph.fan(NodeId(number as u32)).len().to_string()
        );
        for child in node.children() {
            assert!(
                keys.contains(&child.attribute("key").unwrap()),
                "every key is declared"
            );
        }
    }
    let edges: Edges = of("edge")
        .map(|edge| {
            let end = |name| edge.attribute(name).unwrap().parse().unwrap();
            let number = |key: &str| data(edge, key);
            let value = (
                number("count").parse().unwrap(),
                number("own") == "true",
                number("probability").parse().unwrap(),
            );
            ((end("source"), end("target")), value)
        })
        .collect();
    assert_eq!(edges, expected_edges(&graph));
}

#[test]
fn gexf_is_well_formed_and_complete() {
    let graph = graph();
    let file = written(&Subgraph::whole(&graph), ExportFormat::Gexf);
    let document = roxmltree::Document::parse(&file).unwrap();
    let of = |name: &'static str| {
        document
            .descendants()
            .filter(move |node| node.has_tag_name(name))
    };
    let value = |element: roxmltree::Node, name: &str| {
        let mut all = element
            .descendants()
            .filter(|child| child.attribute("for") == Some(name));
        all.next().unwrap().attribute("value").unwrap().to_string()
    };
    for (number, node) in of("node").enumerate() {
        assert_eq!(node.attribute("label").unwrap(), shown(LABELS[number]));
        assert_eq!(
            value(node, "text"),
            format!("text of {}", shown(LABELS[number]))
        );
        let rank: f64 = value(node, "pagerank").parse().unwrap();
        assert!(rank > 0.0 && rank < 1.0);
    }
    assert_eq!(of("node").count(), LABELS.len());
    let edges: Edges = of("edge")
        .map(|edge| {
            let end = |name| edge.attribute(name).unwrap().parse().unwrap();
            let own = value(edge, "own") == "true";
            let weight = edge.attribute("weight").unwrap().parse().unwrap();
            (
                (end("source"), end("target")),
                (value(edge, "count").parse().unwrap(), own, weight),
            )
        })
        .collect();
    assert_eq!(edges, expected_edges(&graph));
}

/// Splits RFC 4180 text into records, by the letter.
fn records(file: &str) -> Vec<Vec<String>> {
    let mut records = Vec::new();
    let (mut record, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut characters = file.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, quoted) {
            ('"', false) => quoted = true,
            ('"', true) if characters.next_if_eq(&'"').is_some() => field.push('"'),
            ('"', true) => quoted = false,
            (',', false) => record.push(std::mem::take(&mut field)),
            ('\r', false) => {
                assert_eq!(characters.next(), Some('\n'), "a bare carriage return");
                record.push(std::mem::take(&mut field));
                records.push(std::mem::take(&mut record));
            }
            (other, _) => field.push(other),
        }
    }
    assert!(
        !quoted && record.is_empty() && field.is_empty(),
        "an unfinished record"
    );
    records
}

#[test]
fn tables_have_a_record_for_every_node_and_edge() {
    let graph = graph();
    let whole = Subgraph::whole(&graph);
    let nodes = records(&written(&whole, ExportFormat::CsvNodes));
    assert_eq!(
        nodes[0],
        ["id", "label", "out_degree", "in_degree", "text", "pagerank"]
    );
    assert_eq!(nodes.len(), 1 + LABELS.len());
    for (number, record) in nodes[1..].iter().enumerate() {
        assert_eq!(record.len(), 6);
        assert_eq!(record[1], shown(LABELS[number]));
    }
    let file = records(&written(&whole, ExportFormat::CsvEdges));
    let edges: Edges = file[1..]
        .iter()
        .map(|record| {
            assert_eq!(record.len(), file[0].len());
            let ends: (u32, u32) = (record[0].parse().unwrap(), record[1].parse().unwrap());
            assert_eq!(record[2], shown(LABELS[ends.0 as usize]));
            assert_eq!(record[3], shown(LABELS[ends.1 as usize]));
            let probability = record[5].parse().unwrap();
            (
                ends,
                (record[4].parse().unwrap(), record[7] == "true", probability),
            )
        })
        .collect();
    assert_eq!(edges, expected_edges(&graph));
}

#[test]
fn a_part_is_written_with_the_degrees_of_the_whole() {
    let graph = graph();
    let part = Subgraph::around(&graph, &[NodeId(0)], 1, 10, Direction::Out).unwrap();
    let nodes = records(&written(&part, ExportFormat::CsvNodes));
    let ids: Vec<&str> = nodes[1..].iter().map(|record| record[0].as_str()).collect();
    assert_eq!(ids, ["0", "1", "5"]);
    assert_eq!(nodes[3][2..4], ["1", "2"]); // 5 -> 6 leaves the part; 4 -> 5 and 0 -> 5 enter
    assert_eq!(records(&written(&part, ExportFormat::CsvEdges)).len(), 3);
}

#[test]
fn graphviz_draws_the_labels_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("graph.dot");
    let graph = graph();
    std::fs::write(&path, written(&Subgraph::whole(&graph), ExportFormat::Dot)).unwrap();
    let mut command = Command::new("dot");
    command.arg("-Tsvg").arg(&path);
    let Some(svg) = outcome(command, "dot") else {
        return;
    };
    let options = roxmltree::ParsingOptions {
        allow_dtd: true,
        ..Default::default()
    };
    let document = roxmltree::Document::parse_with_options(&svg, options).unwrap();
    let groups = |class: &'static str| {
        let all = document.descendants();
        all.filter(move |node| node.has_tag_name("g") && node.attribute("class") == Some(class))
    };
    let child = |group: roxmltree::Node, name: &str| {
        let mut all = group.descendants().filter(|node| node.has_tag_name(name));
        let text = all.next().and_then(|node| node.text()).unwrap_or_default();
        text.replace('\u{a0}', " ")
    };
    let mut drawn = BTreeMap::new();
    for group in groups("node") {
        let number: usize = child(group, "title").parse().unwrap();
        drawn.insert(number, child(group, "text"));
    }
    assert_eq!(drawn.len(), LABELS.len());
    for (number, text) in drawn {
        let visible = shown(LABELS[number])
            .replace('\n', "\\n")
            .replace('\t', "\\t");
        assert_eq!(text.trim(), visible.replace('\r', "\\r").trim());
    }
    assert_eq!(groups("edge").count(), graph.edges());
}

/// Prints what networkx read, one JSON object.
const READER: &str = "
import json, sys
import networkx
read = networkx.read_graphml if sys.argv[1] == 'graphml' else networkx.read_gexf
graph = read(sys.argv[2])
try:
    ranks = networkx.pagerank(graph, weight=None, tol=1e-12, max_iter=500)
except ImportError:  # networkx ranks with numpy and scipy
    ranks = None
print(json.dumps({
    'directed': graph.is_directed(), 'multi': graph.is_multigraph(),
    'nodes': {n: [d['label'], d['text'], d['in_degree'], d['pagerank']] for n, d in graph.nodes(data=True)},
    'edges': [[u, v, d['count'], d['own'], d['probability']] for u, v, d in graph.edges(data=True)],
    'pagerank': ranks,
}))
";

#[test]
fn networkx_reads_both_xml_formats_and_ranks_alike() {
    let mut probe = Command::new("python3");
    probe.args(["-c", "import networkx"]);
    if !probe.output().is_ok_and(|output| output.status.success()) {
        return missing("python3 with networkx");
    }
    let folder = tempfile::tempdir().unwrap();
    let graph = graph();
    let ranks = PageRank::default().of(&graph).unwrap().ranks;
    for format in [ExportFormat::GraphMl, ExportFormat::Gexf] {
        let path = folder.path().join(format.name());
        std::fs::write(&path, written(&Subgraph::whole(&graph), format)).unwrap();
        let mut command = Command::new("python3");
        command.args(["-c", READER, format.name()]).arg(&path);
        let Some(answer) = outcome(command, "networkx") else {
            return;
        };
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(
            (&answer["directed"], &answer["multi"]),
            (&true.into(), &false.into())
        );
        assert_eq!(answer["nodes"].as_object().unwrap().len(), LABELS.len());
        for (number, text) in LABELS.iter().enumerate() {
            let node = &answer["nodes"][number.to_string()];
            assert_eq!(
                node[0].as_str().unwrap_or_default(),
                shown(text),
                "{format:?}"
            );
            assert_eq!(node[1], format!("text of {}", shown(text)));
            let entering = graph.incoming().degree(NodeId(number as u32));
            assert_eq!(node[2], entering);
            assert!((node[3].as_f64().unwrap() - ranks[number]).abs() < 1e-12);
        }
        match answer["pagerank"].as_object() {
            None => println!(
                "skipped: networkx's PageRank, for which numpy and scipy are not installed"
            ),
            Some(theirs) => {
                for (number, rank) in ranks.iter().enumerate() {
                    let theirs = theirs[&number.to_string()].as_f64().unwrap();
                    assert!((theirs - rank).abs() < 1e-9, "{theirs} and {rank}");
                }
            }
        }
        let end = |value: &serde_json::Value| value.as_str().unwrap().parse::<u32>().unwrap();
        let mut edges = Edges::new();
        for edge in answer["edges"].as_array().unwrap() {
            let count = edge[2].as_u64().unwrap() as u32;
            let value = (count, edge[3].as_bool().unwrap(), edge[4].as_f64().unwrap());
            edges.insert((end(&edge[0]), end(&edge[1])), value);
        }
        let expected = expected_edges(&graph);
        assert_eq!(edges.len(), expected.len());
        for (ends, (count, own, probability)) in expected {
            let found = edges[&ends];
            assert_eq!((found.0, found.1), (count, own));
            assert!((found.2 - probability).abs() < 1e-12);
        }
    }
}
