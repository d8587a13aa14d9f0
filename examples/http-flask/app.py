"""A Flask application as any other: it listens on $PORT."""

import os

from flask import Flask, jsonify, request

app = Flask(__name__)


@app.get("/")
def index():
    return jsonify(message="Hello from Flask")


@app.post("/echo")
def echo():
    return jsonify(got=request.get_json())


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=int(os.environ["PORT"]))
