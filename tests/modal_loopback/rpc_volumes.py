"""RPCs that keep things: volumes, blobs and dicts."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from modal_proto import api_pb2 as api

from .blobs import BLOCK_BYTES
from .faults import FailCommit
from .objects import volume_metadata
from .rpc import Service, found
from .seen import CommitSeen
from .state import new_id
from .volumes import Copy, Node, Volume

OPEN_FILES = "there are open files preventing the operation"


class VolumeRpcs(Service):
    def _volume(self, volume_id: str) -> Volume:
        return found(self.plane.objects.volumes, volume_id, "Volume")

    async def VolumeGetOrCreate(self, request: api.VolumeGetOrCreateRequest) -> api.VolumeGetOrCreateResponse:
        name, create = request.deployment_name, request.object_creation_type
        volume = self.plane.objects.volume_named(name)
        if volume is None and name and not create:
            raise GRPCError(Status.NOT_FOUND, f"Volume '{name}' not found")
        if volume is not None and create == api.OBJECT_CREATION_TYPE_CREATE_FAIL_IF_EXISTS:
            raise GRPCError(Status.ALREADY_EXISTS, f"Volume '{name}' already exists")
        if volume is None:
            volume = self.plane.objects.new_volume(name, request.version or 1)
        if request.version not in (0, volume.version):
            message = f"Volume '{name}' has version {volume.version}, not {request.version}"
            raise GRPCError(Status.INVALID_ARGUMENT, message)
        metadata = volume_metadata(volume)
        return api.VolumeGetOrCreateResponse(volume_id=volume.id, version=metadata.version, metadata=metadata)

    async def VolumeList(self, request: api.VolumeListRequest) -> api.VolumeListResponse:
        before = request.pagination.created_before or float("inf")
        items = [
            api.VolumeListItem(
                label=volume.name,
                volume_id=volume.id,
                created_at=volume.created_s,
                metadata=volume_metadata(volume),
            )
            for volume in self.plane.objects.volumes.values()
            if volume.name and volume.created_s < before
        ]
        return api.VolumeListResponse(items=items, environment_name="main")

    async def VolumeDelete(self, request: api.VolumeDeleteRequest) -> Empty:
        del self.plane.objects.volumes[self._volume(request.volume_id).id]
        return Empty()

    # --- from inside a container ---

    def _mounted(self, volume_id: str) -> Copy:
        return found(self.inside.copies, volume_id, "Mount of volume")

    async def VolumeCommit(self, request: api.VolumeCommitRequest) -> api.VolumeCommitResponse:
        volume = self._volume(request.volume_id)
        name = f"{volume.name}@exit" if self.inside.worker.leaving else volume.name
        for rule in self.plane.faults.due(FailCommit, name):
            raise GRPCError(Status.ABORTED, rule.message)
        await self.inside.commit(self._mounted(volume.id))
        return api.VolumeCommitResponse(skip_reload=not self.plane.settings.reload_after_commit)

    async def VolumeReload(self, request: api.VolumeReloadRequest) -> Empty:
        copy = self._mounted(self._volume(request.volume_id).id)
        path = await asyncio.to_thread(self.inside.open_path, copy)
        if path is not None:
            raise GRPCError(Status.ABORTED, f"{OPEN_FILES}: {path}")
        async with self.plane.volume_lock:
            await asyncio.to_thread(copy.catch_up)
        return Empty()

    # --- from outside ---

    async def VolumeListFiles(
        self, request: api.VolumeListFilesRequest
    ) -> AsyncIterator[api.VolumeListFilesResponse]:
        yield api.VolumeListFilesResponse(
            entries=self._list(request.volume_id, request.path, request.recursive)
        )

    async def VolumeListFiles2(
        self, request: api.VolumeListFiles2Request
    ) -> AsyncIterator[api.VolumeListFiles2Response]:
        yield api.VolumeListFiles2Response(
            entries=self._list(request.volume_id, request.path, request.recursive)
        )

    def _list(self, volume_id: str, path: str, recursive: bool) -> list[api.FileEntry]:
        try:
            nodes = self._volume(volume_id).below(path, recursive)
        except FileNotFoundError as error:
            raise GRPCError(Status.NOT_FOUND, str(error)) from error
        return [
            api.FileEntry(path=name, type=_kind(node), mtime=node.mtime_ns // 10**9, size=node.size)
            for name, node in sorted(nodes.items())
        ]

    async def VolumeGetFile2(self, request: api.VolumeGetFile2Request) -> api.VolumeGetFile2Response:
        node = self._volume(request.volume_id).head.get(request.path.strip("/"))
        if node is None or node.content is None:
            raise GRPCError(Status.NOT_FOUND, f"{request.path}: no such file in the volume")
        urls = self.plane.blobs.share(node.content, node.size)
        return api.VolumeGetFile2Response(get_urls=urls, size=node.size, start=0, len=node.size)

    async def VolumeRemoveFile(self, request: api.VolumeRemoveFileRequest) -> Empty:
        return await self._remove(request.volume_id, request.path, request.recursive)

    async def VolumeRemoveFile2(self, request: api.VolumeRemoveFile2Request) -> Empty:
        return await self._remove(request.volume_id, request.path, request.recursive)

    async def _remove(self, volume_id: str, path: str, recursive: bool) -> Empty:
        volume, name = self._volume(volume_id), path.strip("/")
        gone = {p for p in volume.head if p == name or p.startswith(name + "/")}
        if not gone:
            raise GRPCError(Status.NOT_FOUND, f"{path}: no such file in the volume")
        if len(gone) > 1 and not recursive:
            raise GRPCError(Status.INVALID_ARGUMENT, f"{path} is a directory; remove it recursively")
        async with self.plane.volume_lock:
            volume.publish({}, gone)
        return Empty()

    async def VolumePutFiles(self, request: api.VolumePutFilesRequest) -> Empty:
        volume = self._volume(request.volume_id)
        self._refuse_overwriting(volume, request, [file.filename for file in request.files])
        nodes = {}
        for file in request.files:
            source = self.plane.blobs.source(file.sha256_hex)
            nodes[file.filename.strip("/")] = await asyncio.to_thread(
                volume.add_file, source, file.mode or 0o644
            )
        await self._publish(volume, nodes)
        return Empty()

    async def VolumePutFiles2(self, request: api.VolumePutFiles2Request) -> api.VolumePutFiles2Response:
        volume = self._volume(request.volume_id)
        self._refuse_overwriting(volume, request, [file.path for file in request.files])
        missing = [
            api.VolumePutFiles2Response.MissingBlock(
                file_index=i,
                block_index=j,
                put_url=self.plane.blobs.address("block", block.contents_sha256.hex()),
            )
            for i, file in enumerate(request.files)
            for j, block in enumerate(file.blocks)
            if not self.plane.blobs.block(block.contents_sha256.hex()).exists()
        ]
        if not missing:
            nodes = {
                file.path.strip("/"): await asyncio.to_thread(self._join, volume, file)
                for file in request.files
            }
            await self._publish(volume, nodes)
        return api.VolumePutFiles2Response(missing_blocks=missing)

    def _join(self, volume: Volume, file: api.VolumePutFiles2Request.File) -> Node:
        """Make one file of its blocks, giving back the trailing zeros that blocks leave out."""
        whole = self.plane.blobs.block(new_id("join"))
        with whole.open("wb") as out:
            for index, block in enumerate(file.blocks):
                out.seek(index * BLOCK_BYTES)
                out.write(self.plane.blobs.block(block.contents_sha256.hex()).read_bytes())
            out.truncate(file.size)
        node = volume.add_file(whole, file.mode or 0o644)
        whole.unlink()
        return node

    def _refuse_overwriting(
        self,
        volume: Volume,
        request: api.VolumePutFilesRequest | api.VolumePutFiles2Request,
        names: Sequence[str],
    ) -> None:
        there = sorted(name for name in names if name.strip("/") in volume.head)
        if there and request.disallow_overwrite_existing_files:
            raise GRPCError(Status.ALREADY_EXISTS, f"{there[0]}: already exists in volume {volume.name}")

    async def _publish(self, volume: Volume, nodes: dict[str, Node]) -> None:
        async with self.plane.volume_lock:
            volume.publish(nodes, set())
        commit = CommitSeen(volume=volume.name, function="", changed=tuple(sorted(nodes)), removed=())
        self.plane.seen.commits.append(commit)

    # --- blobs ---

    async def BlobCreate(self, request: api.BlobCreateRequest) -> api.BlobCreateResponse:
        blob_id = new_id("bl")
        self.plane.blobs.sizes[blob_id] = request.content_length
        urls = api.UploadUrlList(items=[self.plane.blobs.address("blob", blob_id)])
        return api.BlobCreateResponse(blob_id=blob_id, blob_ids=[blob_id], upload_urls=urls)

    async def BlobGet(self, request: api.BlobGetRequest) -> api.BlobGetResponse:
        return api.BlobGetResponse(download_url=self.plane.blobs.address("blob", request.blob_id))


def _kind(node: Node) -> "api.FileEntry.FileType.ValueType":
    if node.target:
        return api.FileEntry.FileType.SYMLINK
    return api.FileEntry.FileType.DIRECTORY if node.is_folder else api.FileEntry.FileType.FILE
