"""Cold starts of Java functions, in a JVM that waited, with class-data archives, and without either, against `java Bare` on
the JDK's own."""

import contextlib
import http.client
import io
import os
import pathlib
import shutil
import statistics
import subprocess
import time
import zipfile

SOURCES = pathlib.Path(__file__).resolve().parent / "java"
FUNCTIONS = {"hello": "bench.Hello::handle", "with Jackson": "bench.Json::handle"}
JVMS = {"17": "/usr/lib/jvm/java-17-openjdk-amd64", "25": "/usr/lib/jvm/temurin-25-jdk-amd64"}


def homes():
    """JVMs to measure, by major version; $JAVA_HOME where none of the usual ones is there."""
    found = {version: home for version, home in JVMS.items() if pathlib.Path(home, "bin/java").exists()}
    if not found and (home := os.environ.get("JAVA_HOME")):
        release = pathlib.Path(home, "release").read_text()
        found = {release.partition('JAVA_VERSION="')[2].partition(".")[0]: home}
    return found


def build(folder):
    """Compiles the functions into a package; its folder of classes, and the zip."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(SOURCES / "pom.xml", folder)
    copy = ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=lib"]
    subprocess.run(copy, cwd=folder, check=True)
    sources = sorted(map(str, SOURCES.glob("bench/*.java")))
    command = ["javac", "-nowarn", "--release", "17", "-d", "classes", "-cp", "lib/*", *sources]
    subprocess.run(command, cwd=folder, check=True)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((folder / "classes").rglob("*.class")):
            archive.write(path, path.relative_to(folder / "classes"))
        for jar in sorted((folder / "lib").glob("*.jar")):
            archive.write(jar, f"lib/{jar.name}")
    return folder / "classes", buffer.getvalue()


def cold(server, name, round_number):
    """Milliseconds of an invocation that needs a new instance."""
    path = f"/2015-03-31/functions/{name}"
    server.call("PUT", f"{path}/configuration", {"Description": f"round {round_number}"})
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.connect()
    began = time.perf_counter()
    connection.request("POST", f"{path}/invocations", "{}")
    answer = connection.getresponse()
    body = answer.read()
    taken = (time.perf_counter() - began) * 1000
    if answer.status != 200 or answer.headers.get("X-Amz-Function-Error"):
        raise SystemExit(f"bench/run: {name} answered {answer.status}: {body[:300]!r}")
    return taken


def bare(home, classes):
    """Milliseconds of a JVM that says hello."""
    began = time.perf_counter()
    subprocess.run([f"{home}/bin/java", "-cp", classes, "bench.Bare"], check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - began) * 1000


def wait_for_archives(server, count):
    """The training runs after the first starts are over."""
    code = pathlib.Path(server.data_dir) / "code"
    until = time.monotonic() + 120
    while len(list(code.glob("*.jvm/*/archive"))) < count:
        if time.monotonic() > until:
            raise SystemExit(f"bench/run: no class-data archives; see {server.log.name}")
        time.sleep(0.2)


def wait_for_a_jvm(server):
    """One waits for its function: a thread of it reads descriptor 3."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if b"brooklet.Stem" not in (process / "cmdline").read_bytes():
                    continue
                if not any((task / "syscall").read_text().startswith("0 0x3 ") for task in (process / "task").iterdir()):
                    continue
                while process.name not in ("0", "1", str(server.process.pid)):
                    parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
                    process = process.parent / parent
                if process.name == str(server.process.pid):
                    return
        time.sleep(0.1)
    raise SystemExit(f"bench/run: no JVM waits; see {server.log.name}")


def measure(brooklet, scratch, rounds):
    """{(JVM, what): milliseconds of each round}; the things take turns."""
    classes, package = build(scratch / "java")
    figures = {}
    for version, home in homes().items():
        java = {"java": f"{home}/bin/java"}
        # Where the client is installed, JVMs wait.
        installed = scratch / f"waiting-{version}/runtimes/java/lib"
        shutil.copytree(scratch / "java/lib", installed, ignore=shutil.ignore_patterns("jackson-*"))
        with (
            brooklet(scratch / f"waiting-{version}", **java) as waiting,
            brooklet(scratch / f"with-{version}", **java) as archives,
            brooklet(scratch / f"without-{version}", training_runs="false", **java) as plain,
        ):
            for number, handler in enumerate(FUNCTIONS.values()):
                for server in (waiting, archives, plain):
                    server.deploy(f"f{number}", f"java{version}", handler, package, MemorySize=512)
                    cold(server, f"f{number}", "first")
            wait_for_archives(archives, len(FUNCTIONS))
            wait_for_archives(waiting, len(FUNCTIONS))
            for round_number in range(rounds):
                turn = {"java Bare": bare(home, classes)}
                for number, name in enumerate(FUNCTIONS):
                    turn[f"{name}, without"] = cold(plain, f"f{number}", round_number)
                    turn[f"{name}, archive"] = cold(archives, f"f{number}", round_number)
                    wait_for_a_jvm(waiting)
                    turn[f"{name}, waiting JVM"] = cold(waiting, f"f{number}", round_number)
                for what, taken in turn.items():
                    figures.setdefault((version, what), []).append(taken)
    return figures


def rows(figures):
    """For a table: what, median, best, and the ratios to the bare JVM and to no archive."""
    median = {key: statistics.median(taken) for key, taken in figures.items()}
    made = []
    for (version, what), taken in figures.items():
        own = median[version, what]
        without = median.get((version, f"{what.partition(',')[0]}, without"), own)
        made.append(
            [
                f"Java {version}: {what}",
                f"{own:.0f}",
                f"{min(taken):.0f}",
                f"{own / median[version, 'java Bare']:.2f}",
                f"{own / without:.2f}" if what.endswith(("archive", "waiting JVM")) else "",
            ]
        )
    return made


def goals(figures):
    """(what, ratio): a hello in a JVM that waited, × the bare JVM."""
    median = {key: statistics.median(taken) for key, taken in figures.items()}
    ratio = lambda version: median[version, "hello, waiting JVM"] / median[version, "java Bare"]  # noqa: E731
    versions = sorted({version for version, _ in figures})
    return [(f"Java {version} hello cold, waiting JVM, × bare java", ratio(version)) for version in versions]
