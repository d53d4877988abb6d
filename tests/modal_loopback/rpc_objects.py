"""RPCs about what functions refer to: images, source files, secrets, blobs, dicts and volumes."""

import asyncio
import hashlib
import re
import shlex
from collections.abc import AsyncIterator
from pathlib import Path

from grpclib import GRPCError, Status
from modal_proto import api_pb2 as api

from . import namespace
from .blobs import BLOCK_BYTES
from .calls import STATUS, new_id
from .container import Image
from .functions import volume_metadata
from .knobs import FailCommit
from .rpc import Reply, Service, found
from .rpc_apps import BUILDER_VERSION
from .volumes import Copy, Node, Tree, Volume

OPEN_FILES = "there are open files preventing the operation"


def _hashed(prefix: str, content: bytes) -> str:
    return f"{prefix}-{hashlib.sha256(content).hexdigest()[:22]}"


class ObjectRpcs(Service):
    async def ImageGetOrCreate(self, request: api.ImageGetOrCreateRequest) -> Reply:
        """Call the image built; of its recipe only ENV lines and copied sources mean something here."""
        image, plane = request.image, self.plane
        env: dict[str, str] = {}
        files: dict[str, Path] = {}
        recipe: tuple[api.Image, ...] = (image,)
        for base in image.base_images:
            env |= plane.images[base.image_id].env
            files |= plane.images[base.image_id].files
            recipe = (*plane.images[base.image_id].recipe, *recipe)
        for command in image.dockerfile_commands:
            if command.startswith("ENV "):
                env |= dict(pair.partition("=")[::2] for pair in shlex.split(command[4:]))
            elif copied := re.fullmatch(r"COPY \. (/\S*)", command):
                sources = plane.mounts[image.context_mount_id]
                files |= {copied[1].rstrip("/") + name: path for name, path in sources.items()}
        image_id = _hashed("im", image.SerializeToString(deterministic=True))
        plane.images[image_id] = Image(env, files, recipe)
        result = api.GenericResult(status=STATUS.GENERIC_STATUS_SUCCESS)
        metadata = api.ImageMetadata(image_builder_version=BUILDER_VERSION)
        return {"image_id": image_id, "result": result, "metadata": metadata}

    async def MountBatchedCheckExistence(self, request: api.MountBatchedCheckExistenceRequest) -> Reply:
        missing = [sha for sha in request.sha256_hex_hashes if not self.plane.blobs.path("source", sha).exists()]
        return {"missing_sha256_hex_hashes": missing}

    async def MountPutFile(self, request: api.MountPutFileRequest) -> Reply:
        source = self.plane.blobs.path("source", request.sha256_hex)
        if request.WhichOneof("data_oneof") == "data":
            await asyncio.to_thread(source.write_bytes, request.data)
        elif request.data_blob_id:
            self.plane.blobs.path("blob", request.data_blob_id).replace(source)
        return {"exists": source.exists()}

    async def MountGetOrCreate(self, request: api.MountGetOrCreateRequest) -> Reply:
        files = {file.filename: self.plane.blobs.path("source", file.sha256_hex) for file in request.files}
        mount_id = _hashed("mo", repr(sorted(files.items())).encode())
        self.plane.mounts[mount_id] = files
        return {"mount_id": mount_id, "handle_metadata": api.MountHandleMetadata()}

    async def SecretGetOrCreate(self, request: api.SecretGetOrCreateRequest) -> Reply:
        secret_id, name = self.named("Secret", request), request.deployment_name
        if request.env_dict or secret_id not in self.plane.secrets:
            self.plane.secrets[secret_id] = dict(request.env_dict)
        absent = sorted(set(request.required_keys) - self.plane.secrets[secret_id].keys())
        if absent:
            raise GRPCError(Status.NOT_FOUND, f"Secret '{name}' lacks the keys {absent}")
        return {"secret_id": secret_id, "metadata": api.SecretMetadata(name=name)}

    async def BlobCreate(self, request: api.BlobCreateRequest) -> Reply:
        blob_id = new_id("bl")
        urls = api.UploadUrlList(items=[self.plane.blobs.address(self.plane.blobs.path("blob", blob_id))])
        return {"blob_id": blob_id, "blob_ids": [blob_id], "upload_urls": urls}

    async def BlobGet(self, request: api.BlobGetRequest) -> Reply:
        return {"download_url": self.plane.blobs.address(self.plane.blobs.path("blob", request.blob_id))}

    def _dict(self, dict_id: str) -> dict[bytes, bytes]:
        return found(self.plane.dicts, dict_id, "Dict")

    async def DictGetOrCreate(self, request: api.DictGetOrCreateRequest) -> Reply:
        dict_id = self.named("Dict", request)
        self.plane.dicts.setdefault(dict_id, {})
        return {"dict_id": dict_id, "metadata": api.DictMetadata(name=request.deployment_name)}

    async def DictGet(self, request: api.DictGetRequest) -> Reply:
        value = self._dict(request.dict_id).get(request.key)
        return {"found": value is not None, "value": value}

    async def DictContains(self, request: api.DictContainsRequest) -> Reply:
        return {"found": request.key in self._dict(request.dict_id)}

    async def DictLen(self, request: api.DictLenRequest) -> Reply:
        return {"len": len(self._dict(request.dict_id))}

    async def DictUpdate(self, request: api.DictUpdateRequest) -> Reply:
        entries = self._dict(request.dict_id)
        fresh = {e.key: e.value for e in request.updates if not (request.if_not_exists and e.key in entries)}
        entries.update(fresh)
        return {"created": bool(fresh)}

    async def DictPop(self, request: api.DictPopRequest) -> Reply:
        value = self._dict(request.dict_id).pop(request.key, None)
        return {"found": value is not None, "value": value}

    async def DictContents(self, request: api.DictContentsRequest) -> AsyncIterator[api.DictEntry]:
        for key, value in list(self._dict(request.dict_id).items()):
            yield api.DictEntry(key=key, value=value)


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

    # --- from inside a container ---

    def _mounted(self, volume_id: str) -> Copy:
        return found(self.inside.copies, volume_id, "Mount of volume")

    async def VolumeCommit(self, request: api.VolumeCommitRequest) -> Reply:
        copy = self._mounted(request.volume_id)
        name = copy.volume.name + ("@exit" if self.inside.leaving else "")
        for rule in self.plane.faults.due(FailCommit, name):
            raise GRPCError(Status.ABORTED, rule.message)
        await self.inside.commit(copy)
        return {"skip_reload": not self.plane.settings.reload_after_commit}

    async def VolumeReload(self, request: api.VolumeReloadRequest) -> None:
        copy = self._mounted(request.volume_id)
        path = await asyncio.to_thread(lambda: copy.holds(namespace.open_inodes(self.inside.seen.pid)))
        if path is not None:
            raise GRPCError(Status.ABORTED, f"{OPEN_FILES}: {path}")
        async with self.plane.volume_lock:
            await asyncio.to_thread(copy.catch_up)

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
        async with self.plane.volume_lock:
            volume.publish(nodes, set())
        self.plane.saw_commit(volume, "", sorted(nodes), ())


def _entry(path: str, node: Node) -> api.FileEntry:
    if node.content is not None:
        s = node.content.stat()
        return api.FileEntry(path=path, type=api.FileEntry.FILE, mtime=int(s.st_mtime), size=s.st_size)
    return api.FileEntry(path=path, type=api.FileEntry.SYMLINK if node.target else api.FileEntry.DIRECTORY)
