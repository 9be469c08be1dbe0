//! What a device allows, and what suits it: shapes and sizes of kernels.

use super::adapter::THREADS;
use super::device::{Device, KernelShape};

impl Device {
    /// The shape of the kernels that read edges.
    pub fn shape(&self) -> KernelShape {
        let by_adapter = if self.inner.report.kind.is_real() {
            KernelShape::Lanes
        } else {
            KernelShape::Thread
        };
        self.inner.options.shape.unwrap_or(by_adapter)
    }

    /// Whether one kernel chooses a node and hops to it. A software adapter compiles a kernel of its own for the choice
    /// once, and the others faster; it has no time to win between dispatches.
    pub fn merges(&self) -> bool {
        let real = self.inner.report.kind.is_real();
        self.inner.options.merged.unwrap_or(real)
    }

    /// Threads of a subgroup; 0 where kernels do not use subgroups.
    pub fn subgroup(&self) -> u32 {
        self.inner.subgroup
    }

    /// Threads of a workgroup whose threads wait for each other; few on software adapters, where barriers are slow.
    pub fn workgroup(&self) -> u32 {
        if self.inner.report.kind.is_real() {
            THREADS
        } else {
            16
        }
    }

    /// Threads of a workgroup that works on all V nodes.
    pub fn wide_workgroup(&self) -> u32 {
        if self.inner.report.kind.is_real() {
            self.inner.report.workgroup_threads.min(256)
        } else {
            16
        }
    }

    /// Numbers of a row of V logits that a workgroup of [`Self::wide_workgroup`] keeps in its memory: V, or 1 where they do
    /// not fit, or on software adapters, whose workgroup memory is no faster than any other.
    pub fn row_logits(&self, nodes: usize) -> u32 {
        let bytes = (nodes as u64 + u64::from(self.wide_workgroup())) * 4;
        let fits = bytes <= u64::from(self.workgroup_bytes());
        match self.shape() {
            KernelShape::Lanes if fits => nodes as u32,
            _ => 1,
        }
    }

    /// Bytes of a buffer that a kernel can bind at most.
    pub fn binding_bytes(&self) -> u64 {
        self.inner.binding_bytes
    }

    /// Threads of a workgroup that alone works on all V nodes of a sequence: more than [`Self::wide_workgroup`], because
    /// where few sequences are decoded nothing else fills the device.
    pub fn widest_workgroup(&self) -> u32 {
        if self.inner.report.kind.is_real() {
            self.inner.report.workgroup_threads.min(512)
        } else {
            16
        }
    }

    /// Bytes of the workspace of a training batch at most.
    pub fn workspace_bytes(&self) -> u64 {
        let most = self.inner.report.binding_bytes;
        let wanted = self.inner.options.workspace_bytes;
        wanted.map_or(most, |wanted| wanted.min(most))
    }

    /// Storage buffers that a kernel can bind at most.
    pub fn storage_buffers(&self) -> u32 {
        let most = self.inner.report.storage_buffers;
        let wanted = self.inner.options.storage_buffers;
        wanted.map_or(most, |wanted| wanted.min(most))
    }

    /// Workgroups in one dimension of a dispatch at most.
    pub fn workgroups(&self) -> u32 {
        self.inner.raw.limits().max_compute_workgroups_per_dimension
    }

    /// Bytes of workgroup memory at most.
    pub fn workgroup_bytes(&self) -> u32 {
        self.inner.raw.limits().max_compute_workgroup_storage_size
    }
}
