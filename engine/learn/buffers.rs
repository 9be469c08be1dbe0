//! Buffers of a batch, whole and by shard.

/// Defines the buffers of a batch, and one shard's rows of each of them.
///
/// Rows are ordered shard, step, sequence, so those of a shard are consecutive. One of the fields, `inverse_rms`, has
/// one column.
macro_rules! buffers {
    (
        $(#[$whole_doc:meta])* $whole:ident,
        $(#[$part_doc:meta])* $part:ident,
        $columns:ident: $type:ty,
        $($(#[$doc:meta])* $field:ident [$count:expr],)*
    ) => {
        $(#[$whole_doc])*
        #[derive(Default)]
        pub(super) struct $whole<R> {
            $($(#[$doc])* pub(super) $field: Vec<R>,)*
        }

        $(#[$part_doc])*
        pub(super) struct $part<'a, R> {
            $(pub(super) $field: &'a mut [R],)*
        }

        impl<R: Real> $whole<R> {
            pub(super) fn resize(&mut self, rows: usize, $columns: $type) {
                $(self.$field.resize(rows * $count, R::zero());)*
            }

            pub(super) fn shards(&mut self, steps: usize, $columns: $type) -> Vec<$part<'_, R>> {
                let rows = $crate::learn::batch::SHARD * steps;
                let count = self.inverse_rms.len().div_ceil(rows);
                $(let mut $field = self.$field.chunks_mut((rows * $count).max(1));)*
                (0..count)
                    .map(|_| $part { $($field: $field.next().unwrap_or_default(),)* })
                    .collect()
            }
        }
    };
}
pub(super) use buffers;
