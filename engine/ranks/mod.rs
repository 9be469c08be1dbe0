//! Ranks: processes that work on one task together, on one machine or on several.
//!
//! [`Ranks`] is what a computation needs of them: their number, exchanges of bytes, and sums of integers, which have the
//! same bits in any order ([`FixedPoint`] makes integers of floats). [`OneProcess`] is always there; with the feature
//! `mpi`, [`start`] joins the processes that `mpirun` or `srun` has started. Every rank makes the same calls in the same
//! order.
#![forbid(unsafe_code)]

mod exact;
mod failure;
mod launcher;
mod one;
#[cfg(test)]
pub(crate) mod threads;
#[cfg(feature = "mpi")]
mod watchdog;
#[cfg(feature = "mpi")]
mod world;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::{Error, ErrorKind, Result};

pub use exact::FixedPoint;
pub use failure::agree_on_failure;
pub(crate) use failure::{from_bytes as error_from_bytes, to_bytes as error_to_bytes};
pub use launcher::Launcher;
pub use one::OneProcess;

/// A call that all ranks make together.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// What is exchanged; errors name it.
    pub name: &'a str,
    /// Whether the watchdog ends the job when the call takes too long.
    pub watched: bool,
}

impl<'a> Call<'a> {
    /// Return a call that may take any time, because another rank works meanwhile.
    pub fn unwatched(name: &'a str) -> Self {
        let watched = false;
        Self { name, watched }
    }
}

impl<'a> From<&'a str> for Call<'a> {
    fn from(name: &'a str) -> Self {
        let watched = true;
        Self { name, watched }
    }
}

/// Processes that work together.
pub trait Ranks: Send + Sync + std::fmt::Debug {
    /// Number of this process, from 0.
    fn rank(&self) -> usize;

    /// Number of processes.
    fn size(&self) -> usize;

    /// Send `parts[r]` to rank r, and return what each rank sent to this one. `[size]`
    ///
    /// # Errors
    /// [`ErrorKind::Resource`] when the ranks make different calls.
    fn exchange(&self, call: Call<'_>, parts: &[&[u8]]) -> Result<Vec<Vec<u8>>>;

    /// As [`Self::exchange`] where every rank knows the lengths of what it receives: `lengths[r]` bytes from rank r.
    ///
    /// # Errors
    /// As [`Self::exchange`]; [`ErrorKind::Resource`] when a part has another length.
    fn exchange_known(
        &self,
        call: Call<'_>,
        parts: &[&[u8]],
        lengths: &[usize],
    ) -> Result<Vec<Vec<u8>>> {
        let received = self.exchange(call, parts)?;
        match received.iter().map(Vec::len).eq(lengths.iter().copied()) {
            true => Ok(received),
            false => {
                let what = "a rank sent another number of bytes than expected";
                Err(Error::new(ErrorKind::Resource, what).at(call.name))
            }
        }
    }

    /// Replace each value by its sum over all ranks. Sums wrap; [`FixedPoint`] keeps them in range.
    ///
    /// # Errors
    /// As [`Self::exchange`].
    fn sum(&self, call: Call<'_>, values: &mut [i64]) -> Result<()>;

    /// Return the bytes of every rank, in the order of the ranks. `[size]`
    ///
    /// # Errors
    /// As [`Self::exchange`].
    fn gather(&self, call: Call<'_>, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.exchange(call, &vec![bytes; self.size()])
    }

    /// Bytes that this rank has sent to others in exchanges so far; those of sums are not counted.
    fn sent(&self) -> u64 {
        0
    }

    /// The part of `count` items that this rank computes: a contiguous run, in the order of the ranks.
    fn share(&self, count: usize) -> Range<usize> {
        let (rank, size) = (self.rank(), self.size());
        rank * count / size..(rank + 1) * count / size
    }

    /// Wait until all ranks have finished, and leave them. A rank that ends without this call ends the job.
    ///
    /// # Errors
    /// As [`Self::exchange`].
    fn finish(&self) -> Result<()>;

    /// End the processes of all ranks.
    fn abort(&self, code: u8) -> !;
}

/// Time after which the watchdog ends a job whose ranks wait for one of them.
pub const TIMEOUT: Duration = Duration::from_secs(600);

/// Join the ranks of this job: those of the launcher that started this process, or this process alone. `wanted` is the
/// number that the caller expects; `timeout` is that of the watchdog.
///
/// # Errors
/// [`ErrorKind::Configuration`] when there are not `wanted` ranks, or when a launcher started this process that the
/// build cannot join.
pub fn start(wanted: Option<usize>, timeout: Duration) -> Result<Arc<dyn Ranks>> {
    let launcher = Launcher::detect();
    if launcher.is_none() && wanted.is_none() {
        return Ok(Arc::new(OneProcess));
    }
    #[cfg(feature = "mpi")]
    let ranks: Arc<dyn Ranks> = world::World::join(launcher.as_ref(), timeout)?;
    #[cfg(not(feature = "mpi"))]
    let ranks: Arc<dyn Ranks> = {
        let _ = timeout;
        if let Some(launcher) = launcher.filter(|launcher| launcher.tasks > 1) {
            return Err(launcher.refused("this build does not use MPI", MPI_ADVICE));
        }
        Arc::new(OneProcess)
    };
    // A rank may want another number than the rest: all meet the error of the first that is wrong.
    let mine = serde_json::to_vec(&wanted).unwrap_or_default();
    let all = ranks.gather("number of ranks".into(), &mine)?;
    let all = all.iter().map(|one| serde_json::from_slice(one).ok());
    let wrong = all.map(Option::flatten).find(|wanted: &Option<usize>| {
        let size = ranks.size();
        wanted.is_some_and(|wanted| wanted != size)
    });
    match wrong.flatten() {
        Some(wanted) => {
            ranks.finish()?;
            let there = match ranks.size() {
                1 => "this is one process".into(),
                size => format!("there are {size} ranks"),
            };
            let error = Error::new(
                ErrorKind::Configuration,
                format!("{wanted} ranks are wanted, and {there}"),
            );
            let advice = match cfg!(feature = "mpi") {
                true => format!("start the program with: mpirun -n {wanted} brillm …"),
                false => MPI_ADVICE.into(),
            };
            Err(error.at("--ranks").advice(advice))
        }
        None => Ok(ranks),
    }
}

/// What to do where a build lacks the feature.
const MPI_ADVICE: &str = "build the program with --features mpi, against the MPI of its launcher";

/// Name and version of the MPI that this build uses; `None` in a build without the feature `mpi`.
pub fn library() -> Option<String> {
    #[cfg(feature = "mpi")]
    return Some(world::library());
    #[cfg(not(feature = "mpi"))]
    None
}

/// Run `work` on rank 0, and then, unless it failed, on the others: for files that rank 0 writes and all read.
///
/// # Errors
/// Those of `work`. Where it fails on rank 0, the others wait for rank 0 to end the job.
pub fn leader_first<T>(
    ranks: &dyn Ranks,
    name: &str,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    if ranks.size() == 1 {
        return work();
    }
    if ranks.rank() == 0 {
        let result = work();
        ranks.gather(Call::unwatched(name), &[u8::from(result.is_ok())])?;
        return result;
    }
    let done = ranks.gather(Call::unwatched(name), &[1])?;
    if done[0] != [1] {
        // Rank 0 reports the error. This call returns only if it does not end the job.
        ranks.gather("end of the job".into(), &[])?;
        return Err(Error::new(ErrorKind::Cancelled, "rank 0 failed"));
    }
    work()
}

/// Check that all ranks have the same values of some properties: pairs of a name and a value.
///
/// # Errors
/// [`ErrorKind::Configuration`], on every rank, that names the first property that differs and its rank.
pub fn agree(ranks: &dyn Ranks, properties: &[(&str, String)]) -> Result<()> {
    if ranks.size() == 1 {
        return Ok(());
    }
    let values: Vec<&str> = properties.iter().map(|(_, value)| &**value).collect();
    let mine = serde_json::to_vec(&values).unwrap_or_default();
    let all = ranks.gather("comparison of the ranks".into(), &mine)?;
    let of =
        |rank: usize| -> Vec<String> { serde_json::from_slice(&all[rank]).unwrap_or_default() };
    let first = of(0);
    for rank in 1..ranks.size() {
        let other = of(rank);
        for (index, (name, _)) in properties.iter().enumerate() {
            if first.get(index) != other.get(index) {
                return Err(differs(name, rank, first.get(index), other.get(index)));
            }
        }
    }
    Ok(())
}

fn differs(name: &str, rank: usize, first: Option<&String>, other: Option<&String>) -> Error {
    let show = |value: Option<&String>| value.map_or("(none)", String::as_str).to_string();
    Error::new(
        ErrorKind::Configuration,
        format!(
            "{name} of rank {rank} ({}) differs from that of rank 0 ({})",
            show(other),
            show(first)
        ),
    )
    .advice("start the same program with the same arguments and files on machines of one kind, or set BRILLM_SIMD to a level that all have")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_exchanges_with_itself() {
        let one = OneProcess;
        let exchanged = one.exchange("test".into(), &[&[1, 2, 3]]).unwrap();
        assert_eq!(exchanged, [[1, 2, 3]]);
        assert_eq!(one.gather("test".into(), &[7]).unwrap(), [[7]]);
        let mut values = [1, -2];
        one.sum("test".into(), &mut values).unwrap();
        assert_eq!(values, [1, -2]);
        assert_eq!((one.rank(), one.size(), one.share(7)), (0, 1, 0..7));
        one.finish().unwrap();
        agree(&one, &[("version", "1".into())]).unwrap();
        let failed = leader_first(&one, "test", || {
            Err::<(), _>(Error::new(ErrorKind::Input, "no"))
        });
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::Input);
    }
}
