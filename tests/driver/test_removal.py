"""Rows do not go without a question: how many would, which may, and what a refused run leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.driver.inventory import RunOptions
from pipeline.driver.removal import Removal
from pipeline.errors import RemovalError
from tests.dataset.test_ours import tree
from tests.support import HASHING, embed_corpus, ids, status, texts, write_jsonl, write_parquet
from tests.support.crash import hashing_run
from tests.support.edits import Corpus
from tests.support.many import Call, run_all

UNASKED = RunOptions()
ROWS = texts(100)


def write(path: Path, rows: list[dict[str, str]]) -> None:
    (write_parquet if path.suffix == ".parquet" else write_jsonl)(path, rows)


def without_ids(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{"text": row["text"]} for row in rows]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
@pytest.mark.parametrize(("n_left", "is_refused"), [(90, False), (89, True), (0, True)])
def test_a_tenth_of_the_rows_may_leave_a_file(tmp_path: Path, name: str, n_left: int, is_refused: bool) -> None:
    corpus = Corpus(tmp_path / "in", {name: ROWS, "b.jsonl": []})
    hashing_run(corpus.root, tmp_path / "out")
    before = tree(tmp_path / "out")
    corpus.write(name, ROWS[:n_left])
    if is_refused:
        with pytest.raises(
            RemovalError, match=rf"at most 10% of the rows .* found {100 - n_left} of its 100 rows, of {name}"
        ):
            hashing_run(corpus.root, tmp_path / "out", UNASKED)
        assert tree(tmp_path / "out") == before
        hashing_run(corpus.root, tmp_path / "out", RunOptions(prune=True))
    else:
        hashing_run(corpus.root, tmp_path / "out", UNASKED)
    assert status(tmp_path / "out")["embedded_rows"] == n_left


EDITS: dict[str, Any] = {
    "nothing": lambda rows: rows,
    "every text is another, under its id": lambda rows: [row | {"text": f"new {row['text']}"} for row in rows],
    "every id is another, with its text": lambda rows: [row | {"id": f"new-{row['id']}"} for row in rows],
    "the order is another": lambda rows: rows[::-1],
    "rows come in front": lambda rows: [*texts(50, start=500), *rows],
    "ids are left out": without_ids,
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_rows_that_are_still_there_by_id_or_by_text_do_not_leave(tmp_path: Path, name: str, edit: str) -> None:
    corpus = Corpus(tmp_path / "in", {name: ROWS})
    hashing_run(corpus.root, tmp_path / "out")
    write(tmp_path / "in" / name, EDITS[edit](ROWS))
    hashing_run(corpus.root, tmp_path / "out", UNASKED)


def test_a_file_that_is_renamed_or_cut_in_two_loses_no_row(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path / "in", {"a.jsonl": ROWS})
    hashing_run(corpus.root, tmp_path / "out")
    corpus.rename("a.jsonl", "b.jsonl")
    hashing_run(corpus.root, tmp_path / "out", UNASKED)
    corpus.write("b.jsonl", ROWS[:50])
    corpus.write("c.parquet", ROWS[50:])
    assert hashing_run(corpus.root, tmp_path / "out", UNASKED)["embedded_now"] == 0


def test_another_recipe_or_another_column_is_no_removal_but_a_file_that_is_gone_is(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path / "in", {"a.jsonl": ROWS, "b.jsonl": texts(100, start=100)})
    hashing_run(corpus.root, tmp_path / "out")
    hashing_run(corpus.root, tmp_path / "out", RunOptions(rebuild=True), model__max_tokens=77)
    corpus.delete("b.jsonl")
    for options in (UNASKED, RunOptions(rebuild=True)):
        with pytest.raises(RemovalError, match=r"found 100 of its 200 rows, of b\.jsonl"):
            hashing_run(corpus.root, tmp_path / "out", options, model__max_tokens=66 if options.rebuild else 77)
    hashing_run(corpus.root, tmp_path / "out", RunOptions(keep_missing=True), model__max_tokens=77)
    assert len(ids(tmp_path / "out")) == 200


def test_a_change_that_only_rehash_finds_is_counted(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path / "in", {"a.jsonl": ROWS})
    hashing_run(corpus.root, tmp_path / "out")
    path = corpus.root / "a.jsonl"
    path.write_text(path.read_text().replace("word", "wort").replace("doc-", "dok-"))
    corpus.touch_as_before("a.jsonl")
    assert hashing_run(corpus.root, tmp_path / "out", UNASKED)["kept_rows"] == 100
    with pytest.raises(RemovalError, match="found 100 of its 100 rows"):
        hashing_run(corpus.root, tmp_path / "out", RunOptions(rehash=True))


def test_plan_tells_what_a_run_would_remove_and_the_command_line_asks(tmp_path: Path) -> None:
    for name, rows in {"a": ROWS, "b": texts(40, start=100), "c": texts(60, start=200)}.items():
        write_jsonl(tmp_path / f"in/{name}.jsonl", rows)
    source, output = tmp_path / "in", tmp_path / "out"
    run = ("run", "--input", source, "--output", output, *HASHING)
    assert embed_corpus(*run).returncode == 0
    (source / "b.jsonl").unlink()
    write_jsonl(source / "a.jsonl", ROWS[:95])
    plan = ("plan", *run[1:])
    planned, in_words, refused, allowed, done = run_all(
        [
            Call((*plan, "--json")),
            Call(plan),
            Call(run),
            Call((*run, "--set", "run.max_removed=0.3")),
            Call(run),
        ]
    )
    found = json.loads(planned.stdout)
    assert (found["removed_rows"], found["removed_files"]) == (45, 2)
    assert "removes 45 rows of 2 files" in in_words.stdout
    assert refused.returncode == 7
    assert "found 45 of its 200 rows, of a.jsonl, b.jsonl; nothing was changed" in refused.stderr
    assert "--prune" in refused.stderr
    assert allowed.returncode == 0, allowed.stderr
    assert "removes 45 of its 200 rows, of a.jsonl, b.jsonl" in allowed.stderr
    assert (done.returncode, "removes" in done.stderr) == (0, False)
    assert len(ids(output)) == 155


def test_a_run_that_may_remove_says_what_it_does(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    corpus = Corpus(tmp_path / "in", {"a.jsonl": ROWS})
    hashing_run(corpus.root, tmp_path / "out")
    corpus.write("a.jsonl", ROWS[:40])
    hashing_run(corpus.root, tmp_path / "out", RunOptions(prune=True))
    assert "removes 60 of its 100 rows, of a.jsonl" in capfd.readouterr().err


def test_the_last_row_never_goes_unasked(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path / "in", {"a.jsonl": ROWS})
    hashing_run(corpus.root, tmp_path / "out")
    corpus.write("a.jsonl", [])
    with pytest.raises(RemovalError):
        hashing_run(corpus.root, tmp_path / "out", UNASKED, run__max_removed=1.0)
    hashing_run(corpus.root, tmp_path / "out", RunOptions(prune=True))
    assert status(tmp_path / "out")["embedded_rows"] == 0


def test_a_whole_other_corpus_of_the_same_size_is_asked_about(tmp_path: Path) -> None:
    hashing_run(write_jsonl(tmp_path / "one/a.jsonl", ROWS), tmp_path / "out")
    other = write_jsonl(tmp_path / "two/b.jsonl", texts(100, start=500))
    with pytest.raises(RemovalError, match=r"found 100 of its 100 rows, of a\.jsonl"):
        hashing_run(other, tmp_path / "out", UNASKED)


@settings(max_examples=200)
@given(st.integers(0, 1000), st.integers(0, 1000), st.floats(0, 1), st.booleans())
def test_what_may_go_is_at_most_the_share_and_never_the_last_row(
    rows: int, more: int, max_removed: float, leaves_none: bool
) -> None:
    found = Removal(rows=rows, sources=("a",), of_rows=rows + more, leaves_none=leaves_none, is_exact=True)
    if found.is_within(max_removed):
        assert rows <= max_removed * (rows + more)
        assert not (rows and leaves_none)
    elif not leaves_none:
        assert rows > max_removed * (rows + more)
