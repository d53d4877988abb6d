"""The server as a process, with a stand-in for vLLM: one port has one server, and its end has a reason."""

from __future__ import annotations

import sys
import time

import pytest

from pipeline.errors import EngineError, UsageError
from pipeline.serve import server as serving
from tests.support import local_config
from tests.support.http_server import free_port

ENGINE = "(EngineCore pid=9) ERROR 11-26 08:00:00 [core.py:1193] "
API = "(APIServer pid=8) "
SLEEP = "import time; time.sleep(99)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); {SLEEP}"


def start(monkeypatch: pytest.MonkeyPatch, code: str, *, host: str = "127.0.0.1", port: int = 0) -> serving.Server:
    monkeypatch.setattr(serving, "server_command", lambda *_: [sys.executable, "-c", code])
    return serving.Server(local_config(), host=host, port=port or free_port(), key=None)


def test_a_port_has_one_server_from_its_start_on(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    with start(monkeypatch, SLEEP, port=port):  # it loads for ever, and nobody is served yet
        with pytest.raises(UsageError, match=f"found 127.0.0.1 port {port}: .*in use") as refused:
            start(monkeypatch, SLEEP, port=port)
        assert "\n" not in str(refused.value)
    with start(monkeypatch, SLEEP, port=port):
        pass


def test_an_address_of_the_new_kind_is_written_as_clients_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    with start(monkeypatch, SLEEP, host="::1", port=port) as found:
        assert found.url == f"http://[::1]:{port}"
    with start(monkeypatch, SLEEP, port=port) as found:
        assert found.url == f"http://127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("printed", "code", "words"),
    [
        ([*[f"{API}Traceback"] * 20, "engine: ended by signal 9"], 1, "with exit code 1; engine: ended by signal 9"),
        (
            [f"{ENGINE}torch.OutOfMemoryError: no room: 3 GiB", *[f"{API}EngineDeadError"] * 20, "engine: ended x"],
            1,
            "with exit code 1; engine: ended x: torch.OutOfMemoryError: no room: 3 GiB",
        ),
        (
            [
                f"{ENGINE}Traceback",
                f"{ENGINE}ValueError: too long",
                f"{API}RuntimeError: failed. See root cause above.",
            ],
            1,
            "with exit code 1; ValueError: too long",
        ),
        (["one", "two"], 3, "with exit code 3; its last lines: one | two"),
        ([], 0, "with exit code 0; its last lines: none"),
    ],
)
def test_the_end_of_a_server_has_its_reason_in_one_line(
    monkeypatch: pytest.MonkeyPatch, printed: list[str], code: int, words: str
) -> None:
    stand_in = f"import sys; print({chr(10).join(printed)!r}); sys.exit({code})"
    with start(monkeypatch, stand_in) as found, pytest.raises(EngineError) as ended:
        found.wait_until_ready()
    assert str(ended.value) == f"server: ended {words}"


def test_a_server_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "GRACE_S", 0.2)
    with start(monkeypatch, DEAF) as found:
        while "deaf" not in found._lines:
            time.sleep(0.01)
    assert found.exit_code == 128 + 9
