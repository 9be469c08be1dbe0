//! The path graph in a model file: `path.counts`, and six blocks `path.N.*` for each order N above 2.

use crate::graph::{LEVEL_BLOCKS, PathGraph, PathLevel, TokenGraph};
use crate::kernel::numbers::Numbers;
use crate::model::container::Container;
use crate::model::model::whole_numbers;
use crate::model::writer::Writer;
use crate::{Error, ErrorKind, Result};

/// Read the path graph of `graph`; `None` where the file has none.
///
/// # Errors
/// [`ErrorKind::Format`], naming the block, for one that is missing or damaged.
pub(super) fn read_paths(container: &Container, graph: &TokenGraph) -> Result<Option<PathGraph>> {
    let all = container.blocks().iter();
    let stored = all.filter(|block| block.name.starts_with("path.")).count();
    if stored == 0 {
        return Ok(None);
    }
    let counts = whole_numbers(container.require("path.counts")?)?;
    let mut levels: Vec<PathLevel> = Vec::new();
    // Orders follow each other from 3 on: whatever else there is, a block in between is missing.
    while 1 + levels.len() * LEVEL_BLOCKS.len() < stored {
        let order = levels.len() + 3;
        if order > PathGraph::MAXIMUM_ORDER {
            return Err(Error::new(ErrorKind::Format, "unexpected blocks path.*"));
        }
        let mut arrays: [Numbers; 6] = Default::default();
        for (array, name) in arrays.iter_mut().zip(LEVEL_BLOCKS) {
            let block = container.require(&format!("path.{order}.{name}"))?;
            *array = Numbers::new(block.element, block.bytes().clone())
                .map_err(|error| error.at(format!("block {}", block.name)))?;
        }
        let parents = levels.last().map_or(graph.nodes(), PathLevel::walks);
        levels.push(PathLevel::new(arrays, order, parents, graph.nodes())?);
    }
    PathGraph::from_levels(graph, counts, levels)
        .map(Some)
        .map_err(|error| error.at("block path.counts"))
}

/// Write a path graph; the names of its blocks begin with `prefix`.
pub(super) fn write_paths(writer: &mut Writer, prefix: &str, paths: &PathGraph) -> Result<()> {
    let mut write = |name: &str, numbers: &Numbers| {
        let name = format!("{prefix}{name}");
        writer.values(&name, numbers.element(), &[numbers.len()], numbers.bytes())
    };
    write("path.counts", &Numbers::whole(paths.continuations()))?;
    for (level, order) in paths.levels().iter().zip(3..) {
        for (name, numbers) in LEVEL_BLOCKS.iter().zip(level.arrays()) {
            write(&format!("path.{order}.{name}"), numbers)?;
        }
    }
    Ok(())
}
