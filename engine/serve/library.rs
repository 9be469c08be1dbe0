//! The library of saved traces, one file each in a folder; export and import of traces.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};

use super::api_error::{ApiError, ApiResult};
use super::extract::{self, JsonBody, Segment, UrlQuery};
use super::state::ServerState;
use crate::run::trace::{Theme, Trace, TraceFormat};
use crate::{Error, Result};

/// Suffix of the file of a saved trace.
const SUFFIX: &str = ".trace.json";

/// The end of the year 9999, after [`UNIX_EPOCH`].
const LAST_TIME: Duration = Duration::from_secs(253_402_300_799);

/// A folder of saved traces.
#[derive(Clone, Debug)]
pub(super) struct Library(PathBuf);

impl Library {
    pub(super) fn open(folder: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&folder).map_err(|error| Error::io(error, folder.display()))?;
        Ok(Self(folder))
    }

    /// The file of a trace. The characters of a name are restricted so that it cannot lead out of the folder.
    fn file(&self, name: &str) -> ApiResult<PathBuf> {
        let plain = |character: char| character.is_alphanumeric() || " -_.".contains(character);
        let length = name.chars().count();
        let valid = (1..=80).contains(&length)
            && name.len() <= 200
            && !name.starts_with(['.', ' '])
            && !name.ends_with(' ')
            && name.chars().all(plain);
        if valid {
            return Ok(self.0.join(format!("{name}{SUFFIX}")));
        }
        Err(ApiError::input(format!(
            "invalid name {name:?}: expected 1 to 80 letters, digits, spaces, - _ and ., not starting with a dot"
        )))
    }

    fn read(&self, name: &str) -> ApiResult<Trace> {
        let path = self.file(name)?;
        if !path.is_file() {
            return Err(missing(name));
        }
        Ok(Trace::open(&path)?)
    }

    /// Describe the saved traces, the last modified first.
    fn rows(&self) -> Result<Vec<Value>> {
        let entries =
            std::fs::read_dir(&self.0).map_err(|error| Error::io(error, self.0.display()))?;
        let mut rows = Vec::new();
        for entry in entries.flatten() {
            let file = entry.file_name().to_string_lossy().into_owned();
            let Some(name) = file.strip_suffix(SUFFIX) else {
                continue;
            };
            let Ok(data) = entry.metadata() else { continue };
            // RFC 3339 has the years 1970 to 9999.
            let modified = data.modified().unwrap_or(UNIX_EPOCH);
            let modified = modified.clamp(UNIX_EPOCH, UNIX_EPOCH + LAST_TIME);
            let mut row = json!({
                "name": name,
                "modified": humantime::format_rfc3339_seconds(modified).to_string(),
                "bytes": data.len(),
            });
            match Trace::open(&entry.path()) {
                Ok(trace) => describe(&trace, &mut row),
                Err(error) => row["error"] = error.to_string().into(),
            }
            rows.push((std::cmp::Reverse(modified), name.to_string(), row));
        }
        rows.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        Ok(rows.into_iter().map(|(_, _, row)| row).collect())
    }
}

fn describe(trace: &Trace, row: &mut Value) {
    let prompt: Vec<&str> = trace.tokens[..trace.prompt_tokens]
        .iter()
        .map(|token| token.text.as_deref().unwrap_or(&token.display))
        .collect();
    let start = |text: &str| text.chars().take(200).collect::<String>();
    row["title"] = trace.annotations.title.clone().into();
    row["model"] = trace.model.name.clone().into();
    row["prompt"] = start(&prompt.concat()).into();
    row["steps"] = trace.steps.len().into();
    row["pins"] = trace.annotations.pins.len().into();
    row["groups"] = trace.annotations.groups.len().into();
    row["notes"] = start(&trace.annotations.notes).into();
}

fn missing(name: &str) -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        format!("no trace is saved as {name:?} (GET /api/v1/library lists them)"),
    )
}

fn library(state: &ServerState) -> ApiResult<&Library> {
    let none = || {
        ApiError::new(
            StatusCode::NOT_FOUND,
            "this server has no library (start it with --library DIR)",
        )
    };
    state.library.as_ref().ok_or_else(none)
}

pub(super) async fn list(State(state): State<Arc<ServerState>>) -> ApiResult<Response<Body>> {
    let library = library(&state)?.clone();
    state.compute(move || Ok(library.rows()?)).await
}

pub(super) async fn open(
    State(state): State<Arc<ServerState>>,
    Segment(name): Segment,
) -> ApiResult<Response<Body>> {
    Ok(extract::json(&library(&state)?.read(&name)?))
}

pub(super) async fn save(
    State(state): State<Arc<ServerState>>,
    Segment(name): Segment,
    JsonBody(trace): JsonBody<Trace>,
) -> ApiResult<Response<Body>> {
    let path = library(&state)?.file(&name)?;
    trace.check()?;
    let json = trace.to_json()? + "\n";
    brillm_file::write(&path, json).map_err(Error::io_at(&path))?;
    Ok(extract::json(&json!({"name": name})))
}

pub(super) async fn delete(
    State(state): State<Arc<ServerState>>,
    Segment(name): Segment,
) -> ApiResult<Response<Body>> {
    let path = library(&state)?.file(&name)?;
    match std::fs::remove_file(&path) {
        Ok(()) => Ok(StatusCode::NO_CONTENT.into_response()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(missing(&name)),
        Err(error) => Err(Error::io(error, path.display()).into()),
    }
}

#[derive(Deserialize)]
pub(super) struct ExportQuery {
    theme: Option<String>,
}

pub(super) async fn export(
    Segment(format): Segment,
    UrlQuery(query): UrlQuery<ExportQuery>,
    JsonBody(trace): JsonBody<Trace>,
) -> ApiResult<Response<Body>> {
    let format: TraceFormat = format.parse()?;
    let theme: Theme = query.theme.as_deref().unwrap_or("light").parse()?;
    trace.check()?;
    let mut response = Response::new(Body::from(trace.export(format, theme)?));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(format.media_type()),
    );
    let disposition = format!("attachment; filename=\"path.{}\"", format.name());
    if let Ok(disposition) = HeaderValue::from_str(&disposition) {
        headers.insert(header::CONTENT_DISPOSITION, disposition);
    }
    Ok(response)
}

pub(super) async fn import(
    State(state): State<Arc<ServerState>>,
    headers: HeaderMap,
    body: Body,
) -> ApiResult<Response<Body>> {
    extract::check_type(&headers, &["application/json", "image/svg+xml"])?;
    let bytes = extract::read_bytes(body, &state.settings.limits).await?;
    let text =
        String::from_utf8(bytes).map_err(|_| ApiError::input("the file is not valid UTF-8"))?;
    Ok(extract::json(&Trace::read(&text)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_the_folder() {
        let library = Library("somewhere".into());
        for name in ["a", "a walk.2", "春 风", "x_-y"] {
            assert!(library.file(name).is_ok(), "{name}");
        }
        for name in [
            "",
            "..",
            ".a",
            "a/b",
            "a\\b",
            "a\0",
            " a",
            "a ",
            &"x".repeat(81),
            "a:b",
            "a\nb",
        ] {
            assert!(library.file(name).is_err(), "{name:?}");
        }
    }
}
