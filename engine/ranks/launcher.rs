//! The launcher that started this process: `mpirun` or `srun`.

use crate::{Error, ErrorKind};

/// Variables that a launcher sets: its name, those of the number of tasks, and those of the number of this one. The
/// variables of a Slurm *job* are not among them: a batch script has them too, and runs one process.
const VARIABLES: [(&str, &str, &str); 3] = [
    (
        "Open MPI's mpirun",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_RANK",
    ),
    ("an mpirun of the MPICH family", "PMI_SIZE", "PMI_RANK"),
    ("srun", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
];

/// What a launcher told this process through its environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launcher {
    /// Name of the launcher.
    pub name: &'static str,
    /// Number of processes that it started.
    pub tasks: usize,
    /// Number of this one, from 0.
    pub task: usize,
}

impl Launcher {
    /// Return the launcher of this process; `None` when it was started without one.
    pub fn detect() -> Option<Self> {
        Self::of(|name| std::env::var(name).ok())
    }

    /// As [`Self::detect`], from given variables.
    fn of(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let number = |name: &str| variable(name)?.trim().parse().ok();
        VARIABLES.iter().find_map(|&(name, tasks, task)| {
            Some(Self {
                name,
                tasks: number(tasks)?,
                task: number(task).unwrap_or(0),
            })
        })
    }

    /// Make the error of processes that would each do the whole work.
    pub fn refused(&self, why: &str, advice: &str) -> Error {
        let what = format!(
            "{} started {} processes, and {why}: each would do the whole work",
            self.name, self.tasks
        );
        Error::new(ErrorKind::Configuration, what).advice(advice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Variables of the environment, and the size and rank they mean.
    type Case = (
        &'static [(&'static str, &'static str)],
        Option<(usize, usize)>,
    );

    #[test]
    fn launchers_are_recognised_by_their_variables() {
        let cases: [Case; 7] = [
            (&[], None),
            (
                &[("OMPI_COMM_WORLD_SIZE", "4"), ("OMPI_COMM_WORLD_RANK", "3")],
                Some((4, 3)),
            ),
            (&[("PMI_SIZE", "2"), ("PMI_RANK", "1")], Some((2, 1))),
            (
                &[("SLURM_STEP_NUM_TASKS", "8"), ("SLURM_PROCID", "5")],
                Some((8, 5)),
            ),
            // The shell of a batch script has the variables of the job, and is one process.
            (&[("SLURM_NTASKS", "8"), ("SLURM_PROCID", "0")], None),
            (&[("OMPI_COMM_WORLD_SIZE", "many")], None),
            (&[("PMI_SIZE", "1")], Some((1, 0))),
        ];
        for (variables, expected) in cases {
            let found = Launcher::of(|name| {
                let found = variables.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| value.to_string())
            });
            let found = found.map(|launcher| (launcher.tasks, launcher.task));
            assert_eq!(found, expected, "{variables:?}");
        }
    }
}
