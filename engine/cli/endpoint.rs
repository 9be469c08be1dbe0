//! A model behind an OpenAI-compatible endpoint: `POST URL/chat/completions`, within limits, tried again when it is busy.
//!
//! The connection and the key are the program's: a plugin gives a prompt and gets a text.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use crate::hook::{Generate, Speech, Spoken};
use crate::{Error, ErrorKind, Result};

/// Where the model is and how much may be asked of it.
#[derive(Args, Clone, Debug)]
pub(super) struct EndpointArguments {
    /// An OpenAI-compatible endpoint in place of a model, up to before /chat/completions.
    #[arg(long, value_name = "URL", conflicts_with_all = ["model", "no_model"])]
    endpoint: Option<String>,
    /// The model's name there.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "default",
        requires = "endpoint"
    )]
    endpoint_model: String,
    /// The environment variable that holds the key; none is sent where it is not set.
    #[arg(
        long,
        value_name = "VARIABLE",
        default_value = "OPENAI_API_KEY",
        requires = "endpoint"
    )]
    endpoint_key: String,
    /// Requests a minute at most.
    #[arg(long, value_name = "N", default_value_t = 60.0, requires = "endpoint")]
    requests_per_minute: f64,
    /// Tokens a minute at most, of prompts (estimated) and answers together.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 90000.0,
        requires = "endpoint"
    )]
    tokens_per_minute: f64,
    /// How often a busy or absent endpoint is tried.
    #[arg(long, value_name = "N", default_value_t = 5, requires = "endpoint")]
    endpoint_attempts: u32,
}

/// Two buckets that fill by the minute. Times are seconds from any beginning.
#[derive(Clone, Debug)]
pub(super) struct Limiter {
    rates: [f64; 2],
    levels: [f64; 2],
    at: f64,
}

impl Limiter {
    /// At most so many requests and tokens a minute.
    pub(super) fn new(requests: f64, tokens: f64) -> Self {
        let rates = [requests.max(1e-3), tokens.max(1e-3)];
        Self {
            rates,
            levels: rates,
            at: 0.0,
        }
    }

    /// Takes a request of so many tokens at a time; answers how many seconds to wait before it is sent. A request larger
    /// than a minute's tokens waits for a full bucket.
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

/// The endpoint, as the run's model.
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

/// The seconds of "retry after N seconds", as some endpoints say in the text of their answer.
fn told(text: &str) -> Option<f64> {
    let text = text.to_lowercase();
    let (_, rest) = text.split_once("retry after ")?;
    let (number, unit) = rest.split_once(' ')?;
    number.parse().ok().filter(|_| unit.starts_with("second"))
}

/// Seconds before the next attempt: what the endpoint says, else twice as long each time.
fn delay(attempt: u32, told: Option<f64>) -> f64 {
    told.filter(|seconds| seconds.is_finite() && *seconds >= 0.0)
        .unwrap_or_else(|| 0.5 * f64::from(2u32.saturating_pow(attempt.min(7))))
        .min(120.0)
}

impl EndpointArguments {
    /// The endpoint, where one is named.
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
    fn fault(&self, what: impl Into<String>) -> Error {
        Error::new(ErrorKind::Io, what).at(&self.url)
    }

    /// Waits, and hears of Ctrl-C.
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

    /// One attempt: the answer, or why not and how long to wait; an error that no attempt mends.
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
                .map_err(|error| self.fault(format!("its answer is not JSON: {error}"))),
            408 | 409 | 425 | 429 | 500..600 => Ok(Err((
                format!("it answered status {status}"),
                after.or_else(|| told(&text)),
            ))),
            _ => {
                let begin: String = text.chars().take(200).collect();
                Err(self
                    .fault(format!("it answered status {status}: {begin}"))
                    .advice(format!(
                        "check --endpoint, --endpoint-model and the key in {}",
                        self.arguments.endpoint_key
                    )))
            }
        }
    }
}

impl Generate for Endpoint {
    fn generate(&mut self, prompt: &str, tokens: usize) -> Result<String> {
        let speech = Speech {
            prompt,
            tokens,
            ..Speech::default()
        };
        self.speak(&speech).map(|spoken| spoken.text)
    }

    fn speak(&mut self, speech: &Speech<'_>) -> Result<Spoken> {
        if !speech.within.is_empty() && speech.gain != 0.0 {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "an endpoint's tokens cannot be held to a reference's sub-graph",
            )
            .advice("leave the gain at 0, or use a model of this program"));
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
        // About four bytes of text are a token: an estimate that a limit needs no better.
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
                        self.fault("its answer has no choices[0].message.content")
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
            .fault(format!("{why}, {} times", self.arguments.endpoint_attempts))
            .advice("run it again with --resume: what is written is not made anew"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_let_through_what_a_minute_allows() {
        let mut limiter = Limiter::new(2.0, 1000.0);
        assert_eq!(limiter.take(0.0, 100.0), 0.0);
        assert_eq!(limiter.take(0.0, 100.0), 0.0);
        // The third within a minute of two waits for half of it.
        assert!((limiter.take(0.0, 100.0) - 30.0).abs() < 1e-9);
        let mut limiter = Limiter::new(100.0, 1000.0);
        assert_eq!(limiter.take(0.0, 900.0), 0.0);
        assert!((limiter.take(0.0, 600.0) - 30.0).abs() < 1e-9);
        // Larger than the bucket: it waits for a full one, not for ever.
        assert!((limiter.take(3600.0, 5000.0)).abs() < 1e-9);
    }

    #[test]
    fn an_endpoint_is_waited_for_as_it_says() {
        assert_eq!(delay(0, Some(7.0)), 7.0);
        assert_eq!((delay(0, None), delay(3, None)), (0.5, 4.0));
        assert_eq!(delay(30, None), 64.0);
        assert_eq!(delay(0, Some(f64::NAN)), 0.5);
        assert_eq!(told("Please retry after 7 seconds."), Some(7.0));
        assert_eq!(told("retry after lunch"), None);
    }
}
