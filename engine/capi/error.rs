//! Errors on their way out: a status for the program, and an object with a sentence for people.

use std::ffi::{CString, c_char};

use brillm::ErrorKind;

use crate::layout::*;

/// A failed call: its status and what to tell people. The caller frees it.
pub struct brillm_error {
    status: brillm_status,
    message: CString,
}

/// An error before it has left the library.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) status: brillm_status,
    pub(crate) message: String,
}

impl ApiError {
    pub(crate) fn new(status: brillm_status, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { status, message }
    }

    /// A pointer that must not be NULL.
    pub(crate) fn null(name: &str) -> Self {
        Self::new(BRILLM_ERROR_NULL, format!("{name} is NULL"))
    }

    /// Leaves the library: the object goes to `out`, unless that is NULL.
    ///
    /// # Safety
    /// `out` is NULL or may be written to.
    pub(crate) unsafe fn leave(self, out: *mut *mut brillm_error) -> brillm_status {
        let status = self.status;
        if !out.is_null() {
            let object = Box::new(brillm_error {
                status,
                message: c_text(&self.message),
            });
            // SAFETY: the caller promises that `out` may be written to.
            unsafe { out.write(Box::into_raw(object)) };
        }
        status
    }
}

impl From<brillm::Error> for ApiError {
    fn from(error: brillm::Error) -> Self {
        let status = match error.kind() {
            ErrorKind::Io => BRILLM_ERROR_IO,
            ErrorKind::Format => BRILLM_ERROR_FORMAT,
            ErrorKind::Checksum => BRILLM_ERROR_CHECKSUM,
            ErrorKind::Version => BRILLM_ERROR_VERSION,
            ErrorKind::Input => BRILLM_ERROR_INPUT,
            ErrorKind::Vocabulary => BRILLM_ERROR_VOCABULARY,
            ErrorKind::Configuration => BRILLM_ERROR_CONFIGURATION,
            ErrorKind::Numeric => BRILLM_ERROR_NUMERIC,
            ErrorKind::Unsupported => BRILLM_ERROR_UNSUPPORTED,
            ErrorKind::Plugin => BRILLM_ERROR_PLUGIN,
            ErrorKind::Cancelled => BRILLM_ERROR_CANCELLED,
            ErrorKind::Resource => BRILLM_ERROR_RESOURCE,
            _ => BRILLM_ERROR_OTHER,
        };
        Self::new(status, error.to_string())
    }
}

/// A text for C; zero bytes inside, which would end it early, become U+2400 (the symbol for them).
pub(crate) fn c_text(text: &str) -> CString {
    let text = text.replace('\0', "\u{2400}");
    CString::new(text).unwrap_or_default()
}

/// The status of an error; BRILLM_OK for NULL.
///
/// # Safety
/// `error` is NULL or an error that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brillm_error_status(error: *const brillm_error) -> brillm_status {
    // SAFETY: NULL or alive, as the caller promises.
    unsafe { error.as_ref() }.map_or(BRILLM_OK, |error| error.status)
}

/// What is wrong, where, and what to do, in UTF-8; the empty text for NULL. Lives as long as the error.
///
/// # Safety
/// `error` is NULL or an error that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brillm_error_message(error: *const brillm_error) -> *const c_char {
    // SAFETY: NULL or alive, as the caller promises.
    unsafe { error.as_ref() }.map_or(c"".as_ptr(), |error| error.message.as_ptr())
}

/// Frees an error; NULL is ignored.
///
/// # Safety
/// `error` is NULL or an error that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brillm_error_free(error: *mut brillm_error) {
    if !error.is_null() {
        // SAFETY: it was made by `Box::into_raw` in `leave`, and this is its one end.
        drop(unsafe { Box::from_raw(error) });
    }
}
