//! Commands that are printed to be copied into a shell.

use std::ffi::OsStr;

/// Quote an argument for a POSIX shell, where it needs quotes. A path that begins with a hyphen gets `./`, because it would
/// be read as an option.
pub(crate) fn quoted(argument: impl AsRef<OsStr>) -> String {
    let argument = argument.as_ref().to_string_lossy();
    let path = match argument.starts_with('-') && argument != "-" {
        true => format!("./{argument}"),
        false => argument.into_owned(),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=:,+@%".contains(&byte);
    if !path.is_empty() && path.bytes().all(plain) {
        return path;
    }
    // Within single quotes every character is itself; only a single quote ends them.
    format!("'{}'", path.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_quoted_argument_is_read_back_by_a_shell() {
        let mut failures = Vec::new();
        for (argument, expected) in [
            ("runs/my-story/model.bril", "runs/my-story/model.bril"),
            ("", "''"),
            ("my story.txt", "'my story.txt'"),
            ("it's", r"'it'\''s'"),
            ("'", r"''\'''"),
            (r#"$HOME `x` "y" \"#, r#"'$HOME `x` "y" \'"#),
            ("a*[1]?;&|<>(){}!~#", "'a*[1]?;&|<>(){}!~#'"),
            ("line\nline", "'line\nline'"),
            ("-n.txt", "./-n.txt"),
            ("-", "-"),
            ("~", "'~'"),
            ("春风", "'春风'"),
        ] {
            let found = quoted(argument);
            if found != expected {
                failures.push(format!("{argument:?}: {found}"));
            }
            #[cfg(unix)]
            {
                let script = format!("printf %s {found}");
                let mut shell = std::process::Command::new("sh");
                let output = shell.args(["-c", &script]).output().unwrap();
                let read = String::from_utf8(output.stdout).unwrap();
                if read.trim_start_matches("./") != argument {
                    failures.push(format!("{script}: {read:?}"));
                }
            }
        }
        assert!(failures.is_empty(), "{failures:#?}");
    }
}
