//! The ranks of an MPI job.

use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::mpi::Threading;
use ::mpi::collective::SystemOperation;
use ::mpi::datatype::{Partition, PartitionMut};
use ::mpi::environment::Universe;
use ::mpi::topology::SimpleCommunicator;
use ::mpi::traits::{Communicator, CommunicatorCollectives};
use xxhash_rust::xxh3::xxh3_64;

use super::watchdog::Watchdog;
use super::{Call, Launcher, Ranks};
use crate::{Error, ErrorKind, Result};

/// Exit code of a job that one rank has ended.
pub(super) const FAILED: u8 = 70;

/// Bytes that a rank sends in one call at most: MPI counts are 32-bit numbers, and buffers stay small.
const PIECE: usize = 1 << 28;

/// Time that the launcher gets to pass on the last line of a rank that ends the job.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// All ranks of the job, MPI_COMM_WORLD.
pub(super) struct World {
    rank: usize,
    size: usize,
    watchdog: Watchdog,
    /// Bytes sent to other ranks in exchanges.
    sent: AtomicU64,
    /// MPI itself, until [`Ranks::finish`]. The lock admits one thread at a time. Never dropped otherwise: MPI_Finalize
    /// waits for all ranks, and would wait for ever for one that failed.
    universe: Mutex<Option<ManuallyDrop<Universe>>>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "rank {} of {}", self.rank, self.size)
    }
}

impl World {
    /// Initialise MPI.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] for a launcher whose ranks this build does not see; [`ErrorKind::Resource`] when MPI
    /// cannot be initialised.
    pub(super) fn join(launcher: Option<&Launcher>, timeout: Duration) -> Result<Arc<dyn Ranks>> {
        let unusable = |what: &str| {
            let advice =
                "a process joins its ranks once; use an MPI that supports MPI_THREAD_SERIALIZED";
            Error::new(ErrorKind::Resource, what).advice(advice)
        };
        // Serialized: any thread may call MPI, one at a time.
        let (universe, threading) = ::mpi::initialize_with_threading(Threading::Serialized)
            .ok_or_else(|| unusable("MPI is already initialised"))?;
        let universe = ManuallyDrop::new(universe);
        if threading < Threading::Serialized {
            return Err(unusable("this MPI is for one thread only"));
        }
        let world = SimpleCommunicator::world();
        let (rank, size) = (world.rank() as usize, world.size() as usize);
        if let Some(launcher) = launcher.filter(|launcher| launcher.tasks != size) {
            // Each process is a world of its own.
            drop(ManuallyDrop::into_inner(universe));
            let why = format!("this build joins those of {} only", library());
            let advice = "use the mpirun of the MPI that the program was built with, or build it again (MPICC names the compiler wrapper)";
            return Err(launcher.refused(&why, advice));
        }
        let name = format!("rank {rank} of {size}");
        report_panics(name.clone());
        Ok(Arc::new(Self {
            rank,
            size,
            watchdog: Watchdog::start(name, timeout),
            sent: AtomicU64::new(0),
            universe: Mutex::new(Some(universe)),
        }))
    }

    /// Enter an exchange: returns the communicator, and what keeps other threads out.
    fn enter(&self, call: Call<'_>) -> Result<Entered<'_>> {
        let guard = self.universe.lock().unwrap_or_else(PoisonError::into_inner);
        if guard.is_none() {
            return Err(Error::new(ErrorKind::Resource, "the ranks have been left").at(call.name));
        }
        if call.watched {
            self.watchdog.begin(call.name);
        }
        let entered = Entered {
            world: SimpleCommunicator::world(),
            watchdog: &self.watchdog,
            _guard: guard,
        };
        // Two ranks in different exchanges wait for ever, or read invalid data: in debug builds names are compared first.
        if cfg!(debug_assertions) {
            let mine = xxh3_64(call.name.as_bytes());
            let mut all = vec![0u64; self.size];
            entered.world.all_gather_into(&mine, &mut all[..]);
            if let Some(other) = all.iter().position(|&other| other != mine) {
                let what = format!("rank {other} makes another exchange");
                return Err(Error::new(ErrorKind::Resource, what).at(call.name));
            }
        }
        Ok(entered)
    }
}

impl World {
    /// Bytes that a rank sends to each other one in a round.
    fn piece(&self) -> usize {
        (PIECE / self.size).max(1)
    }

    /// Rounds of an exchange whose longest part has this many bytes.
    fn rounds(&self, longest: usize) -> usize {
        longest.div_ceil(self.piece())
    }

    /// Exchange parts in rounds; `incoming[r]` bytes come from rank r.
    fn exchange_rounds(
        &self,
        entered: &Entered<'_>,
        parts: &[&[u8]],
        incoming: &[usize],
        rounds: usize,
    ) -> Vec<Vec<u8>> {
        let piece = self.piece();
        let others = parts.iter().enumerate().filter(|&(to, _)| to != self.rank);
        let bytes: usize = others.map(|(_, part)| part.len()).sum();
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        let mut received: Vec<Vec<u8>> = incoming.iter().map(|&n| Vec::with_capacity(n)).collect();
        for round in 0..rounds {
            let range = |length: usize| {
                let start = (round * piece).min(length);
                start..(start + piece).min(length)
            };
            // Allocated even where they are empty: an empty vector has the address 1, which is MPI_IN_PLACE in Open MPI.
            let mut sent = Vec::with_capacity(1);
            let mut send = Counts::default();
            for part in parts {
                let bytes = &part[range(part.len())];
                send.add(bytes.len());
                sent.extend_from_slice(bytes);
            }
            let mut receive = Counts::default();
            incoming.iter().for_each(|&n| receive.add(range(n).len()));
            let mut arrived = vec![0u8; receive.total.max(1)];
            entered.world.all_to_all_varcount_into(
                &Partition::new(&sent[..], &send.counts[..], &send.offsets[..]),
                &mut PartitionMut::new(&mut arrived[..], &receive.counts[..], &receive.offsets[..]),
            );
            for (from, received) in received.iter_mut().enumerate() {
                let start = receive.offsets[from] as usize;
                received.extend_from_slice(&arrived[start..start + receive.counts[from] as usize]);
            }
        }
        received
    }
}

/// Name and version of the MPI library, which may be asked before it is initialised.
pub(super) fn library() -> String {
    let library = ::mpi::environment::library_version().unwrap_or_default();
    let name = library.split([',', '\n']).next().unwrap_or_default();
    name.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// An exchange that is being made.
struct Entered<'a> {
    world: SimpleCommunicator,
    watchdog: &'a Watchdog,
    _guard: MutexGuard<'a, Option<ManuallyDrop<Universe>>>,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.watchdog.end();
    }
}

impl Ranks for World {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn exchange(&self, call: Call<'_>, parts: &[&[u8]]) -> Result<Vec<Vec<u8>>> {
        let entered = self.enter(call)?;
        let lengths: Vec<u64> = parts.iter().map(|part| part.len() as u64).collect();
        // All lengths, so that every rank knows the number of rounds.
        let mut all = vec![0u64; self.size * self.size];
        entered.world.all_gather_into(&lengths[..], &mut all[..]);
        let rounds = self.rounds(all.iter().max().map_or(0, |&most| most as usize));
        let incoming: Vec<usize> = (0..self.size)
            .map(|from| all[from * self.size + self.rank] as usize)
            .collect();
        Ok(self.exchange_rounds(&entered, parts, &incoming, rounds))
    }

    fn exchange_known(
        &self,
        call: Call<'_>,
        parts: &[&[u8]],
        lengths: &[usize],
    ) -> Result<Vec<Vec<u8>>> {
        let mine = parts
            .iter()
            .map(|part| part.len())
            .chain(lengths.iter().copied());
        // Lengths of other pairs of ranks are not known here, and with them the number of rounds.
        if self.rounds(mine.max().unwrap_or(0)) > 1 {
            let what = "an exchange of known lengths is too long for one round";
            return Err(Error::new(ErrorKind::Resource, what)
                .at(call.name)
                .advice("lower train.batch"));
        }
        let entered = self.enter(call)?;
        Ok(self.exchange_rounds(&entered, parts, lengths, 1))
    }

    fn sum(&self, call: Call<'_>, values: &mut [i64]) -> Result<()> {
        let entered = self.enter(call)?;
        let mut sums = vec![0i64; values.len().min(PIECE / 8)];
        for values in values.chunks_mut(PIECE / 8) {
            let sums = &mut sums[..values.len()];
            entered
                .world
                .all_reduce_into(&*values, sums, SystemOperation::sum());
            values.copy_from_slice(sums);
        }
        Ok(())
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    fn finish(&self) -> Result<()> {
        self.sum(Call::unwatched("end of the run"), &mut [0])?;
        let universe = self
            .universe
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(universe.map(ManuallyDrop::into_inner));
        Ok(())
    }

    fn abort(&self, code: u8) -> ! {
        // The launcher of MPICH drops what a rank has printed and it has not passed on yet.
        std::thread::sleep(LAST_WORDS);
        SimpleCommunicator::world().abort(code.into())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let left = self
            .universe
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .is_none();
        if !left {
            // The others wait for this rank in their next exchange.
            if !std::thread::panicking() {
                eprintln!("brillm: {self:?} ended before the others");
            }
            self.abort(FAILED);
        }
    }
}

/// Counts and offsets of the parts of a buffer.
#[derive(Default)]
struct Counts {
    counts: Vec<i32>,
    offsets: Vec<i32>,
    total: usize,
}

impl Counts {
    fn add(&mut self, count: usize) {
        // Below PIECE.
        self.counts.push(count as i32);
        self.offsets.push(self.total as i32);
        self.total += count;
    }
}

/// Report panics in one line that names the rank.
fn report_panics(rank: String) {
    std::panic::set_hook(Box::new(move |panic| {
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let text = text.unwrap_or("unknown reason");
        let at = panic
            .location()
            .map_or(String::new(), |at| format!(" at {at}"));
        eprintln!("brillm: {rank} panicked{at}: {text}");
    }));
}
