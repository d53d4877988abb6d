"""An input and an output are apart: neither is read as, or written into, the other."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path, PurePath

from pipeline.corpus.hub import SCHEME
from pipeline.corpus.inputs import Input, each_of
from pipeline.errors import UsageError

COPIES = {
    "s3": "aws s3 cp --recursive {address} input/",
    "r2": "aws s3 cp --recursive --endpoint-url https://ACCOUNT.r2.cloudflarestorage.com s3://{rest} input/",
    "gs": "gcloud storage cp --recursive {address} input/",
    "az": "azcopy copy {address} input/ --recursive",
    "http": "curl -fLO {address}",
    "https": "curl -fLO {address}",
}
# Where a run writes below its output.
WRITTEN = ("manifest.jsonl", "data/part.parquet", "rejects/part.parquet")


def check_input(input: Input, output: Path) -> None:
    """Raise UsageError for an input that names nothing here or is not apart from an output; reads no file."""
    places = each_of(input)
    for place in places:
        if place.startswith(SCHEME) and len(places) > 1:
            raise UsageError(
                f"--input {place}: expected an address of the hub alone, found {len(places) - 1} more inputs"
            )
        _check_place(place, output)
    if not places:
        raise UsageError("--input: expected a file, a folder or a glob, found nothing")


def _check_place(input: str, output: Path) -> None:
    if not input.strip():
        raise UsageError("--input: expected a file, a folder or a glob, found nothing")
    if input == "-":
        raise UsageError("--input -: expected a file, a folder or a glob; `plan` and `run` alone read standard input")
    if input.startswith(SCHEME):
        return
    if address := re.match(r"([A-Za-z][\w+.-]*)://(.*)", input):
        command = COPIES.get(address[1].lower(), "")
        how = f", as by `{command.format(address=input, rest=address[2])}`" if command else ""
        raise UsageError(
            f"--input {input}: expected files of this machine, found an address; copy them here first{how}"
        )
    path, place = Path(input), Path(os.path.realpath(output))
    n_fixed = next((at for at, part in enumerate(path.parts) if glob.has_magic(part)), len(path.parts))
    fixed = path if path.exists() else Path(*path.parts[:n_fixed])
    folder = Path(os.path.realpath(fixed))
    if folder == place:
        where = "the input itself"
    elif folder.is_relative_to(place):
        where = "the input inside it"
    elif place.is_relative_to(folder) and _reaches(PurePath(*path.relative_to(fixed).parts), place.relative_to(folder)):
        where = "one inside the input"
    else:
        return
    raise UsageError(
        f"output {output}: expected a folder apart from --input {input}, found {where}; choose another --output"
    )


def _reaches(pattern: PurePath, place: PurePath) -> bool:
    """Whether the rest of a glob (nothing: a whole folder) matches what a run writes, both below its fixed part."""
    if not pattern.parts or "**" in pattern.parts:
        return True
    written = [place / name for name in WRITTEN]
    return any(len(path.parts) == len(pattern.parts) and path.match(str(pattern)) for path in written)
