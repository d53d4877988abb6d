"""Tell what an output on Modal holds, and how far its run is; rents nothing.

modal run jobs/status.py --output wiki --watch
"""

import json as json_format
import sys
import time

import modal
import msgspec

from jobs import resources
from jobs.request import check_relative
from jobs.volume import ModalVolume
from jobs.watch import ASK_EVERY_S, watching
from pipeline.console import in_one_line
from pipeline.dataset import Manifest, Store, describe_status, fold, status
from pipeline.errors import PipelineError, UsageError

app = modal.App("embedding-status")


@app.local_entrypoint()
def main(output: str, watch: bool = False, json: bool = False) -> None:
    """Tell what OUTPUT on the volume embedding-output holds; with --watch as long as a run is at work on it."""
    try:
        name = check_relative("--output", output)
        store = Store(root=resources.OUTPUT / name, volume=ModalVolume())
        if watch and store.is_locked():
            with watching(name) as view:
                while store.is_locked():
                    view.ask()
                    time.sleep(ASK_EVERY_S)
        manifest = _manifest(name)
    except PipelineError as error:
        print("embed-corpus:", in_one_line(str(error)), file=sys.stderr)
        sys.exit(error.exit_code)
    found = status(store, manifest) | {"path": name}
    run = msgspec.to_builtins(manifest.run) if manifest.run else {}
    words = describe_status(found, run, store.volume.shown(store.root))
    print(json_format.dumps(found) if json else "\n".join(map(in_one_line, words)))


def _manifest(output: str) -> Manifest:
    """Return the manifest of an output as it was committed last; raises UsageError where there is none."""
    try:
        data = b"".join(resources.output.read_file(f"{output}/manifest.jsonl"))
    except (FileNotFoundError, modal.exception.NotFoundError) as error:
        raise UsageError(
            f"--output {output}: expected a dataset on the volume {resources.OUTPUT_VOLUME}, found no manifest of one; "
            f"`modal volume ls {resources.OUTPUT_VOLUME}` lists what there is"
        ) from error
    return fold(data.splitlines(keepends=True))
