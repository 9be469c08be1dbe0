//! Requests to the server, answered in memory.

use std::sync::OnceLock;

use brillm::Engine;
use brillm::serve::{InMemoryServer, ServedModel, Settings};

use crate::{files, graphs};

fn server() -> &'static InMemoryServer {
    static SERVER: OnceLock<InMemoryServer> = OnceLock::new();
    SERVER.get_or_init(|| {
        let mut settings = Settings::default();
        settings.library = Some(files::folder().join("library"));
        settings.limits.parallel = 1;
        settings.limits.queue = 4;
        settings.limits.tokens = 8;
        settings.limits.prompt_tokens = 64;
        settings.limits.candidates = 16;
        settings.limits.seconds = 1.0;
        let served = |name: &str, engine: Engine| ServedModel {
            name: name.into(),
            engine,
            sha256: None,
        };
        let models = vec![served("small", Engine::from(graphs::sifu()))];
        InMemoryServer::new(settings, models).expect("a server")
    })
}

/// Answer the bytes as what a connection sends.
pub fn http(data: &[u8]) {
    let answer = server().answer(data);
    if !answer.is_empty() {
        assert!(answer.starts_with(b"HTTP/1."), "an answer that is not HTTP");
    }
    // Saved traces would make every later list longer.
    let library = files::folder().join("library");
    if std::fs::read_dir(&library).map_or(0, Iterator::count) > 8 {
        for entry in std::fs::read_dir(&library).into_iter().flatten().flatten() {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
