"""`modal run jobs/embed_corpus.py` on the control plane: the same dataset as on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from tests.support import REPOSITORY, embed_corpus, read_dataset, status, texts, write_jsonl
from tests.support.modal_jobs import CLASS, HASHING_TOML, ROWS, house, needs_plane

pytestmark = needs_plane


def local_run(corpus: Path, output: Path, config: Path, *more: str) -> pa.Table:
    done = embed_corpus("run", "--input", corpus, "--output", output, "--config", config, *more)
    assert done.returncode == 0, done.stderr
    return read_dataset(output)


def test_a_run_gives_the_dataset_of_a_local_run_bit_for_bit(tmp_path: Path) -> None:
    with house(tmp_path, chunk_tokens=2000) as home:
        printed = home.run("--input", "books/", "--dim", "256")
        assert "complete: 3,000 rows, 3,000 embedded, 0 rejected\n" in printed
        assert "\nbooks: " in printed
        assert "next: modal volume get embedding-output books\n" in printed
        home.check_complete("books", tmp_path / "out", ROWS)
        assert home.plane.volume_version("embedding-output") == 2
        expected = local_run(tmp_path / "corpus/books", tmp_path / "local", HASHING_TOML, "--dim", "256")
        found = read_dataset(tmp_path / "out")
        assert found.schema.field("embedding").type == pa.list_(pa.float16(), 256)
        assert found.equals(expected)

        # One container, two chunks in flight, references instead of texts.
        seen = home.plane.seen
        assert seen.max_containers[CLASS] == 1
        assert seen.max_inputs[f"{CLASS}.embed_chunk"] == 2
        sizes = seen.sizes("input", f"{CLASS}.embed_chunk") + seen.sizes("output", f"{CLASS}.embed_chunk")
        assert len(sizes) == 2 * status(tmp_path / "out")["parts"] > 20
        assert max(sizes) < 8 << 10

        # A second run finds nothing to do and starts no engine.
        n_containers = len(seen.of(CLASS))
        assert "this run embedded 0 texts" in home.run("--input", "books/", "--dim", "256")
        assert len(seen.of(CLASS)) == n_containers


@pytest.mark.slow  # in CI test_gemma.py has vLLM in a container
def test_minilm_on_vllm_gives_the_vectors_of_a_local_run(tmp_path: Path) -> None:
    rows = [
        {"id": str(i), "text": f"The {i}th day of {word} in the garden."} for i in range(60) for word in ("rain", "sun")
    ]
    rows = [{"id": f"{i}", "text": row["text"]} for i, row in enumerate(rows)]
    with house(tmp_path) as home:
        home.plane.seed("embedding-corpus", write_jsonl(tmp_path / "more/days/d.jsonl", rows).parent.parent)
        home.run("--input", "days/d.jsonl", "--output", "days", config="configs/local.toml")
        home.check_complete("days", tmp_path / "out", rows)
    config = REPOSITORY / "configs/local.toml"
    # Whatever the processor of this machine: on Modal it is the GPU that counts, and there is none.
    expected = local_run(tmp_path / "more/days/d.jsonl", tmp_path / "local", config, "--set", "model.dtype=float32")
    found = read_dataset(tmp_path / "out")
    assert found.column("id").equals(expected.column("id"))
    one, other = (np.stack(table.column("embedding").to_numpy(zero_copy_only=False)) for table in (found, expected))
    assert np.min(cosines(one, other)) >= 0.9999


def cosines(one: NDArray[np.float16], other: NDArray[np.float16]) -> NDArray[np.float64]:
    exact = [vectors.astype(np.float64) for vectors in (one, other)]
    a, b = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in exact)
    found: NDArray[np.float64] = np.sum(a * b, axis=1)
    return found


@pytest.mark.parametrize(
    ("delay_s", "share"), [(1.5, 1.0), pytest.param(6.0, 0.3, marks=pytest.mark.slow)], ids=["short", "long"]
)
def test_four_containers_make_the_same_dataset_all_at_work_at_once(
    tmp_path: Path, delay_s: float, share: float
) -> None:
    tables = {}
    with house(tmp_path, chunk_tokens=2600) as home:
        for n in (1, 4):
            if n > 1:
                home.engine(delay_s)  # long against the start of a container, so that all find work
            home.run("--input", "books/", "--output", f"by-{n}", "--max-containers", str(n))
            home.check_complete(f"by-{n}", tmp_path / f"out-{n}", ROWS)
            tables[n] = read_dataset(tmp_path / f"out-{n}")
            seen = home.plane.seen
            assert seen.max_containers[CLASS] == seen.max_busy[CLASS] == n
            assert seen.max_inputs[f"{CLASS}.embed_chunk"] == 2 * n
    assert tables[1].equals(tables[4])
    n_chunks = [container.inputs for container in seen.of(CLASS)[1:]]
    assert len(n_chunks) == 4
    assert max(n_chunks) <= share * sum(n_chunks)


def test_a_dry_run_tells_what_a_run_would_take_and_starts_no_engine(tmp_path: Path) -> None:
    with house(tmp_path, chunk_tokens=2000) as home:
        printed = home.run("--input", "books/", "--dry-run", "--limit", "2000")
        assert "2,000 rows to make, " in printed
        assert home.plane.seen.of(CLASS) == []
        assert home.plane.committed("embedding-output") == {}


def test_columns_are_chosen_by_flags_and_one_of_empty_texts_ends_the_run(tmp_path: Path) -> None:
    rows = [{"key": f"k{i}", "body": row["text"], "note": " "} for i, row in enumerate(texts(20))]
    with house(tmp_path) as home:
        home.plane.seed("embedding-corpus", write_jsonl(tmp_path / "more/x.jsonl", rows).parent)
        home.run("--input", "x.jsonl", "--id-column", "key", "--text-column", "body")
        home.check_complete("x", tmp_path / "out", [{"id": row["key"]} for row in rows])
        printed = home.run("--input", "x.jsonl", "--output", "y", "--text-column", "note", code=3)
        assert "embed-corpus: output y: expected at least one row embedded, found all 20 rejected" in printed
        assert "x.jsonl:0, empty_text, note: nothing but white space" in printed


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """Run the job with arguments that must be refused; the one line that says so comes back."""
    with house(tmp_path_factory.mktemp("refused")) as home:

        def run(*arguments: str) -> str:
            printed = home.run(*arguments, code=2)
            assert home.plane.seen.containers == []
            lines = [line for line in printed.splitlines() if "embed-corpus:" in line]
            assert len(lines) == 1, printed
            return lines[0]

        yield run


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--input", "../../etc/passwd"),
        ("--input", "/etc/passwd"),
        ("--input", "books/../../x"),
        ("--output", "../out"),
        ("--output", "/out"),
        ("--config", "../secret.toml"),
    ],
)
def test_a_path_that_leaves_its_volume_is_refused_before_anything_starts(
    flag: str, value: str, refused: Callable[..., str]
) -> None:
    given = {"--input": "books/", flag: value}
    printed = refused(*(part for pair in given.items() for part in pair))
    assert f"{flag} {value}" in printed


def test_a_link_out_of_the_volume_is_refused_with_one_line(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        (tmp_path / "more/linked").mkdir(parents=True)
        (tmp_path / "more/linked/passwd.jsonl").symlink_to("/etc/passwd")
        home.plane.seed("embedding-corpus", tmp_path / "more")
        printed = home.run("--input", "linked/", code=2)
        assert (
            "embed-corpus: --input linked/passwd.jsonl: expected a file of the volume, found a link out of it"
            in printed
        )
        assert home.plane.seen.of(CLASS) == []
