"""Table: the results of a folder as Markdown, put between two lines of a page.

python -m tests.benchmarks.table build/bench docs/benchmarks.md
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tests.benchmarks.results import Figure, Result

BEGIN, END = "<!-- make bench: begin -->", "<!-- make bench: end -->"
HEAD = "| case | value | range | goal | |"
RULE = "| --- | --- | --- | --- | --- |"


def read_results(folder: Path) -> list[Result]:
    """Return the results of a folder, in the order of their names; raises msgspec.ValidationError for what is none."""
    return [msgspec.json.decode(path.read_bytes(), type=Result) for path in sorted(folder.glob("*.json"))]


def section(result: Result) -> str:
    """Return a result as a heading, what was measured, its conditions and a table."""
    lines = [f"### {result.benchmark}", "", result.what, "", conditions(result), "", HEAD, RULE]
    lines += map(_line, result.figures)
    lines += [f"\n{note}" for note in result.notes]
    lines += [f"\n**Not consistent**: {problem}" for problem in result.problems]
    return "\n".join(lines) + "\n"


def conditions(result: Result) -> str:
    """Return the machine and the corpora of a result in one paragraph."""
    of, versions = result.machine, result.machine["versions"]
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    texts = "; ".join(f"{name}: {_corpus(found)}" for name, found in result.corpora.items())
    return (
        f"{of['cpu']} ({', '.join(of['flags']) or 'none of the flags that matter'}), {of['cores']} cores, "
        f"{of['memory_gb']} GB, load {of['load_before']} before; {named}; commit {of['commit']}; {of['date']}. "
        f"{texts}."
    )


def _corpus(found: dict[str, object]) -> str:
    """Return a corpus in words: numbers as such, and quantiles behind their names."""
    words = []
    for name, value in found.items():
        if isinstance(value, dict):
            words.append(f"{name.replace('_', ' ')} {' / '.join(f'{key} {each:,}' for key, each in value.items())}")
        else:
            words.append(f"{value:,} {name}" if isinstance(value, int) else f"{name} {value}")
    return ", ".join(words)


def _line(figure: Figure) -> str:
    spread = f"{figure.least:g} to {figure.most:g}" if figure.least is not None and figure.most is not None else ""
    goal = f"≤ {figure.goal:g}: {figure.verdict}" if figure.goal is not None else ""
    return f"| {figure.case} | {figure.value:g} {figure.unit} | {spread} | {goal} | {figure.detail} |"


def missed(results: Sequence[Result]) -> list[str]:
    """Return a line for each goal that is missed."""
    return [
        f"{result.benchmark}, {figure.case}: {figure.value:g} {figure.unit}, {figure.verdict}"
        for result in results
        for figure in result.figures
        if figure.verdict.startswith("missed")
    ]


def put_between(page: str, text: str) -> str:
    """Return a page with a text between the two lines BEGIN and END; raises ValueError where it lacks them."""
    if not re.search(f"^{BEGIN}$.*^{END}$", page, re.MULTILINE | re.DOTALL):
        raise ValueError(f"expected a line {BEGIN} and below it a line {END}, found none")
    head, _, rest = page.partition(BEGIN)
    return f"{head}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}"


def main(arguments: Sequence[str]) -> int:
    """Put the table of a folder into a page, and print the goals that were missed."""
    folder, page = map(Path, arguments)
    results = read_results(folder)
    page.write_text(put_between(page.read_text(), "\n".join(map(section, results))))
    print(*missed(results), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
