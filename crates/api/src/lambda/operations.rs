//! The table of Lambda's operations. Methods, paths and statuses are those of the service model (`service-2.json`
//! of botocore; a test compares them).

use super::{Answer, Request, SMALL};
use super::{absent, aliases, functions, limits, policies, provisioned, tags, urls, versions};
use http::Method;
use percent_encoding::percent_decode_str;
use ports::BoxFuture;
use std::borrow::Cow;

/// One row.
pub struct Operation {
    /// Lambda's name for it.
    pub name: &'static str,
    /// The HTTP method.
    pub method: Method,
    /// The path; `{…}` stands for one segment. What follows `?` must be in the query.
    pub path: &'static str,
    /// The status of success.
    pub status: u16,
    /// The longest body, in bytes.
    pub limit: usize,
    /// What answers it.
    pub run: Run,
}

/// What answers an operation.
#[derive(Clone, Copy)]
pub enum Run {
    /// A handler that answers JSON.
    Json(for<'a> fn(&'a Request<'a>) -> BoxFuture<'a, Answer>),
    /// The function itself.
    Invoke,
    /// The function itself, in an event stream.
    InvokeWithResponseStream,
    /// Nothing yet: a clear error.
    NotYet,
}

/// The longest body of `CreateFunction` and `UpdateFunctionCode`: 50 MiB in base64 and something around it.
pub const CODE: usize = 70_167_211;

macro_rules! operations {
    ($($name:ident $method:ident $path:literal $status:literal $run:tt;)*) => {
        /// All rows; of several that match the first counts, so the busiest comes first.
        pub static OPERATIONS: &[Operation] = &[$(Operation {
            name: stringify!($name),
            method: Method::$method,
            path: $path,
            status: $status,
            limit: operations!(limit $run),
            run: operations!(run $run),
        }),*];
    };
    (limit (code $handler:path)) => { CODE };
    (limit $other:tt) => { SMALL };
    (run Invoke) => { Run::Invoke };
    (run InvokeWithResponseStream) => { Run::InvokeWithResponseStream };
    (run NotYet) => { Run::NotYet };
    (run (code $handler:path)) => { Run::Json(|request| Box::pin($handler(request))) };
    (run ($handler:path)) => { Run::Json(|request| Box::pin($handler(request))) };
    (run (empty $member:literal)) => { Run::Json(|_| Box::pin(absent::empty_list($member))) };
}

operations! {
    Invoke POST "/2015-03-31/functions/{FunctionName}/invocations" 200 Invoke;
    InvokeWithResponseStream POST "/2021-11-15/functions/{FunctionName}/response-streaming-invocations" 200 InvokeWithResponseStream;
    InvokeAsync POST "/2014-11-13/functions/{FunctionName}/invoke-async" 202 NotYet;

    CreateFunction POST "/2015-03-31/functions" 201 (code functions::create);
    ListFunctions GET "/2015-03-31/functions" 200 (functions::list);
    GetFunction GET "/2015-03-31/functions/{FunctionName}" 200 (functions::get);
    DeleteFunction DELETE "/2015-03-31/functions/{FunctionName}" 204 (functions::delete);
    GetFunctionConfiguration GET "/2015-03-31/functions/{FunctionName}/configuration" 200 (functions::get_configuration);
    UpdateFunctionConfiguration PUT "/2015-03-31/functions/{FunctionName}/configuration" 200 (functions::update_configuration);
    UpdateFunctionCode PUT "/2015-03-31/functions/{FunctionName}/code" 200 (code functions::update_code);

    PublishVersion POST "/2015-03-31/functions/{FunctionName}/versions" 201 (versions::publish);
    ListVersionsByFunction GET "/2015-03-31/functions/{FunctionName}/versions" 200 (versions::list);

    CreateAlias POST "/2015-03-31/functions/{FunctionName}/aliases" 201 (aliases::create);
    ListAliases GET "/2015-03-31/functions/{FunctionName}/aliases" 200 (aliases::list);
    GetAlias GET "/2015-03-31/functions/{FunctionName}/aliases/{Name}" 200 (aliases::get);
    UpdateAlias PUT "/2015-03-31/functions/{FunctionName}/aliases/{Name}" 200 (aliases::update);
    DeleteAlias DELETE "/2015-03-31/functions/{FunctionName}/aliases/{Name}" 204 (aliases::delete);

    PutFunctionConcurrency PUT "/2017-10-31/functions/{FunctionName}/concurrency" 200 (limits::put_concurrency);
    GetFunctionConcurrency GET "/2019-09-30/functions/{FunctionName}/concurrency" 200 (limits::get_concurrency);
    DeleteFunctionConcurrency DELETE "/2017-10-31/functions/{FunctionName}/concurrency" 204 (limits::delete_concurrency);
    GetAccountSettings GET "/2016-08-19/account-settings" 200 (limits::account_settings);

    CreateFunctionUrlConfig POST "/2021-10-31/functions/{FunctionName}/url" 201 (urls::create);
    GetFunctionUrlConfig GET "/2021-10-31/functions/{FunctionName}/url" 200 (urls::get);
    UpdateFunctionUrlConfig PUT "/2021-10-31/functions/{FunctionName}/url" 200 (urls::update);
    DeleteFunctionUrlConfig DELETE "/2021-10-31/functions/{FunctionName}/url" 204 (urls::delete);
    ListFunctionUrlConfigs GET "/2021-10-31/functions/{FunctionName}/urls" 200 (urls::list);

    ListTags GET "/2017-03-31/tags/{Resource}" 200 (tags::list);
    TagResource POST "/2017-03-31/tags/{Resource}" 204 (tags::tag);
    UntagResource DELETE "/2017-03-31/tags/{Resource}" 204 (tags::untag);

    AddPermission POST "/2015-03-31/functions/{FunctionName}/policy" 201 (policies::add);
    GetPolicy GET "/2015-03-31/functions/{FunctionName}/policy" 200 (policies::get);
    RemovePermission DELETE "/2015-03-31/functions/{FunctionName}/policy/{StatementId}" 204 (policies::remove);

    GetFunctionCodeSigningConfig GET "/2020-06-30/functions/{FunctionName}/code-signing-config" 200 (absent::code_signing);
    PutFunctionCodeSigningConfig PUT "/2020-06-30/functions/{FunctionName}/code-signing-config" 200 NotYet;
    DeleteFunctionCodeSigningConfig DELETE "/2020-06-30/functions/{FunctionName}/code-signing-config" 204 NotYet;
    GetRuntimeManagementConfig GET "/2021-07-20/functions/{FunctionName}/runtime-management-config" 200 (absent::runtime_management);
    PutRuntimeManagementConfig PUT "/2021-07-20/functions/{FunctionName}/runtime-management-config" 200 NotYet;
    GetFunctionRecursionConfig GET "/2024-08-31/functions/{FunctionName}/recursion-config" 200 (absent::recursion);
    PutFunctionRecursionConfig PUT "/2024-08-31/functions/{FunctionName}/recursion-config" 200 NotYet;
    GetFunctionScalingConfig GET "/2025-11-30/functions/{FunctionName}/function-scaling-config" 200 NotYet;
    PutFunctionScalingConfig PUT "/2025-11-30/functions/{FunctionName}/function-scaling-config" 202 NotYet;

    ListProvisionedConcurrencyConfigs GET "/2019-09-30/functions/{FunctionName}/provisioned-concurrency?List=ALL" 200 (provisioned::list);
    GetProvisionedConcurrencyConfig GET "/2019-09-30/functions/{FunctionName}/provisioned-concurrency" 200 (provisioned::get);
    PutProvisionedConcurrencyConfig PUT "/2019-09-30/functions/{FunctionName}/provisioned-concurrency" 202 (provisioned::put);
    DeleteProvisionedConcurrencyConfig DELETE "/2019-09-30/functions/{FunctionName}/provisioned-concurrency" 204 (provisioned::delete);

    GetFunctionEventInvokeConfig GET "/2019-09-25/functions/{FunctionName}/event-invoke-config" 200 (absent::event_invoke_config);
    PutFunctionEventInvokeConfig PUT "/2019-09-25/functions/{FunctionName}/event-invoke-config" 200 NotYet;
    UpdateFunctionEventInvokeConfig POST "/2019-09-25/functions/{FunctionName}/event-invoke-config" 200 NotYet;
    DeleteFunctionEventInvokeConfig DELETE "/2019-09-25/functions/{FunctionName}/event-invoke-config" 204 NotYet;
    ListFunctionEventInvokeConfigs GET "/2019-09-25/functions/{FunctionName}/event-invoke-config/list" 200 (empty "FunctionEventInvokeConfigs");

    CreateEventSourceMapping POST "/2015-03-31/event-source-mappings" 202 NotYet;
    ListEventSourceMappings GET "/2015-03-31/event-source-mappings" 200 (empty "EventSourceMappings");
    GetEventSourceMapping GET "/2015-03-31/event-source-mappings/{UUID}" 200 NotYet;
    UpdateEventSourceMapping PUT "/2015-03-31/event-source-mappings/{UUID}" 202 NotYet;
    DeleteEventSourceMapping DELETE "/2015-03-31/event-source-mappings/{UUID}" 202 NotYet;

    GetLayerVersionByArn GET "/2018-10-31/layers?find=LayerVersion" 200 NotYet;
    ListLayers GET "/2018-10-31/layers" 200 (empty "Layers");
    PublishLayerVersion POST "/2018-10-31/layers/{LayerName}/versions" 201 NotYet;
    ListLayerVersions GET "/2018-10-31/layers/{LayerName}/versions" 200 (empty "LayerVersions");
    GetLayerVersion GET "/2018-10-31/layers/{LayerName}/versions/{VersionNumber}" 200 NotYet;
    DeleteLayerVersion DELETE "/2018-10-31/layers/{LayerName}/versions/{VersionNumber}" 204 NotYet;
    GetLayerVersionPolicy GET "/2018-10-31/layers/{LayerName}/versions/{VersionNumber}/policy" 200 NotYet;
    AddLayerVersionPermission POST "/2018-10-31/layers/{LayerName}/versions/{VersionNumber}/policy" 201 NotYet;
    RemoveLayerVersionPermission DELETE "/2018-10-31/layers/{LayerName}/versions/{VersionNumber}/policy/{StatementId}" 204 NotYet;

    CreateCodeSigningConfig POST "/2020-04-22/code-signing-configs" 201 NotYet;
    ListCodeSigningConfigs GET "/2020-04-22/code-signing-configs" 200 (empty "CodeSigningConfigs");
    GetCodeSigningConfig GET "/2020-04-22/code-signing-configs/{CodeSigningConfigArn}" 200 NotYet;
    UpdateCodeSigningConfig PUT "/2020-04-22/code-signing-configs/{CodeSigningConfigArn}" 200 NotYet;
    DeleteCodeSigningConfig DELETE "/2020-04-22/code-signing-configs/{CodeSigningConfigArn}" 204 NotYet;
    ListFunctionsByCodeSigningConfig GET "/2020-04-22/code-signing-configs/{CodeSigningConfigArn}/functions" 200 NotYet;

    CreateCapacityProvider POST "/2025-11-30/capacity-providers" 202 NotYet;
    ListCapacityProviders GET "/2025-11-30/capacity-providers" 200 (empty "CapacityProviders");
    GetCapacityProvider GET "/2025-11-30/capacity-providers/{CapacityProviderName}" 200 NotYet;
    UpdateCapacityProvider PUT "/2025-11-30/capacity-providers/{CapacityProviderName}" 202 NotYet;
    DeleteCapacityProvider DELETE "/2025-11-30/capacity-providers/{CapacityProviderName}" 202 NotYet;
    ListFunctionVersionsByCapacityProvider GET "/2025-11-30/capacity-providers/{CapacityProviderName}/function-versions" 200 NotYet;

    ListDurableExecutionsByFunction GET "/2025-12-01/functions/{FunctionName}/durable-executions" 200 (empty "DurableExecutions");
    GetDurableExecution GET "/2025-12-01/durable-executions/{DurableExecutionArn}" 200 NotYet;
    GetDurableExecutionHistory GET "/2025-12-01/durable-executions/{DurableExecutionArn}/history" 200 NotYet;
    GetDurableExecutionState GET "/2025-12-01/durable-executions/{DurableExecutionArn}/state" 200 NotYet;
    CheckpointDurableExecution POST "/2025-12-01/durable-executions/{DurableExecutionArn}/checkpoint" 200 NotYet;
    StopDurableExecution POST "/2025-12-01/durable-executions/{DurableExecutionArn}/stop" 200 NotYet;
    SendDurableExecutionCallbackSuccess POST "/2025-12-01/durable-execution-callbacks/{CallbackId}/succeed" 200 NotYet;
    SendDurableExecutionCallbackFailure POST "/2025-12-01/durable-execution-callbacks/{CallbackId}/fail" 200 NotYet;
    SendDurableExecutionCallbackHeartbeat POST "/2025-12-01/durable-execution-callbacks/{CallbackId}/heartbeat" 200 NotYet;
}

/// The operation that a request asks for, and its path's parameters.
pub fn find<'a>(
    method: &Method,
    path: &'a str,
    query: &str,
) -> Option<(&'static Operation, Vec<Cow<'a, str>>)> {
    OPERATIONS.iter().filter(|operation| operation.method == *method).find_map(|operation| {
        let (template, required) = operation.path.split_once('?').unwrap_or((operation.path, ""));
        let asked = required.is_empty() || query.split('&').any(|pair| pair == required);
        asked.then(|| parameters(template, path)).flatten().map(|parameters| (operation, parameters))
    })
}

/// The methods that a path takes.
pub fn methods_of(path: &str) -> Vec<&'static str> {
    let template = |operation: &Operation| operation.path.split('?').next().unwrap_or_default();
    let matching = OPERATIONS.iter().filter(|operation| parameters(template(operation), path).is_some());
    let mut methods: Vec<&str> = matching.map(|operation| operation.method.as_str()).collect();
    methods.dedup();
    methods
}

/// The parameters of a path that fits the template. A slash at the end makes no difference, as with Lambda.
fn parameters<'a>(template: &str, path: &'a str) -> Option<Vec<Cow<'a, str>>> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let mut wanted = template.split('/');
    let mut given = path.split('/');
    // Most rows differ in their date or third segment: nothing is allocated for them.
    let mut parameters = Vec::new();
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(parameters),
            (Some(wanted), Some(given)) if wanted.starts_with('{') && !given.is_empty() => {
                // What is no UTF-8 is no name of anything: the operation says so.
                parameters.push(percent_decode_str(given).decode_utf8_lossy());
            }
            (Some(wanted), Some(given)) if wanted == given => {}
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_table_is_the_service_models() {
        let Some(model) = crate::testing::service_model() else { return };
        let row = |(name, operation): (&String, &serde_json::Value)| {
            let http = &operation["http"];
            let text = |member: &str| http[member].as_str().unwrap().trim_end_matches('/').to_owned();
            (name.clone(), (text("method"), text("requestUri"), http["responseCode"].as_u64().unwrap_or(200)))
        };
        let modelled: BTreeMap<_, _> = model["operations"].as_object().unwrap().iter().map(row).collect();
        assert!(modelled.len() > 60);
        for operation in OPERATIONS {
            // The model has 200 and, in the answer, a member that is the HTTP status: 204 on Lambda.
            let status = if operation.name == "DeleteFunction" { 200 } else { operation.status };
            let ours = (operation.method.to_string(), operation.path.to_owned(), u64::from(status));
            if let Some(model) = modelled.get(operation.name) {
                assert_eq!(ours, *model, "{}", operation.name);
            }
        }
        let missing: Vec<&String> =
            modelled.keys().filter(|name| !OPERATIONS.iter().any(|ours| ours.name == **name)).collect();
        assert!(missing.is_empty(), "operations without a row: {missing:?}");
    }

    #[test]
    fn the_reference_for_users_names_every_operation_that_is_answered() {
        let reference = include_str!("../../../../docs/lambda-api.md");
        for operation in OPERATIONS.iter().filter(|operation| !matches!(operation.run, Run::NotYet)) {
            assert!(reference.contains(operation.name), "docs/lambda-api.md lacks {}", operation.name);
        }
    }

    fn check(request: &str, expected: &str) {
        let (method, target) = request.split_once(' ').unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let actual = match find(&method.parse().unwrap(), path, query) {
            Some((operation, parameters)) => format!("{} {}", operation.name, parameters.join(" ")),
            None => format!("none; {}", methods_of(path).join(" ")),
        };
        assert_eq!(actual.trim_end(), expected, "{request}");
    }

    #[test]
    fn a_request_finds_its_operation() {
        check("POST /2015-03-31/functions/f/invocations", "Invoke f");
        check("POST /2015-03-31/functions", "CreateFunction");
        check("GET /2015-03-31/functions/", "ListFunctions");
        check("GET /2015-03-31/functions/f", "GetFunction f");
        check("PUT /2015-03-31/functions/f/aliases/prod", "UpdateAlias f prod");
        check(
            "GET /2017-03-31/tags/arn%3Aaws%3Alambda%3Aus-east-1%3A0%3Afunction%3Af",
            "ListTags arn:aws:lambda:us-east-1:0:function:f",
        );
        check(
            "GET /2019-09-30/functions/f/provisioned-concurrency?List=ALL",
            "ListProvisionedConcurrencyConfigs f",
        );
        check(
            "GET /2019-09-30/functions/f/provisioned-concurrency?Qualifier=1",
            "GetProvisionedConcurrencyConfig f",
        );
        check("GET /2018-10-31/layers?find=LayerVersion&Arn=a", "GetLayerVersionByArn");
    }

    #[test]
    fn a_request_that_is_none_finds_none() {
        check("PATCH /2015-03-31/functions/f", "none; GET DELETE");
        check("GET /2015-03-31/functions/f/secrets", "none;");
        check("GET /2015-03-31/functions//configuration", "none;");
        check("GET /2099-01-01/functions", "none;");
    }
}
