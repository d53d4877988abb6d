"""How far a run is, in words that fit a terminal."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

from tqdm import tqdm

from pipeline.console.board import EMBEDDING, LOADING, READING, Progress

UNITS = ("kB", "MB", "GB", "TB")
MOST_FIRST = ("rows", "left", "passed", "rejected", "spent", "rate", "files", "last")  # of what a line has room for


def count(n: int, noun: str) -> str:
    """Return a number with its noun: "1 part", "2,000 parts"."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def clock(seconds: float) -> str:
    """Return a time as on a clock: "00:07", "1:02:03"."""
    return tqdm.format_interval(max(0.0, seconds))


def duration(seconds: float) -> str:
    """Return a time in words: "7.2 s", "3 min 20 s", "2 h 5 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min {left} s"


def size(n_bytes: int) -> str:
    """Return a size in words: "812 bytes", "11.2 MB"."""
    if n_bytes < 1000:
        return count(n_bytes, "byte")
    exponent = min(int(math.log10(n_bytes + 0.5)) // 3, len(UNITS))
    return f"{n_bytes / 1000**exponent:,.1f} {UNITS[exponent - 1]}"


def moment(at: float) -> str:
    """Return a time, in seconds since the epoch, as a date with minutes, in UTC."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at))


def rows_through(progress: Progress) -> int:
    """Return how many rows of the dataset are through the engine, about: those that are safe, at least."""
    return progress.kept_rows + max(progress.rows, int(progress.share * progress.n_rows))


def describe(progress: Progress, width: int = 1_000) -> str:
    """Return a phase and how far it is, in a line that is no wider than asked; what matters least is left out."""
    is_counted = progress.phase == EMBEDDING and progress.n_rows
    head = f"{progress.phase} {progress.share:4.0%}" if is_counted else progress.phase
    facts, line = dict(_facts(progress)), head
    kept: list[str] = []
    for name in MOST_FIRST:
        longer = ", ".join([head, *(fact for each, fact in facts.items() if each in (*kept, name))])
        if name in facts and len(longer) <= width:
            line, kept = longer, [*kept, name]
    return line[:width]


def _facts(progress: Progress) -> Iterator[tuple[str, str]]:
    """Yield what there is to say of a phase, by its name and in the order in which it is said."""
    if progress.n_files > 1:
        yield "files", f"{progress.files:,} of {progress.n_files:,} files"
    if progress.phase == EMBEDDING:
        yield "rows", f"{rows_through(progress):,} of {progress.kept_rows + progress.n_rows:,} rows"
        yield "rate", f"{progress.tokens_per_s:,.0f} tokens/s"
    yield "passed", clock(progress.at - progress.phase_at)
    if progress.phase == LOADING and progress.last_load_s:
        yield "last", f"it took {clock(progress.last_load_s)} the last time"
    if progress.phase == EMBEDDING and progress.left_s is not None:
        yield "left", f"about {clock(progress.left_s)} left"
    if progress.phase == EMBEDDING and progress.rejected:
        yield "rejected", f"{progress.rejected:,} rejected"
    if progress.spent_usd:
        more = progress.usd_per_s * (progress.left_s or 0.0)
        in_all = f" of about ${progress.spent_usd + more:,.2f}" if more else ""
        yield "spent", f"${progress.spent_usd:,.2f}{in_all}"


def describe_end(before: Progress) -> str:
    """Return in words what a phase came to that has just ended; nothing where there is nothing to say."""
    passed = clock(before.at - before.phase_at)
    if before.phase == READING and before.n_rows:
        tokens = f", about {before.n_tokens:,} tokens" if before.n_tokens else ""
        return f"read the input in {passed}: {count(before.n_rows, 'row')} to embed{tokens}"
    if before.phase == LOADING:
        return f"loaded the model in {passed}"
    return ""


def describe_stop(progress: Progress) -> str:
    """Return in words, in lines of their own, how far a run is that is stopped now, and what goes on with it."""
    in_all = progress.kept_rows + progress.n_rows
    safe = f"; {progress.kept_rows + progress.rows:,} of {count(in_all, 'row')} are safe" if progress.n_rows else ""
    again = f"\nrun the same command again to go on from here:\n  {progress.command}" if progress.command else ""
    return f" while {progress.phase}{safe}{again}"
