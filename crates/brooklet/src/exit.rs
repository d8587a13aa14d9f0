//! How the program ends: one table, used everywhere and shown by `brooklet --help`.

/// An exit code, by what a caller (a person or a script) does about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Success = 0,
    /// Anything that has no code of its own.
    Failure = 1,
    /// The command line is wrong (clap's own code).
    Usage = 2,
    /// The manifest, the configuration or a trace has mistakes.
    Mistakes = 3,
    /// A build or an installation step failed.
    Build = 4,
    /// No server answered.
    Unreachable = 5,
    /// The server refused the request.
    Refused = 6,
    /// There is no such function, version, alias or log.
    NotFound = 7,
    /// A concurrency or memory limit was hit: try again later.
    Throttled = 8,
    /// The function ran and failed.
    FunctionError = 9,
    /// The answer to a question was no, or nobody was there to ask.
    Declined = 10,
    /// `up`: another server uses the data directory.
    DataDirLocked = 20,
    /// `up`: the data directory cannot be written.
    DataDirUnwritable = 21,
    /// `up`: a newer Brooklet wrote the data directory.
    DataDirNewer = 22,
    /// `up`: the address is taken.
    AddressTaken = 23,
    /// `up`: listening beyond loopback without access keys.
    Insecure = 24,
}

impl Exit {
    /// Every code with the words that help shows, in order.
    pub const TABLE: &[(Exit, &str)] = &[
        (Exit::Success, "done"),
        (Exit::Failure, "something failed that has no code of its own"),
        (Exit::Usage, "the command line is wrong"),
        (Exit::Mistakes, "the manifest, the configuration or a trace has mistakes"),
        (Exit::Build, "a build or installation step failed"),
        (Exit::Unreachable, "no server answered"),
        (Exit::Refused, "the server refused the request"),
        (Exit::NotFound, "no such function, version, alias or log"),
        (Exit::Throttled, "a concurrency or memory limit was hit: try again later"),
        (Exit::FunctionError, "the function ran and failed"),
        (Exit::Declined, "a question was answered no, or nobody was there to ask (--yes)"),
        (Exit::DataDirLocked, "up: another server uses the data directory"),
        (Exit::DataDirUnwritable, "up: the data directory cannot be written"),
        (Exit::DataDirNewer, "up: a newer Brooklet wrote the data directory"),
        (Exit::AddressTaken, "up: the address is taken"),
        (Exit::Insecure, "up: listening beyond loopback without access keys"),
    ];

    /// The table as lines of text, for help.
    pub fn table() -> String {
        let line = |&(exit, words): &(Exit, &str)| format!("  {:>3}  {words}", exit as u8);
        Self::TABLE.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        std::process::ExitCode::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_endings_share_a_code_and_the_table_is_in_order() {
        let codes: Vec<u8> = Exit::TABLE.iter().map(|(exit, _)| *exit as u8).collect();
        assert!(codes.windows(2).all(|pair| pair[0] < pair[1]), "{codes:?}");
    }

    #[test]
    fn the_documentation_has_the_same_table() {
        let text = include_str!("../../../docs/cli.md");
        for (exit, words) in Exit::TABLE {
            assert!(text.contains(&format!("| {} | {words} |", *exit as u8)), "docs/cli.md lacks {exit:?}");
        }
    }
}
