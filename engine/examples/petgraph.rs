//! petgraph's algorithms on a model's graph: the edge weight is the static resistance, −ln of a probability.

use brillm::Model;
use brillm::graph::{Direction, NodeId, Subgraph, least_paths};
use petgraph::algo::{astar, dijkstra, kosaraju_scc};

fn main() -> brillm::Result<()> {
    let path = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "models/english.bril".into());
    let model = Model::open(path.as_ref(), Default::default())?;
    let graph = model.mechanism().graph();
    let words = model.tokenizer().encode(" the girl")?;
    let (from, to) = (NodeId(words[0]), NodeId(words[words.len() - 1]));
    let text = |node: &NodeId| model.tokenizer().vocabulary().display(node.0);

    let costs = dijkstra(graph, from, None, |edge| edge.resistance());
    println!(
        "{} of {} nodes can be reached from {}",
        costs.len(),
        graph.nodes(),
        text(&from)
    );

    if let Some((cost, path)) = astar(
        graph,
        from,
        |node| node == to,
        |edge| edge.resistance(),
        |_| 0.0,
    ) {
        let path: Vec<String> = path.iter().map(text).collect();
        println!("least resistance {cost:.3}: {}", path.join(" → "));
    }
    // petgraph's k_shortest_path gives costs only; these have their nodes.
    for path in least_paths(graph, from, to, 3)? {
        let nodes: Vec<String> = path.nodes.iter().map(text).collect();
        println!("  {:.3}  {}", path.resistance, nodes.join(" → "));
    }
    println!(
        "{} strongly connected components",
        kosaraju_scc(graph).len()
    );

    let around = Subgraph::around(graph, &[from], 1, 12, Direction::Out)?;
    println!(
        "{} nodes and {} edges around {}",
        around.nodes().len(),
        around.edges().len(),
        text(&from)
    );
    Ok(())
}
