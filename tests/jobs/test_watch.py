"""What a person sees of a run on Modal: in the terminal that started it, and in any other."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from tests.support.modal_jobs import House, house, needs_plane, replace_in
from tests.support.terminal import Terminal

pytestmark = needs_plane


def modal(home: House, *arguments: str) -> Terminal:
    """Return a terminal with `modal run` in it."""
    env = {**home.plane.env, "EMBED_CONFIG": "configs/hashing.toml"}
    return Terminal([sys.executable, "-m", "modal", "run", *arguments], 80, home.folder, env)


def alive(seen: Terminal) -> list[str]:
    """Return the lines of the embedding that were at the bottom of a picture, each once, in order."""
    lines = ([line.partition("| ")[2] or line for line in picture] for picture in seen.pictures)
    embedding = ([line for line in each if re.match(r"embedding +\d+%", line)] for each in lines)
    return list(dict.fromkeys(each[-1] for each in embedding if each))


def test_a_run_is_seen_batch_by_batch_where_it_was_started_and_in_another_terminal(tmp_path: Path) -> None:
    with house(tmp_path, delay_s=2.0) as home:
        replace_in(home, "configs/hashing.toml", "[run]", "batch_passages = 150\n\n[run]")
        missing = home.modal("run", "jobs/status.py", "--output", "books")
        assert missing.returncode == 2
        assert "--output books: expected a dataset on the volume embedding-output" in missing.stderr

        seen = modal(home, "jobs/embed_corpus.py", "--input", "books/")
        seen.watch(lambda picture: any(re.search(r"waiting for a c|loading the m", line) for line in picture))
        beside = modal(home, "jobs/status.py", "--output", "books", "--watch")
        assert seen.end() == 0, seen.pictures[-1]
        assert beside.end() == 0, beside.pictures[-1]

        for terminal in (seen, beside):  # of a run of one chunk; what the driver logs is also in the first
            shares = [int(found[1]) for line in alive(terminal) if (found := re.search(r"(\d+)%", line))]
            assert len({share for share in shares if 0 < share < 100}) >= 2, alive(terminal)
            assert any("$" in line for line in alive(terminal)), alive(terminal)
        assert shares == sorted(shares)
        assert any(line == "books: complete" for line in beside.pictures[-1]), beside.pictures[-1]
        assert any(line.startswith("complete: 3,000 rows, 3,000 embedded") for line in seen.pictures[-1])

        found = json.loads(home.modal("run", "--quiet", "jobs/status.py", "--output", "books", "--json").stdout)
        assert (found["state"], found["path"], found["embedded_rows"]) == ("complete", "books", 3000)
