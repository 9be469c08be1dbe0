//! What goes wrong in an exchange: a status with words.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use serde_json::{Value, json};

use crate::{Error, ErrorKind};

/// An answer that is a refusal.
#[derive(Clone, Debug)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    kind: &'static str,
    message: String,
    /// In the shape of OpenAI's errors.
    open_ai: bool,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            kind: "http",
            message: message.into(),
            open_ai: false,
        }
    }

    /// The server has as much to do as it can take.
    pub(super) fn busy() -> Self {
        Self {
            kind: "resource",
            ..Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "the server has as much to do as it can take (try again in a second)",
            )
        }
    }

    /// Time is up.
    pub(super) fn late() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "it took longer than the server allows",
        )
    }

    pub(super) fn input(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Input, message).into()
    }

    /// The same, as OpenAI's clients expect it.
    pub(super) fn open_ai(self) -> Self {
        Self {
            open_ai: true,
            ..self
        }
    }

    /// What is said.
    pub(super) fn json(&self) -> Value {
        if self.open_ai {
            let class = match self.status.is_server_error() {
                true => "server_error",
                false if self.status == StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
                false => "invalid_request_error",
            };
            return json!({"error": {"message": self.message, "type": class, "param": null, "code": null}});
        }
        json!({"error": {"kind": self.kind, "message": self.message, "code": self.status.as_u16()}})
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let (status, kind) = match error.kind() {
            ErrorKind::Io => (StatusCode::INTERNAL_SERVER_ERROR, "io"),
            ErrorKind::Format => (StatusCode::BAD_REQUEST, "format"),
            ErrorKind::Checksum => (StatusCode::INTERNAL_SERVER_ERROR, "checksum"),
            ErrorKind::Version => (StatusCode::BAD_REQUEST, "version"),
            ErrorKind::Input => (StatusCode::BAD_REQUEST, "input"),
            ErrorKind::Vocabulary => (StatusCode::BAD_REQUEST, "vocabulary"),
            ErrorKind::Configuration => (StatusCode::BAD_REQUEST, "configuration"),
            ErrorKind::Numeric => (StatusCode::INTERNAL_SERVER_ERROR, "numeric"),
            ErrorKind::Unsupported => (StatusCode::UNPROCESSABLE_ENTITY, "unsupported"),
            ErrorKind::Plugin => (StatusCode::INTERNAL_SERVER_ERROR, "plugin"),
            ErrorKind::Cancelled => (StatusCode::REQUEST_TIMEOUT, "cancelled"),
            ErrorKind::Resource => (StatusCode::INSUFFICIENT_STORAGE, "resource"),
        };
        Self {
            status,
            kind,
            message: error.to_string(),
            open_ai: false,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response<Body> {
        let mut response = super::exchange::json(&self.json());
        *response.status_mut() = self.status;
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let headers = response.headers_mut();
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
