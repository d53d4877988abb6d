"""The report: true figures, one file that asks for nothing, and nothing of a dataset that is more than words in it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.console import in_one_line
from pipeline.dataset import Run, Store
from pipeline.tools import report
from pipeline.tools.passages import Passages, passages_of
from pipeline.tools.report import contents as contents_module
from pipeline.tools.report import sample as sample_module
from pipeline.tools.report.contents import Contents, contents
from pipeline.tools.report.sample import Sample, draw, flattened
from pipeline.tools.report.times import chunks, phases
from pipeline.vectors import to_numpy
from tests.support import HASHING, embed_corpus, read_dataset, status, texts, write_jsonl, write_parquet
from tests.support.odd import ODD_WORDS
from tests.support.vectors import write_dataset


class Elements(HTMLParser):
    """The elements of a page, the texts of its scripts, and what it shows."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.shown: list[str] = []
        self._within = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._within = tag
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self._within = ""

    def handle_data(self, data: str) -> None:
        if self._within == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = (attributes, text + data)
        elif self._within != "style":
            self.shown.append(data)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a dataset of several parts and files, some of them odd, with rejected rows, cut passages and a report."""
    folder = tmp_path_factory.mktemp("report")
    long = {"id": "long", "text": " ".join(f"long{i}" for i in range(600))}
    rows: list[dict[str, Any]] = [*texts(300), long, {"id": "none", "text": None}, {"id": "number", "text": 3}]
    write_jsonl(folder / "in/a.jsonl", rows)
    write_parquet(folder / "in/b.parquet", texts(200, start=300))
    odd = [{"id": f"{i}{word}", "text": f"{word} {i}"} for i, word in enumerate(ODD_WORDS)]
    write_jsonl(folder / "in/</script><img src=x onerror=alert(1)>.jsonl".replace("/script", "\u2044script"), odd)
    write_jsonl(folder / "in/0.jsonl", [*texts(3, start=900), {"id": "none too", "text": None}])
    sets = ("--set", "run.chunk_tokens=1000")
    done = embed_corpus("run", "--input", folder / "in", "--output", folder / "out", *HASHING, *sets)
    assert done.returncode == 0, done.stderr
    done = embed_corpus("report", folder / "out")
    assert done.returncode == 0, done.stderr
    return folder / "out"


@pytest.fixture(scope="module")
def page(output: Path) -> str:
    return (output / "report.html").read_text()


@pytest.fixture(scope="module")
def passages(output: Path) -> Passages:
    store = Store(root=output)
    return passages_of(store, store.read_manifest())


def held_in(passages: Passages) -> Contents:
    return contents(passages, list(passages.store.read_manifest().receipts.values()))


def test_the_page_asks_for_nothing_and_runs_only_its_own_scripts(page: str) -> None:
    found = Elements(page)
    for _, attributes in found.tags:
        assert not attributes.keys() & {"src", "href", "srcset", "action", "data", "style", "background"}
        assert not [name for name in attributes if name.startswith("on")]
    assert not {tag for tag, _ in found.tags} & {"link", "iframe", "object", "embed", "base", "img", "form", "a"}
    assert not re.search(r"@import|url\(", page[page.index("<style>") : page.index("</style>")])
    [policy] = [each["content"] or "" for _, each in found.tags if each.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().partition(" ")[::2] for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    code = [text for attributes, text in found.scripts if attributes.get("type") != "application/json"]
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in code]
    assert rules["script-src"].split() == [f"'sha256-{each}'" for each in hashes]
    assert len(code) == 2
    assert rules.keys() - {"default-src", "script-src"} == {"style-src", "img-src", "form-action", "base-uri"}
    assert page.index("Content-Security-Policy") < page.index("<style>")  # in force before anything else


def test_what_a_dataset_says_is_shown_as_words_and_is_nothing_else(page: str, output: Path) -> None:
    found = Elements(page)
    data = [text for attributes, text in found.scripts if attributes.get("type") == "application/json"]
    shown = {name: values for text in data for name, values in columns_of(json.loads(text)).items()}
    table = read_dataset(output)
    assert Counter(shown["text"]) == Counter(in_one_line(text[:240]) for text in table.column("text").to_pylist())
    assert Counter(shown["id"]) == Counter(map(in_one_line, table.column("id").to_pylist()))
    assert len(data) == page.count('class="plot"') == 3
    assert page.count("</script") == len(found.scripts) == 5
    assert "onerror" in " ".join(found.shown)
    assert all(line.isprintable() for text in found.shown for line in text.split("\n"))
    assert not {tag for tag, _ in found.tags} & {"img", "svg onload", "b", "u"}


def columns_of(item: dict[str, Any]) -> dict[str, list[Any]]:
    """Return the columns of all sources of a Bokeh figure, joined, other than numbers."""
    found: dict[str, list[Any]] = {}

    def look(value: Any) -> None:
        if isinstance(value, dict):
            if value.get("name") == "ColumnDataSource":
                for name, column in value["attributes"]["data"]["entries"]:
                    if isinstance(column, list):
                        found.setdefault(name, []).extend(column)
            for each in value.values():
                look(each)
        elif isinstance(value, list):
            for each in value:
                look(each)

    look(item)
    return found


def test_a_manifest_that_says_odd_things_is_shown_as_it_is(tmp_path: Path) -> None:
    store = write_dataset(tmp_path / "out", 2, 20, dim=8)
    manifest = store.read_manifest()
    assert manifest.dataset is not None
    for word in ODD_WORDS:
        manifest.dataset.recipe["model.name"] = word
        manifest.dataset.recipe[word] = word
        manifest.dataset.config[word] = {word: word}
        manifest.run = Run(state="complete", input=word, started_at=1.0)
        found = Elements(report(store, manifest).read_text())
        assert len(found.scripts) == 4
        assert {in_one_line(word), in_one_line(json.dumps(word, ensure_ascii=False))} <= set(found.shown)


def test_a_long_name_keeps_its_ends_and_is_whole_in_a_tooltip(tmp_path: Path) -> None:
    name = "a/" + "long " * 20 + "end.jsonl"
    write_jsonl(tmp_path / "in" / name, texts(5))
    done = embed_corpus("run", "--input", tmp_path / "in", "--output", tmp_path / "out", *HASHING)
    assert done.returncode == 0, done.stderr
    assert embed_corpus("report", tmp_path / "out").returncode == 0
    found = Elements((tmp_path / "out/report.html").read_text())
    shown = [word for word in found.shown if word.startswith("a/long") and word.endswith("end.jsonl")]
    assert {len(word) for word in shown} == {44}
    assert sum(attributes.get("title") == name for _, attributes in found.tags) == 2


def test_the_figures_are_those_of_the_dataset(page: str, output: Path, passages: Passages) -> None:
    held, table = held_in(passages), read_dataset(output)
    assert held.lengths.tolist() == np.bincount(table.column("n_tokens").to_numpy()).tolist()
    sums = table.group_by("source").aggregate([("n_tokens", "sum"), ("id", "count")])
    tokens = dict(zip(sums.column("source").to_pylist(), sums.column("n_tokens_sum").to_pylist(), strict=True))
    assert held.shards.is_exact
    assert dict(held.shards.tokens) == tokens
    assert {source: n for source, n in held.shards.rejected.items() if n} == {"0.jsonl": 1, "a.jsonl": 2}
    assert held.shards.rows["a.jsonl"] == 303
    assert held.shards.rows["b.parquet"] == 200
    assert any(len(receipt.sources) > 1 for receipt in passages.receipts)
    found = status(output)
    words = " ".join(Elements(page).shown)
    assert f"{found['tokens']:,} tokens in {found['passages']:,} passages" in words
    assert "The dashed line is at 256 tokens" in words
    run = passages.store.read_manifest().run
    assert run is not None
    assert run.engine_tokens
    assert f"{run.estimated_tokens:,}" in words
    assert f"{run.engine_tokens:,}" in words
    assert f"{100 * (run.engine_tokens / run.estimated_tokens - 1):+.1f} %" in words
    assert "null_text" in words
    assert "not_a_string" in words


def test_parts_that_are_not_read_are_shared_out_and_said_to_be(
    passages: Passages, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = held_in(passages)
    monkeypatch.setattr(contents_module, "MAX_PARTS", 1)
    held = held_in(passages)
    assert not held.shards.is_exact
    assert held.n_read == 1 < held.n_parts
    assert held.shards.rows == exact.shards.rows
    assert sum(held.shards.tokens.values()) == pytest.approx(sum(exact.shards.tokens.values()), abs=len(held.shards))


def test_a_sample_of_a_small_dataset_is_all_of_it(passages: Passages) -> None:
    drawn = draw(passages)
    table = pa.concat_tables(
        [
            table.append_column("embedding", pa.array(list(vectors)))
            for table, vectors in passages.pieces(["id", "text"])
        ]
    )
    assert drawn.ids == table.column("id").to_pylist()
    assert drawn.texts == [text[:240] for text in table.column("text").to_pylist()]
    assert np.array_equal(drawn.unit, np.stack(table.column("embedding").to_pylist()))


@given(parts=st.integers(1, 7), rows=st.integers(1, 40), limits=st.tuples(*[st.integers(1, 60)] * 3))
def test_a_sample_has_passages_of_the_dataset_each_once_and_no_more_than_asked(
    tmp_path_factory: pytest.TempPathFactory, parts: int, rows: int, limits: tuple[int, int, int]
) -> None:
    store = write_dataset(tmp_path_factory.mktemp("sample") / "out", parts, rows, dim=4)
    passages = passages_of(store, store.read_manifest())
    with pytest.MonkeyPatch.context() as changed:
        for name, limit in zip(("MAX_PASSAGES", "MAX_PARTS", "MAX_GROUPS"), limits, strict=True):
            changed.setattr(sample_module, name, limit)
        drawn, again = draw(passages), draw(passages)
    assert drawn.ids == again.ids
    assert len(set(drawn.ids)) == len(drawn) == min(limits[0], min(limits[1], parts) * rows)
    place = {name: at for at, name in enumerate(read_dataset(store.root).column("id").to_pylist())}
    full = to_numpy(read_dataset(store.root).column("embedding")).astype(np.float32)
    assert np.array_equal(drawn.unit, full[[place[name] for name in drawn.ids]])


@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 40), st.integers(1, 20)), elements=st.floats(-1, 1, width=32)))
def test_the_map_has_the_first_two_principal_components(vectors: np.ndarray) -> None:
    places, shares = flattened(vectors)
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    lengths = np.linalg.svd(centred, compute_uv=False)[:2]
    wanted = np.zeros(2)
    wanted[: len(lengths)] = lengths
    assert places.shape == (len(vectors), 2)
    assert np.sqrt((places**2).sum(axis=0)) == pytest.approx(wanted, rel=0.02, abs=1e-3)
    assert 0 <= shares.sum() <= 1 + 1e-6


def test_the_phases_of_a_run_add_up_to_its_time(output: Path) -> None:
    manifest = Store(root=output).read_manifest()
    assert manifest.run is not None
    found = phases(manifest.run, manifest.receipts.values())
    assert sum(phase.seconds for phase in found) == pytest.approx(manifest.run.wall_s, rel=0.05, abs=0.05)
    assert all(phase.seconds >= 0 for phase in found)
    course = chunks(Store(root=output), manifest.run, manifest.receipts.values())
    assert len(course) == sum(receipt.engine_s > 0 for receipt in manifest.receipts.values())
    assert (np.diff(course.written_s) >= 0).all()
    later = Run(state="complete", input="in", started_at=manifest.run.started_at + 1e6, wall_s=9.0, engine_busy=0.5)
    assert phases(later, manifest.receipts.values()) == []
    assert len(chunks(Store(root=output), later, manifest.receipts.values())) == 0


def test_a_report_that_is_not_ours_stays(tmp_path: Path) -> None:
    store = write_dataset(tmp_path / "out", 1, 20, dim=8)
    (store.root / "report.html").write_text("<!doctype html>\nmine")
    done = embed_corpus("report", store.root)
    assert done.returncode == 2
    assert "a report of embed-corpus" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert (store.root / "report.html").read_text() == "<!doctype html>\nmine"
    assert sorted(path.name for path in store.root.glob(".*.tmp")) == []


def test_a_report_is_ours_to_replace_and_no_run_minds_it(output: Path, tmp_path: Path) -> None:
    before = (output / "report.html").read_bytes()
    (output / "report.html").write_bytes(before.replace(b"<title>", b"<title>edited "))
    assert embed_corpus("report", output).returncode == 0
    assert b"<title>edited" not in (output / "report.html").read_bytes()
    assert embed_corpus("verify", output).returncode == 0
    left = tmp_path / "left"
    left.mkdir()
    (left / "report.html").write_bytes(before)
    (left / ".report.html.7.tmp").write_bytes(b"cut sho")
    source = write_jsonl(tmp_path / "in.jsonl", texts(3))
    done = embed_corpus("run", "--input", source, "--output", left, *HASHING)
    assert done.returncode == 0, done.stderr
    assert (left / "report.html").exists()
    assert not (left / ".report.html.7.tmp").exists()


def test_a_dataset_of_nothing_or_without_bokeh_ends_in_one_line(tmp_path: Path) -> None:
    store = write_dataset(tmp_path / "out", 0, 0, dim=8)
    done = embed_corpus("report", store.root)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "expected passages, found none" in done.stderr
    (tmp_path / "without/bokeh").mkdir(parents=True)
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['bokeh'] = None\n")
    whole = write_dataset(tmp_path / "whole", 1, 5, dim=8)
    done = embed_corpus("report", whole.root, env={"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"})
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "embed-corpus[report]" in done.stderr


def test_thousands_of_files_have_a_line_for_the_largest_and_one_for_the_rest(tmp_path: Path) -> None:
    for number in range(60):
        write_jsonl(tmp_path / f"in/{number:04d}.jsonl", texts(1 + number % 7, start=number * 10))
    done = embed_corpus("run", "--input", tmp_path / "in", "--output", tmp_path / "out", *HASHING)
    assert done.returncode == 0, done.stderr
    assert embed_corpus("report", tmp_path / "out").returncode == 0
    words = Elements((tmp_path / "out/report.html").read_text()).shown
    assert sum(bool(re.fullmatch(r"\d{4}\.jsonl", word)) for word in words) == 25
    assert "35 other files" in words
    assert pc.sum(read_dataset(tmp_path / "out").column("n_tokens")).as_py() == status(tmp_path / "out")["tokens"]


def test_a_sample_is_as_likely_in_one_part_as_in_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = write_dataset(tmp_path / "out", 10, 500, dim=4)
    monkeypatch.setattr(sample_module, "MAX_PASSAGES", 1_000)
    drawn: Sample = draw(passages_of(store, store.read_manifest()))
    of_part = Counter(int(name.removeprefix("doc-")) // 500 for name in drawn.ids)
    assert len(of_part) == 10
    assert max(of_part.values()) < 2 * min(of_part.values())
