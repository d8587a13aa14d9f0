"""Answers with a greeting."""


def handler(event, context):
    name = event.get("name", "world")
    print(f"greeting {name}")
    return {"message": f"Hello, {name}!", "request": context.aws_request_id}
