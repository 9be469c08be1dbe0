//! Own edges that ranks hold in parts: what rank 0 collects of them, and how it writes a model that no rank holds whole.

use crate::graph::{NodeId, TokenGraph};
use crate::learn::edge_trainer::{EdgeTrainer, Form};
use crate::learn::trainable::HeldRows;
use crate::ranks::Ranks;
use crate::{Error, ErrorKind, Result};

/// Bytes of edge weights that ranks send to rank 0 at a time, at least one fan.
const TOGETHER: usize = 32 << 20;

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
            (Some(fans), _) if edge_row > 0 && !fans.is_mine(source) => None,
            (Some(_), Form::Own(edges)) => Some(edges.held().row(source, edge_row)),
            _ => Some(edge_row as usize),
        }
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
        let fans = edges.held().fans().iter().cloned();
        let rows = std::iter::once(0..1).chain(fans).collect();
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

    /// Send the edge weights to rank 0, fan by fan in the order of nodes, the shared edge first. There `put` receives all
    /// of them; all ranks call this together.
    ///
    /// # Errors
    /// Those of `put` and of an exchange.
    pub(super) fn send_edges(
        &mut self,
        graph: &TokenGraph,
        put: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let (Some(fans), Form::Own(edges)) = (&self.fans, &mut self.form) else {
            return Ok(());
        };
        let parameter = edges.parameters().swap_remove(0);
        let (value, columns) = (&parameter.value, parameter.shape[1]);
        let leads = fans.ranks.rank() == 0;
        if leads {
            put(bytemuck::cast_slice(&value[..columns]))?;
        }
        let fan = |node: usize| graph.own_slots(NodeId(node as u32)).len();
        let (mut first, mut next) = (0, columns);
        while first < graph.nodes() {
            // As many nodes as fit.
            let (mut end, mut bytes) = (first, 0);
            while end < graph.nodes()
                && (end == first || bytes + fan(end) * columns * 4 <= TOGETHER)
            {
                bytes += fan(end) * columns * 4;
                end += 1;
            }
            let mine = (first..end).filter(|&node| fans.is_mine(node as u32));
            let length = mine.map(fan).sum::<usize>() * columns;
            let received = to_rank_0(&*fans.ranks, "edge weights", &value[next..next + length])?;
            next += length;
            let mut rest: Vec<&[f32]> = received.iter().map(Vec::as_slice).collect();
            for node in (first..end).filter(|_| leads) {
                let rest = &mut rest[fans.owner(node as u32)];
                let (rows, after) = rest.split_at(fan(node) * columns);
                put(bytemuck::cast_slice(rows))?;
                *rest = after;
            }
            first = end;
        }
        Ok(())
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
