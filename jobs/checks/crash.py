"""Step: what a caller hears of a deployed container that cannot start; CPU only."""

from __future__ import annotations

import time

import modal

from jobs import resources
from jobs.checks.deployed import deployed
from jobs.checks.ledger import Finding, Ledger
from jobs.resources import MINUTES
from pipeline.config import Config
from pipeline.driver import container_usd_per_s

APP = "embedding-preflight-crash"
app = modal.App(APP)
starts = modal.Dict.from_name(APP, create_if_missing=True)
CPUS = 0.125
WAIT_S = 2 * MINUTES
ENOUGH = 4  # starts that show that there is no end
USD_PER_S = container_usd_per_s("", n_cpus=CPUS, memory_gib=0.125)


@app.cls(image=resources.driver_image, cpu=CPUS, max_containers=1, startup_timeout=1 * MINUTES, timeout=1 * MINUTES)
class NeverStarts:
    """A class whose containers fail to start."""

    @modal.enter()
    def start(self) -> None:
        """Count the start, and fail."""
        starts.put(f"{time.time()}", 1)
        raise RuntimeError("this start fails, as a preflight wants it to")

    @modal.method()
    def answer(self) -> None:
        """Return nothing; never called."""


def crash_usd(config: Config) -> float:
    """Return what the step is expected to cost."""
    return USD_PER_S * WAIT_S


def check_crash(ledger: Ledger) -> Finding:
    """Deploy a class that cannot start, call it, and count its starts; the app is stopped after."""
    starts.clear()
    with deployed(app, APP), ledger.renting(usd_per_s=USD_PER_S, expected_s=WAIT_S):
        began = time.monotonic()
        call = NeverStarts().answer.spawn()
        heard = ""
        while not heard and time.monotonic() - began < WAIT_S and starts.len() < ENOUGH:
            try:
                call.get(timeout=1.0)
            except TimeoutError:
                continue
            except Exception as error:  # noqa: BLE001  whatever comes is what is to be found out
                heard = f"{type(error).__name__}: {error}"
        waited_s = time.monotonic() - began
        call.cancel()
    found = {"n_starts": starts.len(), "heard": heard, "s": round(waited_s, 1)}
    end = f"its caller hears after {waited_s:.0f} s: {heard}" if heard else "its caller hears nothing of it"
    means = [
        f"a container that cannot start was started {found['n_starts']} times in {waited_s:.0f} s; {end}",
        "no class of the service raises while it starts: it tells its callers why it has no engine, and ends",
    ]
    return Finding(found=found, means=means)
