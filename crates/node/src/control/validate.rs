//! What values may be: ranges, patterns and enumerations of botocore's service model for Lambda, and the rules
//! that its documentation adds. Everything that is wrong with a request is told at once.

use super::checks::Checks;
use super::pattern;
use super::{
    ControlError, CreateFunction, Package, PublishVersion, PutAlias, PutUrl, Settings, UpdateCode,
    UpdateConfiguration,
};
use model::{Alias, Configuration, RESERVED_PREFIX, Statement, Version};
use std::collections::BTreeMap;

/// Environment variables together, names and values as JSON: 4 KiB.
const MAX_ENVIRONMENT: usize = 4_096;
/// Tags of one function.
const MAX_TAGS: usize = 50;
/// Layers of one function.
const MAX_LAYERS: usize = 5;

/// Runtimes that Lambda has or had and that run here where the machine has their interpreter.
pub const RUNTIMES: &[&str] = &[
    "dotnet10",
    "dotnet6",
    "dotnet8",
    "dotnetcore3.1",
    "http",
    "java11",
    "java17",
    "java21",
    "java25",
    "java8.al2",
    "nodejs16.x",
    "nodejs18.x",
    "nodejs20.x",
    "nodejs22.x",
    "nodejs24.x",
    "provided",
    "provided.al2",
    "provided.al2023",
    "python3.10",
    "python3.11",
    "python3.12",
    "python3.13",
    "python3.14",
    "python3.8",
    "python3.9",
];

/// Variables that the service sets and nobody else may.
const RESERVED_VARIABLES: &[&str] = &[
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_DEFAULT_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_REGION",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
];

pub(super) fn function(name: &str) -> Result<(), ControlError> {
    let mut checks = Checks::default();
    checks.name(name);
    checks.done()
}

pub(super) fn create(request: &CreateFunction) -> Result<(), ControlError> {
    let mut checks = Checks::default();
    checks.name(&request.name);
    checks.settings(&request.settings);
    if let Some(handler) = &request.settings.handler {
        checks.handler(request.settings.runtime.as_deref().unwrap_or_default(), handler);
    }
    checks.architectures(request.architectures.as_deref());
    if request.settings.role.is_none() {
        checks.null("role");
    }
    checks.done()?;
    let settings = &request.settings;
    let http = settings.runtime.as_deref() == Some("http");
    let zip = !matches!(request.package, Package::Image(_));
    if zip && (settings.runtime.is_none() || (settings.handler.is_none() && !http)) {
        return Err(ControlError::invalid(
            "Runtime",
            "Runtime and Handler are mandatory parameters for functions created with deployment packages.",
        ));
    }
    known_settings(settings)?;
    contract(settings.runtime.as_deref().unwrap_or_default(), settings.instance_concurrency.unwrap_or(1))?;
    tags(&request.tags)
}

pub(super) fn update_code(request: &UpdateCode) -> Result<(), ControlError> {
    let mut checks = Checks::default();
    checks.name(&request.name);
    checks.architectures(request.architectures.as_deref());
    checks.settings(&request.settings);
    checks.done()?;
    match request.package {
        Package::Image(_) => Err(ControlError::invalid(
            "ImageUri",
            "Please don't provide ImageUri when updating a function with packageType Zip.",
        )),
        _ => known_settings(&request.settings),
    }
}

pub(super) fn update_configuration(request: &UpdateConfiguration) -> Result<(), ControlError> {
    let mut checks = Checks::default();
    checks.name(&request.name);
    checks.settings(&request.settings);
    checks.done()?;
    known_settings(&request.settings)
}

/// A configuration as a whole, after an update of parts: what the runtime makes of the rest.
pub(super) fn configuration(configuration: &Configuration, handler_is_new: bool) -> Result<(), ControlError> {
    let (runtime, handler) = (&configuration.runtime, &configuration.handler);
    if handler_is_new || handler.is_empty() {
        let mut checks = Checks::default();
        checks.handler(runtime, handler);
        checks.done()?;
    }
    contract(runtime, i64::from(configuration.instance_concurrency))
}

fn contract(runtime: &str, instance_concurrency: i64) -> Result<(), ControlError> {
    if runtime != "http" && instance_concurrency > 1 {
        return Err(ControlError::invalid(
            "InstanceConcurrency",
            format!(
                "Instances of the runtime {runtime} run one request at a time; InstanceConcurrency \
                 {instance_concurrency} needs the runtime http."
            ),
        ));
    }
    Ok(())
}

pub(super) fn publish(request: &PublishVersion) -> Result<(), ControlError> {
    let mut checks = Checks::default();
    checks.name(&request.name);
    checks.description(request.description.as_deref());
    checks.done()
}

pub(super) fn alias(request: &PutAlias, create: bool) -> Result<(), ControlError> {
    let mut checks = Checks::default();
    checks.name(&request.function);
    checks.length("name", &request.name, 1, 128);
    checks.pattern("name", &request.name, &pattern::ALIAS);
    match &request.version {
        Some(version) => checks.pattern("functionVersion", version, &pattern::VERSION),
        None if create => checks.null("functionVersion"),
        None => {}
    }
    checks.description(request.description.as_deref());
    for (version, weight) in request.weights.iter().flatten() {
        if !(0.0..=1.0).contains(weight) {
            let constraint = "Map value must satisfy constraint: [Member must have value less than or equal to 1.0, Member must have value greater than or equal to 0.0, Member must not be null]";
            checks.add(
                "routingConfig.additionalVersionWeights",
                format!("{{{version}={weight:?}}}"),
                constraint,
            );
        }
        if !(pattern::NUMBER.fits)(version) {
            let constraint = "Map keys must satisfy constraint: [Member must have length less than or equal to 1024, Member must have length greater than or equal to 1, Member must satisfy regular expression pattern: [0-9]+]";
            checks.add(
                "routingConfig.additionalVersionWeights",
                format!("{{{version}={weight:?}}}"),
                constraint,
            );
        }
    }
    checks.done()
}

/// An alias as a whole: what its routing may be.
pub(super) fn routing(alias: &Alias) -> Result<(), ControlError> {
    let refuse = |message: String| Err(ControlError::invalid("RoutingConfig", message));
    match alias.weights.first_key_value() {
        None => Ok(()),
        Some(_) if alias.weights.len() > 1 => {
            refuse("Number of items in AdditionalVersionWeights cannot be greater than 1".to_owned())
        }
        Some(_) if alias.version == Version::Latest => {
            refuse("$LATEST is not supported for an alias pointing to more than 1 version".to_owned())
        }
        Some((other, _)) if *other == alias.version => refuse(format!(
            "Invalid function version {other}. Function version {other} is already included in routing configuration."
        )),
        Some(_) => Ok(()),
    }
}

pub(super) fn url(request: &PutUrl, create: bool) -> Result<(), ControlError> {
    let mut checks = Checks::default();
    checks.name(&request.function);
    if let Some(qualifier) = request.qualifier.as_deref() {
        checks.length("qualifier", qualifier, 1, 128);
        checks.pattern("qualifier", qualifier, &pattern::URL_QUALIFIER);
    }
    match &request.auth_type {
        Some(auth_type) => checks.one_of("authType", auth_type, &["AWS_IAM", "NONE"]),
        None if create => checks.null("authType"),
        None => {}
    }
    if let Some(cors) = &request.cors {
        checks.most("cors.maxAge", i64::from(cors.max_age_s), 86_400);
        checks.strings("cors.allowHeaders", &cors.allow_headers, 100, 0, 1_024);
        checks.strings("cors.allowMethods", &cors.allow_methods, 6, 0, 6);
        checks.strings("cors.allowOrigins", &cors.allow_origins, 100, 1, 253);
        checks.strings("cors.exposeHeaders", &cors.expose_headers, 100, 0, 1_024);
    }
    checks.done()
}

pub(super) fn permission(function: &str, statement: &Statement) -> Result<(), ControlError> {
    let mut checks = Checks::default();
    checks.name(function);
    checks.length("statementId", &statement.id, 1, 100);
    checks.pattern("statementId", &statement.id, &pattern::STATEMENT);
    checks.pattern("action", &statement.action, &pattern::ACTION);
    let principal = &statement.principal;
    checks.pattern("principal", principal, &pattern::PRINCIPAL);
    if let Some(arn) = &statement.source_arn {
        checks.pattern("sourceArn", arn, &pattern::SOURCE);
    }
    if let Some(account) = &statement.source_account {
        checks.pattern("sourceAccount", account, &pattern::ACCOUNT);
    }
    if let Some(token) = &statement.event_source_token {
        checks.length("eventSourceToken", token, 0, 256);
        checks.pattern("eventSourceToken", token, &pattern::TOKEN);
    }
    if let Some(organisation) = &statement.principal_org_id {
        checks.pattern("principalOrgID", organisation, &pattern::ORGANISATION);
    }
    if let Some(auth_type) = &statement.function_url_auth_type {
        checks.one_of("functionUrlAuthType", auth_type, &["NONE", "AWS_IAM"]);
    }
    checks.done()?;
    match is_principal(principal) {
        true => Ok(()),
        false => Err(ControlError::invalid(
            "Principal",
            "The provided principal was invalid. Please check the principal and try again.",
        )),
    }
}

pub(super) fn reserved_concurrency(limit: i64) -> Result<u32, ControlError> {
    let mut checks = Checks::default();
    checks.least("reservedConcurrentExecutions", limit, 0);
    checks.done()?;
    // More than any account has: refused by what it would leave to others.
    Ok(u32::try_from(limit).unwrap_or(u32::MAX))
}

pub(super) fn tags(tags: &BTreeMap<String, String>) -> Result<(), ControlError> {
    let refuse = |message: String| Err(ControlError::invalid("Tags", message));
    if tags.len() > MAX_TAGS {
        return refuse("Number of tags exceeds resource tag limit.".to_owned());
    }
    for (key, value) in tags {
        if key.starts_with("aws:") {
            return refuse(format!("Tag keys starting with 'aws:' are reserved for system use: {key}"));
        }
        if key.is_empty() || key.chars().count() > 128 || value.chars().count() > 256 {
            return refuse(format!("A tag's key has 1 to 128 characters and its value at most 256: {key}"));
        }
    }
    Ok(())
}

/// The size of a page: what was asked for, 1 to 10,000, but not more than `most`.
pub(super) fn page_size(asked: Option<i64>, most: usize) -> Result<usize, ControlError> {
    let Some(asked) = asked else { return Ok(most) };
    let mut checks = Checks::default();
    checks.least("maxItems", asked, 1);
    checks.most("maxItems", asked, 10_000);
    checks.done()?;
    Ok(usize::try_from(asked).unwrap_or(most).min(most))
}

/// Rules beyond the model's ranges, in the order in which Lambda reports them.
fn known_settings(settings: &Settings) -> Result<(), ControlError> {
    if let Some(runtime) = &settings.runtime {
        known_runtime(runtime)?;
    }
    if let Some(environment) = &settings.environment {
        environment_fits(environment)?;
    }
    if settings.layers.as_ref().is_some_and(|layers| layers.len() > MAX_LAYERS) {
        return Err(ControlError::invalid("Layers", "Cannot reference more than 5 layers.".to_owned()));
    }
    if let Some(logging) = &settings.logging
        && logging.format.as_deref() != Some("JSON")
        && (logging.application_level.is_some() || logging.system_level.is_some())
    {
        return Err(ControlError::invalid(
            "LoggingConfig",
            "To configure log levels you must set LogFormat to JSON.",
        ));
    }
    Ok(())
}

fn known_runtime(runtime: &str) -> Result<(), ControlError> {
    if RUNTIMES.contains(&runtime) {
        return Ok(());
    }
    if runtime.starts_with("ruby") {
        return Err(ControlError::Unsupported {
            message: format!(
                "The runtime {runtime} is not supported: Brooklet has no Ruby bootstrap. Deploy Ruby with the \
                 runtime provided.al2023 and its own bootstrap, or as a program that listens on $PORT with the \
                 runtime http."
            ),
        });
    }
    Err(ControlError::invalid(
        "Runtime",
        format!(
            "Value {runtime} at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [{}] or be a valid ARN",
            RUNTIMES.join(", ")
        ),
    ))
}

fn environment_fits(environment: &BTreeMap<String, String>) -> Result<(), ControlError> {
    let refuse = |reason: String| {
        Err(ControlError::invalid(
            "Environment",
            format!(
                "Lambda was unable to configure your environment variables because the environment variables you have provided {reason}"
            ),
        ))
    };
    let is_reserved = |name: &&str| RESERVED_VARIABLES.contains(name) || name.starts_with(RESERVED_PREFIX);
    let reserved: Vec<&str> = environment.keys().map(String::as_str).filter(is_reserved).collect();
    if !reserved.is_empty() {
        return refuse(format!(
            "contains reserved keys that are currently not supported for modification. Reserved keys used in this request: {}",
            reserved.join(", ")
        ));
    }
    if let Some(name) = environment.iter().find_map(|(name, value)| value.contains('\0').then_some(name)) {
        return refuse(format!("contain a zero byte in {name}, which no process can be given."));
    }
    let measured = serde_json::to_string(environment).unwrap_or_default();
    if measured.len() > MAX_ENVIRONMENT {
        return refuse(format!("exceeded the 4KB limit. String measured: {measured}"));
    }
    Ok(())
}

/// What a function may be set to.
impl Checks {
    fn architectures(&mut self, architectures: Option<&[String]>) {
        let Some(architectures) = architectures else { return };
        let list = format!("[{}]", architectures.join(", "));
        match architectures.len() {
            0 => self.add("architectures", &list, "Member must have length greater than or equal to 1"),
            1 => {}
            _ => self.add("architectures", &list, "Member must have length less than or equal to 1"),
        }
        if architectures.iter().any(|name| !["x86_64", "arm64"].contains(&name.as_str())) {
            let constraint = "Member must satisfy constraint: [Member must satisfy enum value set: [x86_64, arm64], Member must not be null]";
            self.add("architectures", &list, constraint);
        }
    }

    /// The handler of the `http` runtime is a command line, or empty for `bootstrap`.
    fn handler(&mut self, runtime: &str, handler: &str) {
        let http = runtime == "http";
        self.length("handler", handler, 0, if http { 1_024 } else { 128 });
        if !http {
            self.pattern("handler", handler, &pattern::HANDLER);
        }
    }

    fn settings(&mut self, settings: &Settings) {
        if let Some(role) = &settings.role {
            self.pattern("role", role, &pattern::ROLE);
        }
        self.description(settings.description.as_deref());
        self.range("timeout", settings.timeout_s, 1, 900);
        self.range("memorySize", settings.memory_mib, 128, 10_240);
        self.range("ephemeralStorage.size", settings.ephemeral_storage_mib, 512, 10_240);
        self.range("brooklet.instanceConcurrency", settings.instance_concurrency, 1, 1_000);
        if let Some(tracing) = &settings.tracing {
            self.one_of("tracingConfig.mode", tracing, &["Active", "PassThrough"]);
        }
        for name in settings.environment.iter().flat_map(BTreeMap::keys) {
            // Reserved names get a message of their own.
            if !(pattern::VARIABLE.fits)(name) && !RESERVED_VARIABLES.contains(&name.as_str()) {
                let constraint = format!(
                    "Map keys must satisfy constraint: [Member must satisfy regular expression pattern: {}]",
                    pattern::VARIABLE.text
                );
                self.add("environment.variables", name, constraint);
            }
        }
        for layer in settings.layers.iter().flatten() {
            self.length("layers.member", layer, 1, 140);
            self.pattern("layers.member", layer, &pattern::LAYER);
        }
        if let Some(logging) = &settings.logging {
            if let Some(format) = &logging.format {
                self.one_of("loggingConfig.logFormat", format, &["JSON", "Text"]);
            }
            if let Some(level) = &logging.application_level {
                let levels = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];
                self.one_of("loggingConfig.applicationLogLevel", level, &levels);
            }
            if let Some(level) = &logging.system_level {
                self.one_of("loggingConfig.systemLogLevel", level, &["DEBUG", "INFO", "WARN"]);
            }
            if let Some(group) = &logging.group {
                self.length("loggingConfig.logGroup", group, 1, 512);
                self.pattern("loggingConfig.logGroup", group, &pattern::LOG_GROUP);
            }
        }
    }
}

/// Whether this may be an alias's name.
pub(super) fn alias_name(text: &str) -> bool {
    (pattern::ALIAS.fits)(text)
}

/// A service, an account, an ARN or everyone.
fn is_principal(text: &str) -> bool {
    let service = [".amazonaws.com", ".amazonaws.com.cn", ".amazon.com"];
    text == "*"
        || (pattern::ACCOUNT.fits)(text)
        || text.starts_with("arn:")
        || service.iter().any(|end| text.ends_with(end))
}
