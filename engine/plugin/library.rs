//! Plugin libraries: opened by absolute path, checked, never unloaded.

use std::ffi::c_void;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};

use brillm_abi as abi;

use crate::model::sha256::sha256;
use crate::plugin::manifest::{Described, Manifest};
use crate::plugin::{HOOKS, SHADER_HOOKS};
use crate::{Error, ErrorKind, Result};

/// Maximum number of plugins in one library; a larger count indicates damage.
const MOST: u32 = 1024;

/// A plugin of a library, which stays loaded until the program ends.
#[derive(Clone, Debug)]
pub(crate) struct Code {
    pub described: Described,
    pub table: abi::brl_plugin,
    /// Minor version of the interface that the plugin was built for.
    pub minor: u32,
}

// SAFETY: the table's functions are `[static]`, callable from any thread, and its strings are constants of a
// library that is never unloaded.
unsafe impl Send for Code {}
// SAFETY: as above.
unsafe impl Sync for Code {}

/// Copy a text; bytes that are not UTF-8 are replaced.
///
/// # Safety
/// The view is null or valid until the call returns.
pub(crate) unsafe fn text(view: abi::brl_str) -> String {
    // SAFETY: as the caller promises.
    String::from_utf8_lossy(unsafe { view.bytes() }).into_owned()
}

impl Code {
    /// Return the table of a hook, or `None` if the plugin does not implement it.
    pub fn table_of<T: Copy>(&self, hook: &str) -> Option<T> {
        // SAFETY: `hook` is `[static]` and returns null or the table of the hook with this id, a constant.
        unsafe { abi::read(self.hook(hook).cast::<T>()) }
    }

    fn hook(&self, id: &str) -> *const c_void {
        match self.table.hook {
            // SAFETY: a `[static]` function; the string is valid for the call.
            Some(hook) => unsafe { hook(abi::brl_str::new(id)) },
            None => std::ptr::null(),
        }
    }
}

/// Call the library's entry and read its plugins.
///
/// # Safety
/// `entry` is the library's `brl_plugin_entry`, and the library stays loaded.
pub(super) unsafe fn codes(
    entry: unsafe extern "C" fn() -> *const abi::brl_entry,
) -> Result<Vec<Code>> {
    // SAFETY: a pure function without arguments, as the interface says.
    let entry = unsafe { entry() };
    if entry.is_null() {
        return Err(Error::new(ErrorKind::Plugin, "its entry returns null"));
    }
    // SAFETY: the first 16 bytes are the same in every version.
    let head = unsafe { entry.cast::<[u32; 4]>().read_unaligned() };
    let [magic, major, minor, count] = head;
    if magic != abi::BRL_MAGIC {
        return Err(Error::new(
            ErrorKind::Plugin,
            "its entry is not that of a brillm plugin",
        ));
    }
    if major != abi::BRL_ABI_MAJOR {
        return Err(Error::new(
            ErrorKind::Version,
            format!(
                "it was built for version {major}.{minor} of the plugin interface, this program supports {}.{}",
                abi::BRL_ABI_MAJOR,
                abi::BRL_ABI_MINOR
            ),
        )
        .advice("build it again with this version's brillm_plugin.h or brillm-plugin"));
    }
    if count == 0 || count > MOST {
        return Err(Error::new(
            ErrorKind::Plugin,
            format!("its entry lists {count} plugins"),
        ));
    }
    // SAFETY: of this major version, so the rest of the entry is as declared.
    let plugins = unsafe { (*entry).plugins };
    if plugins.is_null() {
        return Err(Error::new(ErrorKind::Plugin, "its list of plugins is null"));
    }
    (0..count as usize)
        .map(|index| {
            // SAFETY: the list has `count` entries, each null or a table.
            let table = unsafe { abi::read(plugins.add(index).read()) }
                .ok_or_else(|| Error::new(ErrorKind::Plugin, format!("plugin {index} is null")))?;
            code(table, minor)
        })
        .collect()
}

fn code(table: abi::brl_plugin, minor: u32) -> Result<Code> {
    // SAFETY: the strings are constants of a library that stays loaded.
    let [id, name, version, license, about, schema] = unsafe {
        [
            text(table.id),
            text(table.name),
            text(table.version),
            text(table.license),
            text(table.about),
            text(table.config_schema),
        ]
    };
    let invalid =
        |what: &str| Err(Error::new(ErrorKind::Plugin, what).at(format!("plugin {id:?}")));
    if id.is_empty() || id.len() > 200 || id.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return invalid("its id must be 1 to 200 characters without spaces");
    }
    if table.create.is_none() || table.destroy.is_none() || table.hook.is_none() {
        return invalid("it lacks create, destroy or hook");
    }
    let schema = if schema.trim().is_empty() {
        serde_json::Value::Null
    } else {
        serde_json::from_str(&schema).unwrap_or(serde_json::Value::String(schema))
    };
    let mut code = Code {
        described: Described {
            id: id.clone(),
            name,
            version,
            license,
            about,
            hooks: Vec::new(),
            schema,
        },
        table,
        minor,
    };
    let shaders = SHADER_HOOKS.map(|hook| format!("wgsl/1:{hook}"));
    code.described.hooks = HOOKS
        .iter()
        .map(|hook| (*hook).to_string())
        .chain(shaders)
        .filter(|hook| !code.hook(hook).is_null())
        .collect();
    if code.described.hooks.is_empty() {
        return invalid("it implements no hook of this program");
    }
    Ok(code)
}

/// Copy a file to a file in memory.
#[cfg(target_os = "linux")]
fn copy_in_memory(path: &Path) -> std::io::Result<std::fs::File> {
    use std::os::fd::FromRawFd;
    // SAFETY: the name ends with a zero; the call has no other argument that points to memory.
    let descriptor = unsafe { libc::memfd_create(c"brillm-plugin".as_ptr(), libc::MFD_CLOEXEC) };
    if descriptor < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nothing else owns.
    let mut copy = unsafe { std::fs::File::from_raw_fd(descriptor) };
    std::io::copy(&mut std::fs::File::open(path)?, &mut copy)?;
    Ok(copy)
}

/// A library file that is checked and then loaded.
pub(crate) struct LibraryFile {
    /// Absolute path.
    path: PathBuf,
    /// SHA-256 of what is loaded.
    pub sha256: String,
    /// The private copy that is loaded instead.
    #[cfg(target_os = "linux")]
    copy: Option<std::fs::File>,
}

impl LibraryFile {
    /// Open a library file. Where `private` is set, and the system can, it is copied into memory, and the copy is
    /// hashed, checked and loaded.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] for a missing file; [`ErrorKind::Plugin`] for a file that is not a library.
    pub fn open(path: &Path, private: bool) -> Result<Self> {
        let locate = |error: Error| error.at(format!("plugin library {}", path.display()));
        let path: PathBuf = path
            .canonicalize()
            .map_err(|error| locate(Error::io(error, "opening")))?;
        if !path.is_file() {
            return Err(locate(Error::new(
                ErrorKind::Plugin,
                "expected a plugin library, found a folder or a device",
            )));
        }
        let mut file = Self {
            path,
            sha256: String::new(),
            #[cfg(target_os = "linux")]
            copy: None,
        };
        #[cfg(target_os = "linux")]
        if private {
            match copy_in_memory(&file.path) {
                Ok(copy) => file.copy = Some(copy),
                Err(error) => file.warn(&error),
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = private;
        #[cfg(all(unix, not(target_vendor = "apple")))]
        crate::plugin::elf::check(&file.source()).map_err(locate)?;
        file.sha256 = sha256(&file.source()).map_err(locate)?;
        Ok(file)
    }

    /// Path of the bytes that are hashed, checked and loaded.
    fn source(&self) -> PathBuf {
        #[cfg(target_os = "linux")]
        if let Some(copy) = &self.copy {
            use std::os::fd::AsRawFd;
            return format!("/proc/self/fd/{}", copy.as_raw_fd()).into();
        }
        self.path.clone()
    }

    /// Warn that the file itself is loaded.
    #[cfg(target_os = "linux")]
    fn warn(&self, error: &dyn std::fmt::Display) {
        tracing::warn!(
            "the plugin library {} is loaded without a private copy, so do not change the file while the program runs: {error}",
            self.path.display()
        );
    }

    /// Load the library, or the file itself where its copy cannot be loaded, as one that finds others by its own folder.
    fn load(self) -> std::result::Result<libloading::Library, Error> {
        let failed = |error: libloading::Error| {
            let what = format!("it cannot be loaded: {}", detail(&error));
            Error::new(ErrorKind::Plugin, what).advice(
                "check that it is a dynamic library for this machine and that its dependencies are installed",
            )
        };
        #[cfg(target_os = "linux")]
        if self.copy.is_some() {
            let error = match load(&self.source()) {
                Ok(library) => {
                    // The copy is never closed: the system's loader takes two libraries of one path for the same one,
                    // so no other file may get the number.
                    std::mem::forget(self.copy);
                    return Ok(library);
                }
                Err(error) => error,
            };
            self.warn(&detail(&error));
            if sha256(&self.path)? != self.sha256 {
                let what = "the file changed while it was opened";
                return Err(Error::new(ErrorKind::Checksum, what));
            }
        }
        load(&self.path).map_err(failed)
    }
}

/// Load a library by its absolute path.
fn load(path: &Path) -> std::result::Result<libloading::Library, libloading::Error> {
    #[cfg(unix)]
    {
        use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
        // SAFETY: the user named the plugin, so its initialisers may run; with an absolute path the system does not
        // search for it.
        unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map(Into::into)
    }
    #[cfg(not(unix))]
    // SAFETY: as above.
    unsafe {
        libloading::Library::new(path)
    }
}

/// Open a library and read its plugins.
///
/// # Errors
/// As [`LibraryFile::open`] and [`plugins`].
pub(crate) fn open(path: &Path) -> Result<Vec<Code>> {
    plugins(LibraryFile::open(path, false)?)
}

/// Load a library and read its plugins. The library stays loaded, because code cannot be unloaded safely.
///
/// # Errors
/// [`ErrorKind::Plugin`] for a file that is not a plugin library; [`ErrorKind::Version`] for another major version of the
/// interface.
pub(crate) fn plugins(file: LibraryFile) -> Result<Vec<Code>> {
    let location = format!("plugin library {}", file.path.display());
    let locate = |error: Error| error.at(&location);
    let library = file.load().map_err(locate)?;
    let library = ManuallyDrop::new(library);
    type Entry = unsafe extern "C" fn() -> *const abi::brl_entry;
    // SAFETY: the symbol of this name has this type, as the interface says.
    let entry: Entry = *unsafe { library.get::<Entry>(c"brl_plugin_entry") }.map_err(|_| {
        locate(Error::new(
            ErrorKind::Plugin,
            "it is not a brillm plugin: it exports no function brl_plugin_entry",
        ))
    })?;
    // SAFETY: the library is never unloaded.
    unsafe { codes(entry) }.map_err(locate)
}

fn detail(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// Compare a manifest with its library.
///
/// # Errors
/// [`ErrorKind::Plugin`], naming the difference.
pub(crate) fn compare(manifest: &Manifest, codes: &[Code]) -> Result<()> {
    let differs = |what: String| {
        Err(Error::new(
            ErrorKind::Plugin,
            format!("its manifest does not match the library: {what}"),
        )
        .at(manifest.library_path().display())
        .advice(
            "`brillm plugin build` rewrites it; do not load the library if you did not build it",
        ))
    };
    let minor = codes.first().map_or(0, |code| code.minor);
    let abi = format!("{}.{minor}", abi::BRL_ABI_MAJOR);
    if manifest.abi != abi {
        return differs(format!(
            "it is for interface {}, the library for {abi}",
            manifest.abi
        ));
    }
    let ids = |plugins: Vec<&str>| plugins.join(", ");
    let stated = ids(manifest
        .plugins
        .iter()
        .map(|plugin| plugin.id.as_str())
        .collect());
    let found = ids(codes
        .iter()
        .map(|code| code.described.id.as_str())
        .collect());
    if stated != found {
        return differs(format!("it names {stated}, the library contains {found}"));
    }
    for (stated, code) in manifest.plugins.iter().zip(codes) {
        let found = &code.described;
        let fields = [
            ("version", stated.version.clone(), found.version.clone()),
            ("license", stated.license.clone(), found.license.clone()),
            ("hooks", stated.hooks.join(", "), found.hooks.join(", ")),
            (
                "schema",
                stated.schema.to_string(),
                found.schema.to_string(),
            ),
        ];
        if let Some((field, stated, found)) =
            fields.iter().find(|(_, stated, found)| stated != found)
        {
            return differs(format!(
                "{field} is {stated:?} in the manifest, {found:?} in the library"
            ));
        }
    }
    Ok(())
}

/// Compares a library's checksum with the one that `origin` expects.
///
/// # Errors
/// [`ErrorKind::Checksum`], with both sums.
pub(crate) fn verify(path: &Path, sha256: &str, expected: &str, origin: &str) -> Result<()> {
    if sha256.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Checksum,
        format!("its SHA-256 is {sha256}, but {origin} lists {expected}"),
    )
    .at(path.display())
    .advice("the library has changed since; build it again, or correct the checksum if the change is yours"))
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(target_os = "linux")]
    fn a_private_copy_is_hashed_and_does_not_change_with_its_file() {
        use super::{LibraryFile, sha256};
        // This test program is an ELF file; the entry's name is added, as a plugin has it.
        let mut library = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        library.extend_from_slice(b"\0brl_plugin_entry\0");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libx.so");
        std::fs::write(&path, &library).unwrap();
        let sum = sha256(&path).unwrap();
        for private in [true, false] {
            std::fs::write(&path, &library).unwrap();
            let file = LibraryFile::open(&path, private).unwrap();
            assert_eq!(file.sha256, sum, "private: {private}");
            std::fs::write(&path, "changed").unwrap();
            let loaded = std::fs::read(file.source()).unwrap();
            assert_eq!(loaded == library, private, "private: {private}");
        }
    }
}
