"""The volumes of one container: what is mounted, and what commits and reloads cost it."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from modal_proto import api_pb2 as api

from . import namespace
from .namespace import Bind
from .seen import ContainerSeen
from .volumes import Copy

if TYPE_CHECKING:
    from .plane import Plane

OPEN_FILES = "there are open files preventing the operation"
# What every Python of a container runs first, where folders of volumes cannot be synced.
NO_FOLDER_SYNC = """
import errno, os, stat
sync = os.fsync
def fsync(file):
    number = file if isinstance(file, int) else file.fileno()
    path = os.readlink(f"/proc/self/fd/{{number}}") + "/"
    if stat.S_ISDIR(os.fstat(number).st_mode) and any(path.startswith(mount + "/") for mount in {mounts}):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    sync(number)
os.fsync = fsync
"""
T = TypeVar("T")


class Mounts:
    """A copy of each volume of a container, below `folder`."""

    def __init__(self, plane: "Plane", seen: ContainerSeen, folder: Path) -> None:
        self.copies: dict[str, Copy] = {}
        self._plane, self._seen, self._folder = plane, seen, folder
        self._committed_s = time.time()

    def add(self, definition: api.Function) -> list[Bind]:
        """Make the copies that a function asks for and return where they are to be seen."""
        binds = []
        for mount in definition.volume_mounts:
            volume = self._plane.volumes[mount.volume_id]
            copy = Copy(volume=volume, path=self._folder / volume.id, read_only=mount.read_only)
            copy.catch_up()
            self.copies[volume.id] = copy
            shown = copy.path / mount.sub_path.strip("/")
            shown.mkdir(parents=True, exist_ok=True)
            binds.append(Bind(shown, mount.mount_path, mount.read_only))
        for bucket in definition.cloud_bucket_mounts:
            binds.append(Bind(self._plane.settings.buckets[bucket.bucket_name], bucket.mount_path, bucket.read_only))
        return binds

    def startup_code(self, definition: api.Function) -> str:
        """Return what every Python of the container is to run first."""
        if self._plane.settings.folders_sync:
            return ""
        return NO_FOLDER_SYNC.format(mounts=[mount.mount_path for mount in definition.volume_mounts])

    async def commit(self, copy: Copy) -> None:
        """Publish what the container changed; raises OSError where the volume has no room for it."""
        settings, volume, most = self._plane.settings, copy.volume, self._plane.seen.max_commits
        async with copy.busy:
            if not await self._while_it_lives(lambda: copy.is_changed):
                return
            async with volume.committing:
                volume.n_committing += 1
                most[volume.name] = max(most[volume.name], volume.n_committing)
                try:
                    await asyncio.sleep(settings.commit_s + settings.commit_s_per_file * len(volume.head))
                    done = await self._while_it_lives(copy.commit)
                finally:
                    volume.n_committing -= 1
        if done is not None and any(done):
            self._plane.saw_commit(volume, self._seen.function, *done)

    async def reload(self, copy: Copy) -> None:
        """Show the volume's last commit, and nothing at all until then; raises OSError for a file that is open."""
        async with copy.busy:
            held = await asyncio.to_thread(lambda: copy.holds(namespace.open_inodes(self._seen.pid)))
            if held is not None:
                raise OSError(f"{OPEN_FILES}: {held}")
            try:
                await self._while_it_lives(copy.hide)
                await asyncio.sleep(self._plane.settings.reload_s)
                await self._while_it_lives(copy.catch_up)
            finally:
                await self._while_it_lives(copy.show)

    def commit_in_background(self) -> None:
        """Publish half-done work whenever it is time to."""
        every_s, now = self._plane.settings.background_commit_s, time.time()
        if every_s is not None and now - self._committed_s > every_s:
            self._committed_s = now
            for copy in self.copies.values():
                if not copy.busy.locked():
                    self._plane.background(self._commit_quietly(copy))

    async def _commit_quietly(self, copy: Copy) -> None:
        with suppress(OSError):
            await self.commit(copy)

    async def _while_it_lives(self, work: Callable[[], T]) -> T | None:
        """Do file work, unless the container has ended: its files are about to go, which is no news of the volume's.

        Who asked may be gone before it is done, and the files go only afterwards.
        """

        async def locked() -> T | None:
            async with self._plane.volume_lock:
                return None if self._seen.ended_s is not None else await asyncio.to_thread(work)

        return await asyncio.shield(locked())
