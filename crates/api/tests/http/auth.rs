use crate::rig::{Rig, Setup};
use bytes::Bytes;
use node::invoke::Reply;
use ports::Payload;
use serde_json::json;
use std::process::Command;

pub async fn guarded() -> Rig {
    with_keys().start().await
}

fn with_keys() -> Setup {
    open().keys(&[("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")])
}

fn open() -> Setup {
    Setup::new(|_, request| async move {
        Ok(Reply::Answer(match request.payload {
            Payload::Event(event) => event,
            Payload::Http(_) => Bytes::from_static(b"{}"),
        }))
    })
}

#[tokio::test]
async fn strangers_are_refused_everywhere_but_at_the_door() {
    let rig = guarded().await;
    const MISSING: &str =
        r#"403 MissingAuthenticationTokenException {"message":"Missing Authentication Token"}"#;
    for request in [
        "GET /2015-03-31/functions",
        "POST /2015-03-31/functions/f/invocations",
        "GET /_brooklet/v1/info",
        "GET /_brooklet/v1/functions/f/logs",
        "GET /2018-10-31/layers",
        "POST /2015-03-31/event-source-mappings",
    ] {
        assert_eq!(rig.send(request).await.error(), MISSING, "{request}");
    }
    assert_eq!(rig.send("GET /healthz").await.status, 200);
}

#[tokio::test]
async fn a_token_reads_the_metrics_and_nothing_else() {
    const TOKEN: &str = "a-token-of-24-characters";
    let rig = with_keys().metrics_token(TOKEN).start().await;
    for scheme in ["Bearer", "bearer"] {
        let metrics = rig.send(&format!("GET /metrics\nAuthorization: {scheme} {TOKEN}")).await;
        assert_eq!((metrics.status, metrics.body.as_slice()), (200, b"# EOF\n".as_slice()));
    }
    assert_eq!(rig.send("GET /metrics").await.status, 403);
    for path in ["/_brooklet/v1/info", "/2015-03-31/functions", "/metrics/", "/2015-03-31/functions/metrics"]
    {
        let answer = rig.send(&format!("GET {path}\nAuthorization: Bearer {TOKEN}")).await;
        assert_ne!(answer.status, 200, "{path}");
    }
    for other in ["a-token-of-24-characterS", "a-token-of-24-character", "x", ""] {
        let answer = rig.send(&format!("GET /metrics\nAuthorization: Bearer {other}")).await.error();
        let expected = r#"403 UnrecognizedClientException {"message":"The bearer token of the request is not the server's `metrics-token`."}"#;
        // A header ends with its last character: there is no token after `Bearer ` then.
        assert!(answer == expected || other.is_empty() && answer.starts_with("403 "), "{other}: {answer}");
    }
}

#[tokio::test]
async fn a_token_that_the_server_does_not_have_is_refused_with_the_remedy_unless_everybody_may() {
    let bearer = "GET /metrics\nAuthorization: Bearer a-token-of-24-characters";
    let answer = with_keys().start().await.send(bearer).await.error();
    assert!(
        answer.starts_with("403 UnrecognizedClientException") && answer.contains("BROOKLET_METRICS_TOKEN"),
        "{answer}"
    );
    assert_eq!(open().start().await.send(bearer).await.status, 200);
    let rig = open().metrics_token("another-of-24-characters").start().await;
    assert_eq!(rig.send(bearer).await.status, 403, "wrong is wrong");
    assert_eq!(rig.send("GET /metrics").await.status, 200, "without keys everybody on this machine may");
}

#[tokio::test]
async fn a_strangers_body_is_not_read() {
    let rig = guarded().await;
    // Announced and never sent: an answer can only come if nobody waits for it.
    let answer = rig.send("POST /2015-03-31/functions\nContent-Length: 60000000").await;
    assert_eq!(answer.status, 403);
}

/// Runs boto3 against the server with these credentials; its last line.
pub async fn boto3(rig: &Rig, secret: &str, script: &str) -> Option<String> {
    let script = format!(
        "import boto3, botocore, json\n\
         c = boto3.client('lambda', region_name='us-east-1', endpoint_url='http://{}',\n\
         \x20   aws_access_key_id='AKIDEXAMPLE', aws_secret_access_key='{secret}')\n{script}",
        rig.address
    );
    let run = move || Command::new("python3").args(["-c", &script]).env_remove("AWS_PROFILE").output();
    let output = tokio::task::spawn_blocking(run).await.unwrap().ok()?;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if stderr.contains("No module named 'boto") {
        eprintln!("skipped: no python3 with boto3 here");
        return None;
    }
    assert!(output.status.success(), "{stderr}");
    Some(stdout.trim().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_signed_for_one_function_runs_no_other() {
    let rig = guarded().await;
    let script = format!(
        "import io, zipfile, http.client\n\
         from botocore.auth import SigV4Auth\n\
         from botocore.awsrequest import AWSRequest\n\
         from botocore.credentials import Credentials\n\
         packed = io.BytesIO()\n\
         zipfile.ZipFile(packed, 'w').writestr('app.py', '')\n\
         for name in 'ab':\n\
         \x20   c.create_function(FunctionName=name, Runtime='python3.12', Handler='app.h', \
         Role='arn:aws:iam::123456789012:role/r', Code={{'ZipFile': packed.getvalue()}})\n\
         request = AWSRequest('GET', 'http://{0}/fn/a/x', headers={{'Host': '{0}'}})\n\
         SigV4Auth(Credentials('AKIDEXAMPLE', '{SECRET}'), 'lambda', 'us-east-1').add_auth(request)\n\
         def status(path):\n\
         \x20   connection = http.client.HTTPConnection('{0}')\n\
         \x20   connection.request('GET', path, headers=dict(request.headers))\n\
         \x20   return connection.getresponse().status\n\
         print(status('/fn/a/x'), status('/fn/b/../a/x'), status('/fn/b/x'))",
        rig.address
    );
    let Some(statuses) = boto3(&rig, SECRET, &script).await else { return };
    assert_eq!(statuses, "200 400 403");
}

pub const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn boto3_with_the_right_key_does_everything() {
    let rig = guarded().await;
    let zip = crate::rig::zip_base64();
    let script = format!(
        "import base64, urllib.request\n\
         zip = base64.b64decode('{zip}')\n\
         c.create_function(FunctionName='f', Runtime='python3.12', Handler='a.b', Code={{'ZipFile': zip}}, Role='arn:aws:iam::123456789012:role/r')\n\
         c.get_waiter('function_active_v2').wait(FunctionName='f')\n\
         r = c.invoke(FunctionName='arn:aws:lambda:us-east-1:123456789012:function:f:$LATEST', Payload=b'{{\"a\": 1}}', LogType='Tail')\n\
         s = c.invoke_with_response_stream(FunctionName='f', Payload=b'[2]')\n\
         s = b''.join(e['PayloadChunk']['Payload'] for e in s['EventStream'] if 'PayloadChunk' in e)\n\
         link = c.get_function(FunctionName='f')['Code']['Location']\n\
         same = urllib.request.urlopen(link).read() == zip\n\
         print(r['Payload'].read().decode(), r['ExecutedVersion'], s.decode(), same, len(c.list_functions()['Functions']))"
    );
    if let Some(said) = boto3(&rig, SECRET, &script).await {
        assert_eq!(said, "{\"a\": 1} $LATEST [2] True 1");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn boto3_with_the_wrong_key_is_told_so() {
    let rig = guarded().await;
    let script = "try: c.list_functions()\nexcept botocore.exceptions.ClientError as e: print(e)";
    if let Some(said) = boto3(&rig, "wrong", script).await {
        let expected = "An error occurred (InvalidSignatureException) when calling the ListFunctions operation: \
                        The request signature we calculated does not match the signature you provided.";
        assert!(said.starts_with(expected), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_url_that_wants_signatures_refuses_strangers_and_an_open_one_does_not() {
    let rig = guarded().await;
    let script = format!(
        "import base64\n\
         c.create_function(FunctionName='f', Runtime='python3.12', Handler='a.b', Code={{'ZipFile': base64.b64decode('{}')}}, Role='arn:aws:iam::123456789012:role/r')\n\
         c.publish_version(FunctionName='f')\n\
         c.create_alias(FunctionName='f', Name='open', FunctionVersion='1')\n\
         a = c.create_function_url_config(FunctionName='f', AuthType='AWS_IAM')['FunctionUrl']\n\
         b = c.create_function_url_config(FunctionName='f', Qualifier='open', AuthType='NONE')['FunctionUrl']\n\
         print(json.dumps([a, b]))",
        crate::rig::zip_base64()
    );
    let Some(said) = boto3(&rig, SECRET, &script).await else { return };
    let hosts: Vec<String> = serde_json::from_str(&said).unwrap();
    let get = async |url: &str| {
        let host = url.trim_start_matches("http://").trim_end_matches('/');
        rig.send(&format!("GET /\nHost: {host}")).await
    };
    assert_eq!(get(&hosts[0]).await.error(), r#"403 AccessDeniedException {"Message":"Forbidden"}"#);
    assert_eq!(get(&hosts[1]).await.json()["requestContext"]["accountId"], json!("anonymous"));
    assert_eq!(rig.send("GET /fn/f").await.error(), r#"403 AccessDeniedException {"Message":"Forbidden"}"#);
    let signed = format!(
        "from botocore.auth import SigV4Auth\nfrom botocore.awsrequest import AWSRequest\nimport urllib.request\n\
         host = '{}'\n\
         r = AWSRequest('POST', f'http://{{host}}/x?y=z', data=b'{{}}', headers={{'Host': host}})\n\
         SigV4Auth(c._request_signer._credentials, 'lambda', 'us-east-1').add_auth(r)\n\
         q = urllib.request.Request('http://{}/x?y=z', data=b'{{}}', headers=dict(r.headers.items()))\n\
         print(json.loads(urllib.request.urlopen(q).read())['requestContext']['authorizer']['iam']['accessKey'])",
        hosts[0].trim_start_matches("http://").trim_end_matches('/'),
        rig.address
    );
    assert_eq!(boto3(&rig, SECRET, &signed).await.unwrap(), "AKIDEXAMPLE");
}
