"""Containers as processes: a private root of host folders, sources and volumes, entered by launch.py."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

LAUNCHER = Path(__file__).with_name("launch.py")
SYSTEM = ("bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "etc", "opt", "nix", "sys", "dev")
EMPTY = ("root", "tmp", "proc", "run", "var/tmp", "mnt", "__modal")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    source: Path
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What a container runs: `files` maps absolute container paths to the host files copied there."""

    argv: Sequence[str]
    env: Mapping[str, str]
    files: Mapping[str, Path]
    binds: Sequence[Bind]


def _expose(host: Path, root: Path, files: Mapping[str, Path]) -> Iterator[Bind]:
    """Show a host folder at its own path, opened up as far as needed to let `files` lie inside it."""
    inside = root / host.relative_to("/")
    if host.is_symlink():
        inside.parent.mkdir(parents=True, exist_ok=True)
        inside.symlink_to(os.readlink(host))
    elif not host.is_dir():
        inside.parent.mkdir(parents=True, exist_ok=True)
        inside.touch()
        yield Bind(source=host, target=str(host), read_only=host.parts[1] not in ("dev", "sys"))
    elif any(Path(file).is_relative_to(host) for file in files):
        inside.mkdir(parents=True, exist_ok=True)
        for child in host.iterdir():
            if str(child) not in files:
                yield from _expose(child, root, files)
    else:
        inside.mkdir(parents=True, exist_ok=True)
        yield Bind(source=host, target=str(host), read_only=host.parts[1] not in ("dev", "sys"))


def _interpreter_roots() -> list[Path]:
    """Folders that hold the running Python and its packages, wherever they lie (under /root, say)."""
    found = {Path(sys.prefix), Path(sys.base_prefix), Path(os.path.realpath(sys.executable)).parent.parent}
    return sorted(path for path in found if path.parts[1] not in SYSTEM)


def _build_root(root: Path, program: Program) -> list[Bind]:
    for name in EMPTY:
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    hosts = [Path("/") / name for name in SYSTEM]
    binds: list[Bind] = []
    for host in [path for path in hosts if path.exists()] + _interpreter_roots():
        if not any(host.is_relative_to(bind.source) for bind in binds):
            binds.extend(_expose(host, root, program.files))
    for target, source in program.files.items():
        copy = root / target.lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)
    for bind in program.binds:
        (root / bind.target.lstrip("/")).mkdir(parents=True, exist_ok=True)
    return [*binds, *program.binds]


def prepare(folder: Path, program: Program) -> list[str]:
    """Build the root under `folder` and return the command that runs the program in it.

    Killing that command's process kills the container, and so does the death of the thread that started it.
    """
    root = folder / "root"
    binds = _build_root(root, program)
    plan = {
        "root": str(root),
        "binds": [(str(bind.source), bind.target, bind.read_only) for bind in binds],
        "argv": list(program.argv),
        "env": dict(program.env),
    }
    (folder / "plan.json").write_text(json.dumps(plan))
    return [sys.executable, "-I", "-S", str(LAUNCHER), str(folder / "plan.json")]


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found.extend(int(child) for child in file.read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def processes(pid: int) -> list[int]:
    """Return the container's own processes, its program first, given the launcher's pid."""
    found = [grandchild for init in _children(pid) for grandchild in _children(init)]
    for parent in found:
        found.extend(_children(parent))
    return found


def interrupt(pid: int, signum: int) -> None:
    """Send a signal to the container's program, or kill a container that has none yet."""
    program = processes(pid)[:1]
    os.kill(program[0] if program else pid, signum if program else signal.SIGKILL)


def peak_rss_bytes(pid: int) -> int:
    """Return the largest peak resident size among the container's processes, 0 when it is gone."""
    peak = 0
    for process in processes(pid):
        try:
            status = Path(f"/proc/{process}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        for line in status.splitlines():
            if line.startswith("VmHWM:"):
                peak = max(peak, int(line.split()[1]) * 1024)
    return peak


def open_inodes(pid: int) -> set[tuple[int, int]]:
    """Return (device, inode) of every file and working directory that the container's processes hold open."""
    held = set()
    for process in processes(pid):
        for link in [Path(f"/proc/{process}/cwd"), *Path(f"/proc/{process}/fd").glob("*")]:
            try:
                stat = link.stat()
            except OSError:  # the process or the descriptor went away while we looked
                continue
            held.add((stat.st_dev, stat.st_ino))
    return held


def why_unavailable() -> str | None:
    """Return why this machine cannot run the containers, or None when it can."""
    if sys.platform != "linux":
        return "the Modal test control plane needs Linux namespaces"
    with TemporaryDirectory(prefix="loopback-") as folder:
        program = Program(argv=["/bin/true"], env={}, files={}, binds=[])
        trial = subprocess.run(prepare(Path(folder), program), capture_output=True, text=True, check=False)
    if trial.returncode != 0:
        return f"this machine refuses mount namespaces: {trial.stderr.strip().splitlines()[-1]}"
    return None
