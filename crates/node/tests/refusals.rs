//! What the control plane refuses, and in which words: Lambda's, where Lambda's are known.

mod world;

use model::{Cors, LATEST};
use node::control::*;
use world::{World, alias, create, refusal, settings, update, zip};

const F: &str = "arn:aws:lambda:us-east-1:000000000000:function:f";

#[tokio::test]
async fn publishing_is_refused_when_the_code_is_not_the_expected() {
    let world = World::new();
    world.create("f").await;
    let publish =
        PublishVersion { name: "f".into(), code_sha256: Some("wrong".into()), ..Default::default() };
    let text = refusal(world.registry.publish_version(publish).await);
    assert!(
        text.starts_with("CodeSha256: CodeSHA256 (wrong) is different from current CodeSHA256 in $LATEST ("),
        "{text}"
    );
    assert!(text.ends_with("=). Please try again with the CodeSHA256 in $LATEST."), "{text}");
}

#[tokio::test]
async fn deleting_by_qualifier_takes_versions_only() {
    let world = World::new();
    world.create("f").await;
    let latest = refusal(world.registry.delete_function("f", Some(LATEST)).await);
    assert_eq!(latest, "Qualifier: $LATEST version cannot be deleted without deleting the function.");
    let alias = refusal(world.registry.delete_function("f", Some("live")).await);
    assert_eq!(alias, "Qualifier: Deletion of aliases is not currently supported.");
}

#[tokio::test]
async fn each_wrong_alias_is_refused_with_its_reason() {
    let world = World::new();
    world.create("f").await;
    world.publish("f", None).await.unwrap();
    world.update_code("f", "two", true).await.unwrap();
    world.registry.create_alias(alias("f", "taken", "1")).await.unwrap();
    let weighed = |version: &str, weights: &[(&str, f64)]| {
        let weights = weights.iter().map(|(version, weight)| ((*version).to_owned(), *weight)).collect();
        PutAlias { weights: Some(weights), ..alias("f", "a", version) }
    };
    let one = "1 validation error detected: Value";
    let weights = "failed to satisfy constraint: Map value must satisfy constraint: [Member must have value less than or equal to 1.0, Member must have value greater than or equal to 0.0, Member must not be null]";
    for (request, expected) in [
        (alias("f", "taken", "1"), format!("conflict: Alias already exists: {F}:taken")),
        (alias("f", "2024", "1"), format!("violations: {one} '2024' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: (?!^[0-9]+$)([a-zA-Z0-9-_]+)")),
        (alias("f", "a", "7"), format!("not found: Function not found: {F}:7")),
        (alias("f", "a", "live"), format!("violations: {one} 'live' at 'functionVersion' failed to satisfy constraint: Member must satisfy regular expression pattern: (\\$LATEST(\\.PUBLISHED)?|[0-9]+)")),
        (PutAlias { version: None, ..alias("f", "a", "") }, format!("violations: {one} 'null' at 'functionVersion' failed to satisfy constraint: Member must not be null")),
        (alias("g", "a", "1"), "not found: Function not found: arn:aws:lambda:us-east-1:000000000000:function:g:1".to_owned()),
        (weighed("1", &[("1", 0.5)]), "RoutingConfig: Invalid function version 1. Function version 1 is already included in routing configuration.".to_owned()),
        (weighed("$LATEST", &[("1", 0.5)]), "RoutingConfig: $LATEST is not supported for an alias pointing to more than 1 version".to_owned()),
        (weighed("1", &[("2", 0.5), ("3", 0.5)]), format!("not found: Function not found: {F}:3")),
        (weighed("1", &[("2", 2.0)]), format!("violations: {one} '{{2=2.0}}' at 'routingConfig.additionalVersionWeights' {weights}")),
        (weighed("1", &[("2", -1.0)]), format!("violations: {one} '{{2=-1.0}}' at 'routingConfig.additionalVersionWeights' {weights}")),
        (weighed("1", &[("2", f64::NAN)]), format!("violations: {one} '{{2=NaN}}' at 'routingConfig.additionalVersionWeights' {weights}")),
        (weighed("1", &[("$LATEST", 0.5)]), format!("violations: {one} '{{$LATEST=0.5}}' at 'routingConfig.additionalVersionWeights' failed to satisfy constraint: Map keys must satisfy constraint: [Member must have length less than or equal to 1024, Member must have length greater than or equal to 1, Member must satisfy regular expression pattern: [0-9]+]")),
    ] {
        assert_eq!(refusal(world.registry.create_alias(request).await), expected);
    }
    world.update_code("f", "three", true).await.unwrap();
    let many = refusal(world.registry.create_alias(weighed("1", &[("2", 0.5), ("3", 0.5)])).await);
    assert_eq!(many, "RoutingConfig: Number of items in AdditionalVersionWeights cannot be greater than 1");
    let missing = refusal(world.registry.update_alias(alias("f", "a", "1")).await);
    assert_eq!(missing, format!("not found: Alias not found: {F}:a"));
    let missing = refusal(world.registry.alias("f", "a").await);
    assert_eq!(missing, format!("not found: Cannot find alias arn: {F}:a"));
}

#[tokio::test]
async fn each_wrong_url_is_refused_with_its_reason() {
    let world = World::new();
    world.create("f").await;
    let put = |function: &str, qualifier: Option<&str>| PutUrl {
        function: function.into(),
        qualifier: qualifier.map(Into::into),
        auth_type: Some("NONE".into()),
        ..Default::default()
    };
    let pattern = "failed to satisfy constraint: Member must satisfy regular expression pattern: ((?!^\\d+$)^[0-9a-zA-Z-_]+$)";
    let missing = "not found: Function does not exist";
    let no_url = "not found: The resource you requested does not exist.";
    let version = format!("violations: 1 validation error detected: Value '1' at 'qualifier' {pattern}");
    let latest = format!("violations: 1 validation error detected: Value '$LATEST' at 'qualifier' {pattern}");
    for (request, on_create, on_update) in [
        (put("g", None), missing, missing),
        (put("f", Some("live")), missing, missing),
        (put("f", Some("1")), &*version, &*version),
        (put("f", Some(LATEST)), &*latest, &*latest),
    ] {
        assert_eq!(refusal(world.registry.create_url(request.clone()).await), on_create);
        assert_eq!(refusal(world.registry.update_url(request).await), on_update);
    }
    assert_eq!(refusal(world.registry.update_url(put("f", None)).await), no_url);
    for (function, qualifier) in [("f", None), ("f", Some("live")), ("g", None)] {
        assert_eq!(refusal(world.registry.url(function, qualifier).await), no_url);
        assert_eq!(refusal(world.registry.delete_url(function, qualifier).await), no_url);
    }
    assert_eq!(refusal(world.registry.list_urls("g", None, None).await), missing);
    let odd = PutUrl {
        auth_type: Some("OPEN".into()),
        cors: Some(Cors { max_age_s: 86_401, allow_methods: vec!["PROPFIND".into()], ..Cors::default() }),
        ..put("f", None)
    };
    let expected = "violations: 3 validation errors detected: Value 'OPEN' at 'authType' failed to satisfy constraint: Member must satisfy enum value set: [AWS_IAM, NONE]; Value '86401' at 'cors.maxAge' failed to satisfy constraint: Member must have value less than or equal to 86400; Value 'PROPFIND' at 'cors.allowMethods.member' failed to satisfy constraint: Member must have length less than or equal to 6";
    assert_eq!(refusal(world.registry.create_url(odd).await), expected);
}

#[tokio::test]
async fn packages_that_are_no_zip_or_too_large_are_refused_with_a_remedy() {
    let world = World::with(Limits { zipped_bytes: 1_000, code_storage_bytes: 400, ..Limits::default() });
    let with = |package| CreateFunction { package, ..create("f") };
    for (package, expected) in [
        (
            Package::Zip("no zip".into()),
            "ZipFile: Could not unzip uploaded file. Please check your file, then try to upload again. (it is not a zip archive, or a part of it is missing)",
        ),
        (Package::Zip(vec![0; 1_001].into()), "too large: Zipped size must be smaller than 1000 bytes"),
        (
            Package::S3 { bucket: "b".into(), key: "k.zip".into() },
            "S3Bucket: Packages in S3 are not supported yet (s3://b/k.zip). Download the object and send it as ZipFile (aws CLI: --zip-file fileb://package.zip).",
        ),
        (
            Package::Image("r/i:t".into()),
            "unsupported: Container images are not supported (r/i:t). Deploy a zip: a managed runtime, a provided.al2023 bootstrap, or any program that listens on $PORT with the runtime http.",
        ),
    ] {
        assert_eq!(refusal(world.registry.create_function(with(package)).await), expected);
    }
    let size = world.create("one").await.configuration.code.size;
    world.create("two").await;
    let used = world.registry.account_usage().await.unwrap();
    // Counted for each function, though the limit is that of what is stored: the same package once.
    assert_eq!((used.functions, used.code_bytes), (2, 2 * size));
    world.update_code("two", "2", false).await.unwrap();
    world.update_code("two", "3", false).await.unwrap();
    let full = refusal(world.update_code("two", "4", false).await);
    assert!(full.starts_with("code storage: Code storage limit exceeded: "), "{full}");
    world.registry.sweep().await.unwrap();
    world.update_code("two", "4", false).await.unwrap();
}

#[tokio::test]
async fn a_missing_runtime_is_refused_with_what_to_install() {
    let world = World::new();
    let with = |runtime: &str| {
        let mut request = create("f");
        request.settings.runtime = Some(runtime.into());
        request
    };
    let missing = refusal(world.registry.create_function(with("java25")).await);
    assert_eq!(missing, "Runtime: java25 needs Java 25; install openjdk-25-jre-headless");
    let ruby = refusal(world.registry.create_function(with("ruby3.4")).await);
    assert!(ruby.starts_with("unsupported: The runtime ruby3.4 is not supported: "), "{ruby}");
    let unknown = refusal(world.registry.create_function(with("PYTHON3.9")).await);
    assert!(unknown.starts_with("Runtime: Value PYTHON3.9 at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: ["), "{unknown}");
    assert!(unknown.ends_with("] or be a valid ARN"), "{unknown}");
    for runtime in [
        "python3.8",
        "python3.14",
        "nodejs16.x",
        "nodejs24.x",
        "java8.al2",
        "provided",
        "provided.al2023",
        "dotnetcore3.1",
        "dotnet10",
    ] {
        let mut request = with(runtime);
        request.name = runtime.replace('.', "-");
        world.registry.create_function(request).await.unwrap();
    }
    world.create("f").await;
    let mut change = update("f");
    change.settings.runtime = Some("java25".into());
    assert!(refusal(world.registry.update_configuration(change).await).starts_with("Runtime: java25 needs"));
}

#[tokio::test]
async fn a_package_that_the_runtime_cannot_run_is_refused_with_what_to_install() {
    let world = World::new();
    let missing = "Runtime: no client in the package; install it";
    let java = |name: &str, package: Package| {
        let mut request = create(name);
        request.settings.runtime = Some("java17".into());
        request.package = package;
        request
    };
    let without = java("without", zip(&[("Handler.class", "")]));
    assert_eq!(refusal(world.registry.create_function(without).await), missing);
    assert!(refusal(world.registry.function("without", None).await).starts_with("not found"));
    let with = java("with", zip(&[("Handler.class", ""), ("client.jar", "")]));
    world.registry.create_function(with).await.unwrap();
    assert_eq!(refusal(world.update_code("with", "no client", false).await), missing);
    world.create("python").await;
    let mut change = update("python");
    change.settings.runtime = Some("java17".into());
    assert_eq!(refusal(world.registry.update_configuration(change).await), missing);
    let swept = world.registry.sweep().await.unwrap();
    assert_eq!(swept.packages, 2, "what was refused is not kept");
}

#[tokio::test]
async fn each_wrong_setting_is_refused_in_the_services_words() {
    let world = World::new();
    world.create("exists").await;
    let value = |text: &str| format!("violations: 1 validation error detected: Value {text}");
    let set = |change: fn(&mut Settings)| {
        let mut settings = settings();
        change(&mut settings);
        settings
    };
    let environment = "Environment: Lambda was unable to configure your environment variables because the environment variables you have provided";
    for (settings, expected) in [
        (set(|s| s.memory_mib = Some(127)), value("'127' at 'memorySize' failed to satisfy constraint: Member must have value greater than or equal to 128")),
        (set(|s| s.memory_mib = Some(10_241)), value("'10241' at 'memorySize' failed to satisfy constraint: Member must have value less than or equal to 10240")),
        (set(|s| s.timeout_s = Some(0)), value("'0' at 'timeout' failed to satisfy constraint: Member must have value greater than or equal to 1")),
        (set(|s| s.timeout_s = Some(i64::MAX)), value("'9223372036854775807' at 'timeout' failed to satisfy constraint: Member must have value less than or equal to 900")),
        (set(|s| s.ephemeral_storage_mib = Some(511)), value("'511' at 'ephemeralStorage.size' failed to satisfy constraint: Member must have value greater than or equal to 512")),
        (set(|s| s.handler = Some("a b".into())), value("'a b' at 'handler' failed to satisfy constraint: Member must satisfy regular expression pattern: [^\\s]+")),
        (set(|s| s.role = Some("r1".into())), value("'r1' at 'role' failed to satisfy constraint: Member must satisfy regular expression pattern: arn:(aws[a-zA-Z-]*)?:iam::\\d{12}:role/?[a-zA-Z_0-9+=,.@\\-_/]+")),
        (set(|s| s.tracing = Some("On".into())), value("'On' at 'tracingConfig.mode' failed to satisfy constraint: Member must satisfy enum value set: [Active, PassThrough]")),
        (set(|s| s.instance_concurrency = Some(1_001)), value("'1001' at 'brooklet.instanceConcurrency' failed to satisfy constraint: Member must have value less than or equal to 1000")),
        (set(|s| s.instance_concurrency = Some(2)), "InstanceConcurrency: Instances of the runtime python3.12 run one request at a time; InstanceConcurrency 2 needs the runtime http.".into()),
        (set(|s| s.layers = Some(vec!["x".into()])), value("'x' at 'layers.member' failed to satisfy constraint: Member must satisfy regular expression pattern: arn:[a-zA-Z0-9-]+:lambda:[a-zA-Z0-9-]+:\\d{12}:layer:[a-zA-Z0-9-_]+:[0-9]+")),
        (set(|s| s.layers = Some(vec!["arn:aws:lambda:us-east-1:000000000000:layer:l:1".into(); 6])), "Layers: Cannot reference more than 5 layers.".into()),
        (set(|s| s.layers = Some(vec!["arn:aws:lambda:us-east-1:000000000000:layer:l:1".into()])), "Layers: Layer version arn:aws:lambda:us-east-1:000000000000:layer:l:1 does not exist. Brooklet does not keep layers yet: put what the layer holds into the deployment package.".into()),
        (set(|s| s.logging = Some(LoggingSettings { format: Some("XML".into()), ..Default::default() })), value("'XML' at 'loggingConfig.logFormat' failed to satisfy constraint: Member must satisfy enum value set: [JSON, Text]")),
        (set(|s| s.logging = Some(LoggingSettings { system_level: Some("INFO".into()), ..Default::default() })), "LoggingConfig: To configure log levels you must set LogFormat to JSON.".into()),
        (set(|s| s.environment = Some([("1A".into(), "x".into())].into())), value("'1A' at 'environment.variables' failed to satisfy constraint: Map keys must satisfy constraint: [Member must satisfy regular expression pattern: [a-zA-Z]([a-zA-Z0-9_])+]")),
        (set(|s| s.environment = Some([("AWS_REGION".into(), "x".into()), ("_HANDLER".into(), "x".into())].into())), format!("{environment} contains reserved keys that are currently not supported for modification. Reserved keys used in this request: AWS_REGION, _HANDLER")),
        (set(|s| s.environment = Some([("AB".into(), "x\0".into())].into())), format!("{environment} contain a zero byte in AB, which no process can be given.")),
        (set(|s| s.environment = Some([("AB".into(), "x".repeat(4_088))].into())), format!("{environment} exceeded the 4KB limit. String measured: {{\"AB\":\"{}\"}}", "x".repeat(4_088))),
        (set(|s| s.description = Some("x".repeat(257))), value(&format!("'{}' at 'description' failed to satisfy constraint: Member must have length less than or equal to 256", "x".repeat(257)))),
    ] {
        let create = CreateFunction { settings: settings.clone(), ..create("f") };
        assert_eq!(refusal(world.registry.create_function(create).await), expected, "when creating");
        let change = UpdateConfiguration { settings, ..update("exists") };
        assert_eq!(refusal(world.registry.update_configuration(change).await), expected, "when updating");
    }
    let largest = set(|s| s.environment = Some([("AB".into(), "x".repeat(4_087))].into()));
    world
        .registry
        .update_configuration(UpdateConfiguration { settings: largest, ..update("exists") })
        .await
        .unwrap();
}

#[tokio::test]
async fn each_wrong_creation_is_refused_with_everything_that_is_wrong() {
    let world = World::new();
    let with = |change: fn(&mut CreateFunction)| {
        let mut request = create("f");
        change(&mut request);
        request
    };
    let value = |text: &str| format!("violations: 1 validation error detected: Value {text}");
    let mandatory = "Runtime: Runtime and Handler are mandatory parameters for functions created with deployment packages.".to_owned();
    for (request, expected) in [
        (with(|r| r.settings.role = None), value("'null' at 'role' failed to satisfy constraint: Member must not be null")),
        (with(|r| r.settings.runtime = None), mandatory.clone()),
        (with(|r| r.settings.handler = None), mandatory),
        (with(|r| r.architectures = Some(vec![])), value("'[]' at 'architectures' failed to satisfy constraint: Member must have length greater than or equal to 1")),
        (with(|r| r.architectures = Some(vec!["x86_64".into(), "arm64".into()])), value("'[x86_64, arm64]' at 'architectures' failed to satisfy constraint: Member must have length less than or equal to 1")),
        (with(|r| r.architectures = Some(vec!["X86_64".into()])), value("'[X86_64]' at 'architectures' failed to satisfy constraint: Member must satisfy constraint: [Member must satisfy enum value set: [x86_64, arm64], Member must not be null]")),
        (with(|r| r.name = "a".repeat(65)), format!("FunctionName: 1 validation error detected: Value '{}' at 'functionName' failed to satisfy constraint: Member must have length less than or equal to 64", "a".repeat(65))),
        (
            with(|r| {
                r.settings.memory_mib = Some(1);
                r.settings.timeout_s = Some(901);
            }),
            "violations: 2 validation errors detected: Value '901' at 'timeout' failed to satisfy constraint: Member must have value less than or equal to 900; Value '1' at 'memorySize' failed to satisfy constraint: Member must have value greater than or equal to 128".to_owned(),
        ),
    ] {
        assert_eq!(refusal(world.registry.create_function(request).await), expected);
    }
    for name in ["", "a b", "a/b", "../x", "ä", "a:b"] {
        let text = refusal(world.registry.create_function(create(name)).await);
        assert!(
            text.contains(&format!("Value '{name}' at 'functionName' failed to satisfy constraint: ")),
            "{text}"
        );
    }
}
