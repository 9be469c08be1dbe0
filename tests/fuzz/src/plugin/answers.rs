//! The input as the answers of a plugin: numbers, statuses, texts and records.

use std::cell::RefCell;
use std::ffi::c_void;

use brillm_abi::*;

/// The rest of the input.
struct Answers {
    bytes: Vec<u8>,
    at: usize,
}

thread_local! {
    static ANSWERS: RefCell<Answers> = const { RefCell::new(Answers { bytes: Vec::new(), at: 0 }) };
}

/// Take one byte of the input; 1 once it is used up, which declines.
pub(super) fn byte() -> u8 {
    ANSWERS.with_borrow_mut(|answers| {
        let byte = answers.bytes.get(answers.at).copied().unwrap_or(1);
        answers.at += 1;
        byte
    })
}

/// Fill memory with bytes of the input.
pub(super) fn bytes(target: &mut [u8]) {
    target.iter_mut().for_each(|target| *target = byte());
}

pub(super) fn word() -> u64 {
    let mut eight = [0; 8];
    // Small numbers are the interesting ones: they are in range.
    match byte() {
        0..=127 => return u64::from(byte()),
        128..=191 => eight[0] = byte(),
        _ => bytes(&mut eight),
    }
    u64::from_le_bytes(eight)
}

pub(super) fn status() -> brl_status {
    match byte() {
        0 => BRL_OK,
        1 => BRL_DECLINED,
        two @ 2..=9 => -i32::from(two - 1),
        10 => {
            let mut four = [0; 4];
            bytes(&mut four);
            i32::from_le_bytes(four)
        }
        _ => BRL_OK,
    }
}

/// Text of the input, which need not be UTF-8.
pub(super) fn text() -> Vec<u8> {
    let mut text = vec![0; usize::from(byte() % 16)];
    bytes(&mut text);
    text
}

/// Overwrite an answer behind its size with bytes of the input, or leave it.
///
/// # Safety
/// `answer` is null, or valid and of a type of which every bit pattern that has no pointers is valid.
pub(super) unsafe fn scribble<T>(answer: *mut T) {
    if answer.is_null() || byte() & 1 == 0 {
        return;
    }
    // SAFETY: as the caller promises.
    let all = unsafe { std::slice::from_raw_parts_mut(answer.cast::<u8>(), size_of::<T>()) };
    for eight in all[8..].chunks_exact_mut(8) {
        if byte() & 3 != 0 {
            let length = eight.len();
            eight.copy_from_slice(&word().to_le_bytes()[..length]);
        }
    }
}

/// # Safety
/// The buffer is the host's for this call.
pub(super) unsafe fn numbers(buffer: brl_f32s) {
    // SAFETY: as the caller promises.
    for number in unsafe { buffer.slice_mut() } {
        match byte() {
            0..=99 => {}
            100..=199 => *number = f32::from(byte()) / 16.0 - 8.0,
            _ => {
                let mut four = [0; 4];
                bytes(&mut four);
                *number = f32::from_le_bytes(four);
            }
        }
    }
}

/// # Safety
/// The buffer is the host's for this call.
pub(super) unsafe fn indices(buffer: brl_u32s) {
    let step = byte();
    // SAFETY: as the caller promises.
    for (index, number) in unsafe { buffer.slice_mut() }.iter_mut().enumerate() {
        *number = match step {
            // Ascending lists are the valid ones.
            0..=199 => index as u32 * u32::from(step % 4) + u32::from(step / 100),
            _ => word() as u32,
        };
    }
}

/// # Safety
/// The sink is null or the host's for this call.
pub(super) unsafe fn records(sink: *const brl_sink) {
    // SAFETY: as the caller promises.
    let Some(sink) = (unsafe { read(sink) }) else {
        return;
    };
    let Some(write) = sink.write else { return };
    for _ in 0..byte() % 4 {
        let record = match byte() {
            0..=99 => br#"{"a":1}"#.to_vec(),
            _ => text(),
        };
        // SAFETY: the sink's own context; the record lives until the call returns.
        unsafe { write(sink.ctx, brl_str::from_bytes(&record)) };
    }
}

/// A sink of the plugin that drops what it gets.
pub(super) fn ignore() -> brl_sink {
    unsafe extern "C" fn write(_: *mut c_void, _: brl_str) -> brl_status {
        status()
    }
    brl_sink {
        ctx: std::ptr::null_mut(),
        write: Some(write),
    }
}

/// Use the bytes as the answers from now on.
pub(super) fn answer_with(bytes: &[u8]) {
    ANSWERS.set(Answers {
        bytes: bytes.to_vec(),
        at: 0,
    });
}
