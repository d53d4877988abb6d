"""What became of a run, and what a dataset holds, in words: short lines for one who reads them in a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from pipeline.console import Progress, clock, count, describe, duration, moment, rows_through, size

WIDTH = 80  # columns
LEAST_S = 1.0  # of an engine: how busy less was tells nothing
REVISION_SHOWN = 20  # characters: "sha256:" and what tells it from others
DID = {
    "embedded_now": ("embedded {}", "text"),
    "kept_rows": ("kept {}", "row"),
    "reused_rows": ("reused {}", "row"),
    "removed_rows": ("removed {}", "row"),
}
ENDED = {
    "incomplete": "some chunks did not finish; run the same command again",
    "started": "its run was stopped in the middle; run the same command again",
}


def describe_run(
    run: Mapping[str, Any], output: str, *, next_steps: Sequence[str] = (), rented: bool = False
) -> list[str]:
    """Return in words how a run ended, from its record and the sums over the dataset, and what to type next.

    On rented machines they tell the price instead of the engine's share of the time.
    """
    named = (name for name in DID if run[name] or name == "embedded_now")
    done = (words.format(count(run[name], noun)) for name in named for words, noun in [DID[name]])
    end = f" for ${run['cost_usd']:,.2f}" if rented else _busy(run)
    lines = [
        f"{run['state']}: {_rows(run)}",
        *([f"rejects: {why}"] if (why := _why(run)) else []),
        f"{count(run['tokens'], 'token')} in {count(run['passages'], 'passage')}{_cut(run)}",
        f"this run {', '.join(done)} in {duration(run['wall_s'])}{end}",
        *_as_expected(run),
        f"{output}: {count(run['parts'], 'part')}, {size(run['size_bytes'])}",
    ]
    return _wrapped(lines) + [f"next: {step}" for step in next_steps]


def describe_plan(plan: Mapping[str, Any]) -> list[str]:
    """Return in words what a run would take, from the object of `plan --json`."""
    is_counted = plan["tokens_low"] == plan["tokens_high"] and not plan["reused_rows"]
    about, interval = (
        ("", "counted") if is_counted else ("about ", f"{plan['tokens_low']:,} to {plan['tokens_high']:,}, 95 %")
    )
    lines = [
        f"{count(plan['input_rows'], 'row')} to make, {about}{count(plan['tokens'], 'token')} to embed ({interval})",
        *(f"estimated from the beginning of {source} alone" for source in plan["read_in_part"]),
        *(
            [
                f"{about}{_cut(plan, 'truncated_rows')[2:]}, which loses {plan['lost_tokens']:,} tokens "
                "(--set corpus.on_long=split embeds all)"
            ]
            if plan["truncated_rows"]
            else []
        ),
        f"{count(plan['chunks'], 'chunk')} to make; the dataset becomes {count(plan['parts'], 'part')}, about "
        f"{size(plan['output_bytes'])}",
        *([f"keeps {count(plan['kept_rows'], 'row')}"] if plan["kept_rows"] else []),
        *(
            [f"takes the vectors of {count(plan['reused_rows'], 'row')} from other parts"]
            if plan["reused_rows"]
            else []
        ),
        *(
            [f"removes {count(plan['removed_rows'], 'row')} of {count(plan['removed_files'], 'file')}"]
            if plan["removed_rows"]
            else []
        ),
    ]
    return _wrapped([*lines, *_takes(plan)])


def _takes(plan: Mapping[str, Any]) -> Iterator[str]:
    """Yield the time and the price of a plan, and what they go by."""
    if plan["rate_source"] is None or not plan["tokens"]:
        return
    speed = f"{plan['rate_tokens_per_s']:,.0f} tokens/s ({plan['rate_source']})"
    yield f"{_price(plan, plan['gpu'] or 'this machine')}, at {speed}"
    if plan["alternatives"]:
        yield "or " + ", or ".join(_price(each, each["gpu"]) for each in plan["alternatives"])


def _price(takes: Mapping[str, Any], where: str) -> str:
    usd = f", ${takes['cost_usd']:,.2f} in all" if takes["cost_usd"] else ""
    return f"about {duration(3600 * takes['engine_hours'])} of the engine on {where}{usd}"


def _as_expected(run: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the engine did beside what it was estimated to do."""
    if not run["estimated_tokens"] or run["engine_s"] < LEAST_S:
        return
    expected_s = f" in {duration(run['estimated_engine_s'])}" if run["estimated_engine_s"] else ""
    took = f"{count(run['engine_tokens'], 'token')} in {duration(run['engine_s'])}"
    yield f"engine: {took}; estimated {run['estimated_tokens']:,}{expected_s}"


def _wrapped(lines: Iterable[str]) -> list[str]:
    """Return lines that are no wider than a terminal mostly is, as far as their words allow it."""
    fill = partial(textwrap.wrap, width=WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return [short for line in lines for short in fill(line)]


def describe_status(found: Mapping[str, Any], run: Mapping[str, Any], seen: Progress | None) -> list[str]:
    """Return in words what a dataset holds and what its run is at, or came to.

    `found` is the object of `status --json`, `run` has the record of the last run, and `seen` is how far it was when it
    was last heard of.
    """
    lines = [f"{found['path']}: {_state(found, run, seen)}", *_going_on(found, seen)]
    facts = {
        "rows": _rows(found) + (f", of {found['planned_rows']:,}" if found["state"] != "complete" else ""),
        "rejected": _why(found),
        "passages": f"{found['passages']:,}{_cut(found)}",
        "tokens": f"{found['tokens']:,}",
        "parts": f"{found['parts']:,}, {size(found['size_bytes'])}",
        "model": f"{found['model']}, {found['dim']} components",
        "revision": (found["revision"] or "")[:REVISION_SHOWN],
        "input": run.get("input"),
        "began": moment(run["started_at"]) if run.get("started_at") else None,
        "last run": _last_run(run) if run.get("state") in ("complete", "incomplete") else None,
        "engine": next(_as_expected(run), "").removeprefix("engine: ") if run.get("engine_tokens") else None,
        "left out": ", ".join(found["skipped_files"]),
        "equal ids": f"{found['duplicate_ids']:,}" if found["duplicate_ids"] else None,
    }
    return lines + _wrapped(f"  {name:<10}{value}" for name, value in facts.items() if value)


def _state(found: Mapping[str, Any], run: Mapping[str, Any], seen: Progress | None) -> str:
    if found["state"] == "running":
        return f"running for {clock(seen.at - seen.began_at)}" if seen else "running"
    if found["state"] == "complete":
        return "complete"
    return f"incomplete: {ENDED.get(run.get('state', ''), ENDED['started'])}"


def _going_on(found: Mapping[str, Any], seen: Progress | None) -> Iterator[str]:
    """Yield what a run is at, or was at when it was stopped, and what to type to go on."""
    if seen is None or found["state"] == "complete":
        return
    if found["state"] == "running":
        yield f"  {describe(seen)}"
        return
    rows = f", {rows_through(seen):,} of {seen.kept_rows + seen.n_rows:,} rows" if seen.n_rows else ""
    yield f"  stopped   {moment(seen.at)}, {seen.phase}{rows}"
    if seen.command:
        yield f"  go on     {seen.command}"


def _last_run(run: Mapping[str, Any]) -> str:
    did = f"embedded {count(run['embedded_now'], 'text')} in {duration(run['wall_s'])}"
    return f"{did}{_busy(run)}" + (f", ${run['cost_usd']:,.2f}" if run["cost_usd"] else "")


def _busy(run: Mapping[str, Any]) -> str:
    is_told = run["engine_busy"] is not None and run["engine_s"] >= LEAST_S
    return f", engine busy {run['engine_busy']:.1%}" if is_told else ""


def _rows(sums: Mapping[str, Any]) -> str:
    return f"{count(sums['input_rows'], 'row')}, {sums['embedded_rows']:,} embedded, {sums['rejected_rows']:,} rejected"


def _why(sums: Mapping[str, Any]) -> str:
    return ", ".join(f"{n:,} {reason}" for reason, n in sums["rejected_by_reason"].items())


def _cut(sums: Mapping[str, Any], name: str = "truncated") -> str:
    """Return the share of passages that were cut; one that is not zero never reads as zero."""
    if not sums[name]:
        return ""
    share = sums[name] / sums["passages"]
    n_lost = sums.get("lost_tokens", 0) if name == "truncated" else 0
    lost = f", which loses {count(n_lost, 'token')}" if n_lost else ""
    return f", {'under 0.1%' if share < 0.0005 else f'{share:.1%}'} truncated{lost}"
