"""What a server holds of the machine at one moment: what must be the same after ten thousand starts as before."""

import dataclasses
import os
import pathlib
import re

from . import processes


@dataclasses.dataclass
class Holdings:
    """Counts, but for the last."""

    processes: int  # below the server, and of its making but no longer below it
    control_groups: int  # below its own
    namespaces: int  # that it or one of those is in, or that it has open
    mounts: int
    files: int  # in its run folder
    threads: int
    descriptors: int
    memory: int  # KiB that are its own

    def beyond(self, before, memory):
        """What is more than it was `before`; of memory, by more than `memory` KiB."""
        grown = []
        for field in dataclasses.fields(self):
            was, now = getattr(before, field.name), getattr(self, field.name)
            if now > was + (memory if field.name == "memory" else 0):
                grown.append(f"{field.name}: {was} -> {now}")
        return grown


def of(server, started):
    """What `server` holds now; `started` are the processes that tests have started themselves."""
    own = pathlib.Path(f"/proc/{server.process.pid}")
    below = processes.descendants(server.process.pid)
    descriptors = targets(own / "fd")
    inside = [what for pid in [own.name, *below] for what in targets(f"/proc/{pid}/ns")]
    opened = [what for what in descriptors if re.match(r"(cgroup|ipc|mnt|net|pid|time|user|uts):", what)]
    return Holdings(
        processes=len({*below, *processes.orphans(started)}),
        # `walk` goes on when a folder goes away meanwhile.
        control_groups=sum(len(folders) for group in server.control_groups() for _, folders, _ in os.walk(group)),
        namespaces=len({*inside, *opened} - {""}),
        mounts=len((own / "mountinfo").read_text().splitlines()),
        files=sum(len([*folders, *files]) for _, folders, files in os.walk(server.data_dir / "run")),
        threads=len(list(own.glob("task/*"))),
        descriptors=len(descriptors),
        memory=int(re.search(r"^RssAnon:\s+(\d+) kB", (own / "status").read_text(), re.M)[1]),
    )


def targets(folder):
    """Where the links in a folder of the kernel's point to; "" for one that is gone, none when the folder is."""
    found = []
    try:
        for name in os.listdir(folder):
            found.append(target(os.path.join(folder, name)))
    except OSError:
        pass
    return found


def target(link):
    try:
        return os.readlink(link)
    except OSError:
        return ""
