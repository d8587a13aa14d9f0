use crate::rig::{Rig, zip, zip_base64};
use base64::Engine;
use serde_json::json;
use sha2::Digest;

#[tokio::test]
async fn a_created_function_has_every_member_that_lambda_gives() {
    let rig = Rig::echo().await;
    let body = json!({
        "FunctionName": "f", "Runtime": "python3.12", "Handler": "index.handler",
        "Role": "arn:aws:iam::123456789012:role/r", "Code": { "ZipFile": zip_base64() },
        "Description": "d", "Timeout": 7, "MemorySize": 256,
        "Environment": { "Variables": { "AB": "1" } },
        "VpcConfig": { "SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"] },
        "TracingConfig": { "Mode": "Active" },
        "EphemeralStorage": { "Size": 1024 },
        "LoggingConfig": { "LogFormat": "JSON" },
        "Architectures": ["x86_64"],
        "Tags": { "team": "t" },
        "Unknown": { "ignored": true },
    });
    let created = rig.json("POST /2015-03-31/functions", body).await;
    assert_eq!(created.status, 201, "{}", created.text());
    let mut created = created.json();
    let digest = sha2::Sha256::digest(zip());
    let sha256 = base64::engine::general_purpose::STANDARD.encode(digest);
    let last_modified = created["LastModified"].take();
    assert!(
        last_modified.as_str().unwrap().ends_with("+0000") && last_modified.as_str().unwrap().len() == 28
    );
    assert_eq!(created["RevisionId"].take().as_str().unwrap().len(), 36);
    let runtime_version = created["RuntimeVersionConfig"]["RuntimeVersionArn"].take();
    assert!(runtime_version.as_str().unwrap().starts_with("arn:aws:lambda:us-east-1::runtime:"));
    assert_eq!(
        created,
        json!({
            "FunctionName": "f",
            "FunctionArn": "arn:aws:lambda:us-east-1:123456789012:function:f",
            "Runtime": "python3.12",
            "Role": "arn:aws:iam::123456789012:role/r",
            "Handler": "index.handler",
            "CodeSize": zip().len(),
            "Description": "d",
            "Timeout": 7,
            "MemorySize": 256,
            "LastModified": null,
            "CodeSha256": sha256,
            "Version": "$LATEST",
            "VpcConfig": { "SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"], "VpcId": "" },
            "Environment": { "Variables": { "AB": "1" } },
            "TracingConfig": { "Mode": "Active" },
            "RevisionId": null,
            "State": "Active",
            "LastUpdateStatus": "Successful",
            "PackageType": "Zip",
            "Architectures": ["x86_64"],
            "EphemeralStorage": { "Size": 1024 },
            "SnapStart": { "ApplyOn": "None", "OptimizationStatus": "Off" },
            "RuntimeVersionConfig": { "RuntimeVersionArn": null },
            "LoggingConfig": {
                "LogFormat": "JSON", "ApplicationLogLevel": "INFO", "SystemLogLevel": "INFO",
                "LogGroup": "/aws/lambda/f"
            },
            "Brooklet": { "InstanceConcurrency": 1, "Network": "default" },
        })
    );
}

#[tokio::test]
async fn code_and_configuration_may_change_in_one_call() {
    let rig = Rig::echo().await;
    rig.create("f").await;
    let put = async |configuration| {
        let body = json!({ "ZipFile": zip_base64(), "Brooklet": { "Configuration": configuration } });
        rig.json("PUT /2015-03-31/functions/f/code", body).await
    };
    let configuration = json!({ "Timeout": 9, "Environment": { "Variables": { "A1": "b" } } });
    let updated = put(configuration).await.json();
    assert_eq!((&updated["Timeout"], &updated["Environment"]["Variables"]["A1"]), (&json!(9), &json!("b")));
    let refused = put(json!({ "Timeout": "9" })).await;
    assert!(refused.text().contains("at 'brooklet.configuration.timeout'"), "{}", refused.text());
}

#[tokio::test]
async fn a_function_is_got_listed_updated_and_deleted() {
    let rig = Rig::echo().await;
    rig.create("f").await;
    rig.json(
        "POST /2017-03-31/tags/arn:aws:lambda:us-east-1:123456789012:function:f",
        json!({"Tags": {"a": "b"}}),
    )
    .await;
    rig.json("PUT /2017-10-31/functions/f/concurrency", json!({ "ReservedConcurrentExecutions": 5 })).await;
    let got = rig.send("GET /2015-03-31/functions/f").await.json();
    assert_eq!(got["Tags"], json!({ "a": "b" }));
    assert_eq!(got["Concurrency"], json!({ "ReservedConcurrentExecutions": 5 }));
    assert_eq!(got["Code"]["RepositoryType"], "S3");

    let update = json!({ "Timeout": 9, "Environment": {}, "Brooklet": { "InstanceConcurrency": 1 } });
    let updated = rig.json("PUT /2015-03-31/functions/f/configuration", update).await.json();
    assert_eq!((&updated["Timeout"], updated.get("Environment")), (&json!(9), None));

    let listed = rig.send("GET /2015-03-31/functions?MaxItems=10").await.json();
    assert_eq!(listed["Functions"][0]["FunctionName"], "f");
    assert!(listed["Functions"][0].get("State").is_none() && listed.get("NextMarker").is_none());

    let deleted = rig.send("DELETE /2015-03-31/functions/f").await;
    assert_eq!((deleted.status, deleted.text()), (204, String::new()));
    assert_eq!(rig.send("GET /2015-03-31/functions/f").await.status, 404);
}

#[tokio::test]
async fn a_list_goes_on_where_its_page_ended() {
    let rig = Rig::echo().await;
    for name in ["a", "b", "c"] {
        rig.create(name).await;
    }
    let first = rig.send("GET /2015-03-31/functions?MaxItems=2").await.json();
    let marker = first["NextMarker"].as_str().unwrap().replace(':', "%3A");
    let second = rig.send(&format!("GET /2015-03-31/functions?MaxItems=2&Marker={marker}")).await.json();
    assert_eq!(first["Functions"].as_array().unwrap().len(), 2);
    assert_eq!(second["Functions"][0]["FunctionName"], "c");
    assert!(second.get("NextMarker").is_none());
}

#[tokio::test]
async fn versions_and_aliases_have_arns_of_their_own() {
    let rig = Rig::echo().await;
    rig.create("f").await;
    let version = rig.json("POST /2015-03-31/functions/f/versions", json!({ "Description": "one" })).await;
    assert_eq!(version.status, 201);
    assert_eq!(version.json()["FunctionArn"], "arn:aws:lambda:us-east-1:123456789012:function:f:1");
    assert_eq!(version.json()["Version"], "1");
    rig.json("PUT /2015-03-31/functions/f/configuration", json!({ "Timeout": 9 })).await;
    rig.json("POST /2015-03-31/functions/f/versions", json!({})).await;

    let alias = json!({
        "Name": "prod", "FunctionVersion": "1", "RoutingConfig": { "AdditionalVersionWeights": { "2": 0.25 } }
    });
    let mut alias = rig.json("POST /2015-03-31/functions/f/aliases", alias).await.json();
    let revision = alias["RevisionId"].take();
    assert_eq!(
        alias,
        json!({
            "AliasArn": "arn:aws:lambda:us-east-1:123456789012:function:f:prod",
            "Name": "prod", "FunctionVersion": "1", "Description": "", "RevisionId": null,
            "RoutingConfig": { "AdditionalVersionWeights": { "2": 0.25 } }
        })
    );
    let update = json!({ "FunctionVersion": "2", "RoutingConfig": {}, "RevisionId": revision });
    let updated = rig.json("PUT /2015-03-31/functions/f/aliases/prod", update).await.json();
    assert_eq!((&updated["FunctionVersion"], updated.get("RoutingConfig")), (&json!("2"), None));
    let listed = rig.send("GET /2015-03-31/functions/f/aliases?FunctionVersion=2").await.json();
    assert_eq!(listed["Aliases"].as_array().unwrap().len(), 1);
    let by_alias = rig.send("GET /2015-03-31/functions/f/configuration?Qualifier=prod").await.json();
    assert_eq!(by_alias["FunctionArn"], "arn:aws:lambda:us-east-1:123456789012:function:f:prod");
    assert_eq!(by_alias["Version"], "2");
    let versions = rig.send("GET /2015-03-31/functions/f/versions").await.json();
    let versions = versions["Versions"].as_array().unwrap();
    assert_eq!(
        versions.iter().map(|v| v["Version"].as_str().unwrap()).collect::<Vec<_>>(),
        ["$LATEST", "1", "2"]
    );
    assert_eq!(rig.send("DELETE /2015-03-31/functions/f/aliases/prod").await.status, 204);
    assert_eq!(rig.send("GET /2015-03-31/functions/f/aliases/prod").await.status, 404);
}

#[tokio::test]
async fn a_function_url_has_an_address_settings_and_times() {
    let rig = Rig::echo().await;
    rig.create("f").await;
    let cors = json!({ "AllowOrigins": ["*"], "MaxAge": 60 });
    let body = json!({ "AuthType": "NONE", "Cors": cors });
    let created = rig.json("POST /2021-10-31/functions/f/url", body).await;
    assert_eq!(created.status, 201);
    let created = created.json();
    let url = created["FunctionUrl"].as_str().unwrap();
    let end = format!(".lambda-url.us-east-1.localhost:{}/", rig.address.port());
    assert!(url.starts_with("http://") && url.ends_with(&end), "{url}");
    assert_eq!((&created["Cors"], &created["InvokeMode"]), (&cors, &json!("BUFFERED")));
    assert!(created.get("LastModifiedTime").is_none());

    let body = json!({ "InvokeMode": "RESPONSE_STREAM", "Cors": {} });
    let updated = rig.json("PUT /2021-10-31/functions/f/url", body).await.json();
    assert_eq!((&updated["InvokeMode"], updated.get("Cors")), (&json!("RESPONSE_STREAM"), None));
    assert_eq!(updated["FunctionUrl"], url);
    let listed = rig.send("GET /2021-10-31/functions/f/urls").await.json();
    assert_eq!(listed["FunctionUrlConfigs"][0]["FunctionUrl"], url);
    assert_eq!(rig.send("DELETE /2021-10-31/functions/f/url").await.status, 204);
    let gone = rig.send("GET /2021-10-31/functions/f/url").await;
    assert_eq!(
        gone.error(),
        r#"404 ResourceNotFoundException {"Type":"User","Message":"The resource you requested does not exist."}"#
    );
}

#[tokio::test]
async fn a_dry_run_of_new_code_changes_nothing() {
    let rig = Rig::echo().await;
    let created = rig.create("f").await;
    let body = json!({ "ZipFile": zip_base64(), "DryRun": true, "Publish": true });
    assert_eq!(rig.json("PUT /2015-03-31/functions/f/code", body).await.status, 200);
    let got = rig.send("GET /2015-03-31/functions/f/configuration").await.json();
    assert_eq!(got["RevisionId"], created["RevisionId"]);
}

#[tokio::test]
async fn tags_concurrency_and_account_answer_as_the_model_says() {
    let rig = Rig::echo().await;
    rig.create("f").await;
    let arn = "arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Afunction%3Af";
    let tagged =
        rig.json(&format!("POST /2017-03-31/tags/{arn}"), json!({ "Tags": { "a": "1", "b": "2" } })).await;
    assert_eq!((tagged.status, tagged.text()), (204, String::new()));
    assert_eq!(rig.send(&format!("DELETE /2017-03-31/tags/{arn}?tagKeys=a&tagKeys=c")).await.status, 204);
    assert_eq!(
        rig.send(&format!("GET /2017-03-31/tags/{arn}")).await.json(),
        json!({ "Tags": { "b": "2" } })
    );

    assert_eq!(rig.send("GET /2019-09-30/functions/f/concurrency").await.json(), json!({}));
    let reserved = json!({ "ReservedConcurrentExecutions": 0 });
    let put = rig.json("PUT /2017-10-31/functions/f/concurrency", reserved.clone()).await;
    assert_eq!((put.status, put.json()), (200, reserved.clone()));
    assert_eq!(rig.send("GET /2019-09-30/functions/f/concurrency").await.json(), reserved);
    assert_eq!(rig.send("DELETE /2017-10-31/functions/f/concurrency").await.status, 204);

    let account = rig.send("GET /2016-08-19/account-settings/").await.json();
    assert_eq!(account["AccountLimit"]["ConcurrentExecutions"], 1000);
    assert_eq!(account["AccountUsage"], json!({ "FunctionCount": 1, "TotalCodeSize": zip().len() }));
    rig.json("POST /2015-03-31/functions/f/versions", json!({})).await;
    rig.create("g").await;
    let account = rig.send("GET /2016-08-19/account-settings/").await.json();
    assert_eq!(account["AccountUsage"], json!({ "FunctionCount": 2, "TotalCodeSize": 3 * zip().len() }));
}

#[tokio::test]
async fn what_does_not_exist_here_is_said_to_be_absent() {
    let rig = Rig::echo().await;
    rig.create("f").await;
    let get = async |path: &str| rig.send(&format!("GET {path}")).await;
    assert_eq!(get("/2015-03-31/event-source-mappings/").await.json(), json!({ "EventSourceMappings": [] }));
    assert_eq!(get("/2018-10-31/layers").await.json(), json!({ "Layers": [] }));
    let signing = get("/2020-06-30/functions/f/code-signing-config").await.json();
    assert_eq!(signing, json!({ "CodeSigningConfigArn": "", "FunctionName": "f" }));
    let recursion = get("/2024-08-31/functions/f/recursion-config").await.json();
    assert_eq!(recursion, json!({ "RecursiveLoop": "Allow" }));
    assert_eq!(get("/2019-09-30/functions/f/provisioned-concurrency?Qualifier=1").await.status, 404);
}
