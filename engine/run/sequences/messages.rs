//! What ranks send each other while sequences advance: queries of fans, and their answers.
//!
//! A part of an exchange of queries begins with the number of sequences that its rank still advances and whether they are to
//! stop; each query is a record of 20 + 4 D bytes. An answer is a status and its numbers, or an error.

use crate::ranks::{error_from_bytes, error_to_bytes};
use crate::signal::FanQuery;
use crate::{Error, ErrorKind, Result};

/// A target that stands for none.
const NONE: u32 = u32::MAX;
/// Bytes of a query before its output.
const HEAD: usize = 20;
/// Status of an answer that is an error, and of a rank with a failed sequence.
const FAILED: u32 = 1;
/// Status of a rank that was cancelled.
const CANCELLED: u32 = 2;

/// State of a rank at an exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Progress {
    /// Sequences that it still advances.
    pub(super) live: u32,
    /// Whether one of its sequences has failed.
    pub(super) failed: bool,
    /// Whether the user has cancelled its sequences.
    pub(super) cancelled: bool,
}

impl Progress {
    /// Begin a part of an exchange of queries.
    pub(super) fn part(self) -> Vec<u8> {
        let failed = if self.failed { FAILED } else { 0 };
        let cancelled = if self.cancelled { CANCELLED } else { 0 };
        [self.live, failed | cancelled]
            .map(u32::to_le_bytes)
            .concat()
    }
}

/// Append a query to a part.
pub(super) fn add_query(query: &FanQuery, part: &mut Vec<u8>) {
    part.extend(query.node.to_le_bytes());
    part.extend(query.target.unwrap_or(NONE).to_le_bytes());
    part.extend(u32::from(query.energies).to_le_bytes());
    part.extend(query.step.to_le_bytes());
    part.extend_from_slice(bytemuck::cast_slice(&query.output));
}

/// Read a part of an exchange of queries, with outputs of `width` numbers.
///
/// # Errors
/// [`ErrorKind::Format`] for a part of another length.
pub(super) fn read_queries(part: &[u8], width: usize) -> Result<(Progress, Vec<FanQuery>)> {
    let mut part = Part(part);
    let (live, status) = (part.number()?, part.number()?);
    let progress = Progress {
        live,
        failed: status & FAILED != 0,
        cancelled: status & CANCELLED != 0,
    };
    let mut queries = Vec::with_capacity(part.0.len() / (HEAD + 4 * width));
    while !part.0.is_empty() {
        let (node, target) = (part.number()?, part.number()?);
        let energies = part.number()? != 0;
        let step = part.take(8)?.try_into().map_or(0, u64::from_le_bytes);
        queries.push(FanQuery {
            node,
            step,
            energies,
            target: (target != NONE).then_some(target),
            output: part.floats(width)?,
        });
    }
    Ok((progress, queries))
}

/// Append an answer to a part.
pub(super) fn add_answer(answer: &Result<Vec<f32>>, part: &mut Vec<u8>) {
    match answer {
        Ok(values) => {
            part.extend(0u32.to_le_bytes());
            part.extend_from_slice(bytemuck::cast_slice(values));
        }
        Err(error) => {
            let bytes = error_to_bytes(error);
            part.extend(FAILED.to_le_bytes());
            part.extend((bytes.len() as u32).to_le_bytes());
            part.extend(bytes);
        }
    }
}

/// The rest of a part of an exchange.
pub(super) struct Part<'a>(pub(super) &'a [u8]);

impl<'a> Part<'a> {
    /// Read the next answer, of `length` numbers unless it is an error.
    ///
    /// # Errors
    /// That error; [`ErrorKind::Format`] at the end of the part.
    pub(super) fn answer(&mut self, length: usize) -> Result<Vec<f32>> {
        if self.number()? != FAILED {
            return self.floats(length);
        }
        let length = self.number()? as usize;
        Err(error_from_bytes(self.take(length)?))
    }

    /// Read the next bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] at the end of the part.
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let Some((bytes, rest)) = self.0.split_at_checked(length) else {
            let what = "a rank sent fewer bytes than expected";
            return Err(Error::new(ErrorKind::Format, what));
        };
        self.0 = rest;
        Ok(bytes)
    }

    /// Read the next whole number.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub(super) fn number(&mut self) -> Result<u32> {
        Ok(self.take(4)?.try_into().map_or(0, u32::from_le_bytes))
    }

    fn floats(&mut self, count: usize) -> Result<Vec<f32>> {
        Ok(bytemuck::pod_collect_to_vec(self.take(4 * count)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_and_answers_are_read_as_they_were_written() {
        let queries = [
            (7, true, None, 3),
            (0, false, Some(2), 0),
            (1, true, Some(0), u64::MAX),
        ];
        let queries = queries.map(|(node, energies, target, step)| FanQuery {
            node,
            step,
            energies,
            target,
            output: vec![0.5, -0.0, f32::MIN_POSITIVE],
        });
        let progress = Progress {
            live: 5,
            failed: true,
            cancelled: false,
        };
        let mut part = progress.part();
        queries.iter().for_each(|query| add_query(query, &mut part));
        assert_eq!(part.len(), 8 + 3 * (20 + 12));
        let read = read_queries(&part, 3).unwrap();
        assert_eq!(read, (progress, queries.to_vec()));
        assert!(read_queries(&part[..part.len() - 1], 3).is_err());
        assert!(read_queries(&[], 3).is_err());

        let mut part = Vec::new();
        add_answer(&Ok(vec![1.0, 2.0]), &mut part);
        let damaged = Error::new(ErrorKind::Checksum, "damaged").at("part 3");
        add_answer(&Err(damaged), &mut part);
        add_answer(&Ok(vec![3.0]), &mut part);
        let mut part = Part(&part);
        assert_eq!(part.answer(2).unwrap(), [1.0, 2.0]);
        let error = part.answer(4).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Checksum);
        assert_eq!(error.to_string(), "part 3: damaged");
        assert_eq!(part.answer(1).unwrap(), [3.0]);
        assert!(part.answer(1).is_err(), "the part has ended");
    }
}
