"""Make: a report's facts gathered from the files of a dataset, in memory and time that do not grow with it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.console import duration, size
from pipeline.dataset import Manifest, Receipt, Run, Store, maker, report_path, status
from pipeline.errors import UsageError
from pipeline.files import publish_file
from pipeline.tools.passages import Passages, passages_of
from pipeline.tools.quality import quality_of
from pipeline.tools.report import plots, times
from pipeline.tools.report.contents import Contents, contents
from pipeline.tools.report.page import as_code, render
from pipeline.tools.report.rejected import samples
from pipeline.tools.report.sample import Sample, draw

MAX_SHARDS = 25  # that have a line
QUERIES = 500  # of the measure of quality


def report(store: Store, manifest: Manifest) -> Path:
    """Write `report.html` into a dataset and return its path; an earlier report there is replaced.

    Raises UsageError where the file there is not ours, where nothing is embedded and where Bokeh is missing, and
    DamageError for a file that cannot be read.
    """
    path = report_path(store)
    if find_spec("bokeh") is None:
        raise UsageError(
            "report: expected the library bokeh, found none; install the extra: pip install 'embed-corpus[report]'"
        )
    passages = passages_of(store, manifest)
    receipts = list(manifest.receipts.values())
    held, sample = contents(passages, receipts), draw(passages)
    facts = _sums(store, manifest) | _shards(held) | _quality(sample) | _provenance(passages, receipts)
    figures = {"lengths": plots.of_lengths(held.lengths, facts["max_tokens"])}
    figures["map"], facts["legend"], variance = plots.of_map(sample)
    if manifest.run is not None:
        course = times.chunks(store, manifest.run, receipts)
        facts["course"] = course
        figures |= {"chunks": plots.of_chunks(course)} if len(course) else {}
    facts |= {
        "has_line": plots.has_line(held.lengths, facts["max_tokens"]),
        "rejected": samples(store, receipts),
        "contents": held,
        "sample": sample,
        "map_share": float(variance.sum()),
        "made_at": time.time(),
    }
    publish_file(path, pa.py_buffer(render(facts, figures)))
    return path


def _sums(store: Store, manifest: Manifest) -> dict[str, Any]:
    """Return what the manifest says of the dataset and of its last run."""
    sums, run = status(store, manifest), manifest.run
    spent = times.phases(run, manifest.receipts.values()) if run else []
    tiles = [
        ("rows", f"{sums['input_rows']:,}"),
        ("passages", f"{sums['passages']:,}"),
        ("tokens", f"{sums['tokens']:,}"),
        ("components", f"{sums['dim']:,}"),
        ("parts", f"{sums['parts']:,}"),
        ("on disk", size(sums["size_bytes"])),
        ("rejected rows", f"{sums['rejected_rows']:,}"),
        ("truncated", _share(sums["truncated"], sums["passages"])),
    ]
    return {
        "name": store.root.resolve().name,
        "sums": sums,
        "run": run,
        "tiles": tiles,
        "phases": spent,
        "phases_s": max(1e-9, sum(phase.seconds for phase in spent)),
        "truncated_share": _share(sums["truncated"], sums["passages"]),
        "usd_per_million": 1e6 * run.cost_usd / run.engine_tokens if run and run.engine_tokens else 0.0,
        "estimates": _estimates(run) if run and run.engine_calls else [],
    }


def _share(n: int, of: int) -> str:
    """Return a share in words; one that is not zero never reads as zero."""
    if not n or not of:
        return "none"
    return "under 0.1 %" if n / of < 0.0005 else f"{100 * n / of:.1f} %"


def _estimates(run: Run) -> list[tuple[str, str, str, str]]:
    """Return what the plan of a run expected of the engine and what it came to, in words, where both are known."""
    pairs = [
        ("tokens of the engine", run.estimated_tokens, run.engine_tokens, "{:,}".format),
        ("time of the engine", run.estimated_engine_s, run.engine_s, duration),
    ]
    return [
        (name, words(expected), words(found), f"{100 * (found / expected - 1):+.1f} %")
        for name, expected, found, words in pairs
        if expected and found
    ]


def _shards(held: Contents) -> dict[str, Any]:
    """Return the shards with most tokens, and the sums over the others."""
    shards = held.shards
    by_size = sorted(shards.rows, key=lambda source: (-shards.tokens[source], source))
    most = max(1, *shards.tokens.values())

    def line(source: str) -> dict[str, Any]:
        tokens = shards.tokens[source]
        return {
            "source": source,
            "rows": shards.rows[source],
            "tokens": tokens,
            "rejected": shards.rejected[source],
            "share": tokens / most,
        }

    others = by_size[MAX_SHARDS:]
    sums = {name: sum(getattr(shards, name)[each] for each in others) for name in ("rows", "tokens", "rejected")}
    rest = {"n": len(others), **sums, "share": min(1.0, sums["tokens"] / most)} if others else None
    return {"n_shards": len(by_size), "shards": list(map(line, by_size[:MAX_SHARDS])), "rest": rest}


def _quality(sample: Sample) -> dict[str, Any]:
    return {"quality": quality_of(sample, QUERIES) if len(sample) > 1 else None}


def _provenance(passages: Passages, receipts: Sequence[Receipt]) -> dict[str, Any]:
    """Return what made the vectors, as pairs of words and values."""
    dataset = passages.dataset
    versions, gpus = ({getattr(each, name) for each in receipts} - {""} for name in ("versions", "gpu"))
    found = {
        "model": dataset.recipe.get("model.name"),
        "revision": dataset.recipe.get("model.revision"),
        "engine": dataset.recipe.get("engine.kind"),
        "versions": "; ".join(sorted(versions)),
        "GPU": ", ".join(sorted(gpus)),
        "fingerprint": dataset.fingerprint,
        "format version": dataset.format_version,
    }
    limit = dataset.recipe.get("model.max_tokens")
    config = {
        f"{table}.{key}": value
        for table, values in dataset.config.items()
        if isinstance(values, Mapping)
        for key, value in values.items()
    }
    return {
        "maker": maker(dataset.recipe),
        "max_tokens": limit if isinstance(limit, int) and 0 < limit < 2**31 else 0,
        "provenance": [(key, str(value)) for key, value in found.items() if value],
        "tables": [(title, _coded(table)) for title, table in (("Recipe", dataset.recipe), ("Config", config))],
    }


def _coded(table: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(key, as_code(value)) for key, value in table.items()]
