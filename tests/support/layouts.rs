//! Sizes and offsets of C structs, as Rust sees them and as C does.

/// Define `layout`, the sizes and offsets as Rust sees them; `program`, which prints them as C and C++ see them with the given
/// headers; and `NAMES`, those of the structs.
macro_rules! layouts {
    ([$($header:literal),*] $($name:ident { $($field:ident),* })*) => {
        fn layout() -> String {
            let mut list = String::new();
            $(
                writeln!(list, "{} {}", stringify!($name), size_of::<$name>()).unwrap();
                $(writeln!(list, "  {} {}", stringify!($field), std::mem::offset_of!($name, $field)).unwrap();)*
            )*
            list
        }

        fn program() -> String {
            let mut text = String::from("#include <stdio.h>\n");
            $(writeln!(text, "#include \"{}\"", $header).unwrap();)*
            text.push_str("int main(void) {\n");
            $(
                let name = stringify!($name);
                writeln!(text, "printf(\"{name} %lu\\n\", (unsigned long)sizeof({name}));").unwrap();
                let last = [$(stringify!($field)),*].last().copied().unwrap_or("");
                $(
                    let field = stringify!($field);
                    writeln!(text, "printf(\"  {field} %lu\\n\", (unsigned long)offsetof({name}, {field}));").unwrap();
                )*
                // No padding at the end: an appended field could hide in it.
                writeln!(text, "if (sizeof({name}) != BRL_END({name}, {last})) {{ printf(\"{name} is padded\\n\"); }}").unwrap();
            )*
            text.push_str("return 0;\n}\n");
            text
        }

        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}
