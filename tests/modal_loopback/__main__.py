"""`python -m tests.modal_loopback --root DIR`: serve until Ctrl-C, for trying `modal run` by hand."""

import argparse
import shlex
import sys
import threading
from contextlib import suppress
from pathlib import Path

from . import Loopback

parser = argparse.ArgumentParser(prog="modal_loopback", description=__doc__)
parser.add_argument("--root", type=Path, required=True, help="folder for the plane's files")
root = parser.parse_args().root.resolve()
root.mkdir(parents=True, exist_ok=True)
with Loopback(root) as plane, suppress(KeyboardInterrupt):
    sys.stdout.writelines(f"export {name}={shlex.quote(value)}\n" for name, value in plane.variables.items())
    sys.stdout.flush()
    threading.Event().wait()
