"""A small JSON API behind a function URL: events and answers in Lambda's payload format 2.0."""

import base64
import json

NOTES = {}  # lives as long as the instance: a real one would use a database


def handler(event, context):
    method = event["requestContext"]["http"]["method"]
    key = event["rawPath"].strip("/")
    if method == "GET" and not key:
        return answer(200, sorted(NOTES))
    if method == "GET":
        return answer(200, NOTES[key]) if key in NOTES else answer(404, {"error": f"no note {key}"})
    if method == "PUT":
        try:
            NOTES[key] = json.loads(body(event))
        except ValueError as error:
            return answer(400, {"error": str(error)})
        return answer(201, NOTES[key])
    return answer(405, {"error": f"{method} is not allowed"})


def body(event):
    """Function URLs encode what is not text or JSON by its content type."""
    text = event.get("body") or "null"
    return base64.b64decode(text) if event.get("isBase64Encoded") else text


def answer(status, body):
    return {"statusCode": status, "headers": {"content-type": "application/json"}, "body": json.dumps(body)}
