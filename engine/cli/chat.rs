//! `brillm chat`: a conversation with a chat model in the terminal.

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::token_sampling::TokenSampling;
use crate::hook::Hooks;
use crate::run::{Engine, Finish, Request};
use crate::text::Message;
use crate::{Error, ErrorKind, Result};

/// Talk with a chat model: one message per line, the answers are streamed.
///
/// Messages are written with the chat template of the model: chat_template.jinja or tokenizer_config.json of a folder, or
/// the metadata of a GGUF file. Tools are not supported.
///
/// Ctrl-C stops an answer, which stays in the conversation as far as it is; a second Ctrl-C before the next answer, or the
/// end of the input, ends the program. /reset begins a new conversation, /exit ends the program. For each answer the model
/// reads what is new in the conversation.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
#[command(mut_arg("temperature", |temperature| temperature.help("Sampling temperature; 0 always takes the most probable token [default: 0.7]")))]
pub(super) struct Arguments {
    /// Model with a chat template: a folder in Hugging Face's layout or a .gguf file.
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// System message at the beginning of the conversation.
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Maximum number of tokens of an answer.
    #[arg(long, default_value_t = 1024, value_name = "N")]
    tokens: usize,
    #[command(flatten)]
    choice: TokenSampling,
    /// Keep up to MIB mebibytes of keys and values of what was read, to continue there; 0 reads the whole conversation for
    /// each answer.
    #[arg(long, default_value_t = 256, value_name = "MIB")]
    prefix_cache: usize,
    /// End an answer at this text; may be repeated.
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Print each answer as a JSON object on one line, with its numbers of tokens and the time to its first one.
    #[arg(long)]
    json: bool,
}

/// Shown below `brillm chat --help`.
const EXAMPLES: &str = "\
Examples:
  brillm chat --model SmolLM2-135M-Instruct.Q4_1.gguf
  brillm chat --model FOLDER --system \"Answer in one sentence.\" --temperature 0
  echo \"What is the capital of France?\" | brillm chat --model FOLDER --json";

const COMMANDS: &str = "/reset begins a new conversation, /exit ends the program";

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        super::catch_interrupt()?;
        let engine = super::open_engine(Some(&self.model))?;
        engine.check_chat()?;
        // Answers continue what earlier ones computed, unless plugins manage the cache.
        let engine = engine.batched_with(self.prefix_cache.saturating_mul(1 << 20))?;
        let hooks = super::plugin_options::hooks()?;
        let mut conversation = self.beginning();
        let interactive = std::io::stdin().is_terminal();
        let mut answers = 0;
        loop {
            if interactive {
                // Where standard error is closed, there is nobody to prompt.
                drop(std::io::stderr().write_all(b"> "));
            }
            let line = match read_line() {
                Ok(Some(line)) => line,
                Ok(None) if interactive => return super::say(""),
                Ok(None) => return Ok(()),
                Err(error) if interactive && error.kind() == ErrorKind::Input => {
                    super::warn(&error.to_string());
                    continue;
                }
                Err(error) => return Err(error),
            };
            match line.trim() {
                "" => continue,
                "/exit" => return Ok(()),
                "/reset" => {
                    conversation = self.beginning();
                    continue;
                }
                "/help" => {
                    super::warn(COMMANDS);
                    continue;
                }
                word if word.starts_with('/') && !word[1..].contains([' ', '/']) => {
                    super::warn(&format!("{word} is not a command: {COMMANDS}"));
                    continue;
                }
                _ => conversation.push(Message::new("user", line)),
            }
            // A Ctrl-C that found nothing to stop has no effect on this answer.
            super::interrupted().store(false, Ordering::Relaxed);
            let answer = self.answer(&engine, &hooks, &conversation, answers);
            super::interrupted().store(false, Ordering::Relaxed);
            answers += 1;
            match answer {
                Ok(text) => conversation.push(Message::new("assistant", text)),
                Err(error) if interactive && !error.is_broken_pipe() => {
                    conversation.pop();
                    super::warn(&error.to_string());
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Begin a conversation.
    fn beginning(&self) -> Vec<Message> {
        let system = self.system.iter();
        system.map(|text| Message::new("system", text)).collect()
    }

    /// Generate, print and return an answer.
    fn answer(
        &self,
        engine: &Engine,
        hooks: &Hooks,
        conversation: &[Message],
        answers: u64,
    ) -> Result<String> {
        let begin = Instant::now();
        let ids = engine.chat_prompt(conversation)?;
        let seed = self.choice.seed.wrapping_add(answers);
        let prompt_tokens = ids.len();
        let mut request = Request::ids(ids)
            .tokens(self.tokens)
            .sampling(self.choice.sampling(0.7).seed(seed))
            .hooks(hooks.clone())
            .cancel(super::interrupted().clone());
        for stop in &self.stop {
            request = request.stop(stop);
        }
        let hooked = super::plugin_options::hooked(engine, hooks, seed)?;
        let mut generation = hooked.start(request)?;
        let reused = generation.session().reused();
        let (mut text, mut tokens, mut first) = (String::new(), 0, None);
        for piece in &mut generation {
            let piece = piece.or_else(|error| super::say("").and(Err(error)))?;
            first.get_or_insert_with(|| begin.elapsed().as_secs_f64());
            if !self.json {
                super::stream(&piece.text)?;
            }
            tokens += usize::from(!piece.text_only);
            text.push_str(&piece.text);
        }
        let finish = generation.finish();
        if self.json {
            super::say_json_line(&json!({
                "role": "assistant",
                "content": text,
                "finish_reason": finish,
                "prompt_tokens": prompt_tokens,
                "cached_tokens": reused,
                "completion_tokens": tokens,
                "first_token_seconds": first,
            }))?;
        } else {
            super::say("")?;
        }
        if let Some(finish @ (Finish::Length | Finish::Context)) = finish {
            super::warn(&format!("ended: {}", finish.describe()));
        }
        Ok(text)
    }
}

/// Read a line without its end; `None` at the end of the input.
///
/// # Errors
/// [`ErrorKind::Input`] for a line that is not UTF-8; [`ErrorKind::Io`].
fn read_line() -> Result<Option<String>> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().read_until(b'\n', &mut bytes);
    if read.map_err(|error| Error::io(error, "standard input"))? == 0 {
        return Ok(None);
    }
    let line = String::from_utf8(bytes).map_err(|error| {
        Error::new(ErrorKind::Input, "a message is not UTF-8")
            .at("standard input")
            .because(error.utf8_error())
            .advice("convert the input to UTF-8, for example with iconv")
    })?;
    let text = line.strip_suffix('\n').unwrap_or(&line);
    Ok(Some(text.strip_suffix('\r').unwrap_or(text).to_string()))
}
