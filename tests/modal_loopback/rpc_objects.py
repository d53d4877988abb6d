"""RPCs about what functions refer to: images, source files, secrets, blobs and dicts."""

import asyncio
import hashlib
import re
import shlex
from collections.abc import AsyncIterator
from pathlib import Path

from grpclib import GRPCError, Status
from modal_proto import api_pb2 as api

from .calls import STATUS, new_id
from .container import Image
from .rpc import Reply, Service, found
from .rpc_apps import BUILDER_VERSION


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

    async def DictClear(self, request: api.DictClearRequest) -> None:
        self._dict(request.dict_id).clear()

    async def DictContents(self, request: api.DictContentsRequest) -> AsyncIterator[api.DictEntry]:
        for key, value in list(self._dict(request.dict_id).items()):
            yield api.DictEntry(key=key, value=value)
