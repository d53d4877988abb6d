"""RPCs about what functions refer to: images, source files, secrets and dicts."""

import asyncio
import hashlib
import re
import shlex
import time
from pathlib import Path

from grpclib import GRPCError, Status
from modal_proto import api_pb2 as api

from .objects import Image
from .rpc import Service, found
from .rpc_apps import BUILDER_VERSION
from .scheduler import STATUS
from .state import new_id


class ObjectRpcs(Service):
    # --- images, sources, secrets ---

    async def ImageGetOrCreate(self, request: api.ImageGetOrCreateRequest) -> api.ImageGetOrCreateResponse:
        """Call the image built; of its recipe only ENV lines and copied sources mean something here."""
        objects = self.plane.objects
        env: dict[str, str] = {}
        files: dict[str, Path] = {}
        for base in request.image.base_images:
            env |= objects.images[base.image_id].env
            files |= objects.images[base.image_id].files
        for command in request.image.dockerfile_commands:
            self.plane.seen.image_commands.append(command)
            if command.startswith("ENV "):
                env |= dict(pair.partition("=")[::2] for pair in shlex.split(command[4:]))
            elif copied := re.fullmatch(r"COPY \. (/\S*)", command):
                sources = objects.mounts[request.image.context_mount_id]
                files |= {copied[1].rstrip("/") + name: path for name, path in sources.items()}
        recipe = hashlib.sha256(request.image.SerializeToString(deterministic=True)).hexdigest()
        objects.images[f"im-{recipe[:22]}"] = Image(env=env, files=files)
        return api.ImageGetOrCreateResponse(
            image_id=f"im-{recipe[:22]}",
            result=api.GenericResult(status=STATUS.GENERIC_STATUS_SUCCESS),
            metadata=api.ImageMetadata(image_builder_version=BUILDER_VERSION),
        )

    async def MountBatchedCheckExistence(
        self, request: api.MountBatchedCheckExistenceRequest
    ) -> api.MountBatchedCheckExistenceResponse:
        missing = [sha for sha in request.sha256_hex_hashes if not self.plane.blobs.source(sha).exists()]
        return api.MountBatchedCheckExistenceResponse(missing_sha256_hex_hashes=missing)

    async def MountPutFile(self, request: api.MountPutFileRequest) -> api.MountPutFileResponse:
        source = self.plane.blobs.source(request.sha256_hex)
        if request.WhichOneof("data_oneof") == "data":
            await asyncio.to_thread(source.write_bytes, request.data)
        elif request.data_blob_id:
            self.plane.blobs.blob(request.data_blob_id).replace(source)
        return api.MountPutFileResponse(exists=source.exists())

    async def MountGetOrCreate(self, request: api.MountGetOrCreateRequest) -> api.MountGetOrCreateResponse:
        listing = sorted(f"{file.filename} {file.sha256_hex}" for file in request.files)
        mount_id = f"mo-{hashlib.sha256(repr(listing).encode()).hexdigest()[:22]}"
        self.plane.objects.mounts[mount_id] = {
            file.filename: self.plane.blobs.source(file.sha256_hex) for file in request.files
        }
        return api.MountGetOrCreateResponse(mount_id=mount_id, handle_metadata=api.MountHandleMetadata())

    async def SecretGetOrCreate(self, request: api.SecretGetOrCreateRequest) -> api.SecretGetOrCreateResponse:
        objects = self.plane.objects
        key = ("secret", request.deployment_name)
        secret_id = objects.named.get(key) if request.deployment_name else None
        if secret_id is None or request.env_dict:
            if request.deployment_name and not request.object_creation_type:
                raise GRPCError(Status.NOT_FOUND, f"Secret '{request.deployment_name}' not found")
            secret_id = secret_id or new_id("st")
            objects.secrets[secret_id] = dict(request.env_dict)
            if request.deployment_name:
                objects.named[key] = secret_id
        absent = sorted(set(request.required_keys) - objects.secrets[secret_id].keys())
        if absent:
            raise GRPCError(Status.NOT_FOUND, f"Secret '{request.deployment_name}' lacks the keys {absent}")
        return api.SecretGetOrCreateResponse(
            secret_id=secret_id, metadata=api.SecretMetadata(name=request.deployment_name)
        )

    # --- dicts ---

    def _dict(self, dict_id: str) -> dict[bytes, bytes]:
        return found(self.plane.objects.dicts, dict_id, "Dict")

    async def DictGetOrCreate(self, request: api.DictGetOrCreateRequest) -> api.DictGetOrCreateResponse:
        objects, key = self.plane.objects, ("dict", request.deployment_name)
        if request.deployment_name and key not in objects.named and not request.object_creation_type:
            raise GRPCError(Status.NOT_FOUND, f"Dict '{request.deployment_name}' not found")
        dict_id = objects.named.setdefault(key, new_id("di")) if request.deployment_name else new_id("di")
        objects.dicts.setdefault(dict_id, {})
        creation = api.CreationInfo(created_at=time.time())
        metadata = api.DictMetadata(name=request.deployment_name, creation_info=creation)
        return api.DictGetOrCreateResponse(dict_id=dict_id, metadata=metadata)

    async def DictGet(self, request: api.DictGetRequest) -> api.DictGetResponse:
        value = self._dict(request.dict_id).get(request.key)
        return api.DictGetResponse(found=value is not None, value=value)

    async def DictContains(self, request: api.DictContainsRequest) -> api.DictContainsResponse:
        return api.DictContainsResponse(found=request.key in self._dict(request.dict_id))

    async def DictLen(self, request: api.DictLenRequest) -> api.DictLenResponse:
        return api.DictLenResponse(len=len(self._dict(request.dict_id)))

    async def DictUpdate(self, request: api.DictUpdateRequest) -> api.DictUpdateResponse:
        entries = self._dict(request.dict_id)
        fresh = {e.key: e.value for e in request.updates if not (request.if_not_exists and e.key in entries)}
        entries.update(fresh)
        return api.DictUpdateResponse(created=bool(fresh))

    async def DictPop(self, request: api.DictPopRequest) -> api.DictPopResponse:
        value = self._dict(request.dict_id).pop(request.key, None)
        return api.DictPopResponse(found=value is not None, value=value)
