//! Errors of the HTTP interface: a status, a kind and a message.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::extract;
use crate::{Error, ErrorKind};

/// The result of a handler.
pub(super) type ApiResult<T> = Result<T, ApiError>;

/// An error that a request is answered with.
#[derive(Clone, Debug)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    kind: &'static str,
    message: String,
    /// The field of the request that is invalid.
    pub(super) param: Option<String>,
    /// What OpenAI's clients distinguish errors by.
    code: Option<&'static str>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            kind: "http",
            message: message.into(),
            param: None,
            code: None,
        }
    }

    /// 400: a field of the request is invalid.
    pub(super) fn field(name: &str, message: impl Into<String>) -> Self {
        Self::input(message).param(name)
    }

    /// Name the field of the request that is invalid.
    pub(super) fn param(mut self, name: &str) -> Self {
        self.param = Some(name.into());
        self
    }

    /// Name the field of the request that is invalid, in the message too.
    pub(super) fn within(mut self, name: &str) -> Self {
        self.message = format!("invalid {name}: {}", self.message);
        self.param(name)
    }

    /// What is wrong.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// Set the code of `/v1`.
    pub(super) fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    fn resource(status: StatusCode, message: &str) -> Self {
        Self {
            kind: "resource",
            ..Self::new(status, message)
        }
    }

    /// 429: the queue is full.
    pub(super) fn queue_full() -> Self {
        Self::resource(
            StatusCode::TOO_MANY_REQUESTS,
            "the queue is full (try again in a second)",
        )
    }

    /// 503: the time limit passed while the run waited in the queue.
    pub(super) fn queue_timeout() -> Self {
        Self::resource(
            StatusCode::SERVICE_UNAVAILABLE,
            "the run was still in the queue when its time limit passed (try again when the server is less busy)",
        )
    }

    /// 408: the run was stopped by its time limit.
    pub(super) fn run_timeout() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "the run was stopped at the server's time limit (ask for fewer tokens, or start the server with a larger \
             --max-seconds)",
        )
    }

    /// 503: the server shuts down.
    pub(super) fn stopping() -> Self {
        Self::resource(
            StatusCode::SERVICE_UNAVAILABLE,
            "the server is stopping (send the request again when it has restarted)",
        )
    }

    /// 400: a request that cannot be carried out as it is.
    pub(super) fn input(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Input, message).into()
    }

    /// The error in the shape of `/api/v1`.
    pub(super) fn json(&self) -> Value {
        json!({"error": {"kind": self.kind, "message": self.message, "code": self.status.as_u16()}})
    }

    /// The error in the shape that OpenAI's clients expect of `/v1`.
    pub(super) fn open_ai_json(&self) -> Value {
        let class = if self.status.is_server_error() {
            "server_error"
        } else if self.status == StatusCode::TOO_MANY_REQUESTS {
            "rate_limit_error"
        } else {
            "invalid_request_error"
        };
        json!({"error": {"message": self.message, "type": class, "param": self.param, "code": self.code}})
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        use StatusCode as Status;
        let (status, kind) = match error.kind() {
            ErrorKind::Io => (Status::INTERNAL_SERVER_ERROR, "io"),
            ErrorKind::Format => (Status::BAD_REQUEST, "format"),
            ErrorKind::Checksum => (Status::INTERNAL_SERVER_ERROR, "checksum"),
            ErrorKind::Version => (Status::BAD_REQUEST, "version"),
            ErrorKind::Input => (Status::BAD_REQUEST, "input"),
            ErrorKind::Vocabulary => (Status::BAD_REQUEST, "vocabulary"),
            ErrorKind::Configuration => (Status::BAD_REQUEST, "configuration"),
            ErrorKind::Numeric => (Status::INTERNAL_SERVER_ERROR, "numeric"),
            ErrorKind::Unsupported => (Status::UNPROCESSABLE_ENTITY, "unsupported"),
            ErrorKind::Plugin => (Status::INTERNAL_SERVER_ERROR, "plugin"),
            ErrorKind::Cancelled => (Status::REQUEST_TIMEOUT, "cancelled"),
            ErrorKind::Resource => (Status::INSUFFICIENT_STORAGE, "resource"),
        };
        Self {
            status,
            kind,
            message: error.to_string(),
            param: None,
            code: None,
        }
    }
}

impl IntoResponse for ApiError {
    /// Answers in the shape of `/api/v1`. The error itself travels in the extensions of the response, from which
    /// the middleware writes the other shape below `/v1`.
    fn into_response(self) -> Response<Body> {
        let mut response = extract::json(&self.json());
        *response.status_mut() = self.status;
        let extra = match self.status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                Some((header::RETRY_AFTER, "1"))
            }
            StatusCode::UNAUTHORIZED => Some((header::WWW_AUTHENTICATE, "Bearer")),
            _ => None,
        };
        if let Some((name, value)) = extra {
            let headers = response.headers_mut();
            headers.insert(name, HeaderValue::from_static(value));
        }
        response.extensions_mut().insert(self);
        response
    }
}
