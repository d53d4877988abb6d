"""A driver that maps over a class which writes to a volume: the smallest app of the usual shape."""

from pathlib import Path

import modal

app = modal.App("basic")
volume = modal.Volume.from_name("basic-output", create_if_missing=True)


@app.cls(volumes={"/out": volume}, image=modal.Image.debian_slim().env({"GREETING": "good day"}))
class Writer:
    @modal.enter(snap=False)
    def open(self) -> None:
        self.written = 0

    @modal.method()
    def write(self, n: int) -> int:
        Path(f"/out/{n}.txt").write_text(str(n * n))
        volume.commit()
        self.written += 1
        return n * n


@app.function(volumes={"/out": volume})
def driver(n: int) -> int:
    total = sum(Writer().write.map(range(n), order_outputs=False))
    volume.reload()
    on_disk = sum(int(path.read_text()) for path in Path("/out").glob("*.txt"))
    print(f"on disk {on_disk}")  # noqa: T201
    return total


@app.local_entrypoint()
def main(n: int = 10) -> None:
    print(f"total {driver.remote(n)}")  # noqa: T201
