"""Push: our files and no others go to a hub, only when asked, private unless said otherwise, as a whole."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import datasets
import pytest

from pipeline.dataset import Store
from pipeline.errors import UsageError
from pipeline.tools import check_repo
from tests.support import HASHING, embed_corpus, texts, write_jsonl
from tests.support.dataset_hub import DatasetHub, dataset_hub

REPO = "me/vectors"
SETS = ("--set", "run.chunk_tokens=1000", "--set", "corpus.licence=CC-BY-4.0")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an input and an output with a report, a rejected row, and files that are not ours in every folder."""
    folder = tmp_path_factory.mktemp("push")
    write_jsonl(folder / "in/a.jsonl", [*texts(200), {"id": "none", "text": None}])
    write_jsonl(folder / "in/b.jsonl", texts(100, start=200))
    done = embed_corpus("run", "--input", folder / "in", "--output", folder / "out", *HASHING, *SETS)
    assert done.returncode == 0, done.stderr
    assert embed_corpus("report", folder / "out").returncode == 0
    return folder


@pytest.fixture
def work(made: Path, tmp_path: Path) -> Path:
    """Return a copy of both, to be changed."""
    shutil.copytree(made, tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def hub() -> Iterator[DatasetHub]:
    with dataset_hub() as found:
        yield found


def push(work: Path, hub: DatasetHub, *flags: str, repo: str = REPO, **env: str) -> subprocess.CompletedProcess[str]:
    return embed_corpus("push", work / "out", repo, *flags, env=hub.environment(work / "home", **env))


def ours(work: Path) -> dict[str, bytes]:
    """Return what is to be sent, by the manifest."""
    store = Store(root=work / "out")
    receipts = store.read_manifest().receipts.values()
    paths = [store.data_path(each.part) for each in receipts]
    paths += [store.rejects_path(each.part) for each in receipts if each.has_rejects]
    paths += [store.root / name for name in ("README.md", "manifest.jsonl", "report.html")]
    return {path.relative_to(store.root).as_posix(): path.read_bytes() for path in paths}


def test_without_yes_it_says_what_would_go_and_asks_the_hub_for_nothing(work: Path, hub: DatasetHub) -> None:
    done = push(work, hub, HF_TOKEN="")
    assert done.returncode == 0, done.stderr
    assert hub.requests == []
    files = ours(work)
    n_parts = sum(name.startswith("data/") for name in files)
    assert f"{n_parts} files" in done.stdout
    assert f"{len(files)} files" in done.stdout
    assert "for its owner alone to see" in done.stdout
    assert "cc-by-4.0" in done.stdout
    assert "/in\n" in done.stdout  # the input that the manifest names
    assert done.stdout.endswith("nothing was sent; the same command with --yes sends it\n")


@pytest.mark.parametrize("large", [True, False])
@pytest.mark.parametrize("flag", [(), ("--private",), ("--public",)])
def test_what_arrives_is_what_there_is_of_ours_and_can_be_read(
    work: Path, hub: DatasetHub, large: bool, flag: tuple[str, ...]
) -> None:
    hub.large = large
    for name in ("mine.txt", "data/mine.parquet", "data/.hidden", "rejects/notes.md", ".trash/data/old.parquet"):
        (work / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (work / "out" / name).write_bytes(b"mine")
    done = push(work, hub, "--yes", *flag)
    assert done.returncode == 0, done.stderr
    assert hub.files[REPO] == ours(work)
    assert hub.private == {REPO: flag != ("--public",)}
    assert "+manifest.jsonl" in hub.commits[-1]
    assert not [each for each in hub.commits[-1] if "data/" in each]
    for name, content in hub.files[REPO].items():
        (work / "pulled" / name).parent.mkdir(parents=True, exist_ok=True)
        (work / "pulled" / name).write_bytes(content)
    assert embed_corpus("verify", work / "pulled").returncode == 0
    table = datasets.load_dataset(str(work / "pulled"), split="train", cache_dir=str(work / "cache"))
    assert len(table) == 300


def test_the_clients_own_way_of_many_commits_brings_the_same(work: Path, hub: DatasetHub) -> None:
    hub.large = False  # what else is large goes to storage that no test has
    done = push(work, hub, "--yes", HF_HUB_DISABLE_XET="0")
    assert done.returncode == 0, done.stderr
    assert hub.files[REPO] == ours(work)


def test_a_second_push_sends_what_is_new_and_removes_what_left_in_the_last_commit(work: Path, hub: DatasetHub) -> None:
    assert push(work, hub, "--yes").returncode == 0
    hub.files[REPO]["picture.png"] = b"of a person, put there on the hub"
    before, n_uploads = hub.files[REPO].copy(), len(hub.uploads)
    write_jsonl(work / "in/b.jsonl", texts(90, start=230))
    done = embed_corpus("run", "--input", work / "in", "--output", work / "out", *HASHING, *SETS, "--prune")
    assert done.returncode == 0, done.stderr
    assert push(work, hub, "--yes").returncode == 0
    assert hub.files[REPO] == ours(work) | {"picture.png": before["picture.png"]}
    new = {name for name in ours(work) if name not in before and name.endswith(".parquet")}
    assert len(hub.uploads) - n_uploads == len(new) > 0
    left = [each for each in hub.commits[-1] if each.startswith("-")]
    assert len(left) == len(before.keys() - ours(work).keys() - {"picture.png"}) > 0


@pytest.mark.parametrize("fail_at", ["/preupload/", "/objects/", "/commit/"])
def test_a_push_that_breaks_off_ends_in_one_line_and_the_next_one_completes_it(
    work: Path, hub: DatasetHub, fail_at: str
) -> None:
    hub.fail_at = fail_at
    done = push(work, hub, "--yes")
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
    assert "push again" in done.stderr
    assert "manifest.jsonl" not in hub.files[REPO]
    hub.fail_at = ""
    assert push(work, hub, "--yes").returncode == 0
    assert hub.files[REPO] == ours(work)


def test_nothing_goes_to_a_repository_that_others_see_or_that_is_not_ours(work: Path, hub: DatasetHub) -> None:
    hub.files[REPO], hub.private[REPO] = {".gitattributes": b""}, False
    done = push(work, hub, "--yes")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "expected it private, found it public" in done.stderr
    hub.private[REPO] = True
    done = push(work, hub, "--yes", "--public")
    assert done.returncode == 2
    assert "expected it public, found it private" in done.stderr
    hub.files[REPO]["train.csv"] = b"a,b\n"
    done = push(work, hub, "--yes")
    assert done.returncode == 2
    assert "train.csv" in done.stderr
    assert hub.files[REPO] == {".gitattributes": b"", "train.csv": b"a,b\n"}
    assert not hub.commits


@pytest.mark.parametrize("what", ["damaged", "incomplete", "without a part"])
def test_a_dataset_that_is_not_whole_is_not_sent(work: Path, hub: DatasetHub, what: str) -> None:
    store = Store(root=work / "out")
    part = store.data_path(next(iter(store.read_manifest().receipts)))
    if what == "damaged":
        content = bytearray(part.read_bytes())
        content[len(content) // 2] ^= 1
        part.write_bytes(content)
    elif what == "incomplete":
        lines = store.manifest_path.read_bytes().splitlines(keepends=True)
        store.manifest_path.write_bytes(b"".join(line for line in lines if b'"kind":"run"' not in line))
    else:
        part.unlink()
    done = push(work, hub, "--yes")
    assert done.returncode == (3 if what == "incomplete" else 6)
    assert len(done.stderr.splitlines()) == 1
    assert hub.requests == []


@pytest.mark.parametrize("env", [{"HF_TOKEN": ""}, {"HF_TOKEN": "hf_other"}, {"HF_HUB_OFFLINE": "1"}], ids=str)
def test_without_a_token_or_a_network_it_ends_in_one_line(work: Path, hub: DatasetHub, env: dict[str, str]) -> None:
    done = push(work, hub, "--yes", **env)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert not hub.commits


@pytest.mark.parametrize("repo", ["vectors", "a/b/c", "me/", "../x", "me/a b", "https://huggingface.co/datasets/me/x"])
def test_a_name_that_the_hub_cannot_have_is_refused(repo: str) -> None:
    with pytest.raises(UsageError, match="OWNER/NAME"):
        check_repo(repo)
