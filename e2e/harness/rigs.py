"""The rigs that e2e/install made, or a clear word about what is missing."""

import os
import pathlib

import pytest

FUNCTIONS = pathlib.Path(__file__).resolve().parents[1] / "functions"


def home():
    """Where e2e/install puts everything."""
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(cache) / "brooklet" / "rigs"


def missing(why):
    """Skips the test that needs what is missing; with BROOKLET_E2E_STRICT=1 fails it."""
    if os.environ.get("BROOKLET_E2E_STRICT"):
        pytest.fail(why, pytrace=False)
    pytest.skip(why)


def rig(name):
    """The folder of a rig."""
    folder = home() / name
    if not (folder / ".stamp").exists():
        note = folder / ".missing"
        why = note.read_text().strip() if note.exists() else "run e2e/install"
        missing(f"the {name} rig is not installed: {why}")
    return folder
