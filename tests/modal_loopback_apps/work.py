"""One deployed app with a function for each behaviour that the tests look at."""

import asyncio
import os
import threading
import time
from pathlib import Path

import modal

app = modal.App("work", image=modal.Image.debian_slim().env({"GREETING": "good day"}))
desk_volume = modal.Volume.from_name("desk", create_if_missing=True)
other_volume = modal.Volume.from_name("other", create_if_missing=True, version=2)
SCHEDULE = modal.Cron("0 6 * * *", timezone="Europe/Berlin")


@app.function(max_containers=1)
def square(n: int) -> int:
    return n * n


@app.function(max_containers=1)
def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@app.function(max_containers=1)
def outlive(name: str) -> str:
    """Return the container that it ran in; one that is preempted goes on until its name is free."""
    try:
        if modal.Dict.from_name("began", create_if_missing=True).put(name, 1, skip_if_exists=True):
            time.sleep(300)
    finally:
        while not is_free(name):
            time.sleep(0.05)
    return os.environ["MODAL_TASK_ID"]


@app.function(nonpreemptible=True)
def steady(n: int) -> int:
    return n


@app.function(max_containers=1, retries=modal.Retries(max_retries=2, initial_delay=0.0))
def fail_twice(name: str) -> int:
    tries = modal.Dict.from_name("tries", create_if_missing=True)
    tries[name] = tries.get(name, 0) + 1
    if tries[name] < 3:
        raise ValueError(f"try {tries[name]}")
    return int(tries[name])


@app.function(timeout=1)
def too_slow() -> None:
    time.sleep(60)


@app.function(max_containers=1)
def die(n: int) -> int:
    if n < 0:
        os.kill(os.getpid(), 9)
    return n


@app.function(schedule=SCHEDULE, secrets=[modal.Secret.from_name("key")], env={"COLOUR": "red"})
def nightly() -> dict[str, str]:
    print("nightly ran")  # noqa: T201
    return {name: os.environ[name] for name in ("KEY", "COLOUR", "GREETING")}


@app.function()
def driver(n: int) -> list[int]:
    return list(square.map(range(n)))


@app.function()
def relay(left: int) -> str:
    print(f"relay {left} in {modal.current_function_call_id()} {modal.current_input_id()}")  # noqa: T201
    return relay.spawn(left - 1).object_id if left else "home"


@app.cls()
class Broken:
    @modal.enter()
    def load(self) -> None:
        raise OSError("no weights here")

    @modal.method()
    def run(self) -> None:
        raise AssertionError("never reached")


@app.cls(max_containers=1)
@modal.concurrent(max_inputs=2)
class Pair:
    @modal.method()
    def nap(self, seconds: float) -> tuple[float, float]:
        began = time.time()
        time.sleep(seconds)
        return began, time.time()


def is_free(name: str) -> bool:
    return name in modal.Dict.from_name("free", create_if_missing=True)


@app.cls(max_containers=1)
@modal.concurrent(max_inputs=2)
class Hold:
    """Its calls end once their name is in the Dict `free`."""

    @modal.method()
    def until_free(self, name: str) -> str:
        while not is_free(name):
            time.sleep(0.05)
        return name


@app.cls(max_containers=1)
@modal.concurrent(max_inputs=2)
class AsyncHold:
    @modal.method()
    async def until_free(self, name: str) -> str:
        while not await asyncio.to_thread(is_free, name):
            await asyncio.sleep(0.05)
        return name


@app.cls(enable_memory_snapshot=True, gpu="A100-40GB", scaledown_window=2)
class Model:
    size: int = modal.parameter(default=1)

    @modal.enter(snap=True)
    def load(self) -> None:
        self.trace = ["load"]

    @modal.enter(snap=False)
    def wake(self) -> None:
        self.trace.append("wake")

    @modal.method()
    def run(self, seconds: float = 0.0) -> tuple[int, list[str]]:
        time.sleep(seconds)
        return self.size, self.trace

    @modal.exit()
    def close(self) -> None:
        print(f"model {self.size} closes")  # noqa: T201


@app.cls(volumes={"/desk": desk_volume, "/other": other_volume})
class Desk:
    """A container that does as it is told; each name is a container of its own."""

    name: str = modal.parameter()

    @modal.method()
    def write(self, path: str, text: str) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)

    @modal.method()
    def read(self, path: str) -> str | None:
        return Path(path).read_text() if Path(path).exists() else None

    @modal.method()
    def sync(self, path: str) -> str:
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        except OSError as error:
            return str(error.strerror)
        finally:
            os.close(folder)
        return "synced"

    @modal.method()
    def rename(self, old: str, new: str) -> None:
        Path(old).rename(new)

    @modal.method()
    def remove(self, path: str) -> None:
        Path(path).unlink()

    @modal.method()
    def commit(self) -> None:
        desk_volume.commit()

    @modal.method()
    def reload(self) -> None:
        desk_volume.reload()

    @modal.method()
    def look_while_reloading(self, path: str, other: str) -> list[bool]:
        """Reload, write `other` once `path` is not there, and return the changes of whether it is."""
        looks = [Path(path).exists()]
        reload = threading.Thread(target=desk_volume.reload)
        reload.start()
        while reload.is_alive():
            if (is_there := Path(path).exists()) != looks[-1]:
                looks.append(is_there)
                if not is_there:
                    self.write.local(other, "meanwhile")
        return looks

    @modal.method()
    def reload_while_open(self, path: str) -> str:
        with Path(path).open():
            try:
                desk_volume.reload()
            except RuntimeError as error:
                return str(error)
        return ""


@app.function(volumes={"/desk": desk_volume.with_mount_options(read_only=True)})
def scribble(path: str) -> tuple[str, str]:
    try:
        Path(path).write_text("no")
    except OSError as error:
        return Path("/desk/a.txt").read_text(), str(error.strerror)
    return Path("/desk/a.txt").read_text(), "written"
