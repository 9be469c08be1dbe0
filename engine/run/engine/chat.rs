//! From a conversation to the prompt of its next message.

use super::Engine;
use crate::text::Message;
use crate::{Error, ErrorKind, Result};

impl Engine {
    /// Write a conversation with the model's chat template, and encode it as the prompt of the assistant's next message.
    ///
    /// ```
    /// use brillm::text::Message;
    /// let engine = brillm::open("models/stories260K")?;
    /// let error = engine.chat_prompt(&[Message::new("user", "Hello")]).unwrap_err();
    /// assert!(error.to_string().contains("has no chat template"));
    /// # Ok::<(), brillm::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a model without a chat template; [`ErrorKind::Input`] for no messages, or those that
    /// the template refuses; [`ErrorKind::Format`] for an invalid template; as [`Engine::encode`].
    pub fn chat_prompt(&self, messages: &[Message]) -> Result<Vec<u32>> {
        if messages.is_empty() {
            return Err(Error::new(ErrorKind::Input, "the conversation is empty")
                .advice("pass at least one message"));
        }
        #[cfg(feature = "transformer")]
        if let Some(template) = self
            .as_transformer()
            .and_then(|model| model.chat_template())
        {
            let text = template
                .render(messages)
                .map_err(|error| error.at(self.name()))?;
            // The template writes the begin token where the model expects one.
            let ids = self.tokenizer().encode(&text)?;
            if !ids.is_empty() {
                return Ok(ids);
            }
            return Err(Error::new(
                ErrorKind::Format,
                "the chat template writes an empty prompt",
            )
            .at(self.name())
            .advice("take the model's own template from its publisher"));
        }
        self.check_chat()?;
        Ok(Vec::new())
    }

    /// Return whether the model has a chat template.
    pub fn has_chat_template(&self) -> bool {
        #[cfg(feature = "transformer")]
        return self
            .as_transformer()
            .is_some_and(|model| model.chat_template().is_some());
        #[cfg(not(feature = "transformer"))]
        false
    }

    /// Check that the model has a chat template.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`].
    pub fn check_chat(&self) -> Result<()> {
        if self.has_chat_template() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Unsupported,
            "the model has no chat template, which writes a conversation as a prompt",
        )
        .at(self.name())
        .advice(
            "use a chat model in Hugging Face's layout (chat_template.jinja, or chat_template in tokenizer_config.json) or as \
             GGUF; brillm generate and /v1/completions continue plain text",
        ))
    }
}
