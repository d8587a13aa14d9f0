//! What it takes to start one instance: its view of the machine, its program and its variables. Planned anew for starts
//! that are not of one burst (`plans`), because SDKs may have been installed since the last.

use crate::argv::{argv, is_method, wrapper};
use crate::booting;
use crate::class_archive::{Archive, Staged};
use crate::compile_cache::{self, CompileCache};
use crate::environment::{Issuer, Places, environment};
use crate::executor::Settings;
use crate::interpreter::{Found, Wanted};
use crate::java::{has_client, missing_client};
use crate::jvms::{Clients, Jvm};
use crate::network::Outside;
use crate::runtimes::Runtime;
use crate::sandbox::{Bind, Isolation, Sandbox, View};
use crate::spawner::Program;
use crate::stems::{Likeness, Recipe};
use crate::training::{self, Trained};
use model::{MiB, Network};
use ports::{InstanceSpec, StartFailure};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where `brooklet runtimes install java` puts its jars, in the folder of all runtimes.
pub const JAVA_SDK: &str = "java/lib";

/// A start, planned.
#[derive(Clone)]
pub struct Launch {
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Whether the program is the function's, and not one of this machine's.
    pub own_program: bool,
    /// What a training run leaves for it, and whether this start takes it.
    pub trained: Option<(Trained, bool)>,
    isolation: Isolation,
    sandbox: Arc<Sandbox>,
    argv: Vec<OsString>,
    runtime: Runtime,
    places: Places,
    sdk: Option<String>,
    endpoints: BTreeMap<String, String>,
    credentials: Issuer,
    files: Vec<u64>,
    /// Whether its runtime may boot before it is this function's: see `booting`.
    can_boot_ahead: bool,
}

/// A start that is no instance's.
pub struct Training<'a> {
    /// What it is for.
    pub trained: &'a Trained,
    /// What was made ready for it.
    pub staged: &'a Staged,
}

/// A training run of Java has two JVMs at its end, one of which writes the archive: memory beyond the function's.
const TO_WRITE_AN_ARCHIVE: MiB = MiB(1024);

/// How an instance is spoken to.
#[derive(Clone, Copy, Debug)]
pub enum Protocol {
    /// One of our bootstraps.
    Frames,
    /// One of our bootstraps, or an official runtime client in its place: the function's wrapper decides.
    Wrapped,
    /// An official runtime client, or a `bootstrap` of the package.
    RuntimeApi,
    /// A program that listens on `$PORT`.
    Http,
}

impl Launch {
    /// Plans an instance of `spec` on `runtime`, that can reach `outside`. Reads the machine's file system.
    pub fn plan(
        settings: &Settings,
        isolation: Isolation,
        spec: &InstanceSpec,
        runtime: Runtime,
        outside: &Outside,
        training: Option<Training<'_>>,
    ) -> Result<Launch, StartFailure> {
        let network = spec.network.unwrap_or(settings.network);
        let Runtime { wanted, found } = &runtime;
        let runtime_dir = settings.run_dir.join("runtime");
        let places = places(settings, isolation, spec, found.as_ref()).map_err(machine)?;
        let mut programs = found.as_ref().map(Found::binds).unwrap_or_default();
        programs.push(Bind { source: runtime_dir, target: "/var/runtime".into() });
        for file in ["passwd", "group"] {
            let source = settings.run_dir.join("etc").join(file);
            programs.push(Bind { source, target: Path::new("/etc").join(file) });
        }
        programs.extend(names(&settings.run_dir, network));
        let sdk = sdk(&settings.runtimes_dir, wanted).filter(|sdk| sdk.source.is_dir());
        let files = state_of(found.as_ref().map(Found::path).as_deref(), sdk.as_ref());
        programs.extend(sdk.clone());
        let mut binds: Vec<Bind> = layer_modules(wanted, &spec.layer_dirs).into_iter().collect();
        let sdk = sdk.map(|sdk| if isolation == Isolation::None { sdk.source } else { sdk.target });
        let sdk = sdk.map(|path| path.to_string_lossy().into_owned());
        let wrapper = wrapper(spec, wanted);
        let own_program = wrapper.is_some() || matches!(wanted, Wanted::Provided | Wanted::Http);
        let mut runtime_argv = argv(spec, wanted, found.as_ref(), &places, sdk.as_deref())?;
        let mut trained = None;
        if let Some(Training { trained, staged }) = &training {
            let script = match trained {
                Trained::Classes(archive) => {
                    archive.make(&mut runtime_argv, training::DUMPED, staged);
                    binds.push(staged.bind());
                    training::JVM_SCRIPT
                }
                Trained::Code(_) => training::SCRIPT,
            };
            runtime_argv.splice(0..0, ["/bin/sh", "-c", script, "training"].map(OsString::from));
        } else if let Some(found) = found.as_ref().filter(|_| !own_program && can_train(settings, isolation))
        {
            let installed = settings.runtimes_dir.join(JAVA_SDK);
            let sdk = sdk.as_deref().map(|sdk| (installed.as_path(), sdk));
            let fitting = match wanted {
                Wanted::Node(_) => CompileCache::of(spec, found, &runtime_argv).map(Trained::Code),
                _ => Archive::of(spec, found, &runtime_argv, &places, sdk).map(Trained::Classes),
            };
            trained = fitting.map(|trained| {
                let made = trained.is_made();
                (trained, made)
            });
            if let Some((fitting, true)) = &trained {
                binds.push(fitting.bind());
                if let Trained::Classes(archive) = fitting {
                    archive.take(&mut runtime_argv);
                }
            }
        }
        // Whoever made the archive had the client, in these very jars.
        let proven = training.is_some() || matches!(trained, Some((_, true)));
        if matches!(wanted, Wanted::Java(_)) && !proven {
            require_java_client(spec, settings)?;
        }
        let argv = wrapper.map(OsString::from).into_iter().chain(runtime_argv).collect();
        let view = View {
            isolation,
            root: &settings.run_dir.join("root"),
            code: &spec.code_dir,
            layers: &spec.layer_dirs,
            programs: &programs,
            binds: &binds,
            network,
            tmp: spec.ephemeral_storage,
            memory: spec.memory,
        };
        let mut sandbox = Sandbox::plan(&view).map_err(machine)?;
        if training.is_some() {
            sandbox = sandbox.in_the_background(MiB(spec.memory.0 + TO_WRITE_AN_ARCHIVE.0));
        }
        let sandbox = Arc::new(sandbox);
        let protocol = Protocol::of(wanted, spec);
        let endpoints = outside.variables(&spec.environment);
        let harmless = |(name, value): (&String, &String)| booting::is_harmless(name, value);
        let can_boot_ahead =
            isolation != Isolation::None && !own_program && spec.environment.iter().all(harmless);
        Ok(Launch {
            protocol,
            own_program,
            trained,
            isolation,
            sandbox,
            argv,
            runtime,
            places,
            sdk,
            endpoints,
            credentials: settings.credentials.clone(),
            files,
            can_boot_ahead,
        })
    }

    /// The program to start with its `variables`. `contact` is the one by which it finds or serves the server: its
    /// Runtime API, or its port; `output` takes its lines.
    pub fn program(
        self,
        variables: Vec<(String, String)>,
        contact: Option<(&str, String)>,
        output: OwnedFd,
    ) -> Program {
        let mut environment = variables;
        if let Some((name, value)) = contact {
            environment.retain(|(key, _)| key != name);
            environment.push((name.into(), value));
        }
        let sandbox = self.sandbox;
        let (transport, runtime_api) = (None, None);
        Program { sandbox, argv: self.argv, environment, transport, runtime_api, output, waits: false }
    }

    /// The variables of an instance that logs to `stream`, but for the one by which it is spoken to.
    pub fn variables(&self, spec: &InstanceSpec, stream: &str) -> Vec<(String, String)> {
        let mut environment = environment(spec, &self.runtime.wanted, &self.places, stream);
        environment.extend(self.credentials.variables(&spec.function_arn));
        for (key, value) in &self.endpoints {
            environment.entry(key.clone()).or_insert_with(|| value.clone());
        }
        match (&self.runtime.wanted, &self.sdk) {
            (Wanted::Python(_), Some(sdk)) => {
                environment.insert("BROOKLET_SDK_PATH".into(), sdk.clone());
            }
            // In a sandbox it lies where Node.js looks by itself.
            (Wanted::Node(_), Some(sdk)) if self.isolation == Isolation::None => {
                let path = environment.entry("NODE_PATH".into()).or_default();
                path.push_str(&format!(":{sdk}"));
            }
            _ => {}
        }
        if let Some((Trained::Code(_), true)) = &self.trained {
            environment.insert("BROOKLET_COMPILE_CACHE".into(), compile_cache::SEEN.into());
        }
        for (key, value) in self.runtime.found.as_ref().map(Found::variables).unwrap_or_default() {
            environment.entry((*key).to_owned()).or_insert_with(|| (*value).to_owned());
        }
        environment.into_iter().collect()
    }

    /// What a runtime that is booted ahead of need must be like to become this instance; `None` where it cannot
    /// be booted without the function. `variables` are the instance's.
    pub fn recipe(&self, variables: &[(String, String)], imports: Arc<[String]>) -> Option<Recipe> {
        let bootable = matches!(self.runtime.wanted, Wanted::Python(_) | Wanted::Node(_));
        if !bootable || !self.can_boot_ahead {
            return None;
        }
        let likeness = self.likeness(self.argv.clone(), variables, imports);
        let forks = matches!(self.runtime.wanted, Wanted::Python(_));
        Some(Recipe { likeness, sandbox: self.sandbox.clone(), forks, runtime_api: None })
    }

    /// The kind of waiting JVM that can become this instance. In the machine's network its rehearsal would be in reach of
    /// others.
    pub fn jvm(&self, settings: &Settings, spec: &InstanceSpec, clients: &Clients) -> Option<Jvm> {
        let found = self.runtime.found.as_ref().filter(|_| matches!(self.runtime.wanted, Wanted::Java(_)))?;
        let fits = self.can_boot_ahead && self.sandbox.has_own_network();
        if !fits || !can_train(settings, self.isolation) || settings.stems == 0 {
            return None;
        }
        let installed = settings.runtimes_dir.join(JAVA_SDK);
        Jvm::of(spec, found, &installed, &settings.run_dir.join("runtime"), clients)
    }

    /// As [`Launch::recipe`], of a waiting JVM. `runtime_api` is where the instance will find that.
    pub fn jvm_recipe(&self, jvm: &Jvm, variables: &[(String, String)], runtime_api: SocketAddr) -> Recipe {
        let likeness = self.likeness(jvm.argv(), variables, Arc::new([]));
        Recipe { likeness, sandbox: self.sandbox.clone(), forks: false, runtime_api: Some(runtime_api) }
    }

    /// The program that makes the archive with which such JVMs boot.
    pub fn rehearsal(self, jvm: &Jvm, spec: &InstanceSpec, output: OwnedFd) -> Program {
        let variables = self.variables(spec, "training");
        let mut environment = self.likeness(Vec::new(), &variables, Arc::new([])).variables;
        environment.push(("ARCHIVE".into(), training::DUMPED.into()));
        let mut argv: Vec<OsString> =
            ["/bin/sh", "-c", training::SCRIPT, "training"].map(OsString::from).into();
        argv.extend(jvm.training(training::DUMPED));
        let sandbox = self.sandbox.in_the_background(MiB(spec.memory.0 + TO_WRITE_AN_ARCHIVE.0));
        let (transport, runtime_api) = (None, None);
        let sandbox = Arc::new(sandbox);
        Program { sandbox, argv, environment, transport, runtime_api, output, waits: false }
    }

    fn likeness(
        &self,
        argv: Vec<OsString>,
        variables: &[(String, String)],
        imports: Arc<[String]>,
    ) -> Likeness {
        Likeness {
            argv,
            variables: variables.iter().filter(|(name, _)| booting::matters(name)).cloned().collect(),
            files: self.files.clone(),
            imports,
            network: self.sandbox.network(),
        }
    }

    /// Whether its runtime can say what a function imports, and import it ahead.
    pub fn learns(&self) -> bool {
        let can = match self.runtime.wanted {
            Wanted::Python(_) => true,
            Wanted::Node(_) => self.sdk.is_some(),
            _ => false,
        };
        can && self.can_boot_ahead
    }

    /// The sandbox.
    pub fn sandbox(&self) -> &Arc<Sandbox> {
        &self.sandbox
    }
}

impl Protocol {
    /// How an instance of `spec` is spoken to.
    pub fn of(wanted: &Wanted, spec: &InstanceSpec) -> Protocol {
        let frames = match wrapper(spec, wanted) {
            Some(_) => Protocol::Wrapped,
            None => Protocol::Frames,
        };
        match wanted {
            Wanted::Python(_) | Wanted::Node(_) => frames,
            Wanted::Dotnet if is_method(&spec.handler) => frames,
            Wanted::Dotnet | Wanted::Java(_) | Wanted::Provided => Protocol::RuntimeApi,
            Wanted::Http => Protocol::Http,
        }
    }
}

/// Without walls a training run would be a stranger's program on this machine at a time that nobody expects.
fn can_train(settings: &Settings, isolation: Isolation) -> bool {
    settings.training_runs && isolation != Isolation::None
}

fn places(
    settings: &Settings,
    isolation: Isolation,
    spec: &InstanceSpec,
    found: Option<&Found>,
) -> io::Result<Places> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let programs = found.map(|found| text(&found.programs(isolation != Isolation::None)));
    if isolation != Isolation::None {
        return Ok(Places { task: "/var/task".into(), runtime: "/var/runtime".into(), programs, tmp: None });
    }
    let tmp = settings.run_dir.join("tmp");
    std::fs::create_dir_all(&tmp)?;
    let runtime = text(&settings.run_dir.join("runtime"));
    Ok(Places { task: text(&spec.code_dir), runtime, programs, tmp: Some(text(&tmp)) })
}

/// How names are looked up: in a network of its own by asking the server, in the machine's as the machine does. Often
/// that file is a link to one that would not be there.
fn names(run_dir: &Path, network: Network) -> Option<Bind> {
    let machine = Path::new("/etc/resolv.conf").canonicalize().ok()?;
    match network {
        Network::Host if machine.starts_with("/etc") => None,
        Network::Host => Some(Bind::same(machine)),
        _ => Some(Bind { source: run_dir.join("etc/resolv.conf"), target: machine }),
    }
}

/// Where `brooklet runtimes install` puts what a managed runtime carries, and where a function sees it.
fn sdk(runtimes_dir: &Path, wanted: &Wanted) -> Option<Bind> {
    let (source, target) = match wanted {
        Wanted::Python(_) => ("python/site-packages", "/var/sdk/site-packages"),
        // The last folder in which `require` and `import` of a module in /var/task look.
        Wanted::Node(_) => ("node/node_modules", "/node_modules"),
        Wanted::Java(_) => (JAVA_SDK, "/var/sdk/lib"),
        Wanted::Dotnet | Wanted::Provided | Wanted::Http => return None,
    };
    Some(Bind { source: runtimes_dir.join(source), target: target.into() })
}

/// What changes when the files are replaced that an interpreter boots from: of its program, the folder of its library,
/// and its SDK.
fn state_of(program: Option<&Path>, sdk: Option<&Bind>) -> Vec<u64> {
    use std::os::unix::fs::MetadataExt;
    let library =
        program.and_then(|program| Some(program.parent()?.parent()?.join("lib").join(program.file_name()?)));
    let paths = [program.map(Path::to_owned), library, sdk.map(|sdk| sdk.source.clone())];
    let found = paths.into_iter().flatten().filter_map(|path| path.metadata().ok());
    found.flat_map(|file| [file.ino(), file.mtime() as u64, file.mtime_nsec() as u64]).collect()
}

/// Packages of layers, where Node.js looks for them before the SDK. The last layer that has any wins.
fn layer_modules(wanted: &Wanted, layers: &[PathBuf]) -> Option<Bind> {
    let Wanted::Node(version) = wanted else { return None };
    let folders = [format!("nodejs/node{version}/node_modules"), "nodejs/node_modules".to_owned()];
    let mut places =
        folders.iter().flat_map(|folder| layers.iter().rev().map(move |layer| layer.join(folder)));
    let source = places.find(|place| place.is_dir())?;
    Some(Bind { source, target: "/var/node_modules".into() })
}

/// A deploy without the client is refused; but what was installed then may have been removed since.
fn require_java_client(spec: &InstanceSpec, settings: &Settings) -> Result<(), StartFailure> {
    let installed = settings.runtimes_dir.join(JAVA_SDK);
    let layers: Vec<PathBuf> = spec.layer_dirs.iter().map(|layer| layer.join("java")).collect();
    let folders = [&installed, &spec.code_dir].into_iter().chain(&layers);
    if has_client(folders.map(PathBuf::as_path)) {
        return Ok(());
    }
    let json = serde_json::json!({
        "errorType": "Runtime.InvalidEntrypoint",
        "errorMessage": missing_client(&installed, &settings.install),
    });
    Err(StartFailure::Init(json.to_string().into()))
}

/// A step of making an instance that the machine refused.
pub fn machine(error: io::Error) -> StartFailure {
    no_room(&error)
        .unwrap_or_else(|| StartFailure::Machine(format!("an instance could not be made: {error}")))
}

/// The machine's own limits, as a failure that passes; `None` for any other error.
pub fn no_room(error: &io::Error) -> Option<StartFailure> {
    // Our own, which says everything.
    if error.raw_os_error().is_none() && error.kind() == io::ErrorKind::QuotaExceeded {
        return Some(StartFailure::Full(error.to_string()));
    }
    let (what, remedy) = match error.raw_os_error()? {
        libc::EMFILE => ("descriptors for the server", "raise `ulimit -Hn`, or LimitNOFILE= of the service"),
        libc::ENFILE => ("descriptors on the machine", "raise the sysctl fs.file-max"),
        libc::EAGAIN => {
            ("processes", "raise `ulimit -u`, TasksMax= of the service, or the sysctl kernel.pid_max")
        }
        libc::ENOSPC | libc::EUSERS => ("namespaces", "raise the sysctls user.max_{mnt,net,user}_namespaces"),
        libc::ENOMEM => ("memory", "raise memory-reserve, or give the machine more"),
        _ => return None,
    };
    Some(StartFailure::Full(format!("no {what} left for another instance ({error}): try again, or {remedy}")))
}
