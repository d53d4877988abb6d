"""What a person sees of a run in a terminal: phases in order, a clock that ticks, a bar that moves by batch."""

from __future__ import annotations

import io
import re
import shlex
import signal
from itertools import pairwise
from pathlib import Path

import pytest

from pipeline.console import Progress, Screen
from tests.support import HASHING, command, embed_corpus, status, texts, write_jsonl
from tests.support.sabotage import FakedCommand
from tests.support.terminal import Terminal

PHASES = ("reading the input", "loading the model", "embedding", "publishing", "checking")
ROWS = texts(400)
BATCHES = ("--set", "engine.batch_passages=20")
# Loading takes three canaries, and a chunk of 400 rows takes 20 batches.
SLOW = "time.sleep(1.1 if len(token_ids) == 1 else 0.15)"
CHUNKS = ("--set", "run.chunk_tokens=600")  # about 100 rows


@pytest.fixture
def faked(tmp_path: Path) -> FakedCommand:
    """Return the command line with an engine that takes its time."""
    write_jsonl(tmp_path / "in.jsonl", ROWS)
    return FakedCommand(tmp_path / "faked", SLOW)


def run(faked: FakedCommand, columns: int, *more: str) -> Terminal:
    given = ("run", "--input", "in.jsonl", "--output", "out", *HASHING, *BATCHES, *more)
    return Terminal(faked.command(*given), columns, faked.log.parent.parent)


def live(terminal: Terminal, phase: str) -> list[str]:
    """Return the lines of a phase that were alive at the bottom, each once, in order."""
    found = [picture[-1].partition("| ")[2] or picture[-1] for picture in terminal.pictures]
    return list(dict.fromkeys(line for line in found if line.startswith(phase)))


def clocks(lines: list[str]) -> list[int]:
    found = [re.search(r"(?<!about )\b(\d+):(\d\d)\b", line) for line in lines]
    return [60 * int(each[1]) + int(each[2]) for each in found if each]


@pytest.mark.parametrize("columns", [80, 200])
def test_a_run_shows_its_phases_in_order_and_no_second_is_frozen(faked: FakedCommand, columns: int) -> None:
    seen = run(faked, columns)
    assert seen.end() == 0
    first = {phase: next(at for at, each in enumerate(seen.pictures) if phase in each[-1]) for phase in PHASES}
    assert sorted(first, key=lambda phase: first[phase]) == list(PHASES)
    for phase in PHASES[1:3]:
        ticks = clocks(live(seen, phase))
        assert len(ticks) > 2, live(seen, phase)
        assert all(0 <= later - earlier <= 2 for earlier, later in pairwise(ticks)), ticks
    shares = [int(found[1]) for line in live(seen, "embedding") if (found := re.search(r"(\d+)%", line))]
    assert shares == sorted(shares)
    assert len(set(shares)) > 2, shares  # of one chunk
    printed = seen.pictures[-1]
    assert not [line for each in seen.pictures for line in each if len(line) >= columns]
    assert [line for line in printed if line.startswith(("read the input in", "loaded the model in"))] == list(
        printed[:2]
    )
    assert printed[2] == "complete: 400 rows, 400 embedded, 0 rejected"
    assert printed[-1].startswith("next: embed-corpus verify ")


def test_a_watcher_beside_a_run_sees_what_it_sees(faked: FakedCommand, tmp_path: Path) -> None:
    seen = run(faked, 80)
    seen.watch(lambda picture: "loading" in picture[-1])
    watcher = Terminal(command("status", "out", "--watch"), 80, tmp_path)
    assert seen.end() == 0
    assert watcher.end() == 0
    shown = [
        [int(at) for at in re.findall(r"(\d+) of 400 rows", "\n".join(live(each, "embedding")))]
        for each in (watcher, seen)
    ]
    assert all(rows == sorted(rows) and len(set(rows)) > 1 for rows in shown)
    assert all(at % 20 == 0 for rows in shown for at in rows)  # batches, as the run has them, in both
    assert "out: complete" in watcher.pictures[-1]


def test_a_run_that_was_killed_says_so_and_goes_on_from_where_it_was(faked: FakedCommand, tmp_path: Path) -> None:
    seen = run(faked, 80, *CHUNKS)
    seen.watch(lambda picture: bool(re.search(r"[2-9]\d\d of 400 rows", picture[-1])))
    seen.kill()
    found, words = status(tmp_path / "out"), embed_corpus("status", tmp_path / "out").stdout
    assert (found["state"], found["planned_rows"]) == ("incomplete", 400)
    assert 0 < found["input_rows"] < 400
    assert "incomplete: its run was stopped in the middle; run the same command again\n" in words
    assert re.search(r"stopped   .* UTC, embedding, \d+ of 400 rows\n", words)
    again = re.search(r"go on     (.*)\n", words)
    assert again
    arguments = shlex.split(again[1])[1:]
    assert arguments[:2] == ["run", "--input"]
    resumed = Terminal(faked.command(*arguments), 80, tmp_path)
    first = resumed.watch(lambda picture: "embedding" in picture[-1])[-1]
    assert int(re.search(r"(\d+) of 400 rows", first)[1]) >= found["input_rows"]  # type: ignore[index]
    assert resumed.end() == 0
    assert not (tmp_path / "out/.progress").exists()


def test_ctrl_c_says_what_is_safe_and_what_to_type(faked: FakedCommand, tmp_path: Path) -> None:
    seen = run(faked, 80, *CHUNKS)
    seen.watch(lambda picture: bool(re.search(r"[2-9]\d\d of 400 rows", picture[-1])))
    assert seen.end(signal.SIGINT) == 130
    said = "\n".join(seen.pictures[-1])
    safe = re.search(r"embed-corpus: stopped by Ctrl-C while embedding; (\d+) of 400 rows are safe\n", said)
    assert safe, said
    assert int(safe[1]) <= status(tmp_path / "out")["input_rows"]
    assert "run the same command again to go on from here:\n" in said
    assert " run --input " in said.replace("\n", "")


def test_without_a_terminal_a_run_that_is_soon_over_says_nothing_and_an_error_is_one_line(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", [{"text": row["text"]} for row in ROWS])
    assert embed_corpus("run", "--input", source, "--output", tmp_path / "out", *HASHING).stderr == ""
    wrong = embed_corpus("run", "--input", tmp_path / "nowhere", "--output", tmp_path / "out", *HASHING)
    assert wrong.returncode == 2
    assert wrong.stderr.count("\n") == 1


def test_without_a_terminal_there_is_a_line_from_time_to_time() -> None:
    written = io.StringIO()
    shown = Screen(written)
    moments = [Progress(phase="reading the input", began_at=1.0, phase_at=1.0, at=at) for at in (1.0, 5.0, 11.0, 12.0)]
    moments += [
        Progress(phase="embedding", began_at=1.0, phase_at=13.0, n_rows=10, rows=5, share=0.5, tokens_per_s=9, at=at)
        for at in (14.0, 21.0, 22.0)
    ]
    for moment in moments:
        shown.show(moment)
    assert written.getvalue().splitlines() == [
        "reading the input, 00:10",
        "embedding  50%, 5 of 10 rows, 9 tokens/s, 00:08",
    ]


def test_a_notice_leaves_the_line_that_is_alive_whole(tmp_path: Path) -> None:
    source = write_jsonl(
        tmp_path / "in.jsonl", [{**row, "kind": "x", "a column with a long name" * 3: 1} for row in ROWS]
    )
    seen = Terminal(command("run", "--input", source, "--output", tmp_path / "out", *HASHING), 80, tmp_path)
    assert seen.end() == 0
    said = [line for line in seen.pictures[-1] if "columns left out" in line]
    assert len(said) == 1
    assert said[0].startswith("embed-corpus: columns left out")
