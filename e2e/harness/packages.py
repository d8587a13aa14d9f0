"""Deployment packages: zips made in memory from texts, folders and built programs."""

import functools
import io
import pathlib
import sys
import zipfile

from .rigs import FUNCTIONS, rig

#: The managed runtimes that the suite's own interpreters stand for.
PYTHON = f"python3.{sys.version_info.minor}"


def zip_of(files=None, **more):
    """A zip of {path: text or bytes or pathlib.Path}; a `bootstrap` and scripts that begin with #! may be executed.

    A folder is put in with all below it, at the path (\"\" for the top).
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in {**(files or {}), **more}.items():
            if isinstance(content, pathlib.Path) and content.is_dir():
                for path in sorted(p for p in content.rglob("*") if p.is_file()):
                    _add(archive, str(pathlib.PurePosixPath(name) / path.relative_to(content)), path)
            else:
                _add(archive, name, content)
    return buffer.getvalue()


def _add(archive, name, content):
    mode = 0o644
    if isinstance(content, pathlib.Path):
        mode = content.stat().st_mode & 0o777
        content = content.read_bytes()
    if isinstance(content, str):
        content = content.encode()
    if content.startswith(b"#!") or name == "bootstrap":
        mode = 0o755
    info = zipfile.ZipInfo(name)
    info.external_attr = (0o100000 | mode) << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(info, content)


def source(path):
    """A file below e2e/functions."""
    return FUNCTIONS / path


@functools.cache
def python_probe():
    return zip_of({"probe.py": source("python/probe.py")})


@functools.cache
def walls():
    return zip_of({"walls.py": source("python/walls.py")})


@functools.cache
def node_probe():
    return zip_of({"probe.mjs": source("node/probe.mjs")})


@functools.cache
def awslambdaric():
    """The probe under the official Python runtime client, unmodified, as its documentation starts it."""
    # The interpreter itself, not the suite's virtual environment, which functions can't see.
    python = pathlib.Path(sys.executable).resolve()
    start = f'#!/bin/sh\nexport PYTHONPATH=/var/task\nexec {python} -m awslambdaric "$_HANDLER"\n'
    return zip_of({"": rig("bundles") / "ric", "probe.py": source("python/probe.py"), "bootstrap": start})


@functools.cache
def aws_lambda_ric():
    """The probe under the official Node runtime client."""
    modules = rig("node") / "node_modules"
    start = '#!/bin/sh\nexec node node_modules/aws-lambda-ric/index.mjs "$_HANDLER"\n'
    return zip_of(
        {
            "node_modules/aws-lambda-ric/index.mjs": modules / "aws-lambda-ric/index.mjs",
            "node_modules/aws-lambda-ric/package.json": modules / "aws-lambda-ric/package.json",
            "node_modules/aws-lambda-ric/rapid-client.node": modules / "aws-lambda-ric/rapid-client.node",
            "node_modules/aws-lambda-ric/node_modules": modules / "aws-lambda-ric/node_modules",
            "probe.mjs": source("node/probe.mjs"),
            "bootstrap": start,
        }
    )


@functools.cache
def go(program):
    return zip_of({"bootstrap": rig("go") / program})


@functools.cache
def rust(program):
    return zip_of({"bootstrap": rig("rust") / program})


@functools.cache
def java():
    """A jar's content: classes at the top, libraries in lib/, as Lambda's documentation lays out a zip."""
    return zip_of({"": rig("java") / "classes", "lib": rig("java") / "lib"})


@functools.cache
def java_without_client():
    """A package that leaves the runtime interface client to the platform, as most do."""
    libraries = (rig("java") / "lib").glob("*.jar")
    wanted = {f"lib/{jar.name}": jar for jar in libraries if "-java-core-" in jar.name or "-events-" in jar.name}
    return zip_of({"": rig("java") / "classes", **wanted})


@functools.cache
def java_bootstrap():
    """The official Java client started by hand, as in a custom image."""
    start = (
        "#!/bin/sh\nexec java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp '/var/task:/var/task/lib/*' "
        'com.amazonaws.services.lambda.runtime.api.client.AWSLambda "$_HANDLER"\n'
    )
    return zip_of({"": rig("java") / "classes", "lib": rig("java") / "lib", "bootstrap": start})


def shell():
    return zip_of({"bootstrap": source("shell/bootstrap")})


def mono():
    start = "#!/bin/sh\nexec mono bootstrap.exe\n"
    return zip_of({"bootstrap.exe": rig("mono") / "bootstrap.exe", "bootstrap": start})


@functools.cache
def dotnet():
    """The C# bootstrap published self-contained: .NET Core itself lies in the package."""
    return (rig("dotnet") / "self-contained.zip").read_bytes()


def greeter(rig_name):
    """A publish folder with the handler class, for the managed .NET runtime."""
    folder = rig(rig_name)
    names = [name for name in ("Greeter.dll", "Greeter.runtimeconfig.json") if (folder / name).exists()]
    return zip_of({name: folder / name for name in names})
