"""What the tests find on this machine: interpreters, and the official runtime clients as oracles."""

import glob
import os
import shutil
import subprocess
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
BOOTSTRAPS = os.path.dirname(HERE)
CACHE = os.environ.get("BROOKLET_RIGS") or os.path.expanduser("~/.cache/brooklet/rigs")


def pythons():
    """Version ("3.11") → program, of every CPython that a runtime can use."""
    found = {}
    for pattern in ("~/.pyenv/versions/3.*/bin/python3", "/usr/local/bin/python3", "/usr/bin/python3"):
        for program in sorted(glob.glob(os.path.expanduser(pattern))):
            version = _say(program, "-c", "import sys; print('%d.%d' % sys.version_info[:2])")
            if version and version.startswith("3.") and int(version[2:]) >= 8:
                found.setdefault(version, program)
    return _few(sorted(found.items(), key=lambda item: int(item[0][2:])))


def nodes():
    """Major version ("20") → program, of every Node.js that a runtime can use."""
    found = {}
    for program in [shutil.which("node")] + sorted(glob.glob(CACHE + "/node-*/node_modules/node/bin/node")):
        version = program and _say(program, "--version")
        if version and int(version[1:].split(".")[0]) >= 18:
            found.setdefault(version[1:].split(".")[0], program)
    return _few(sorted(found.items()))


def _few(found):
    """With BROOKLET_RIGS_FEW set only the oldest and the newest: a third of the time."""
    return dict([found[0], found[-1]] if os.environ.get("BROOKLET_RIGS_FEW") and found else found)


def python_command(program):
    return [program, "-s", "-B", _compiled(program) + "/bootstrap.py"]


def node_command(program):
    return [program, BOOTSTRAPS + "/node/bootstrap.js"]


_folders = {}


def _compiled(program):
    """The Python bootstrap as the server lays it out: a copy of its own, compiled ahead."""
    if program not in _folders:
        folder = tempfile.TemporaryDirectory()
        _folders[program] = folder  # removed at exit
        shutil.copytree(BOOTSTRAPS + "/python", folder.name + "/python", ignore=shutil.ignore_patterns("__pycache__"))
        compile_all = [program, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", folder.name]
        subprocess.run(compile_all, check=True)
    return _folders[program].name + "/python"


def _say(*command):
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60)
    except OSError:
        return None
    return done.stdout.decode().strip() if done.returncode == 0 else None


def official_python(program, version):
    """Command of the official Python client on this interpreter; None where it is not installed in the cache."""
    for folder in glob.glob(CACHE + "/awslambdaric/%s.*" % version):
        if os.path.isdir(folder + "/awslambdaric"):
            code = "import sys; sys.path.insert(0, %r); from awslambdaric.__main__ import main; sys.path[1] = %r; "
            code = code % (folder, "")
            return [program, "-s", "-B", "-c", code + "sys.argv[0] = 'bootstrap.py'; main(sys.argv)"]
    return None


def official_node(program):
    client = CACHE + "/node-ric/node_modules/aws-lambda-ric/bin/index.mjs"
    return [program, client] if os.path.exists(client) else None


def dotnets():
    """Name → how the bootstrap is started, given its folder, on every runtime found that runs what Mono compiles."""
    found = {}
    if shutil.which("mcs") and shutil.which("mono"):
        found["mono"] = lambda folder: ["mono", folder + "/Bootstrap.dll"]
    pattern = CACHE + "/dotnetcore2/lib/python3*/site-packages/dotnetcore2/bin/dotnet"
    for program in [shutil.which("dotnet")] + sorted(glob.glob(pattern)):
        if program and shutil.which("mcs"):
            config = "/Bootstrap.runtimeconfig.json"
            found["dotnet"] = lambda folder: [program, "exec", "--runtimeconfig", folder + config, folder + "/Bootstrap.dll"]
    return found


def compile_dotnet(folder):
    """Compiles the bootstrap as the server does; returns its folder."""
    sources = sorted(glob.glob(BOOTSTRAPS + "/dotnet/*.cs"))
    options = ["-nologo", "-warnaserror", "-unsafe", "-optimize+", "-langversion:7", "-target:exe"]
    subprocess.run(["mcs", *options, "-out:%s/Bootstrap.dll" % folder, *sources], check=True)
    shutil.copy(BOOTSTRAPS + "/dotnet/Bootstrap.runtimeconfig.json", folder)
    return folder


def mcs(*arguments):
    subprocess.run(["mcs", "-nologo", "-target:library", *arguments], check=True)
