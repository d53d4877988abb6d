"""The edge: the same pipeline on Modal."""

import importlib.util

from pipeline.shipped import how_to_install

if importlib.util.find_spec("modal") is None:
    raise ModuleNotFoundError(f"jobs: expected the package modal, found none; {how_to_install('modal')}", name="modal")
