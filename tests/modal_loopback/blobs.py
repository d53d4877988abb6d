"""Bytes that travel over HTTP: blobs, source files by hash, and volume blocks."""

import hashlib
from pathlib import Path

from aiohttp import web

BLOCK_BYTES = 8 << 20


class Blobs:
    """A folder of blobs, behind a small HTTP server on 127.0.0.1 for the client's uploads and downloads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sizes: dict[str, int] = {}
        self.url = ""
        self._shared: dict[str, Path] = {}
        self._runner: web.AppRunner | None = None
        for kind in ("blob", "source", "block"):
            (folder / kind).mkdir(parents=True, exist_ok=True)

    def blob(self, blob_id: str) -> Path:
        return self.folder / "blob" / blob_id

    def source(self, sha256_hex: str) -> Path:
        return self.folder / "source" / sha256_hex

    def block(self, sha256_hex: str) -> Path:
        return self.folder / "block" / sha256_hex

    def address(self, kind: str, name: str) -> str:
        return f"{self.url}/{kind}/{name}"

    def share(self, path: Path, size_bytes: int) -> list[str]:
        """Return one address for each block of a file of the volume store."""
        self._shared[path.name] = path
        return [f"{self.url}/file/{path.name}?start={start}" for start in range(0, size_bytes, BLOCK_BYTES)]

    async def start(self) -> None:
        app = web.Application(client_max_size=1 << 40)
        app.router.add_put("/{kind:blob|block}/{name}", self._put)
        app.router.add_get("/blob/{name}", self._get)
        app.router.add_get("/file/{name}", self._get_block)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0]
        self.url = f"http://{host}:{port}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _put(self, request: web.Request) -> web.Response:
        path = self.folder / request.match_info["kind"] / request.match_info["name"]
        md5 = hashlib.md5(usedforsecurity=False)
        with path.open("wb") as file:
            async for piece in request.content.iter_chunked(1 << 20):
                md5.update(piece)
                file.write(piece)
        return web.Response(headers={"ETag": f'"{md5.hexdigest()}"'})

    async def _get(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(self.blob(request.match_info["name"]))

    async def _get_block(self, request: web.Request) -> web.Response:
        with self._shared[request.match_info["name"]].open("rb") as file:
            file.seek(int(request.query["start"]))
            return web.Response(body=file.read(BLOCK_BYTES))
