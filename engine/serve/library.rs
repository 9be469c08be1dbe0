//! Saved traces: one file each in a folder; and traces written in the formats of other programs, and read back.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};

use super::api_error::ApiError;
use super::exchange::{self, Asked, Named};
use super::state::ServerState;
use crate::run::trace::{Theme, Trace, TraceFormat};
use crate::{Error, Result};

/// How a saved trace's file ends.
const ENDING: &str = ".trace.json";

/// A folder of traces.
#[derive(Clone, Debug)]
pub(super) struct Library(PathBuf);

impl Library {
    pub(super) fn open(folder: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&folder).map_err(|error| Error::io(error, folder.display()))?;
        Ok(Self(folder))
    }

    /// The file of a name: a plain name, which leads nowhere else.
    fn file(&self, name: &str) -> std::result::Result<PathBuf, ApiError> {
        let plain = |character: char| character.is_alphanumeric() || " -_.".contains(character);
        let length = name.chars().count();
        let fits = (1..=80).contains(&length)
            && name.len() <= 200
            && !name.starts_with(['.', ' '])
            && !name.ends_with(' ')
            && name.chars().all(plain);
        match fits {
            true => Ok(self.0.join(format!("{name}{ENDING}"))),
            false => Err(ApiError::input(
                "a name has 1 to 80 letters, digits, spaces, - _ and ., and does not begin with a point",
            )),
        }
    }

    fn read(&self, name: &str) -> std::result::Result<Trace, ApiError> {
        let path = self.file(name)?;
        if !path.is_file() {
            return Err(missing(name));
        }
        Ok(Trace::open(&path)?)
    }

    fn rows(&self) -> Result<Vec<Value>> {
        let entries =
            std::fs::read_dir(&self.0).map_err(|error| Error::io(error, self.0.display()))?;
        let mut rows = Vec::new();
        for entry in entries.flatten() {
            let file = entry.file_name().to_string_lossy().into_owned();
            let Some(name) = file.strip_suffix(ENDING) else {
                continue;
            };
            let Ok(data) = entry.metadata() else { continue };
            let modified = data.modified().unwrap_or(UNIX_EPOCH);
            let mut row = json!({
                "name": name,
                "modified": timestamp(modified),
                "bytes": data.len(),
            });
            match Trace::open(&entry.path()) {
                Ok(trace) => {
                    let prompt: Vec<&str> = trace.tokens[..trace.prompt_tokens]
                        .iter()
                        .map(|token| token.text.as_deref().unwrap_or(&token.display))
                        .collect();
                    let first = |text: &str| text.chars().take(200).collect::<String>();
                    row["title"] = trace.annotations.title.clone().into();
                    row["model"] = trace.model.name.clone().into();
                    row["prompt"] = first(&prompt.concat()).into();
                    row["steps"] = trace.steps.len().into();
                    row["pins"] = trace.annotations.pins.len().into();
                    row["groups"] = trace.annotations.groups.len().into();
                    row["notes"] = first(&trace.annotations.notes).into();
                }
                Err(error) => row["fault"] = error.to_string().into(),
            }
            rows.push(row);
        }
        let when = |row: &Value| row["modified"].as_str().unwrap_or_default().to_string();
        rows.sort_by_cached_key(|row| {
            (
                std::cmp::Reverse(when(row)),
                row["name"].as_str().unwrap_or_default().to_string(),
            )
        });
        Ok(rows)
    }
}

fn missing(name: &str) -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        format!("no trace is saved as {name:?}"),
    )
}

/// A time as RFC 3339 has it, in UTC. Days to dates as in Howard Hinnant's *chrono-compatible date algorithms*.
fn timestamp(time: SystemTime) -> String {
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs() as i64);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let moon = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * moon + 2) / 5 + 1;
    let month = if moon < 10 { moon + 3 } else { moon - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

fn library(state: &ServerState) -> std::result::Result<&Library, ApiError> {
    let none = || ApiError::new(StatusCode::NOT_FOUND, "the server keeps no library");
    state.library.as_ref().ok_or_else(none)
}

pub(super) async fn list(
    State(state): State<Arc<ServerState>>,
) -> std::result::Result<Response<Body>, ApiError> {
    let run = state.work.admit().await?;
    let rows = run.finish(move |_| Ok(library(&state)?.rows()?)).await?;
    Ok(exchange::json(&rows))
}

pub(super) async fn open(
    State(state): State<Arc<ServerState>>,
    Named(name): Named,
) -> std::result::Result<Response<Body>, ApiError> {
    Ok(exchange::json(&library(&state)?.read(&name)?))
}

pub(super) async fn save(
    State(state): State<Arc<ServerState>>,
    Named(name): Named,
    headers: HeaderMap,
    body: Body,
) -> std::result::Result<Response<Body>, ApiError> {
    let path = library(&state)?.file(&name)?;
    let trace: Trace = exchange::read(&headers, body, &state.settings.limits).await?;
    trace.check()?;
    let json = trace.to_json()? + "\n";
    crate::learn::checkpoint::write_whole(&path, json.as_bytes())?;
    Ok(exchange::json(&json!({"name": name})))
}

pub(super) async fn delete(
    State(state): State<Arc<ServerState>>,
    Named(name): Named,
) -> std::result::Result<Response<Body>, ApiError> {
    let path = library(&state)?.file(&name)?;
    match std::fs::remove_file(&path) {
        Ok(()) => Ok(StatusCode::NO_CONTENT.into_response()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(missing(&name)),
        Err(error) => Err(Error::io(error, path.display()).into()),
    }
}

#[derive(Deserialize)]
pub(super) struct Themed {
    theme: Option<String>,
}

pub(super) async fn export(
    State(state): State<Arc<ServerState>>,
    Named(format): Named,
    Asked(themed): Asked<Themed>,
    headers: HeaderMap,
    body: Body,
) -> std::result::Result<Response<Body>, ApiError> {
    let format: TraceFormat = format.parse()?;
    let theme: Theme = themed.theme.as_deref().unwrap_or("light").parse()?;
    let trace: Trace = exchange::read(&headers, body, &state.settings.limits).await?;
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
) -> std::result::Result<Response<Body>, ApiError> {
    exchange::check_type(&headers, &["application/json", "image/svg+xml"])?;
    let bytes = exchange::read_bytes(body, &state.settings.limits).await?;
    let text = String::from_utf8(bytes).map_err(|_| ApiError::input("the file is no UTF-8"))?;
    Ok(exchange::json(&Trace::read(&text)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_are_written_as_dates() {
        let at = |seconds| timestamp(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(at(951_868_800), "2000-03-01T00:00:00Z");
        assert_eq!(at(1_709_210_096), "2024-02-29T12:34:56Z");
    }

    #[test]
    fn names_lead_nowhere_else() {
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
