//! Where trials run: an experiment's `executor`, which has no influence on any result.

use std::num::NonZeroUsize;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where trials run. Without it they run one after another in the process of `neutral run`.
///
/// It is no part of what an experiment means: no fingerprint covers it, and each option of the command
/// line stands in place of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ExecutorSpec {
    /// Side by side on this machine, a process each.
    Local {
        /// Trials at a time. The machine's threads are divided among them; with CUDA each has a device.
        #[schemars(range(min = 1, max = 4096))]
        jobs: NonZeroUsize,
    },
    /// As a job array of SLURM, on a file system that its nodes share. What is absent is left to its defaults.
    Slurm {
        /// Partition of every job.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(length(min = 1))]
        partition: Option<String>,
        /// Time limit of every job, as sbatch reads it: `"90"` minutes, `"12:00:00"`, `"2-0"`. A job that reaches
        /// it goes on in a new one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(length(min = 1))]
        time: Option<String>,
        /// Generic resources of every job, `gpu:1`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(length(min = 1))]
        gres: Option<String>,
        /// Memory of every job, `16G`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(length(min = 1))]
        mem: Option<String>,
        /// Account that is charged.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(length(min = 1))]
        account: Option<String>,
        /// Trials at a time at most.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(range(min = 1, max = 1_000_000))]
        max_parallel: Option<NonZeroUsize>,
        /// Times that a trial which failed is tried again; 2, if absent. One that diverged is not: it would again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(range(min = 0, max = 100))]
        retries: Option<u32>,
        /// Further options of sbatch, as they are: `--constraint=a100`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        sbatch: Vec<String>,
    },
}
