"""Trials: a peer in a fresh process, whole, or killed at half of its rows and started again."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.peers.catalogue import Peer
from tests.benchmarks.peers.tally import VARIABLE
from tests.benchmarks.peers.venvs import last_line, model_of, python_of
from tests.support import REPOSITORY

LIMIT_S = 900
POLL_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What a process of a peer did before it ended."""

    wall_s: float
    engine_s: float  # from the loaded model to the end; 0 where it was killed before
    cpu_s: float  # of all processors, without processes that outlived their parent
    texts: int  # embedded
    error: str = ""  # why it failed; "" for one that did not, or that was killed on purpose


def attempt(peer: Peer, source: Path, output: Path, model: Path, *, kill_at: int = 0) -> Trial:
    """Run a peer on a file into a folder; SIGKILL to all of its processes once it has embedded `kill_at` texts.

    0 lets it end by itself. Raises RuntimeError where its environment cannot be made.
    """
    command = [str(python_of(peer)), "-m", "tests.benchmarks.peers.one", peer.module, str(source), str(output)]
    command += [str(model_of(peer, model)), peer.precision, *filter(None, [peer.variant])]
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "stderr").open("w+") as stderr:
        path = Path(folder) / "tally"
        path.touch()
        began, worked_s = time.time(), cpu_of_ended_s()
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment(path), stdout=stderr, stderr=stderr, start_new_session=True
        )
        killed = _wait(process, path, kill_at)
        ended = time.time()
        for pid in processes_with(path, process.pid):  # what outlives its parent: a peer's own, and nobody else's
            os.kill(pid, signal.SIGKILL)
        process.wait()
        loaded, texts = read_tally(path)
        stderr.seek(0)
        failed = process.returncode and not killed
        error = last_line(stderr.read()) if failed else ""
    return Trial(
        wall_s=ended - began,
        engine_s=ended - loaded if loaded else 0.0,
        cpu_s=cpu_of_ended_s() - worked_s,
        texts=texts,
        error=error,
    )


def cpu_of_ended_s() -> float:
    """Return the processor seconds of all processes that this one started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def environment(tally: Path) -> dict[str, str]:
    """Return the environment of a peer: its tally, this repository, and no network."""
    return {
        **os.environ,
        VARIABLE: str(tally),
        "PYTHONPATH": str(REPOSITORY),
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "DO_NOT_TRACK": "1",
        "XDG_CACHE_HOME": str(REPOSITORY / "build/bench/cache"),
    }


def read_tally(path: Path) -> tuple[float, int]:
    """Return when the model was first there, in seconds since 1970 (0 for never), and how many texts were embedded."""
    lines = [line.split() for line in path.read_text().splitlines()]
    return (float(lines[0][0]) if lines else 0.0), sum(int(n_texts) for _, n_texts in lines)


def processes_with(path: Path, session: int) -> Iterator[int]:
    """Yield the processes of one trial: those with a tally in their environment, and those of a session.

    vLLM's engine writes its name over its environment, and Ray's daemons leave the session.
    """
    wanted = f"{VARIABLE}={path}".encode()
    for each in Path("/proc").glob("[0-9]*/environ"):
        try:
            pid = int(each.parent.name)
            if os.getsid(pid) == session or wanted in each.read_bytes().split(b"\0"):
                yield pid
        except (OSError, ValueError):
            continue  # it has ended, or is another user's


def _wait(process: subprocess.Popen[bytes], tally: Path, kill_at: int) -> bool:
    """Wait for the end of a peer; return whether it has to be killed, for it has embedded enough or took too long."""
    limit = time.monotonic() + LIMIT_S
    while process.poll() is None:
        if kill_at and read_tally(tally)[1] >= kill_at:
            return True
        if time.monotonic() > limit:
            return False
        time.sleep(POLL_S)
    return False
