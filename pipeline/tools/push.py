"""Push: a dataset sent to the Hugging Face hub, the files of ours in it and no other, and only when asked to.

Parts go first, in as many commits as the hub's client makes of them; what it has of an earlier try stays. One last
commit then brings the card and the manifest and removes the parts that left: no reader ever finds rows missing.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.dataset import PART_NAME, Manifest, Store, is_our_report, status
from pipeline.errors import DamageError, IncompleteError, PipelineError, UsageError
from pipeline.files import is_file
from pipeline.tools.verify import Problem, verify

if TYPE_CHECKING:
    from huggingface_hub import HfApi

FOLDERS = ("data", "rejects")
MANIFEST, CARD, REPORT = "manifest.jsonl", "README.md", "report.html"
MESSAGE = "Push a dataset of embed-corpus"
OF_THE_HUB = ".gitattributes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipment:
    """What would be sent: paths below the dataset with their bytes."""

    parts: dict[str, int]  # in data/ and in rejects/
    others: dict[str, int]  # beside them
    licence: str  # of the corpus, as the card says; "" where it says none
    input: str  # that the manifest names

    @property
    def n_bytes(self) -> int:
        """Bytes of all files."""
        return sum(self.parts.values()) + sum(self.others.values())


def check_repo(repo: str) -> None:
    """Raise UsageError for what is no OWNER/NAME of the hub."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise UsageError(f"push {repo}: expected OWNER/NAME of a dataset on the hub, found: {error}") from error
    if repo.count("/") != 1:
        raise UsageError(
            f"push {repo}: expected OWNER/NAME of a dataset on the hub, found no owner; put yours before it"
        )


def shipment(store: Store, manifest: Manifest) -> Shipment:
    """Return what there is to send of a dataset, all of whose files are checked; asks the network for nothing.

    Raises IncompleteError for one that is not complete, and DamageError for one that is damaged.
    """
    if (state := status(store, manifest)["state"]) != "complete":
        raise IncompleteError(f"push {store.root}: expected a complete dataset, found it {state}; `run` completes it")
    problems, _ = verify(store, manifest)
    if damage := list(filter(_is_damage, problems)):
        first = f"{damage[0].path}: {damage[0].kind}: {damage[0].detail}"
        raise DamageError(
            f"push {store.root}: expected a sound dataset, found {len(damage)} problems, first {first}; nothing was "
            "sent, see `embed-corpus verify`"
        )
    receipts = manifest.receipts.values()
    data = {f"data/{receipt.part}": receipt.size_bytes for receipt in receipts}
    rejects = {
        f"rejects/{each.part}": store.rejects_path(each.part).stat().st_size for each in receipts if each.has_rejects
    }
    found = {
        MANIFEST: True,
        CARD: is_file(store.root / CARD),
        REPORT: is_our_report(store.root / REPORT),
    }
    others = {name: (store.root / name).stat().st_size for name, is_sent in found.items() if is_sent}
    source = manifest.run.input if manifest.run else ""
    return Shipment(parts=data | rejects, others=others, licence=_licence(store.root / CARD), input=source)


def _is_damage(problem: Problem) -> bool:
    """Whether a problem is one of the files that would be sent; those that no run made stay at home."""
    return problem.kind not in ("foreign", "temporary")


def _licence(card: Path) -> str:
    """Return the licence in the metadata of a card, which a person may have written; "" for none."""
    from huggingface_hub import metadata_load

    try:
        found = (metadata_load(card) if is_file(card) else None) or {}
    except (ValueError, OSError):
        return ""
    named = found.get("license_name") if found.get("license") == "other" else found.get("license")
    return named if isinstance(named, str) else ""


def push(store: Store, manifest: Manifest, sent: Shipment, repo: str, *, public: bool) -> str:
    """Send a dataset, and return the address of the last commit.

    A repository is made where there is none. Raises UsageError for one that others see and that must not be, or the
    other way around, for one with other files, and without a token; IncompleteError where the hub does not take it all.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi, get_token
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not get_token():
        raise UsageError(
            f"push {repo}: expected a token of the hub that may write, found none; make one at "
            "https://huggingface.co/settings/tokens and put it in HF_TOKEN"
        )
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # says each try; of the last one we say more
    if not sys.stderr.isatty():
        disable_progress_bars()
    api = HfApi(library_name="embed-corpus")
    with _in_one_line(repo):
        there = _prepared(api, repo, sent, public=public)
        with tempfile.TemporaryDirectory() as folder:
            _link(store.root, Path(folder), sent)
            api.upload_folder(repo_id=repo, repo_type="dataset", folder_path=folder, commit_message=MESSAGE)
        if store.read_manifest().receipts != manifest.receipts:
            raise IncompleteError(f"push {repo}: a run changed {store.root} meanwhile; push again")
        gone = [name for name in there if _is_part(name) and name not in sent.parts]
        changes: list[CommitOperationAdd | CommitOperationCopy | CommitOperationDelete] = [
            *(CommitOperationAdd(name, store.root / name) for name in sent.others),
            *(CommitOperationDelete(name) for name in gone),
        ]
        done = api.create_commit(repo_id=repo, repo_type="dataset", operations=changes, commit_message=MESSAGE)
    return str(done.commit_url)


def _prepared(api: HfApi, repo: str, sent: Shipment, *, public: bool) -> list[str]:
    """Return the files of a repository, which is made if it is not there, and into which a dataset may go."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        found = api.dataset_info(repo)
    except RepositoryNotFoundError:
        api.create_repo(repo, repo_type="dataset", private=not public)
        return []
    if bool(found.private) == public:
        is_now, flag = ("public", "--public") if public is False else ("private", "--private")
        raise UsageError(
            f"push {repo}: expected it {'public' if public else 'private'}, found it {is_now}; nothing was sent, say "
            f"{flag} if that is meant, or change it in the settings of the repository"
        )
    there = [each.rfilename for each in found.siblings or ()]
    foreign = [name for name in there if name not in (*sent.others, OF_THE_HUB) and not _is_part(name)]
    if foreign and MANIFEST not in there:
        raise UsageError(
            f"push {repo}: expected a new repository or one with a dataset of embed-corpus, found other files, such as "
            f"{foreign[0]}; nothing was sent, choose another name"
        )
    return there


def _is_part(name: str) -> bool:
    folder, _, part = name.partition("/")
    return folder in FOLDERS and PART_NAME.fullmatch(part) is not None


def _link(root: Path, folder: Path, sent: Shipment) -> None:
    """Fill a folder with links to the parts, so that nothing else of the dataset's folder can be sent."""
    for name in FOLDERS:
        (folder / name).mkdir()
    for name in sent.parts:
        (folder / name).symlink_to((root / name).resolve())


@contextlib.contextmanager
def _in_one_line(repo: str) -> Iterator[None]:
    """Turn what the hub's client raises into a line that says what to do."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        yield
    except OfflineModeIsEnabled as error:
        raise UsageError(f"push {repo}: expected the network, found HF_HUB_OFFLINE; unset it") from error
    except HfHubHTTPError as error:
        code = error.response.status_code
        if code in (401, 403):
            raise UsageError(
                f"push {repo}: expected a token that may write there, found one that may not ({code}); see HF_TOKEN"
            ) from error
        raise IncompleteError(f"push {repo}: the hub answered {code}; push again: what it has is kept") from error
    except PipelineError:
        raise
    except Exception as error:
        raise IncompleteError(f"push {repo}: broken off: {error}; push again: what the hub has is kept") from error
