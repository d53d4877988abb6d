"""vLLM's own HTTP server, in processes that do not outlive the one that started them.

vLLM starts its engine process by running this module once more, so the code at the top runs in both.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable

PR_SET_PDEATHSIG = 1  # linux/prctl.h

ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    """Serve as the arguments of the process say; they are those of `vllm serve`."""
    from vllm.entrypoints.launchers.api_server import entry
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        # As many threads as in a batch: vLLM would keep a core for the requests, which need but a part of one.
        os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    serve: Callable[[], None] = entry.main
    serve()


if __name__ == "__main__":
    main()
