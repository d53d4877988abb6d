"""The Hugging Face hub: a name and a branch become a commit, a commit becomes files that are what the hub says."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from huggingface_hub import HfApi, errors, get_token, snapshot_download

from pipeline.errors import EngineError
from pipeline.hub import remove_damaged

# The same weights again for other engines; none of ours reads them.
OTHER_ENGINES = ("onnx/*", "openvino/*", "coreml/*", "original/*", "consolidated*")


def resolve(name: str, revision: str) -> str:
    """Return the commit hash of a branch or tag: the hub's word, or where it is out of reach that of the last time.

    A commit hash is returned as it is. Raises EngineError.
    """
    with _in_one_line(name, revision):
        return HfApi().resolve_revision(name, revision=revision).resolved


def fetch(name: str, commit: str, files: Sequence[str], *, verified: bool = False) -> Path:
    """Return the folder with the files of a commit that match patterns, downloading and verifying what is not there.

    What was there before is verified if `verified`. Raises EngineError.
    """
    folder = None
    with _in_one_line(name, commit):
        with contextlib.suppress(errors.LocalEntryNotFoundError):
            folder = _snapshot(name, commit, files, local=True)
        if folder is not None and not verified:
            return folder
        folder = folder or _snapshot(name, commit, files)
    verify(name, commit)
    return folder


def verify(name: str, commit: str) -> None:
    """Hold every downloaded file of a commit against the hub's hash; raises EngineError for one that differs."""
    with _in_one_line(name, commit):
        wrong = remove_damaged(name, commit)
    if wrong:
        raise EngineError(f"model {name}@{commit}: {wrong}: download again")


def read_shapes(name: str, commit: str) -> dict[str, list[int]]:
    """Return the shape of every tensor of a commit's weights, from their headers alone; raises EngineError."""
    with _in_one_line(name, commit):
        files = HfApi().get_safetensors_metadata(name, revision=commit).files_metadata.values()
    return {name: tensor.shape for file in files for name, tensor in file.tensors.items()}


def _snapshot(name: str, commit: str, files: Sequence[str], *, local: bool = False) -> Path:
    return Path(
        snapshot_download(
            name,
            revision=commit,
            allow_patterns=list(files),
            ignore_patterns=list(OTHER_ENGINES),
            local_files_only=local,
        )
    )


@contextlib.contextmanager
def _in_one_line(name: str, revision: str) -> Iterator[None]:
    """Turn whatever the hub's client raises into an EngineError that says what to do."""
    try:
        yield
    except errors.GatedRepoError as error:
        token = "one without access" if get_token() else "none"
        raise EngineError(
            f"model {name}: gated; expected the token of an account with access in HF_TOKEN, found {token}: accept "
            f"the terms at https://huggingface.co/{name}, then make a token at https://huggingface.co/settings/tokens"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise EngineError(
            f"model {name}: expected a model of the hub, found none of that name, or one that HF_TOKEN may not see"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise EngineError(f"model {name}: expected a revision of the hub, found {revision} (model.revision)") from error
    except (errors.LocalEntryNotFoundError, errors.RevisionResolutionError) as error:
        raise EngineError(
            f"model {name}@{revision}: not on this machine, and the hub is out of reach; download it first: "
            f"`hf download {name}` where there is a network, on Modal `modal run "
            "jobs/embedding_service.py::download_weights`; or name a folder that has it, by model.location or --model"
        ) from error
    except errors.NotASafetensorsRepoError as error:
        raise EngineError(
            f"model {name}@{revision}: expected weights as .safetensors, found none; another "
            "revision may have them (--set model.revision=…)"
        ) from error
    except Exception as error:
        raise EngineError(f"model {name}@{revision}: not available from the hub: {error}") from error
