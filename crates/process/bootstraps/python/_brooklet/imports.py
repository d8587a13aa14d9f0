"""Tells the server what the function has imported, up to its first answer, so that the next start finds it imported."""

import os
import sys

from . import frames


def tell(before, seconds, sdk):
    """Sends what came after `before` from the interpreter's own library and from the SDK folders, in the order in which
    it came, and the microseconds of the initialisation (`seconds`) that this part took, each taken for as long as the
    others."""
    folders = [os.path.dirname(os.__file__), os.path.dirname(__file__), *(sdk.split(os.pathsep) if sdk else ())]
    names, all_of_it = [], 1
    for name, module in list(sys.modules.items()):
        if name in before:
            continue
        all_of_it += 1
        spec = getattr(module, "__spec__", None)
        if type(name) is str and getattr(spec, "name", None) == name and _is_of(getattr(spec, "origin", None), folders):
            names.append(name)
    micros = int(seconds * 1e6) * len(names) // all_of_it
    frames.send(b"M", "\n".join([str(micros), *names]).encode("utf-8", "replace"))


def _is_of(origin, folders):
    if origin in ("built-in", "frozen"):
        return True
    if type(origin) is not str:
        return False
    # The library's folder has the site-packages of the interpreter in it, which are not the library's.
    return any(origin.startswith(folder + "/") and "-packages/" not in origin[len(folder) :] for folder in folders)
