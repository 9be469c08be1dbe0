//! A model behind an OpenAI-compatible endpoint: `POST URL/chat/completions` with rate limits and retries.
//!
//! Plugins pass a prompt and receive a text; they see neither the connection nor the API key.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use crate::hook::{Generate, Speech, Spoken};
use crate::{Error, ErrorKind, Result};

/// Address and rate limits of an endpoint.
#[derive(Args, Clone, Debug)]
pub(super) struct EndpointArguments {
    /// OpenAI-compatible endpoint to use instead of a local model: the URL up to /chat/completions.
    #[arg(long, value_name = "URL", conflicts_with_all = ["model", "no_model"])]
    endpoint: Option<String>,
    /// Model name to request from the endpoint.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "default",
        requires = "endpoint"
    )]
    endpoint_model: String,
    /// Name of the environment variable that contains the API key; no key is sent if it is unset.
    #[arg(
        long,
        value_name = "VARIABLE",
        default_value = "OPENAI_API_KEY",
        requires = "endpoint"
    )]
    endpoint_key: String,
    /// Maximum number of requests per minute.
    #[arg(long, value_name = "N", default_value_t = 60.0, requires = "endpoint")]
    requests_per_minute: f64,
    /// Maximum number of tokens per minute, in prompts (estimated) and answers together.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 90000.0,
        requires = "endpoint"
    )]
    tokens_per_minute: f64,
    /// Maximum number of attempts per request while the endpoint is busy or unreachable.
    #[arg(long, value_name = "N", default_value_t = 5, requires = "endpoint")]
    endpoint_attempts: u32,
}

/// A token bucket for requests and one for tokens, refilled per minute. Times are in seconds from any origin.
#[derive(Clone, Debug)]
pub(super) struct Limiter {
    rates: [f64; 2],
    levels: [f64; 2],
    at: f64,
}

impl Limiter {
    /// Create a limiter from the requests and tokens allowed per minute.
    pub(super) fn new(requests: f64, tokens: f64) -> Self {
        let rates = [requests.max(1e-3), tokens.max(1e-3)];
        Self {
            rates,
            levels: rates,
            at: 0.0,
        }
    }

    /// Register a request of `tokens` at time `now`; return the seconds to wait before it is sent. A request larger than
    /// the limit waits for a full bucket.
    pub(super) fn take(&mut self, now: f64, tokens: f64) -> f64 {
        let passed = (now - self.at).max(0.0) / 60.0;
        self.at = self.at.max(now);
        let mut wait: f64 = 0.0;
        for ((level, &rate), need) in self.levels.iter_mut().zip(&self.rates).zip([1.0, tokens]) {
            *level = (*level + passed * rate).min(rate);
            let need = need.min(rate);
            wait = wait.max((need - *level).max(0.0) / rate * 60.0);
            *level -= need;
        }
        wait
    }
}

/// An endpoint that answers generation requests.
pub(super) struct Endpoint {
    agent: ureq::Agent,
    arguments: EndpointArguments,
    url: String,
    key: Option<String>,
    temperature: f32,
    limiter: Limiter,
    begun: Instant,
    cancel: Arc<AtomicBool>,
}

/// Parse "retry after N seconds" in the text of an answer.
fn retry_after(text: &str) -> Option<f64> {
    let text = text.to_lowercase();
    let (_, rest) = text.split_once("retry after ")?;
    let (number, unit) = rest.split_once(' ')?;
    number.parse().ok().filter(|_| unit.starts_with("second"))
}

/// Compute the seconds before the next attempt: as the endpoint asks, else doubled each time.
fn delay(attempt: u32, requested: Option<f64>) -> f64 {
    requested
        .filter(|seconds| seconds.is_finite() && *seconds >= 0.0)
        .unwrap_or_else(|| 0.5 * f64::from(2u32.saturating_pow(attempt.min(7))))
        .min(120.0)
}

impl EndpointArguments {
    /// Create the endpoint, if one is given.
    pub(super) fn open(&self, temperature: f32, cancel: Arc<AtomicBool>) -> Option<Endpoint> {
        let url = self.endpoint.as_ref()?;
        let configuration = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(600)))
            .build();
        Some(Endpoint {
            agent: configuration.into(),
            url: format!("{}/chat/completions", url.trim_end_matches('/')),
            key: std::env::var(&self.endpoint_key)
                .ok()
                .filter(|key| !key.is_empty()),
            temperature,
            limiter: Limiter::new(self.requests_per_minute, self.tokens_per_minute),
            begun: Instant::now(),
            cancel,
            arguments: self.clone(),
        })
    }
}

impl Endpoint {
    fn error(&self, what: impl Into<String>) -> Error {
        Error::new(ErrorKind::Io, what).at(&self.url)
    }

    /// Wait; Ctrl-C ends the wait with an error.
    fn wait(&self, seconds: f64) -> Result<()> {
        let until = Instant::now() + Duration::from_secs_f64(seconds.clamp(0.0, 3600.0));
        loop {
            if self.cancel.load(Ordering::Relaxed) {
                return Err(Error::new(ErrorKind::Cancelled, "cancelled"));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
    }

    /// Send one request. Returns the answer, or the reason to retry with the seconds to wait; an error if a retry cannot
    /// help.
    fn attempt(&self, body: &str) -> Result<std::result::Result<Value, (String, Option<f64>)>> {
        let mut request = self
            .agent
            .post(&self.url)
            .header("content-type", "application/json");
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let mut response = match request.send(body) {
            Ok(response) => response,
            Err(error) => return Ok(Err((error.to_string(), None))),
        };
        let status = response.status().as_u16();
        let after = response
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let text = match response.body_mut().read_to_string() {
            Ok(text) => text,
            Err(error) => return Ok(Err((error.to_string(), None))),
        };
        match status {
            200..300 => serde_json::from_str(&text)
                .map(Ok)
                .map_err(|error| self.error(format!("the answer is not JSON: {error}"))),
            408 | 409 | 425 | 429 | 500..600 => Ok(Err((
                format!("the endpoint answered with status {status}"),
                after.or_else(|| retry_after(&text)),
            ))),
            _ => {
                let begin: String = text.chars().take(200).collect();
                Err(self
                    .error(format!(
                        "the endpoint answered with status {status}: {begin}"
                    ))
                    .advice(format!(
                        "check --endpoint, --endpoint-model and the key in {}",
                        self.arguments.endpoint_key
                    )))
            }
        }
    }
}

impl Generate for Endpoint {
    fn speak(&mut self, speech: &Speech<'_>) -> Result<Spoken> {
        if !speech.within.is_empty() && speech.gain != 0.0 {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "an endpoint cannot restrict tokens to the sub-graph of a reference text",
            )
            .advice("set the gain to 0, or use a local model with --model"));
        }
        let mut messages = Vec::new();
        if !speech.system.is_empty() {
            messages.push(json!({"role": "system", "content": speech.system}));
        }
        messages.push(json!({"role": "user", "content": speech.prompt}));
        let body = json!({
            "model": self.arguments.endpoint_model,
            "messages": messages,
            "max_tokens": speech.tokens,
            "temperature": self.temperature,
            "top_p": 1,
            "n": 1,
        })
        .to_string();
        // One token is about four bytes of text: precise enough for a rate limit.
        let tokens =
            (speech.system.len() + speech.prompt.len()) as f64 / 4.0 + speech.tokens as f64;
        let mut why = String::new();
        for attempt in 0..self.arguments.endpoint_attempts.max(1) {
            let wait = self
                .limiter
                .take(self.begun.elapsed().as_secs_f64(), tokens);
            self.wait(wait)?;
            match self.attempt(&body)? {
                Ok(answer) => {
                    let choice = &answer["choices"][0];
                    let text = choice["message"]["content"].as_str().ok_or_else(|| {
                        self.error("the answer has no choices[0].message.content")
                    })?;
                    return Ok(Spoken {
                        text: text.to_string(),
                        cut: choice["finish_reason"] == "length",
                        grounded: None,
                    });
                }
                Err((reason, after)) => {
                    why = reason;
                    if attempt + 1 < self.arguments.endpoint_attempts {
                        self.wait(delay(attempt, after))?;
                    }
                }
            }
        }
        Err(self
            .error(format!(
                "{why} ({} attempts)",
                self.arguments.endpoint_attempts
            ))
            .advice("run the command again with --resume to keep the records written so far"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_wait_when_the_limit_per_minute_is_reached() {
        let mut limiter = Limiter::new(2.0, 1000.0);
        assert_eq!(limiter.take(0.0, 100.0), 0.0);
        assert_eq!(limiter.take(0.0, 100.0), 0.0);
        // The third request at two per minute waits for half a minute.
        assert!((limiter.take(0.0, 100.0) - 30.0).abs() < 1e-9);
        let mut limiter = Limiter::new(100.0, 1000.0);
        assert_eq!(limiter.take(0.0, 900.0), 0.0);
        assert!((limiter.take(0.0, 600.0) - 30.0).abs() < 1e-9);
        // A request larger than the bucket waits for a full bucket, not forever.
        assert!((limiter.take(3600.0, 5000.0)).abs() < 1e-9);
    }

    #[test]
    fn retries_wait_as_long_as_the_endpoint_asks() {
        assert_eq!(delay(0, Some(7.0)), 7.0);
        assert_eq!((delay(0, None), delay(3, None)), (0.5, 4.0));
        assert_eq!(delay(30, None), 64.0);
        assert_eq!(delay(0, Some(f64::NAN)), 0.5);
        assert_eq!(retry_after("Please retry after 7 seconds."), Some(7.0));
        assert_eq!(retry_after("retry after lunch"), None);
    }
}
