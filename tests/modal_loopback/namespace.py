"""Containers as processes: a private root of host folders, sources and volumes in Linux namespaces of its own."""

import functools
import os
import py_compile
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.util import cache_from_source
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

SYSTEM = ("bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "etc", "opt", "nix", "sys", "dev")
EMPTY = ("root", "tmp", "proc", "run", "var/tmp", "mnt", "__modal")
UNCHECKED = py_compile.PycInvalidationMode.UNCHECKED_HASH
TOOLS = ("setpriv", "unshare", "mount")
# What the container's init does. A host that hides parts of its own /proc allows no fresh one to an ordinary user.
INIT = """
PATH=$PATH:/usr/sbin:/sbin folder=$1
shift
mount --all --fstab "$folder/fstab"
mount -t proc proc "$folder/root/proc" 2>/dev/null || mount --rbind /proc "$folder/root/proc"
chroot "$folder/root" env --ignore-environment --chdir=/root "$@"
exit $?
"""


class Bind(NamedTuple):
    source: Path
    target: str
    read_only: bool = False


def _expose(host: Path, root: Path, inside: Collection[str]) -> Iterator[Bind]:
    """Show a host path at the same path, opened up as far as needed to let `inside` lie in it."""
    shown = root / host.relative_to("/")
    shown.parent.mkdir(parents=True, exist_ok=True)
    if host.is_symlink():
        shown.symlink_to(host.readlink())
    elif host.is_dir() and any(Path(path).is_relative_to(host) for path in inside):
        shown.mkdir(exist_ok=True)
        for child in host.iterdir():
            if str(child) not in inside:
                yield from _expose(child, root, inside)
    else:
        (shown.mkdir if host.is_dir() else shown.touch)(exist_ok=True)
        yield Bind(host, str(host), read_only=host.parts[1] not in ("dev", "sys"))


def _hosts() -> list[Path]:
    """Return the system's folders, and those of the running Python, wherever they lie (under /root, say)."""
    python = {Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parent.parent}
    system = [Path("/", name) for name in SYSTEM]
    return [path for path in system if path.exists()] + sorted(p for p in python if p.parts[1] not in SYSTEM)


@functools.cache
def _compiled(path: str, source: bytes) -> bytes | None:
    """Return what Python makes of a source, so that not every container does; None where it is no Python."""
    with TemporaryDirectory() as folder, suppress(py_compile.PyCompileError):
        (file := Path(folder, "source")).write_bytes(source)
        py_compile.compile(str(file), f"{file}c", path, doraise=True, invalidation_mode=UNCHECKED)
        return Path(f"{file}c").read_bytes()
    return None


def prepare(
    folder: Path, argv: Sequence[str], env: Mapping[str, str], files: Mapping[str, Path], binds: Sequence[Bind]
) -> list[str]:
    """Build a root under `folder` and return the command that runs a program in it.

    `files` maps absolute container paths to the host files copied there. Killing that command's process kills the
    container, and so does the death of the thread that started it.
    """
    root = folder / "root"
    for name in (*EMPTY, *(bind.target.lstrip("/") for bind in binds)):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    mounts: list[Bind] = []
    for host in _hosts():
        if not any(host.is_relative_to(bind.source) for bind in mounts):
            mounts.extend(_expose(host, root, files))
    for target, source in files.items():
        copy = root / target.lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)
        if copy.suffix == ".py" and (compiled := _compiled(target, copy.read_bytes())):
            cached = Path(cache_from_source(str(copy)))
            cached.parent.mkdir(exist_ok=True)
            cached.write_bytes(compiled)
    table = [
        (str(bind.source), f"{root}{bind.target}", "none", "rbind,ro" if bind.read_only else "rbind")
        for bind in (*mounts, *binds)
    ]
    table.append(("tmpfs", f"{root}/dev/shm", "tmpfs", "defaults"))
    lines = [" ".join(field.replace(" ", r"\040") for field in fields) + "\n" for fields in table]
    (folder / "fstab").write_text("".join(lines))
    namespaces = ["--mount", "--pid", "--fork", "--kill-child", *(["--map-root-user"] if os.getuid() else [])]
    command = ["setpriv", "--pdeathsig", "KILL", "unshare", *namespaces, "sh", "-ec", INIT, "sh", str(folder)]
    return [*command, *(f"{name}={value}" for name, value in env.items()), *argv]


def _below(folder: Path, pattern: str) -> list[Path]:
    """Return what is in a folder of a process, nothing once that is gone."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return list(folder.glob(pattern))
    return []


def processes(pid: int) -> list[int]:
    """Return the container's own processes, its program first, given the pid of its command."""
    found = [pid]
    for parent in found:
        for children in _below(Path(f"/proc/{parent}/task"), "*/children"):
            with suppress(FileNotFoundError, ProcessLookupError):
                found.extend(int(child) for child in children.read_text().split())
    return found[2:]  # without the command and the init


def interrupt(pid: int) -> None:
    """SIGINT to the container's program; one that has none yet is killed."""
    program = processes(pid)[:1]
    os.kill(program[0] if program else pid, signal.SIGINT if program else signal.SIGKILL)


def peak_rss_bytes(pid: int) -> int:
    """Return the largest peak resident size among the container's processes, 0 when it is gone."""
    peaks = [0]
    for process in processes(pid):
        with suppress(FileNotFoundError, ProcessLookupError):
            status = Path(f"/proc/{process}/status").read_text()
            peaks.extend(int(kib) * 1024 for kib in re.findall(r"VmHWM:\s*(\d+)", status))
    return max(peaks)


def open_inodes(pid: int) -> set[tuple[int, int]]:
    """Return (device, inode) of every file and working directory that the container's processes hold open."""
    held = set()
    for process in processes(pid):
        for link in [Path(f"/proc/{process}/cwd"), *_below(Path(f"/proc/{process}/fd"), "*")]:
            with suppress(OSError):  # the process or the descriptor went away while we looked
                s = link.stat()
                held.add((s.st_dev, s.st_ino))
    return held


def why_unavailable() -> str | None:
    """Return why this machine cannot run the containers, or None when it can."""
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"the Modal test control plane needs Linux with {', '.join(missing)}"
    with TemporaryDirectory(prefix="loopback-") as folder:
        command = prepare(Path(folder), ["/bin/true"], {}, {}, [])
        trial = subprocess.run(command, capture_output=True, text=True, check=False)
    if trial.returncode != 0:
        return f"this machine refuses mount namespaces: {trial.stderr.strip().splitlines()[-1]}"
    return None
