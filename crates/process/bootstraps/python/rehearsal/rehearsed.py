"""Is imported, and forgotten again, by zygotes and their copies: see ../_brooklet/zygote.py."""


def handler(event, context):
    return event
