//! Which variables matter while a runtime boots, and which of them a function may give to one that boots ahead of need.
//!
//! Such a runtime still has the machine's files at `/.host`, and a zygote has privileges as well. So no variable of a function
//! may name what it reads, loads or writes there: by `LD_PRELOAD`, `PYTHONPATH`, `NODE_OPTIONS`, `OPENSSL_CONF` and others a
//! function's own files would run outside its sandbox. What is allowed is listed here; a function with anything else is
//! started in a sandbox of its own.

/// Beginnings of the names that interpreters and libraries look at while they boot.
const MATTER: [&str; 14] = [
    "PYTHON",
    "NODE_",
    "UV_",
    "OPENSSL_",
    "SSL",
    "ICU_",
    "LD_",
    "GLIBC_",
    "MALLOC_",
    "LC_",
    "LANG",
    "TZ",
    "BOTO_",
    "BROOKLET_SDK_PATH",
];
/// Whose values are switches, numbers or names.
const SETTINGS: [&str; 16] = [
    "LANG",
    "LANGUAGE",
    "MALLOC_ARENA_MAX",
    "NODE_ENV",
    "NODE_NO_WARNINGS",
    "NODE_PENDING_DEPRECATION",
    "NODE_TLS_REJECT_UNAUTHORIZED",
    "PYTHONASYNCIODEBUG",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONFAULTHANDLER",
    "PYTHONHASHSEED",
    "PYTHONIOENCODING",
    "PYTHONOPTIMIZE",
    "PYTHONUNBUFFERED",
    "PYTHONUTF8",
    "UV_THREADPOOL_SIZE",
];
/// Whose values are rows of folders.
const PATHS: [&str; 3] = ["LD_LIBRARY_PATH", "NODE_PATH", "PYTHONPATH"];
/// Where those may be: there nothing of a function's is before it is that function's.
const FOLDERS: [&str; 5] = ["/var/task", "/opt", "/var/runtime", "/usr/lib", "/lib"];
/// Options of Node.js that take no file.
const NODE_OPTIONS: [&str; 12] = [
    "--enable-source-maps",
    "--no-deprecation",
    "--no-warnings",
    "--trace-deprecation",
    "--trace-uncaught",
    "--trace-warnings",
    "--dns-result-order=",
    "--max-http-header-size=",
    "--max-old-space-size=",
    "--max-semi-space-size=",
    "--stack-trace-limit=",
    "--unhandled-rejections=",
];

/// Whether a variable matters while a runtime boots.
pub fn matters(name: &str) -> bool {
    MATTER.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether a runtime may boot with a function's variable before it is that function's.
pub fn is_harmless(name: &str, value: &str) -> bool {
    let is_setting = SETTINGS.contains(&name) || name.starts_with("LC_");
    match name {
        _ if !matters(name) => true,
        "TZ" => is_time_zone(value),
        "NODE_OPTIONS" => value.split_whitespace().all(is_harmless_option),
        _ if PATHS.contains(&name) => value.split(':').all(is_own_folder),
        _ => is_setting && is_word(value),
    }
}

fn is_word(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-+.,:@".contains(&byte))
}

/// `Europe/Paris`, `:UTC`, `CET-1CEST,M3.5.0,M10.5.0/3`; none that leads out of the folder of time zones.
fn is_time_zone(text: &str) -> bool {
    let name = text.strip_prefix(':').unwrap_or(text);
    !name.starts_with('/') && name.split('/').all(|part| part != ".." && is_word(part))
}

fn is_harmless_option(option: &str) -> bool {
    NODE_OPTIONS.iter().any(|known| match (known.ends_with('='), option.strip_prefix(known)) {
        (true, Some(value)) => is_word(value),
        (false, Some("")) => true,
        _ => false,
    })
}

/// Only of words: the dynamic linker takes `;` for `:`, and puts something in the place of `$ORIGIN`.
fn is_own_folder(path: &str) -> bool {
    let rest = FOLDERS.iter().find_map(|folder| path.strip_prefix(folder));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        && path.split('/').all(|part| part != ".." && is_word(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_names_a_file_is_taken_along() {
        for (name, value) in [
            ("LD_PRELOAD", "/var/task/a.so"),
            ("LD_AUDIT", "a.so"),
            ("LD_LIBRARY_PATH", "/.host/tmp"),
            ("LD_LIBRARY_PATH", "/var/task:"),
            ("LD_LIBRARY_PATH", "/var/task/lib;/.host/srv/code"),
            ("LD_LIBRARY_PATH", "/usr/lib/$LIB"),
            ("LD_LIBRARY_PATH", "/usr/lib/${ORIGIN}"),
            ("PYTHONPATH", "/var/runtime:/.host/srv/code"),
            ("PYTHONPATH", "/var/task/../../.host"),
            ("PYTHONPATH", "/optional"),
            ("PYTHONPATH", "own"),
            ("PYTHONHOME", "/var/task"),
            ("PYTHONSTARTUP", "x"),
            ("PYTHONWARNINGS", "error::own.Warning"),
            ("PYTHONUTF8", "/.host"),
            ("NODE_OPTIONS", "--enable-source-maps --require /.host/a.js"),
            ("NODE_OPTIONS", "-r a"),
            ("NODE_OPTIONS", "--import=a"),
            ("NODE_OPTIONS", "--max-old-space-size=/a"),
            ("NODE_OPTIONS", "--enable-source-maps-and-more"),
            ("NODE_PATH", "/tmp"),
            ("NODE_EXTRA_CA_CERTS", "/var/task/ca.pem"),
            ("NODE_V8_COVERAGE", "x"),
            ("OPENSSL_CONF", "/var/task/openssl.cnf"),
            ("SSLKEYLOGFILE", "x"),
            ("SSL_CERT_FILE", "/var/task/ca.pem"),
            ("GLIBC_TUNABLES", "glibc.malloc.check=1"),
            ("LC_ALL", "../../.host"),
            ("TZ", "/.host/etc/shadow"),
            ("TZ", ":/.host/etc/shadow"),
            ("TZ", "../../.host/etc/shadow"),
            ("BOTO_CONFIG", "x"),
            ("BROOKLET_SDK_PATH", "/.host/srv/code"),
        ] {
            assert!(!is_harmless(name, value), "{name}={value}");
        }
    }

    #[test]
    fn what_many_functions_set_costs_them_nothing() {
        for (name, value) in [
            ("COLOUR", "/.host"),
            ("TZ", "Europe/Paris"),
            ("TZ", ":UTC"),
            ("TZ", "America/Argentina/Buenos_Aires"),
            ("TZ", "CET-1CEST,M3.5.0,M10.5.0/3"),
            ("LANG", "de_DE.UTF-8"),
            ("LC_ALL", "C.UTF-8"),
            ("NODE_ENV", "production"),
            ("NODE_OPTIONS", "--enable-source-maps --max-old-space-size=300"),
            ("NODE_OPTIONS", ""),
            ("NODE_PATH", "/opt/nodejs/node_modules:/var/task"),
            ("PYTHONPATH", "/var/task/lib:/opt/python"),
            ("PYTHONHASHSEED", "0"),
            ("PYTHONUNBUFFERED", "1"),
        ] {
            assert!(is_harmless(name, value), "{name}={value}");
        }
    }
}
