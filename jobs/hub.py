"""Data sets of the Hugging Face hub: a function without a GPU puts their files onto the corpus volume first."""

from typing import Any

import modal

from jobs import resources
from jobs.resources import HOURS
from pipeline.corpus import find_files, pinned
from pipeline.errors import CorpusError, PipelineError

app = modal.App("embedding-hub")  # is part of the apps that embed


@app.function(
    image=resources.download_image,
    secrets=resources.hub_token,
    volumes={str(resources.CORPUS): resources.corpus},
    timeout=24 * HOURS,
    retries=modal.Retries(max_retries=3, initial_delay=1.0),
    max_containers=1,
    cpu=resources.DRIVER_CPUS,
    scaledown_window=resources.DRIVER_IDLE_S,
)
def fetch(address: str) -> dict[str, Any]:
    """Put what an address names onto the volume, but for files that are there; return it with its commit, or why not.

    What was fetched before it dies is there for the next try: a volume commits in the background.
    """
    resources.corpus.reload()
    try:
        address = str(pinned(address))
        find_files(address)
    except PipelineError as error:
        return {"error": str(error)}
    resources.corpus.commit()
    return {"address": address}


def fetched(address: str) -> str:
    """Return an address with its commit, whose files are on the volume now; raises CorpusError."""
    found = fetch.remote(address)
    if "error" in found:
        raise CorpusError(found["error"])
    return str(found["address"])
