"""Bytes that travel over HTTP on 127.0.0.1: blobs, source files by hash, and volume blocks."""

import hashlib
from pathlib import Path
from typing import Literal

from aiohttp import web

BLOCK_BYTES = 8 << 20


class Blobs:
    """Gives and takes the files below `root`, each at the address of the same path."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = ""
        app = web.Application(client_max_size=1 << 40)
        app.router.add_put("/{path:.+}", self._put)
        app.router.add_get("/{path:.+}", self._get)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        for kind in ("blob", "source", "block"):
            (root / kind).mkdir(parents=True, exist_ok=True)

    def path(self, kind: Literal["blob", "source", "block"], name: str) -> Path:
        return self.root / kind / name

    def address(self, path: Path) -> str:
        return f"{self.url}/{path.relative_to(self.root)}"

    async def start(self) -> None:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _put(self, request: web.Request) -> web.Response:
        md5 = hashlib.md5(usedforsecurity=False)
        with (self.root / request.match_info["path"]).open("wb") as file:
            async for piece in request.content.iter_chunked(1 << 20):
                md5.update(piece)
                file.write(piece)
        return web.Response(headers={"ETag": f'"{md5.hexdigest()}"'})

    async def _get(self, request: web.Request) -> web.StreamResponse:
        """Answer with a whole file or with its block that begins at `start`."""
        path = self.root / request.match_info["path"]
        if "start" not in request.query:
            return web.FileResponse(path)
        with path.open("rb") as file:
            file.seek(int(request.query["start"]))
            return web.Response(body=file.read(BLOCK_BYTES))
