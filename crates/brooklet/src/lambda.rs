//! The operations of the AWS Lambda API that the commands use, with its own paths and JSON
//! (AWS Lambda Developer Guide, API reference).

use crate::client::{Answer, Client, Request, segment};
use crate::error::{Error, Result};
use crate::exit::Exit;
use http::Method;
use serde_json::{Value, json};

/// Most functions that one page of a list holds.
const PAGE: &str = "50";
/// Pages after which a list is cut: a million functions.
const MAX_PAGES: usize = 20_000;

/// The API of one server.
#[derive(Clone, Debug)]
pub struct Lambda {
    /// The connection to it.
    pub client: Client,
}

impl Lambda {
    /// `GetFunction`: `Configuration`, `Code`, `Tags`, `Concurrency`; `None` when there is no such function.
    pub async fn get(&self, name: &str, qualifier: Option<&str>) -> Result<Option<Value>> {
        found(self.client.json(function(Method::GET, name, "").query_if("Qualifier", qualifier)).await)
    }

    /// `ListFunctions`, all pages: their `$LATEST` configurations.
    pub async fn list(&self) -> Result<Vec<Value>> {
        self.pages("/2015-03-31/functions", "Functions").await
    }

    /// `ListVersionsByFunction`, all pages.
    pub async fn versions(&self, name: &str) -> Result<Vec<Value>> {
        self.pages(&format!("/2015-03-31/functions/{}/versions", segment(name)), "Versions").await
    }

    /// `ListAliases`, all pages.
    pub async fn aliases(&self, name: &str) -> Result<Vec<Value>> {
        self.pages(&format!("/2015-03-31/functions/{}/aliases", segment(name)), "Aliases").await
    }

    /// `ListProvisionedConcurrencyConfigs`, all pages.
    pub async fn provisioned(&self, name: &str) -> Result<Vec<Value>> {
        let path = format!("/2019-09-30/functions/{}/provisioned-concurrency", segment(name));
        self.all_pages(Request::new(Method::GET, path).query("List", "ALL"), "ProvisionedConcurrencyConfigs")
            .await
    }

    /// `CreateFunction`.
    pub async fn create(&self, body: &Value) -> Result<Value> {
        self.client.json(Request::new(Method::POST, "/2015-03-31/functions").json(body)).await
    }

    /// `UpdateFunctionCode` with a zip in base64, and with members of `UpdateFunctionConfiguration` that change
    /// at the same moment.
    pub async fn update_code(&self, name: &str, zip: &str, configuration: Option<&Value>) -> Result<Value> {
        let mut body = json!({ "ZipFile": zip });
        if let Some(configuration) = configuration {
            body["Brooklet"] = json!({ "Configuration": configuration });
        }
        self.client.json(function(Method::PUT, name, "/code").json(&body)).await
    }

    /// `UpdateFunctionConfiguration`.
    pub async fn update_configuration(&self, name: &str, body: &Value) -> Result<Value> {
        self.client.json(function(Method::PUT, name, "/configuration").json(body)).await
    }

    /// `DeleteFunction`, with all its versions.
    pub async fn delete(&self, name: &str) -> Result<()> {
        self.client.send(function(Method::DELETE, name, "")).await.map(drop)
    }

    /// `PutFunctionConcurrency`.
    pub async fn reserve(&self, name: &str, concurrency: u64) -> Result<Value> {
        let path = format!("/2017-10-31/functions/{}/concurrency", segment(name));
        let body = json!({ "ReservedConcurrentExecutions": concurrency });
        self.client.json(Request::new(Method::PUT, path).json(&body)).await
    }

    /// `DeleteFunctionConcurrency`.
    pub async fn unreserve(&self, name: &str) -> Result<()> {
        let path = format!("/2017-10-31/functions/{}/concurrency", segment(name));
        self.client.send(Request::new(Method::DELETE, path)).await.map(drop)
    }

    /// `GetFunctionUrlConfig`; `None` when the function has no URL.
    pub async fn url(&self, name: &str) -> Result<Option<Value>> {
        found(self.client.json(url(Method::GET, name)).await)
    }

    /// `CreateFunctionUrlConfig`.
    pub async fn create_url(&self, name: &str, body: &Value) -> Result<Value> {
        self.client.json(url(Method::POST, name).json(body)).await
    }

    /// `UpdateFunctionUrlConfig`.
    pub async fn update_url(&self, name: &str, body: &Value) -> Result<Value> {
        self.client.json(url(Method::PUT, name).json(body)).await
    }

    /// `DeleteFunctionUrlConfig`.
    pub async fn delete_url(&self, name: &str) -> Result<()> {
        self.client.send(url(Method::DELETE, name)).await.map(drop)
    }

    /// `TagResource`.
    pub async fn tag(&self, arn: &str, tags: &Value) -> Result<()> {
        let path = format!("/2017-03-31/tags/{}", segment(arn));
        self.client.send(Request::new(Method::POST, path).json(&json!({ "Tags": tags }))).await.map(drop)
    }

    /// `Invoke`, waiting for the answer.
    pub async fn invoke(
        &self,
        name: &str,
        qualifier: Option<&str>,
        event: Vec<u8>,
        tail: bool,
    ) -> Result<Answer> {
        let request = function(Method::POST, name, "/invocations")
            .query_if("Qualifier", qualifier)
            .header("content-type", "application/json")
            .header("x-amz-invocation-type", "RequestResponse")
            .header("x-amz-log-type", if tail { "Tail" } else { "None" });
        self.client.send(request.body(event)).await
    }

    /// Brooklet's own: stops the instances that run nothing.
    pub async fn let_idle_go(&self, name: &str, qualifier: Option<&str>) -> Result<()> {
        let path = format!("/_brooklet/v1/functions/{}/instances", segment(name));
        let request = Request::new(Method::DELETE, path).query_if("qualifier", qualifier);
        self.client.send(request).await.map(drop)
    }

    async fn pages(&self, path: &str, member: &str) -> Result<Vec<Value>> {
        self.all_pages(Request::new(Method::GET, path), member).await
    }

    async fn all_pages(&self, list: Request, member: &str) -> Result<Vec<Value>> {
        let (mut all, mut marker) = (vec![], None::<String>);
        for _ in 0..MAX_PAGES {
            let request = list.clone().query("MaxItems", PAGE);
            let mut page = self.client.json(request.query_if("Marker", marker.as_deref())).await?;
            if let Some(items) = page[member].as_array_mut() {
                all.append(items);
            }
            match page["NextMarker"].as_str().filter(|next| !next.is_empty()) {
                Some(next) => marker = Some(next.to_string()),
                None => return Ok(all),
            }
        }
        Err(Error::new(Exit::Failure, format!("the list of {member} does not end")))
    }
}

fn function(method: Method, name: &str, rest: &str) -> Request {
    Request::new(method, format!("/2015-03-31/functions/{}{rest}", segment(name)))
}

fn url(method: Method, name: &str) -> Request {
    Request::new(method, format!("/2021-10-31/functions/{}/url", segment(name)))
}

/// Turns "not found" into `None`.
fn found(result: Result<Value>) -> Result<Option<Value>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.exit == Exit::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
