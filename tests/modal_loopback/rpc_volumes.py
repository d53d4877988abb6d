"""RPCs about volumes: what a container asks of its copies, and what is uploaded and downloaded from outside."""

import asyncio
from collections.abc import AsyncIterator

from grpclib import GRPCError, Status
from modal_proto import api_pb2 as api

from .blobs import BLOCK_BYTES
from .calls import new_id
from .functions import volume_metadata
from .knobs import FailCommit
from .rpc import Reply, Service, found
from .volumes import Copy, Node, Tree, Volume


class VolumeRpcs(Service):
    def _volume(self, volume_id: str) -> Volume:
        return found(self.plane.volumes, volume_id, "Volume")

    async def VolumeGetOrCreate(self, request: api.VolumeGetOrCreateRequest) -> Reply:
        volume_id, name = self.named("Volume", request), request.deployment_name
        volume = self.plane.volumes.get(volume_id) or self.plane.new_volume(volume_id, name, request.version or 1)
        if request.version not in (0, volume.version):
            message = f"Volume '{name}' has version {volume.version}, not {request.version}"
            raise GRPCError(Status.INVALID_ARGUMENT, message)
        metadata = volume_metadata(volume)
        return {"volume_id": volume_id, "version": metadata.version, "metadata": metadata}

    async def VolumeDelete(self, request: api.VolumeDeleteRequest) -> None:
        volume = self._volume(request.volume_id)
        del self.plane.volumes[volume.id]
        self.plane.names.pop(("Volume", volume.name), None)

    # --- from inside a container ---

    def _mounted(self, volume_id: str) -> Copy:
        return found(self.inside.mounts.copies, volume_id, "Mount of volume")

    async def VolumeCommit(self, request: api.VolumeCommitRequest) -> Reply:
        copy = self._mounted(request.volume_id)
        name = copy.volume.name + ("@exit" if self.inside.leaving else "")
        for rule in self.plane.faults.due(FailCommit, name):
            raise GRPCError(Status.ABORTED, rule.message)
        try:
            await self.inside.mounts.commit(copy)
        except OSError as error:
            raise GRPCError(Status.ABORTED, str(error)) from error
        return {"skip_reload": not self.plane.settings.reload_after_commit}

    async def VolumeReload(self, request: api.VolumeReloadRequest) -> None:
        copy = self._mounted(request.volume_id)
        try:
            await self.inside.mounts.reload(copy)
        except OSError as error:
            raise GRPCError(Status.ABORTED, str(error)) from error

    # --- from outside ---

    async def VolumeListFiles(self, request: api.VolumeListFilesRequest) -> AsyncIterator[Reply]:
        try:
            nodes = self._volume(request.volume_id).below(request.path, request.recursive)
        except FileNotFoundError as error:
            raise GRPCError(Status.NOT_FOUND, str(error)) from error
        yield {"entries": [_entry(path, node) for path, node in sorted(nodes.items())]}

    VolumeListFiles2 = VolumeListFiles

    async def VolumeGetFile2(self, request: api.VolumeGetFile2Request) -> Reply:
        node = self._volume(request.volume_id).head.get(request.path.strip("/"))
        if node is None or node.content is None:
            raise GRPCError(Status.NOT_FOUND, f"{request.path}: no such file in the volume")
        url, size = self.plane.blobs.address(node.content), node.content.stat().st_size
        urls = [f"{url}?start={start}" for start in range(0, size, BLOCK_BYTES)]
        return {"get_urls": urls, "size": size, "start": 0, "len": size}

    async def VolumeRemoveFile(self, request: api.VolumeRemoveFileRequest) -> None:
        volume, name = self._volume(request.volume_id), request.path.strip("/")
        gone = {path for path in volume.head if path == name or path.startswith(name + "/")}
        if not gone:
            raise GRPCError(Status.NOT_FOUND, f"{request.path}: no such file in the volume")
        if len(gone) > 1 and not request.recursive:
            raise GRPCError(Status.INVALID_ARGUMENT, f"{request.path} is a directory; remove it recursively")
        async with self.plane.volume_lock:
            volume.publish({}, gone)

    VolumeRemoveFile2 = VolumeRemoveFile

    async def VolumePutFiles(self, request: api.VolumePutFilesRequest) -> None:
        volume, nodes = self._volume(request.volume_id), {}
        for file in request.files:
            source = self.plane.blobs.path("source", file.sha256_hex)
            nodes[file.filename.strip("/")] = await asyncio.to_thread(volume.add_file, source, file.mode or 0o644)
        await self._publish(volume, nodes, request.disallow_overwrite_existing_files)

    async def VolumePutFiles2(self, request: api.VolumePutFiles2Request) -> Reply:
        """Ask for the blocks that are missing; the client sends them and calls again."""
        blobs, volume = self.plane.blobs, self._volume(request.volume_id)
        missing = [
            api.VolumePutFiles2Response.MissingBlock(file_index=i, block_index=j, put_url=blobs.address(path))
            for i, file in enumerate(request.files)
            for j, block in enumerate(file.blocks)
            if not (path := blobs.path("block", block.contents_sha256.hex())).exists()
        ]
        if not missing:
            nodes = {file.path.strip("/"): await asyncio.to_thread(self._join, volume, file) for file in request.files}
            await self._publish(volume, nodes, request.disallow_overwrite_existing_files)
        return {"missing_blocks": missing}

    def _join(self, volume: Volume, file: api.VolumePutFiles2Request.File) -> Node:
        """Make one file of its blocks, giving back the trailing zeros that blocks leave out."""
        whole = self.plane.blobs.path("block", new_id("join"))
        with whole.open("wb") as out:
            for index, block in enumerate(file.blocks):
                out.seek(index * BLOCK_BYTES)
                out.write(self.plane.blobs.path("block", block.contents_sha256.hex()).read_bytes())
            out.truncate(file.size)
        node = volume.add_file(whole, file.mode or 0o644)
        whole.unlink()
        return node

    async def _publish(self, volume: Volume, nodes: Tree, keep_existing: bool) -> None:
        there = sorted(nodes.keys() & volume.head.keys())
        if there and keep_existing:
            raise GRPCError(Status.ALREADY_EXISTS, f"{there[0]}: already exists in volume {volume.name}")
        try:
            async with self.plane.volume_lock:
                volume.publish(nodes, set())
        except OSError as error:
            raise GRPCError(Status.ABORTED, str(error)) from error
        self.plane.saw_commit(volume, "", sorted(nodes), ())


def _entry(path: str, node: Node) -> api.FileEntry:
    if node.content is not None:
        s = node.content.stat()
        return api.FileEntry(path=path, type=api.FileEntry.FILE, mtime=int(s.st_mtime), size=s.st_size)
    return api.FileEntry(path=path, type=api.FileEntry.SYMLINK if node.target else api.FileEntry.DIRECTORY)
