"""A driver that is killed or preempted costs what was in flight: not its service's container, not its successor."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.modal_loopback import KillAtInput, PreemptAtInput
from tests.support.modal_jobs import CLASS, ROWS, House, embedded, house, needs_plane, replace_in
from tests.support.plane import eventually

pytestmark = needs_plane
CHUNK = f"{CLASS}.embed_chunk"
CHUNK_TOKENS = 2000
MAX_CHUNK_TEXTS = 200  # about, of that many tokens
LOCKS = 'import modal; locks = modal.Dict.from_name("embedding-locks"); '


def ask_locks(home: House, program: str) -> str:
    done = home.plane.python("-c", LOCKS + program, cwd=home.folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_killed_driver_whose_chunks_are_cancelled_leaves_the_container_of_the_service(tmp_path: Path) -> None:
    fault = KillAtInput(on=CHUNK, nth=6, strikes="drive")
    with (
        house(tmp_path, chunk_tokens=CHUNK_TOKENS, delay_s=0.4, faults=[fault]) as home,
        ThreadPoolExecutor(1) as aside,
    ):
        running = aside.submit(home.run, "--input", "books/")
        eventually(home.plane.cancel_orphans, timeout_s=60)
        printed = running.result()
        home.check_complete("books", tmp_path / "out", ROWS)
        assert home.plane.seen.of("drive")[0].why == "fault"
        assert [container.app for container in home.plane.seen.of(CLASS)] == ["embed-corpus"], "it was replaced"
        assert "Successfully canceled input" in home.plane.logs()
        assert len(ROWS) <= embedded(printed) <= len(ROWS) + 2 * MAX_CHUNK_TEXTS


def test_a_preempted_driver_that_ends_late_leaves_its_successor_alone(tmp_path: Path) -> None:
    """The old one is held up where it ends, until the new one has handed out chunks; then the engine waits."""
    fault = PreemptAtInput(on=CHUNK, nth=6, strikes="drive", grace_s=200, overlap=True)
    hold = """
        from jobs import resources
        while "end" in resources.locks and "go on" not in resources.locks:
            time.sleep(0.05)
    """
    with house(tmp_path, chunk_tokens=CHUNK_TOKENS, faults=[fault]) as home, ThreadPoolExecutor(1) as aside:
        home.engine(0.4, hold)
        replace_in(home, "jobs/embed_corpus.py", "    nonpreemptible=True,", "    nonpreemptible=False,")
        mine = "    mine = modal.current_function_call_id()\n"
        wait = '    while "end" not in resources.locks:\n        time.sleep(0.05)\n'
        replace_in(home, "jobs/fan_out.py", mine, wait + mine)
        running, seen = aside.submit(home.run, "--input", "books/"), home.plane.seen
        eventually(lambda: home.plane.faults.fired, timeout_s=60)
        n_maps = seen.rpcs["FunctionMap"]
        eventually(lambda: seen.rpcs["FunctionMap"] > n_maps, timeout_s=60)
        ask_locks(home, 'locks["end"] = 1')
        first, second = seen.of("drive")
        eventually(lambda: first.ended_s, timeout_s=60)
        assert ask_locks(home, 'print(locks["books"]["container"]); locks["go on"] = 1') == second.task_id
        printed = running.result()
        home.check_complete("books", tmp_path / "out", ROWS)
        assert (first.why, len(seen.of("drive"))) == ("preempted", 2)
        assert seen.max_containers[CLASS] == 1
        assert embedded(printed) <= len(ROWS) + 3 * MAX_CHUNK_TEXTS


def test_drivers_are_deployed_nonpreemptible(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        (home.folder / "configs/cron.toml").write_text(
            'enabled = true\nschedule = "0 6 * * *"\ntimezone = "UTC"\ndatasets = []\n'
        )
        for job in ("embed_corpus", "reembed"):
            done = home.modal("deploy", f"jobs/{job}.py")
            assert done.returncode == 0, done.stdout + done.stderr
        home.run("--input", "nothing/", code=2)
        home.plane.wait(home.plane.tick("embedding-reembed", "reembed"))
        drivers = {container.function: container.nonpreemptible for container in home.plane.seen.containers}
        assert drivers == {"drive": True, "reembed": True}
