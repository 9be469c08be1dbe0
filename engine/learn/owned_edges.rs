//! Own edges that ranks hold in parts: what rank 0 collects of them, and how all write a model that no rank holds whole.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

use crate::graph::{NodeId, TokenGraph};
use crate::learn::edge_trainer::{EdgeTrainer, Form};
use crate::learn::trainable::HeldRows;
use crate::model::BlockLocation;
use crate::ranks::Ranks;
use crate::{Error, ErrorKind, Result};

/// Blocks whose rows belong to sources: only the owner of a node uses its row.
const OF_SOURCES: [&str; 3] = ["node.start", "node.trust", "blend.gate"];

impl EdgeTrainer {
    /// Whether ranks own the fans of this model, and hold the edge weights in parts.
    pub(super) fn is_divided(&self) -> bool {
        self.fans.is_some()
    }

    /// Return where the weights hold an edge of `source`, by its edge row; `None` where another rank holds it.
    pub(super) fn held_row(&self, source: u32, edge_row: u32) -> Option<usize> {
        match (&self.fans, &self.form) {
            (Some(fans), _) if edge_row > 0 && !fans.owns(source, edge_row) => None,
            (Some(_), Form::Own(edges)) => Some(edges.held().row(source, edge_row)),
            _ => Some(edge_row as usize),
        }
    }

    /// Whether other ranks hold edge weights too.
    pub(super) fn is_over_ranks(&self) -> bool {
        self.fans.as_ref().is_some_and(|fans| fans.ranks.size() > 1)
    }

    /// Whether this is rank 0 of the ranks that own fans.
    pub(super) fn leads(&self) -> bool {
        self.fans.as_ref().is_none_or(|fans| fans.ranks.rank() == 0)
    }

    /// Return the edge weights that this rank holds, with their moments and, where they are kept, averages.
    pub(super) fn held(&mut self, averaged: bool) -> Option<HeldRows<'_>> {
        self.fans.as_ref()?;
        let Form::Own(edges) = &mut self.form else {
            return None;
        };
        let ranges = edges.held().ranges().iter().cloned();
        let rows = std::iter::once(0..1).chain(ranges).collect();
        let parameter = edges.parameters().swap_remove(0);
        let moments = &mut self.moments[0];
        let mut arrays = vec![
            ("", &mut parameter.value),
            (".first", &mut moments.first),
            (".second", &mut moments.second),
        ];
        if averaged {
            if self.averages.is_empty() {
                self.averages.push(Vec::new());
            }
            arrays.push((".average", &mut self.averages[0]));
        }
        Some(HeldRows {
            name: "edge.arena",
            columns: parameter.shape[1],
            rows,
            arrays,
        })
    }

    /// Collect the rows of nodes on rank 0: values, moments and averages.
    ///
    /// # Errors
    /// Those of an exchange.
    pub(super) fn collect_nodes(&mut self) -> Result<()> {
        let Some(fans) = self.fans.as_ref().filter(|fans| fans.ranks.size() > 1) else {
            return Ok(());
        };
        let parameters = self.form.parameters().into_iter();
        let averages = self.averages.iter_mut().map(Some);
        let averages = averages.chain(std::iter::repeat_with(|| None));
        let mut nodes = 0;
        // Arrays with the columns of their rows.
        let mut arrays: Vec<(usize, &mut Vec<f32>)> = Vec::new();
        for ((parameter, moments), average) in parameters.zip(&mut self.moments).zip(averages) {
            let [rows, columns] = parameter.shape;
            if !OF_SOURCES.contains(&&*parameter.name) || rows == 0 {
                continue;
            }
            nodes = rows;
            let average = average.filter(|average| !average.is_empty());
            let moments = [&mut moments.first, &mut moments.second];
            let all = std::iter::once(&mut parameter.value).chain(moments);
            arrays.extend(all.chain(average).map(|array| (columns, array)));
        }
        let mut mine = Vec::new();
        for node in (0..nodes).filter(|&node| fans.is_mine(node as u32)) {
            for (columns, array) in &arrays {
                mine.extend_from_slice(&array[node * columns..(node + 1) * columns]);
            }
        }
        let received = to_rank_0(&*fans.ranks, "rows of nodes", &mine)?;
        let mut rest: Vec<&[f32]> = received.iter().map(Vec::as_slice).collect();
        for node in (0..nodes).filter(|_| !received.is_empty()) {
            let rest = &mut rest[fans.owner(node as u32)];
            for (columns, array) in &mut arrays {
                let (row, after) = rest.split_at(*columns);
                array[node * *columns..(node + 1) * *columns].copy_from_slice(row);
                *rest = after;
            }
        }
        Ok(())
    }

    /// Check, on all ranks, that every parameter is finite.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`]; those of an exchange.
    pub(super) fn check_finite(&mut self) -> Result<()> {
        let parameters = self.form.parameters();
        let infinite = parameters
            .iter()
            .find(|one| one.value.iter().any(|value| !value.is_finite()));
        let mut count = [i64::from(infinite.is_some())];
        if let Some(fans) = &self.fans {
            fans.ranks.sum("check of the weights".into(), &mut count)?;
        }
        if count == [0] {
            return Ok(());
        }
        let block = infinite.map_or("of another rank", |one| &*one.name);
        Err(Error::new(ErrorKind::Numeric, "a weight is not finite")
            .at(format!("block {block}"))
            .advice("training diverged: lower train.rate"))
    }

    /// Write the edge weights that this rank holds into the file that rank 0 has created; rank 0 passes the location of their
    /// block. Returns there the checksums of its parts: the shared edge, then the fan of each node. All ranks call this
    /// together.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] where a rank cannot write the file, which must be in a folder that all share;
    /// [`ErrorKind::Checksum`] where the file does not have what a rank has written; those of an exchange.
    pub(super) fn write_edges(
        &mut self,
        graph: &TokenGraph,
        location: Option<&BlockLocation>,
    ) -> Result<Vec<u64>> {
        let (Some(fans), Form::Own(edges)) = (&self.fans, &mut self.form) else {
            return Ok(Vec::new());
        };
        let ranks = &*fans.ranks;
        let location = location_of_rank_0(ranks, location)?;
        let held = edges.held().clone();
        let parameter = edges.parameters().swap_remove(0);
        let row_bytes = parameter.shape[1] * 4;
        let bytes: &[u8] = bytemuck::cast_slice(&parameter.value);
        let (shared, mut rest) = bytes.split_at(row_bytes);
        let mut part = FilePart::open(&location)?;
        // Rows that this rank writes, with their checksums; fans of which it writes the first row.
        let (mut written, mut begun) = (Vec::new(), Vec::new());
        if ranks.rank() == 0 {
            part.write(0, shared)?;
            written.push((0..1, xxh3_64(shared)));
        }
        let mut nodes = (0..graph.nodes() as u32).map(|node| (node, graph.own_slots(NodeId(node))));
        let mut current = nodes.next();
        for rows in held.ranges() {
            let (fan, after) = rest.split_at(rows.len() * row_bytes);
            rest = after;
            part.write(rows.start * row_bytes, fan)?;
            written.push((rows.clone(), xxh3_64(fan)));
            while current
                .as_ref()
                .is_some_and(|(_, fan)| fan.end <= rows.start)
            {
                current = nodes.next();
            }
            match &current {
                Some((node, whole)) if rows.start == whole.start => {
                    begun.push((1 + u64::from(*node), whole.clone(), written.len() - 1));
                }
                _ => {}
            }
        }
        part.sync()?;
        ranks.gather("edges of the model".into(), &[])?;
        // Opened again: a file system over a network then shows what others have synced. Not every such system keeps the
        // bytes of two machines apart that write into one page.
        let mut part = FilePart::open(&location)?;
        part.check(&written, row_bytes)?;
        // Pairs of a part and its checksum: node u is part 1 + u.
        let mut checksums: Vec<[u64; 2]> = Vec::with_capacity(begun.len());
        for (index, whole, first) in begun {
            let (rows, checksum) = &written[first];
            checksums.push(match *rows == whole {
                true => [index, *checksum],
                // Other ranks have written the rest of a cut fan.
                false => {
                    let fan = part.read(whole.start * row_bytes, whole.len() * row_bytes)?;
                    [index, xxh3_64(&fan)]
                }
            });
        }
        let mut parts = vec![&[][..]; ranks.size()];
        parts[0] = bytemuck::cast_slice(&checksums);
        let received = ranks.exchange("checksums of the model".into(), &parts)?;
        // Nodes without edges have no bytes.
        let mut all = vec![xxh3_64(&[]); 1 + graph.nodes()];
        all[0] = xxh3_64(shared);
        for bytes in received {
            let pairs: Vec<[u64; 2]> = bytemuck::pod_collect_to_vec(&bytes);
            for [part, checksum] in pairs {
                all[part as usize] = checksum;
            }
        }
        Ok(all)
    }
}

/// Return the location that rank 0 passes, on all ranks.
fn location_of_rank_0(
    ranks: &dyn Ranks,
    location: Option<&BlockLocation>,
) -> Result<BlockLocation> {
    let location = serde_json::to_vec(&location).map_err(|error| {
        Error::new(
            ErrorKind::Configuration,
            "the path of the model is not UTF-8",
        )
        .because(error)
    })?;
    let all = ranks.gather("the location of the edge weights".into(), &location)?;
    let location = serde_json::from_slice::<Option<BlockLocation>>(&all[0]);
    location.ok().flatten().ok_or_else(|| {
        let what = "rank 0 has not created the file of the model";
        Error::new(ErrorKind::Resource, what)
    })
}

/// A block of a file that several ranks write.
struct FilePart<'a> {
    file: File,
    location: &'a BlockLocation,
}

impl<'a> FilePart<'a> {
    fn open(location: &'a BlockLocation) -> Result<Self> {
        let file = brillm_file::open_part(&location.path).map_err(|error| {
            Error::io_at(&location.path)(error)
                .advice("the folder of the run must be one that all machines share")
        })?;
        Ok(Self { file, location })
    }

    fn seek(&mut self, at: usize) -> Result<()> {
        let to = SeekFrom::Start(self.location.offset + at as u64);
        let sought = self.file.seek(to).map(drop);
        sought.map_err(Error::io_at(&self.location.path))
    }

    /// Write bytes at an offset in the block.
    fn write(&mut self, at: usize, bytes: &[u8]) -> Result<()> {
        self.seek(at)?;
        let written = self.file.write_all(bytes);
        written.map_err(Error::io_at(&self.location.path))
    }

    /// Wait until what was written is on disk.
    fn sync(&self) -> Result<()> {
        brillm_file::sync_part(&self.file).map_err(Error::io_at(&self.location.path))
    }

    /// Check that ranges of rows have the bytes that were written, by their checksums.
    fn check(&mut self, written: &[(Range<usize>, u64)], row_bytes: usize) -> Result<()> {
        for (rows, checksum) in written {
            let found = self.read(rows.start * row_bytes, rows.len() * row_bytes)?;
            if xxh3_64(&found) != *checksum {
                let what = "the file does not have the edges that were written";
                return Err(Error::new(ErrorKind::Checksum, what)
                    .at(self.location.path.display())
                    .advice("several machines must be able to write one file in the folder of the run; the last checkpoint is valid"));
            }
        }
        Ok(())
    }

    /// Read bytes that other ranks may have written.
    fn read(&mut self, at: usize, length: usize) -> Result<Vec<u8>> {
        self.seek(at)?;
        let mut bytes = vec![0; length];
        let read = self.file.read_exact(&mut bytes);
        read.map_err(Error::io_at(&self.location.path))?;
        Ok(bytes)
    }
}

/// Send numbers to rank 0; returns there those of each rank, and nothing elsewhere.
fn to_rank_0(ranks: &dyn Ranks, name: &str, numbers: &[f32]) -> Result<Vec<Vec<f32>>> {
    let mut parts = vec![&[][..]; ranks.size()];
    parts[0] = bytemuck::cast_slice(numbers);
    let received = ranks.exchange(name.into(), &parts)?;
    Ok(match ranks.rank() {
        0 => {
            let numbers = received.iter();
            numbers
                .map(|bytes| bytemuck::pod_collect_to_vec(bytes))
                .collect()
        }
        _ => Vec::new(),
    })
}
