//! The messages of a conversation with a chat model.

use serde::{Deserialize, Serialize};

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who wrote it: `system`, `user`, `assistant`, or another role that the model's chat template knows.
    pub role: String,
    /// The text.
    pub content: String,
}

impl Message {
    /// Create a message.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
        }
    }
}
