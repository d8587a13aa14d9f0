"""Cold starts: from a function without an instance to the caller's answer, against the bare interpreter that does nothing.

Every start is a real one: the function's configuration is changed before it, which retires its instances. Between two
starts there is a pause, so that the server can have another runtime ready, as on a machine that is not in a burst.
"""

import base64
import http.client
import io
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
PAUSE = 0.15  # s


class Function:
    """A deployed function, and the command that is its yardstick."""

    def __init__(self, server, name, runtime, handler, code, yardstick, environment=None):
        self.server, self.name, self.yardstick = server, name, yardstick
        self.environment = environment or {"PATH": os.environ["PATH"]}
        server.deploy(name, runtime, handler, code, Timeout=60)
        self.whole, self.init, self.bare, self.changes = [], [], [], 0

    def invoke(self):
        """ms to the answer, and the init duration that the REPORT line tells."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        connection.connect()
        began = time.perf_counter()
        connection.request("POST", f"/2015-03-31/functions/{self.name}/invocations", "{}", {"X-Amz-Log-Type": "Tail"})
        answer = connection.getresponse()
        body = answer.read()
        ms = (time.perf_counter() - began) * 1000
        connection.close()
        if answer.status != 200 or answer.headers.get("X-Amz-Function-Error"):
            raise SystemExit(f"bench/run: {self.name} answered {answer.status}: {body[:300]!r}")
        log = base64.b64decode(answer.headers["X-Amz-Log-Result"]).decode()
        told = re.search(r"Init Duration: ([\d.]+) ms", log)
        return ms, float(told[1]) if told else None

    def start(self):
        self.changes += 1
        self.server.call(
            "PUT", f"/2015-03-31/functions/{self.name}/configuration", {"Timeout": 60 + self.changes % 2}
        )
        time.sleep(PAUSE)
        ms, init = self.invoke()
        if init is None:
            raise SystemExit(f"bench/run: {self.name} answered from an instance that was there before")
        return ms, init

    def round(self):
        ms, init = self.start()
        self.whole.append(ms)
        self.init.append(init)
        time.sleep(PAUSE)
        began = time.perf_counter()
        pid = os.posix_spawn(self.yardstick[0], self.yardstick, self.environment, file_actions=QUIET)
        os.waitpid(pid, 0)
        self.bare.append((time.perf_counter() - began) * 1000)


QUIET = [(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]


def seen_by(server, runtime, package):
    """The interpreter that the server runs Python functions with."""
    server.deploy("which", runtime, "which.handler", package)
    return server.call("POST", "/2015-03-31/functions/which/invocations", {})


def with_package(code, modules, name):
    """A zip of a function's code and of what it takes of `modules` to require the package of that name."""
    buffer, wanted, done = io.BytesIO(), [name], set()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(code, code.name)
        while wanted:
            if (one := wanted.pop()) in done or not (modules / one).is_dir():
                continue
            done.add(one)
            wanted += json.loads((modules / one / "package.json").read_text()).get("dependencies", {})
            for path in sorted((modules / one).rglob("*")):
                if path.is_file() and path.suffix in (".js", ".json", ".cjs") and "dist-es" not in path.parts:
                    archive.write(path, f"node_modules/{path.relative_to(modules)}")
    return buffer.getvalue()


def cold(tools, scratch, options, bench):
    """Fills the table of cold starts; `bench` is the module that knows servers, packages and tables."""
    # The system's own, if there is one: version managers' have packages that slow the bare interpreter down.
    python = next((path for path in ("/usr/bin/python3", sys.executable) if os.access(path, os.X_OK)))
    version = bench.said(python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])")
    node = bench.said("node", "-p", "process.execPath")
    major = bench.said(node, "--version").lstrip("v").partition(".")[0]
    folder = scratch / "cold"
    subprocess.run(
        [os.environ["BROOKLET_BIN"], "runtimes", "install", "python", "node", "--data-dir", folder],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    sdk = folder / "runtimes/python/site-packages"
    which = scratch / "which.py"
    which.write_text("import sys\ndef handler(event, context):\n    return sys.executable\n")
    with bench.Brooklet(folder, python=python) as server:
        python = seen_by(server, f"python{version}", bench.package("which.py", which))
        file = lambda name: bench.package(name, HERE / "functions" / name)  # noqa: E731
        shell = bench.package("bootstrap", HERE / "functions/bootstrap.sh", 0o755)
        rust = bench.package("bootstrap", tools / "function", 0o755)
        node_paths = {"PATH": os.environ["PATH"], "NODE_PATH": str(folder / "runtimes/node/node_modules")}
        packed = with_package(
            HERE / "functions/sdk.cjs", folder / "runtimes/node/node_modules", "@aws-sdk/client-s3"
        )
        require = [node, "-e", "require('@aws-sdk/client-s3')"]
        sdk_paths = {"PATH": os.environ["PATH"], "PYTHONPATH": str(sdk)}
        functions = {
            "Python": (f"python{version}", "app.handler", file("app.py"), [python, "-c", "pass"]),
            "Python, boto3": (f"python{version}", "sdk.handler", file("sdk.py"), [python, "-c", "import boto3"], sdk_paths),
            "Node": (f"nodejs{major}.x", "nothing.handler", file("nothing.mjs"), [node, "-e", "0"]),
            "Node, the platform's AWS SDK": (f"nodejs{major}.x", "sdk.handler", file("sdk.cjs"), require, node_paths),
            "Node, AWS SDK in the package": (f"nodejs{major}.x", "sdk.handler", packed, require, node_paths),
            "shell bootstrap": ("provided.al2023", "bootstrap", shell, ["/bin/sh", "-c", ":"]),
            "Rust bootstrap": ("provided.al2023", "bootstrap", rust, ["/bin/true"]),
        }
        functions = {
            language: Function(server, f"cold-{n}", *given) for n, (language, given) in enumerate(functions.items())
        }
        for function in functions.values():  # the first starts of a kind: caches fill, zygotes are booted, imports learned
            function.invoke()
            for _ in range(3):
                function.start()
                time.sleep(1)
        for _ in range(8 * options.rounds):
            for function in functions.values():
                function.round()
    median = statistics.median
    print("### Cold starts\n")
    bench.table(
        ["function", "ms to the answer", "slowest tenth", "Init Duration ms", "yardstick", "its ms", "× yardstick"],
        [
            [
                language,
                f"{median(f.whole):.2f}",
                f"{statistics.quantiles(f.whole, n=10)[-1]:.2f}",
                f"{median(f.init):.2f}",
                "`" + " ".join([pathlib.Path(f.yardstick[0]).name, *f.yardstick[1:]]) + "`",
                f"{median(f.bare):.2f}",
                f"{median(f.whole) / median(f.bare):.2f}",
            ]
            for language, f in functions.items()
        ],
    )
    ratio = lambda language: median(functions[language].whole) / median(functions[language].bare)  # noqa: E731
    bench.goal("Cold start of a Python function, × `python3 -c pass`", ratio("Python"), "≤", 0.25)
    bench.goal("Cold start with boto3, × the bare interpreter importing it", ratio("Python, boto3"), "≤", 0.2)
    required = "Cold start with `@aws-sdk/client-s3`, × the bare Node.js requiring it"
    bench.goal(f"{required}: the platform's", ratio("Node, the platform's AWS SDK"), "≤", 0.2)
    bench.goal(f"{required}: in the package", ratio("Node, AWS SDK in the package"), "≤", 0.2)
    bench.goal("Cold start of a Node function, × `node -e 0`", ratio("Node"), "≤", 0.1)
