"""`python -m tests.modal_loopback --root DIR`: serve until Ctrl-C, for trying `modal run` by hand."""

import argparse
import shlex
import threading
from pathlib import Path

from . import Loopback


def main() -> None:
    parser = argparse.ArgumentParser(prog="modal_loopback", description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="folder for the plane's files")
    root = parser.parse_args().root.resolve()
    root.mkdir(parents=True, exist_ok=True)
    with Loopback(root) as plane:
        for name, value in plane.variables.items():
            print(f"export {name}={shlex.quote(value)}", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("# stopped")


if __name__ == "__main__":
    main()
