"""The start of a container with a service: what fails in it is kept for the calls, which have somebody to tell."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.console import note
from pipeline.engines import MadeBy
from pipeline.errors import BrokenEngineError
from pipeline.worker.container import Service


class Start:
    """A service that is made by hooks, which never raise: a platform starts what fails in a hook again for ever."""

    def __init__(self, make: Callable[[], Service]) -> None:
        self._make = make
        self._service: Service | None = None
        self.error = ""  # why there is no service

    @property
    def service(self) -> Service:
        """The service; raises BrokenEngineError with the reason when there is none."""
        if self._service is None:
            raise BrokenEngineError(self.error or "service: expected one that has been started, found none")
        return self._service

    @property
    def n_under_way(self) -> int:
        """Tokens that the engine is through with, of the call in progress; 0 where there is no service."""
        return self._service.n_under_way if self._service else 0

    def load(self, *, sleep: bool) -> None:
        """Make the service, whose engine then loads in the background; with `sleep` wait for it and let it sleep."""
        self.error = ""
        try:
            self._service = self._make()
            if sleep:
                self._service.sleep()
        except Exception as error:  # noqa: BLE001  whatever it is, it is raised by every call
            self._fail(error)

    def wake(self) -> None:
        """Wake the service; where loading or waking has failed, load anew: only what fails then is kept."""
        if self._service is not None:
            try:
                self._service.wake()
            except Exception as error:  # noqa: BLE001
                self._fail(error)
        if self._service is None:
            self.load(sleep=False)

    def move_to(self, made_by: MadeBy) -> None:
        """Make later vectors known as those of another container."""
        if self._service is not None:
            self._service.move_to(made_by)

    def close(self) -> None:
        """Let the call in progress finish."""
        if self._service is not None:
            self._service.close()

    def _fail(self, error: Exception) -> None:
        self.error = str(error) or type(error).__name__
        note(f"the engine did not start: {self.error}")
        service, self._service = self._service, None
        if service is not None:
            try:
                service.discard()
            except Exception as other:  # noqa: BLE001  of a broken engine; a load that lacks the memory says so itself
                note(f"the memory of the engine was not given back: {other}")
