"""Prints requests signed by botocore as JSON, for the tests of the verifier: `python3 vectors.py SEED`."""

import datetime
import json
import random
import sys

from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

NAMES = ["f", "my-fn", "arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Af", "a b", "ü", "x~y", "a//b", "./a/../b/"]
VALUES = ["$LATEST", "a b", "a/b", "a+b", "ü=&?", "", "~-._", "Zz09"]


def signed(rng, index):
    key = Credentials("AKID%d" % index, f"secret/%+={index}", rng.choice([None, "token+/="]))
    region = rng.choice(["us-east-1", "eu-west-3"])
    method = rng.choice(["GET", "POST", "PUT", "DELETE"])
    path = "/2015-03-31/functions/" + "/".join(rng.choice(NAMES).replace(" ", "%20").replace("ü", "%C3%BC") for _ in range(rng.randint(1, 2)))
    params = {rng.choice(["Qualifier", "Marker", "b", "a", "tagKeys"]): rng.choice(VALUES) for _ in range(rng.randint(0, 3))}
    body = rng.choice([b"", b"{}", "{\"ü\": 1}".encode()]) if method != "GET" else b""
    headers = {"Content-Type": "application/json", "X-Spaces": "  a   b  "}
    if rng.random() < 0.5:
        headers["X-Amz-Invocation-Type"] = "RequestResponse"
    request = AWSRequest(method=method, url="http://127.0.0.1:9170" + path, params=params, data=body, headers=headers)
    auth = SigV4QueryAuth if rng.random() < 0.3 else SigV4Auth
    kwargs = {"expires": 60} if auth is SigV4QueryAuth else {}
    auth(key, "lambda", region, **kwargs).add_auth(request)
    prepared = request.prepare()
    sent = {name: value if isinstance(value, str) else value.decode() for name, value in prepared.headers.items()}
    sent.setdefault("Host", "127.0.0.1:9170")
    return {
        "method": method,
        "target": prepared.url[len("http://127.0.0.1:9170"):],
        "headers": sent,
        "body": (prepared.body or b"").decode() if not isinstance(prepared.body, str) else prepared.body,
        "access_key": key.access_key,
        "secret": key.secret_key,
        "region": region,
        "now_s": int(datetime.datetime.now(datetime.timezone.utc).timestamp()),
    }


if __name__ == "__main__":
    rng = random.Random(int(sys.argv[1]))
    print(json.dumps([signed(rng, index) for index in range(40)], indent=1))
