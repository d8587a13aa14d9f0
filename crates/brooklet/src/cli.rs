//! The command line. What stands here is what `--help` teaches: every command has its examples.

use crate::commands::completions::functions;
use crate::exit::Exit;
use clap::builder::NonEmptyStringValueParser;
use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::ArgValueCompleter;
use std::collections::BTreeMap;
use std::path::PathBuf;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Functions as a service in one program: the AWS Lambda API on your own machine, without Docker.
#[derive(Debug, Parser)]
#[command(
    name = "brooklet",
    version,
    styles = STYLES,
    max_term_width = 110,
    infer_subcommands = true,
    disable_help_subcommand = true,
    after_help = first_steps(),
)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

fn first_steps() -> String {
    format!(
        "First steps:\n  brooklet up                      start the server (leave it running)\n  \
         brooklet new python hello        make a project\n  \
         brooklet deploy hello            deploy it\n  \
         brooklet invoke hello            run it\n  \
         brooklet dev hello               deploy it again whenever a file is saved\n\n\
         Exit codes:\n{}",
        Exit::table()
    )
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the server
    Up(Up),
    /// Make a new project from a template
    New(New),
    /// Deploy a folder or a zip: build, create or update, and say what was done
    Deploy(Deploy),
    /// Deploy a folder again whenever a file in it is saved, and show its logs
    Dev(Dev),
    /// Run a function and print its answer
    Invoke(Invoke),
    /// Show what functions wrote
    Logs(Logs),
    /// List functions
    List(List),
    /// Show one function: configuration, versions, aliases, URL
    Show(Show),
    /// Remove a function with all its versions
    Rm(Rm),
    /// Find or install what functions need: interpreters, the AWS SDK, Java's runtime client
    #[command(subcommand)]
    Runtimes(Runtimes),
    /// Play a trace under several keep-alive policies and say what each would have cost
    Simulate(Simulate),
    /// Measure a function on the server
    #[command(subcommand)]
    Bench(Bench),
    /// Say what this machine can run and isolate, what is missing and what to do about it
    Doctor(Doctor),
    /// Print shell completions
    #[command(
        after_help = "Commands, options and the names of the server's functions complete. A line in the file that the shell \
                      reads at its start:\n  ~/.bashrc                    source <(brooklet completions bash)\n  \
                      ~/.zshrc                     source <(brooklet completions zsh)      (after compinit)\n  \
                      ~/.config/fish/config.fish   brooklet completions fish | source"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the version
    Version,
}

/// Flags of `up`. They stay text here: [`crate::config`] checks them together with the environment and the
/// file, so that all mistakes come at once.
#[derive(Args, Debug)]
#[command(
    after_help = "Each setting is taken from the flag, then the environment, then the file, then its default. The file has \
                        more settings: see docs/configuration.md.\n\nExamples:\n  brooklet up\n  \
                        brooklet up --listen 127.0.0.1:0 --data-dir /var/lib/brooklet\n  \
                        BROOKLET_REGION=eu-west-1 brooklet up --config /etc/brooklet.toml"
)]
pub struct Up {
    /// Address and port; port 0 takes a free one [env: BROOKLET_LISTEN] [default: 127.0.0.1:9170]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Where everything durable lives [env: BROOKLET_DATA_DIR] [default: ~/.local/share/brooklet]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub data_dir: Option<String>,
    /// Configuration file [env: BROOKLET_CONFIG] [default: ~/.config/brooklet/config.toml, when it is there]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Twelve digits for every ARN [env: BROOKLET_ACCOUNT_ID] [default: 000000000000]
    #[arg(long, value_name = "N")]
    pub account_id: Option<String>,
    /// Region for every ARN [env: BROOKLET_REGION] [default: us-east-1]
    #[arg(long, value_name = "R")]
    pub region: Option<String>,
    /// Allow listening beyond loopback without access keys: anyone who reaches the port can run code here
    /// [env: BROOKLET_INSECURE]
    #[arg(long)]
    pub insecure: bool,
    /// strict: refuse to start unless functions can be isolated fully; best-effort: use what this machine
    /// has; none: plain processes [env: BROOKLET_ISOLATION] [default: best-effort]
    #[arg(long, value_name = "LEVEL")]
    pub isolation: Option<String>,
}

impl Up {
    /// The flags that were given, by configuration key.
    pub fn settings(&self) -> BTreeMap<&'static str, String> {
        let texts = [
            ("listen", &self.listen),
            ("data-dir", &self.data_dir),
            ("account-id", &self.account_id),
            ("region", &self.region),
            ("isolation", &self.isolation),
        ];
        let texts = texts.into_iter().filter_map(|(key, text)| Some((key, text.clone()?)));
        texts.chain(self.insecure.then(|| ("insecure", "true".to_string()))).collect()
    }
}

/// The server to talk to.
#[derive(Args, Clone, Debug)]
pub struct At {
    /// The server [env: BROOKLET_SERVER, AWS_ENDPOINT_URL_LAMBDA, AWS_ENDPOINT_URL]
    /// [default: http://127.0.0.1:9170]
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url, display_order = 900)]
    pub server: Option<String>,
}

/// Tables for people or JSON for scripts. (The values have no help of their own: it would make every
/// command's help three times as long.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Table,
    Json,
}

/// What `invoke` writes to standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum InvokeOutput {
    Answer,
    Json,
}

/// Arguments of `new`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  brooklet new python hello\n  brooklet new http-python web\n  brooklet new go ./functions/resize"
)]
pub struct New {
    /// What kind of project
    #[arg(value_enum)]
    pub template: Template,
    /// The folder to make; its last part becomes the function's name
    #[arg(value_hint = ValueHint::DirPath)]
    pub dir: PathBuf,
}

/// Languages that `new` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Template {
    /// Python, Lambda style
    Python,
    /// JavaScript on Node
    Node,
    /// TypeScript on Node
    Typescript,
    /// Go with aws-lambda-go
    Go,
    /// Rust with lambda_runtime
    Rust,
    /// Java with Maven
    Java,
    /// C#
    Csharp,
    /// A Python web server that listens on $PORT
    HttpPython,
    /// A Node web server that listens on $PORT
    HttpNode,
    /// A shell script that speaks the Runtime API
    Shell,
}

/// Arguments of `deploy`.
#[derive(Args, Debug)]
#[command(
    after_help = "A folder with brooklet.toml deploys what that says (docs/manifest.md); without one the language is detected. \
                        Code and configuration that are as deployed are left alone.\n\nExamples:\n  brooklet deploy\n  \
                        brooklet deploy ./hello --dry-run\n  brooklet deploy function.zip --name resize\n  \
                        brooklet deploy --prune --yes --output json"
)]
pub struct Deploy {
    /// Where.
    #[command(flatten)]
    pub at: At,
    /// The folder or zip
    #[arg(default_value = ".", value_hint = ValueHint::AnyPath)]
    pub path: PathBuf,
    /// The function's name, when there is no manifest [default: the folder's name]
    #[arg(long)]
    pub name: Option<String>,
    /// The runtime, when there is no manifest, such as python3.12, nodejs20.x or http [default: detected]
    #[arg(long)]
    pub runtime: Option<String>,
    /// The handler, when there is no manifest [default: detected]
    #[arg(long)]
    pub handler: Option<String>,
    /// Only the functions of the manifest that are named
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// Also remove functions that this project deployed before and no longer declares
    #[arg(long, conflicts_with = "only")]
    pub prune: bool,
    /// Show the plan and stop
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask before removing anything
    #[arg(long, short)]
    pub yes: bool,
    /// Build everything anew
    #[arg(long)]
    pub rebuild: bool,
    /// Tables for people or JSON for scripts
    #[arg(long, short, value_enum, default_value = "table")]
    pub output: Output,
}

/// Arguments of `dev`.
#[derive(Args, Debug)]
#[command(
    after_help = "A server is started for as long as `dev` runs when none answers. Ctrl-C ends.\n\nExamples:\n  brooklet dev\n  \
                        brooklet dev ./hello"
)]
pub struct Dev {
    /// Where.
    #[command(flatten)]
    pub at: At,
    /// The folder
    #[arg(default_value = ".", value_hint = ValueHint::DirPath)]
    pub path: PathBuf,
}

/// Arguments of `invoke`.
#[derive(Args, Debug)]
#[command(
    after_help = "The answer goes to standard output, everything else to standard error. The exit code is 9 when the function \
                        failed.\n\nExamples:\n  brooklet invoke hello\n  brooklet invoke hello --data '{\"name\": \"Ada\"}' --tail\n  \
                        brooklet invoke hello --data @event.json --qualifier live\n  cat event.json | brooklet invoke hello --data - | jq .\n  \
                        brooklet invoke hello --output json | jq -r .requestId"
)]
pub struct Invoke {
    /// Where.
    #[command(flatten)]
    pub at: At,
    /// The function's name or ARN
    #[arg(value_parser = NonEmptyStringValueParser::new(), add = ArgValueCompleter::new(functions))]
    pub name: String,
    /// The event as JSON, @FILE, or - for standard input [default: {}]
    #[arg(long, short, value_name = "JSON|@FILE|-", conflicts_with = "event")]
    pub data: Option<String>,
    /// A file with the event
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub event: Option<PathBuf>,
    /// Version or alias [default: $LATEST]
    #[arg(long, short)]
    pub qualifier: Option<String>,
    /// Show the last 4 KiB of the invocation's log
    #[arg(long, short)]
    pub tail: bool,
    /// The answer alone, or one JSON object with the answer and how it came about
    #[arg(long, short, value_enum, default_value = "answer")]
    pub output: InvokeOutput,
}

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Start a function again and again, each time with no instance there, and say what its cold starts consist of
    Coldstart(Coldstart),
}

/// Arguments of `bench coldstart`.
#[derive(Args, Debug)]
#[command(
    after_help = "Each time, the function's idle instances are stopped and it is invoked once. Requests of others make fewer of the \
                        starts cold; those that were not are counted and left out.\n\nExamples:\n  \
                        brooklet bench coldstart hello\n  brooklet bench coldstart ./hello --count 100 --output json"
)]
pub struct Coldstart {
    /// Where.
    #[command(flatten)]
    pub at: At,
    /// The function's name or ARN, or the folder that it was deployed from
    #[arg(value_parser = NonEmptyStringValueParser::new(), add = ArgValueCompleter::new(functions))]
    pub name: String,
    /// How many starts
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub count: u32,
    /// The event as JSON
    #[arg(long, short, value_name = "JSON", default_value = "{}")]
    pub data: String,
    /// Version or alias [default: $LATEST]
    #[arg(long, short)]
    pub qualifier: Option<String>,
    /// A table for people or JSON for scripts
    #[arg(long, short, value_enum, default_value = "table")]
    pub output: Output,
}

/// Arguments of `logs`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  brooklet logs hello\n  brooklet logs hello -f\n  brooklet logs hello --since 10m\n  \
                        brooklet logs hello --request-id 8f5a…"
)]
pub struct Logs {
    /// Where.
    #[command(flatten)]
    pub at: At,
    /// Which lines.
    #[command(flatten)]
    pub lines: Lines,
    /// Lines for people or JSON for scripts, one object a line
    #[arg(long, short, value_enum, default_value = "table")]
    pub output: Output,
}

/// Lines of a log.
#[derive(Args, Clone, Debug)]
pub struct Lines {
    /// The function's name
    #[arg(value_parser = NonEmptyStringValueParser::new(), add = ArgValueCompleter::new(functions))]
    pub name: String,
    /// Keep showing new lines
    #[arg(long, short)]
    pub follow: bool,
    /// Only lines of the last while, such as 30s, 10m or 2h
    #[arg(long, value_name = "DURATION", value_parser = crate::units::duration)]
    pub since: Option<std::time::Duration>,
    /// Only lines of one invocation
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
    /// Only lines of one instance
    #[arg(long, value_name = "STREAM")]
    pub stream: Option<String>,
}

/// Arguments of `simulate`.
#[derive(Args, Debug)]
#[command(
    after_help = "A trace is a folder or table in the layout of the Azure Functions trace 2019, or Brooklet's own meter records. What is \
                        simulated is the server's own code in virtual time, with memory for everybody (docs/keep-alive.md).\n\nExamples:\n  \
                        brooklet simulate --data-dir ~/.local/share/brooklet\n  \
                        brooklet simulate --trace azurefunctions-dataset2019/ --plot policies.svg\n  \
                        brooklet simulate --synthetic --functions 500 --hours 48 --seed 7\n  \
                        brooklet simulate --synthetic --policy fixed:10m --policy learned:10m --output json"
)]
pub struct Simulate {
    /// A folder or file with a trace
    #[arg(long, value_name = "FILE-OR-FOLDER", value_hint = ValueHint::AnyPath, conflicts_with_all = ["data_dir", "synthetic"])]
    pub trace: Option<PathBuf>,
    /// A server's data directory: what its functions were really called like
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with = "synthetic")]
    pub data_dir: Option<PathBuf>,
    /// Functions made up from published distributions
    #[arg(long)]
    pub synthetic: bool,
    /// How many functions to make up
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub functions: u32,
    /// For how many hours
    #[arg(long, value_name = "H", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=8_760))]
    pub hours: u32,
    /// Where all chance comes from: the same seed makes the same functions
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// What is made up differs in this from what was published
    #[arg(long, value_enum, default_value = "paper")]
    pub shape: Shape,
    /// A policy with its timeout: fixed:10m, hybrid:4h, learned:10m [default: ten of them]
    #[arg(long, value_name = "POLICY:DURATION", value_parser = crate::units::keep_alive)]
    pub policy: Vec<crate::units::KeepAlive>,
    /// How exactly idle times are learned
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = crate::units::duration)]
    pub bin: std::time::Duration,
    /// How long a start takes where the trace does not say
    #[arg(long, value_name = "DURATION", default_value = "200ms", value_parser = crate::units::duration)]
    pub start: std::time::Duration,
    /// Also draw cold starts against idle memory into this SVG file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub plot: Option<PathBuf>,
    /// Tables for people or JSON for scripts
    #[arg(long, short, value_enum, default_value = "table")]
    pub output: Output,
}

/// What a made-up trace differs in from what was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// In nothing
    Paper,
    /// Two functions in three are timers
    Timers,
    /// Everything comes at random
    Random,
    /// Everything comes in bursts
    Bursty,
    /// Everything comes a tenth as often
    Rare,
    /// Halfway through, every function becomes another one
    Changing,
}

impl From<Shape> for sim::trace::Shape {
    fn from(shape: Shape) -> sim::trace::Shape {
        match shape {
            Shape::Paper => sim::trace::Shape::Paper,
            Shape::Timers => sim::trace::Shape::Timers,
            Shape::Random => sim::trace::Shape::Random,
            Shape::Bursty => sim::trace::Shape::Bursty,
            Shape::Rare => sim::trace::Shape::Rare,
            Shape::Changing => sim::trace::Shape::Changing,
        }
    }
}

/// Arguments of `list`.
#[derive(Args, Debug)]
#[command(
    visible_alias = "ls",
    after_help = "Examples:\n  brooklet list\n  brooklet list --output json | jq -r '.[].FunctionName'"
)]
pub struct List {
    /// Where.
    #[command(flatten)]
    pub at: At,
    /// Tables for people or JSON for scripts
    #[arg(long, short, value_enum, default_value = "table")]
    pub output: Output,
}

/// Arguments of `show`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  brooklet show hello\n  brooklet show hello --output json | jq .Configuration.MemorySize"
)]
pub struct Show {
    /// Where.
    #[command(flatten)]
    pub at: At,
    /// The function's name or ARN
    #[arg(value_parser = NonEmptyStringValueParser::new(), add = ArgValueCompleter::new(functions))]
    pub name: String,
    /// Version or alias [default: $LATEST]
    #[arg(long, short)]
    pub qualifier: Option<String>,
    /// Tables for people or JSON for scripts
    #[arg(long, short, value_enum, default_value = "table")]
    pub output: Output,
}

/// Arguments of `rm`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  brooklet rm hello\n  brooklet rm hello other --yes")]
pub struct Rm {
    /// Where.
    #[command(flatten)]
    pub at: At,
    /// The functions' names
    #[arg(required = true, value_parser = NonEmptyStringValueParser::new(), add = ArgValueCompleter::new(functions))]
    pub names: Vec<String>,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
    /// Tables for people or JSON for scripts
    #[arg(long, short, value_enum, default_value = "table")]
    pub output: Output,
}

/// What functions need.
#[derive(Debug, Subcommand)]
pub enum Runtimes {
    /// List runtimes, where their interpreters are and what is installed for them
    List {
        /// Tables for people or JSON for scripts
        #[arg(long, short, value_enum, default_value = "table")]
        output: Output,
        /// The server's data directory [env: BROOKLET_DATA_DIR] [default: ~/.local/share/brooklet]
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        data_dir: Option<String>,
    },
    /// Install what Lambda's runtimes carry into the data directory: boto3 (pip), @aws-sdk clients (npm),
    /// Java's runtime interface client (mvn)
    #[command(
        after_help = "Examples:\n  brooklet runtimes install python\n  brooklet runtimes install all\n  \
                      brooklet runtimes install node --with @aws-sdk/client-pinpoint"
    )]
    Install {
        /// The language
        #[arg(value_enum, required = true)]
        language: Vec<Language>,
        /// A further npm package for Node.js, such as a rarer @aws-sdk client: Lambda carries them all. What was
        /// asked for before stays
        #[arg(long, value_name = "PACKAGE", value_parser = npm_package)]
        with: Vec<String>,
        /// The server's data directory [env: BROOKLET_DATA_DIR] [default: ~/.local/share/brooklet]
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        data_dir: Option<String>,
    },
}

/// A name that npm takes, with a version if one is wanted, and not for an option, a path or an address.
fn npm_package(text: &str) -> Result<String, String> {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-._~^@".contains(c))
    };
    let fits = match text.strip_prefix('@').map(|scoped| scoped.split_once('/')) {
        Some(Some((scope, name))) => part(scope) && part(name),
        Some(None) => false,
        None => part(text),
    };
    let example = "write it as @aws-sdk/client-pinpoint, or with a version as sharp@0.33.5";
    fits.then(|| text.to_owned()).ok_or_else(|| format!("not the name of an npm package; {example}"))
}

/// Languages whose runtimes carry something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Language {
    /// boto3
    Python,
    /// @aws-sdk clients
    Node,
    /// The runtime interface client
    Java,
    /// All of them
    All,
}

/// Arguments of `doctor`.
#[derive(Args, Debug)]
#[command(after_help = "Needs no server. Examples:\n  brooklet doctor\n  brooklet doctor --output json")]
pub struct Doctor {
    /// Where.
    #[command(flatten)]
    pub at: At,
    /// Tables for people or JSON for scripts
    #[arg(long, short, value_enum, default_value = "table")]
    pub output: Output,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
