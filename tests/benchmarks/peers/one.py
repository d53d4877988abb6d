"""One peer in this process, in its own environment.

python -m tests.benchmarks.peers.one MODULE INPUT OUTPUT MODEL DTYPE [VARIANT]
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

if __name__ == "__main__":
    module, source, output, model, dtype, *variant = sys.argv[1:]
    import_module(f"tests.benchmarks.peers.{module}").embed(Path(source), Path(output), model, dtype, *variant)
