"""A plain Flask application on $PORT: the HTTP contract."""

import os
import threading
import urllib.request
import uuid

from flask import Flask, Response, request

app = Flask(__name__)
lock = threading.Lock()
at_once = most = 0
INSTANCE = str(uuid.uuid4())


@app.get("/hello")
def hello():
    return "hello from flask", {"X-Query": request.args.get("name", "")}


@app.post("/upper")
def upper():
    return request.get_data(as_text=True).upper(), 201


@app.post("/measure")
def measure():
    return {"length": len(request.get_data())}


@app.post("/")
def event():
    return {"event": request.get_json(force=True)}


@app.get("/most")
def tell_most():
    return {"most": most, "instance": INSTANCE}


@app.get("/events")
def events():
    def lines(gate):
        yield "data: first\n\n"
        if gate:
            urllib.request.urlopen(gate, timeout=60).read()
        yield "data: last\n\n"

    return Response(lines(request.args.get("gate")), mimetype="text/event-stream")


@app.get("/hold")
def hold():
    global at_once, most
    with lock:
        at_once += 1
        most = max(most, at_once)
    urllib.request.urlopen(request.args["gate"], timeout=60).read()
    with lock:
        at_once -= 1
    return {"instance": INSTANCE}


@app.get("/crash")
def crash():
    os._exit(3)


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=int(os.environ["PORT"]), threaded=True)
