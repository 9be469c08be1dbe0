//! `/v1/chat/completions`: a conversation, written as a prompt by the model's chat template, and its next message.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use serde::Deserialize;
use serde_json::Value;

use super::fields::{self, CompletionBody, Prompts, Stops, StreamOptions};
use super::request::CompletionRequest;
use crate::serve::api_error::{ApiError, ApiResult};
use crate::serve::extract::JsonBody;
use crate::serve::state::ServerState;
use crate::text::Message;

/// The body of `/v1/chat/completions`. Unknown fields are ignored, since clients send many; null means the default.
#[derive(Deserialize)]
pub(in crate::serve) struct ChatBody {
    model: Option<String>,
    messages: Vec<ChatMessage>,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<usize>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    logit_bias: Option<BTreeMap<String, f32>>,
    n: Option<usize>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    logprobs: Option<bool>,
    top_logprobs: Option<usize>,
    stop: Option<Stops>,
    seed: Option<i64>,
    ignore_eos: Option<bool>,
    tools: Option<Value>,
    tool_choice: Option<Value>,
    functions: Option<Value>,
    function_call: Option<Value>,
    response_format: Option<Value>,
    modalities: Option<Vec<String>>,
    audio: Option<Value>,
}

/// A message as clients send it.
#[derive(Deserialize)]
struct ChatMessage {
    role: String,
    content: Option<Value>,
    tool_calls: Option<Value>,
}

const MESSAGES: &str = "a list of at least one message: an object with role (system, user or assistant) and content (a text, or \
                        a list of parts of type text)";

/// What each field of a chat may be, where it differs from a completion's.
const CHAT: [(&str, &str); 15] = [
    ("messages", MESSAGES),
    ("max_completion_tokens", "a whole number from 0"),
    ("n", "a whole number from 1 to 256"),
    ("logprobs", "true or false"),
    (
        "top_logprobs",
        "a whole number from 0 to 100, with logprobs set to true",
    ),
    ("tools", "an empty list: tools are not supported"),
    ("tool_choice", "none: tools are not supported"),
    ("functions", "an empty list: functions are not supported"),
    ("function_call", "none: functions are not supported"),
    (
        "response_format",
        "an object with the type text: other formats are not supported",
    ),
    ("modalities", "a list with text alone"),
    ("audio", "null: audio is not supported"),
    ("role", "system, user or assistant"),
    ("content", "a text, or a list of parts of type text"),
    ("tool_calls", "an empty list: tools are not supported"),
];

/// The fields of a chat, and those that it shares with completions.
fn expected() -> Vec<(&'static str, &'static str)> {
    CHAT.into_iter().chain(fields::COMPLETION).collect()
}

fn invalid(name: &str, found: impl std::fmt::Display) -> ApiError {
    fields::invalid_in(&expected(), name, found)
}

pub(in crate::serve) async fn chat(
    State(state): State<Arc<ServerState>>,
    body: Result<JsonBody<ChatBody>, ApiError>,
) -> ApiResult<Response<Body>> {
    let JsonBody(body) = body.map_err(|error| fields::explain(&expected(), error))?;
    let request = body.request(&state)?;
    super::respond(state, request).await
}

impl ChatBody {
    fn request(self, state: &ServerState) -> ApiResult<CompletionRequest> {
        self.check_supported()?;
        let engine = &state.model(self.model.as_deref())?.model.engine;
        engine.check_chat()?;
        let messages = self.messages.into_iter().enumerate();
        let messages: Vec<Message> = messages
            .map(|(index, message)| message.read(index))
            .collect::<ApiResult<_>>()?;
        if messages.is_empty() {
            return Err(invalid("messages", "the list is empty"));
        }
        let in_messages = |error: ApiError| error.within("messages");
        let ids = engine
            .chat_prompt(&messages)
            .map_err(|error| in_messages(error.into()))?;
        let vocabulary = engine.vocabulary();
        state.check_prompt(&ids, vocabulary).map_err(in_messages)?;
        let limit = state.settings.limits.tokens;
        let tokens = self.max_completion_tokens.or(self.max_tokens);
        if let Some(tokens) = self.max_completion_tokens.filter(|&tokens| tokens > limit) {
            let found = format!("{tokens} is more than this server's limit of {limit}");
            return Err(invalid("max_completion_tokens", found));
        }
        let logprobs = self.logprobs == Some(true);
        if let Some(top) = self
            .top_logprobs
            .filter(|&top| !logprobs && top > 0 || top > 100)
        {
            return Err(invalid("top_logprobs", top));
        }
        let body = CompletionBody {
            model: self.model,
            prompt: Prompts::Ids(vec![ids]),
            max_tokens: Some(tokens.unwrap_or(limit)),
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            logit_bias: self.logit_bias,
            n: self.n,
            best_of: None,
            stream: self.stream,
            stream_options: self.stream_options,
            logprobs: logprobs.then(|| self.top_logprobs.unwrap_or(0)),
            echo: None,
            stop: self.stop,
            seed: self.seed,
            suffix: None,
            ignore_eos: self.ignore_eos,
        };
        CompletionRequest::new(state, body).map(CompletionRequest::of_chat)
    }

    /// Refuse what would have an effect that this server does not have.
    fn check_supported(&self) -> ApiResult<()> {
        let lists = [("tools", &self.tools), ("functions", &self.functions)];
        for (name, value) in lists {
            check_none(name, value)?;
        }
        let choices = [
            ("tool_choice", &self.tool_choice),
            ("function_call", &self.function_call),
        ];
        for (name, value) in choices {
            // Clients send `auto` without tools: it has no effect.
            if let Some(value) = value
                .as_ref()
                .filter(|&value| value != "none" && value != "auto")
            {
                return Err(invalid(name, value));
            }
        }
        if let Some(format) = self
            .response_format
            .as_ref()
            .filter(|value| value["type"] != "text")
        {
            return Err(invalid("response_format", format));
        }
        let modalities = self.modalities.iter().flatten();
        if let Some(modality) = modalities.into_iter().find(|&modality| modality != "text") {
            return Err(invalid("modalities", format!("{modality:?}")));
        }
        check_none("audio", &self.audio)
    }
}

/// Check that a field is missing or an empty list.
fn check_none(name: &str, value: &Option<Value>) -> ApiResult<()> {
    let used = |value: &&Value| value.as_array().is_none_or(|list| !list.is_empty());
    match value.as_ref().filter(used) {
        None => Ok(()),
        Some(value) => {
            let shown: String = value.to_string().chars().take(100).collect();
            Err(invalid(name, shown))
        }
    }
}

impl ChatMessage {
    fn read(self, index: usize) -> ApiResult<Message> {
        let wrong = |what: String| invalid("messages", format!("{what} at messages[{index}]"));
        let role = match self.role.as_str() {
            // The name of the system's role in newer clients; templates know the older one.
            "developer" => "system",
            role @ ("system" | "user" | "assistant") => role,
            role => return Err(wrong(format!("the role {role:?}"))),
        };
        check_none("tool_calls", &self.tool_calls)
            .map_err(|_| wrong("tool calls, which are not supported,".into()))?;
        let content = match self.content {
            Some(Value::String(text)) => text,
            Some(Value::Array(parts)) => {
                let texts = parts.iter().map(|part| match part["text"].as_str() {
                    Some(text) if part["type"] == "text" => Ok(text),
                    _ => Err(wrong(format!("a part of type {}", part["type"]))),
                });
                texts.collect::<ApiResult<Vec<_>>>()?.concat()
            }
            None => return Err(wrong("no content".into())),
            Some(other) => return Err(wrong(format!("the content {other}"))),
        };
        Ok(Message::new(role, content))
    }
}
