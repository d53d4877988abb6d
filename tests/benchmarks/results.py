"""Results: the figures of one benchmark with their goals, as one JSON file of build/bench."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tests.benchmarks.conditions import machine
from tests.support import REPOSITORY

FOLDER = REPOSITORY / "build/bench"


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table: a value with its range over the turns, and the goal it has to stay below."""

    case: str
    value: float
    unit: str = "x"
    least: float | None = None
    most: float | None = None
    goal: float | None = None  # at most this
    detail: str = ""  # what the value is made of, in words

    @property
    def verdict(self) -> str:
        """Whether the goal is met, or by how much it is missed; "" without a goal."""
        if self.goal is None:
            return ""
        if self.value <= self.goal:
            return "met"
        return f"missed by {self.value - self.goal:.3f} {self.unit}".rstrip()


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a benchmark found, and all that it depends on."""

    benchmark: str
    what: str  # is measured, in sentences
    machine: dict[str, Any]
    corpora: dict[str, dict[str, Any]]
    figures: tuple[Figure, ...]
    runs: dict[str, Any]  # every single run
    notes: tuple[str, ...] = ()  # lines below the table
    problems: tuple[str, ...] = ()  # why the figures compare different things; none where all is consistent


def ratio_figure(case: str, found: Mapping[str, float], *, goal: float | None, names: tuple[str, str]) -> Figure:
    """Return the line of two programs that were compared by `ratios`, whose values are seconds."""
    ours, theirs = names
    return Figure(
        case=case,
        value=round(found["median_of_ratios"], 3),
        least=round(found["least"], 3),
        most=round(found["most"], 3),
        goal=goal,
        detail=f"{ours} {found['ours']:.2f} s, {theirs} {found['theirs']:.2f} s, "
        f"ratio of medians {found['ratio_of_medians']:.3f}",
    )


def arguments_of(about: str, *, turns: int) -> ArgumentParser:
    """Return a parser with what every benchmark takes."""
    parser = ArgumentParser(description=about)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of the results")
    parser.add_argument("--turns", type=int, default=turns, help="runs of each program")
    return parser


def finish(  # noqa: PLR0913  the fields of a result
    folder: Path,
    benchmark: str,
    what: str,
    figures: Sequence[Figure],
    *,
    corpora: Mapping[str, dict[str, Any]],
    runs: Mapping[str, Any],
    notes: Sequence[str] = (),
    problems: Sequence[str] = (),
) -> int:
    """Write and print a result; return the exit code: 0, or 1 for one that is not consistent."""
    from tests.benchmarks.table import section

    result = Result(
        benchmark=benchmark,
        what=what,
        machine=machine(),
        corpora=dict(corpora),
        figures=tuple(figures),
        runs=dict(runs),
        notes=tuple(notes),
        problems=tuple(problems),
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{benchmark}.json").write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2))
    print(section(result))
    return 1 if problems else 0
