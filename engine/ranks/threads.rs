//! Ranks that are threads of one process, for tests.

use std::sync::{Arc, Barrier, Mutex, PoisonError};

use super::{Call, Ranks};
use crate::Result;

/// One of several threads that are ranks.
#[derive(Debug)]
struct Thread {
    rank: usize,
    all: Arc<Shared>,
}

/// What the threads share.
#[derive(Debug)]
struct Shared {
    barrier: Barrier,
    /// What each rank sends to each in the current exchange. `[size][size]`
    sent: Mutex<Vec<Vec<Vec<u8>>>>,
}

/// Run `work` on `size` threads that are ranks; returns what each has returned, in the order of the ranks.
pub(crate) fn over_threads<T: Send>(
    size: usize,
    work: impl Fn(Arc<dyn Ranks>) -> T + Sync,
) -> Vec<T> {
    let all = Arc::new(Shared {
        barrier: Barrier::new(size),
        sent: Mutex::new(vec![Vec::new(); size]),
    });
    std::thread::scope(|scope| {
        let start = |rank: usize| {
            let all = Arc::clone(&all);
            let work = &work;
            scope.spawn(move || work(Arc::new(Thread { rank, all })))
        };
        let threads: Vec<_> = (0..size).map(start).collect();
        let results = threads.into_iter().map(|thread| thread.join());
        results
            .map(|result| result.expect("a rank has panicked"))
            .collect()
    })
}

impl Ranks for Thread {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.sent().len()
    }

    fn exchange(&self, _call: Call<'_>, parts: &[&[u8]]) -> Result<Vec<Vec<u8>>> {
        self.sent()[self.rank] = parts.iter().map(|part| part.to_vec()).collect();
        self.all.barrier.wait();
        let received = self
            .sent()
            .iter()
            .map(|parts| parts[self.rank].clone())
            .collect();
        // No rank sends again before all have received.
        self.all.barrier.wait();
        Ok(received)
    }

    fn sum(&self, call: Call<'_>, values: &mut [i64]) -> Result<()> {
        let all = self.gather(call, bytemuck::cast_slice(values))?;
        values.fill(0);
        for bytes in all {
            let terms: Vec<i64> = bytemuck::pod_collect_to_vec(&bytes);
            for (sum, term) in values.iter_mut().zip(terms) {
                *sum += term;
            }
        }
        Ok(())
    }

    fn finish(&self) -> Result<()> {
        Ok(())
    }

    fn abort(&self, code: u8) -> ! {
        std::process::exit(code.into())
    }
}

impl Thread {
    fn sent(&self) -> std::sync::MutexGuard<'_, Vec<Vec<Vec<u8>>>> {
        self.all.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
