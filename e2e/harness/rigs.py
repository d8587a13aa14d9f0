"""The rigs that e2e/install made, or a clear word about what is missing."""

import hashlib
import os
import pathlib

import pytest

E2E = pathlib.Path(__file__).resolve().parents[1]
FUNCTIONS = E2E / "functions"


def cache():
    """Where e2e/install puts everything, for all checkouts."""
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "brooklet" / "rigs"


def home():
    """Where e2e/install links this checkout's rigs by name."""
    return cache() / "checkouts" / hashlib.sha256(str(E2E).encode()).hexdigest()[:16]


def missing(why):
    """Skips the test that needs what is missing; with BROOKLET_E2E_STRICT=1 fails it."""
    if os.environ.get("BROOKLET_E2E_STRICT"):
        pytest.fail(why, pytrace=False)
    pytest.skip(why)


def rig(name):
    """The folder of a rig."""
    folder = home() / name
    if not (folder / ".done").exists():
        note = folder / ".missing"
        why = note.read_text().strip() if note.exists() else "run e2e/install"
        missing(f"the {name} rig is not installed: {why}")
    return folder.resolve()
