"""Whether the models of a declaration can be had, said before hours of work."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from huggingface_hub import HfApi, constants, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from progressgym_env.errors import HistoryError
from progressgym_env.histories.declared import Checkpoint

__all__ = ["NO_ANSWER", "folder_revision", "hub_access", "revisions"]

# Of whichever HTTP library the hub's client stands on: no connection, no answer in time.
_HttpError: type[Exception] = next(k for k in HfHubHTTPError.__mro__ if k.__name__ == "HTTPError")
NO_ANSWER: tuple[type[Exception], ...] = (
    HfHubHTTPError,
    OfflineModeIsEnabled,
    _HttpError,
    OSError,
)
_NEEDED = ("config.json", "tokenizer_config.json")
_SECONDS = 10.0


def revisions(checkpoints: Iterable[Checkpoint]) -> dict[str, str]:
    """Century → what exactly its model is, as ``revision`` or a digest of a folder's files.

    Raises:
        HistoryError: a model is missing, gated, incomplete or cannot be reached; it is named, with
            what to do. All are looked at before any is loaded.
    """
    return {checkpoint.century: _revision(checkpoint) for checkpoint in checkpoints}


def _revision(checkpoint: Checkpoint) -> str:
    folder = Path(checkpoint.model)
    if folder.is_dir():
        return folder_revision(checkpoint.century, folder)
    name = f"the model {checkpoint.model} of {checkpoint.century}"
    if folder.is_absolute() or checkpoint.model.startswith("."):
        raise HistoryError(f"{name} is missing: there is no such folder; correct its path")
    try:
        api = HfApi()
        found = api.model_info(checkpoint.model, revision=checkpoint.revision, timeout=_SECONDS)
        if found.gated:
            # The hub tells everybody about a gated model; files it gives to those it knows.
            api.auth_check(checkpoint.model)
    except HFValidationError as error:
        raise HistoryError(
            f"{name} is missing: there is no such folder, and it is no name of the hub ({error})"
        ) from error
    except GatedRepoError as error:
        raise HistoryError(
            f"{name} is gated: accept its terms at {constants.ENDPOINT}/{checkpoint.model}, log in "
            "with 'hf auth login', and start again"
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        at = f" at revision {checkpoint.revision}" if checkpoint.revision else ""
        raise HistoryError(
            f"{name} is not on the hub{at} (or is private); correct its name in the declaration"
        ) from error
    except NO_ANSWER as error:
        return _cached_revision(checkpoint, name, error)
    weights = [s.rfilename for s in found.siblings or () if s.rfilename.endswith(".safetensors")]
    if not weights:
        raise HistoryError(
            f"{name} has no weights as .safetensors on the hub, and other formats are not loaded; "
            "ask its owner to convert it, or convert a copy"
        )
    return str(found.sha)


def folder_revision(century: str, folder: Path) -> str:
    """A digest of the names, sizes and times of a folder's files.

    Raises:
        HistoryError: it lacks what a model needs.
    """
    missing = [name for name in _NEEDED if not (folder / name).is_file()]
    weights = sorted(folder.glob("*.safetensors"))
    if missing or not weights:
        lacks = ", ".join([*missing, *([] if weights else ["*.safetensors"])])
        raise HistoryError(
            f"the model {folder} of {century} lacks {lacks}; give a folder as "
            "'save_pretrained' of the model and of its tokenizer writes it"
        )
    digest = hashlib.sha256()
    # Not the weights' content: reading 16 GB takes longer than a mistake costs.
    for path in sorted(folder.iterdir()):
        if path.is_file():
            stat = path.stat()
            digest.update(f"{path.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:40]


def _cached_revision(checkpoint: Checkpoint, name: str, error: Exception) -> str:
    """Of a model that was downloaded before, where the hub cannot be asked."""
    found = try_to_load_from_cache(
        checkpoint.model, "config.json", revision=checkpoint.revision or "main"
    )
    if isinstance(found, str):
        return Path(found).parent.name
    reason = " ".join(str(error).split())[:200]
    raise HistoryError(
        f"{name} cannot be had: the hub does not answer ({reason}), and it was not downloaded "
        f"before; check the connection, or download it where there is one with 'hf download "
        f"{checkpoint.model}' and name its folder in the declaration"
    ) from error


def hub_access() -> str | None:
    """None where the hub answers, else why it does not, in words."""
    try:
        HfApi().model_info("hf-internal-testing/tiny-random-LlamaForCausalLM", timeout=_SECONDS)
    except RepositoryNotFoundError:
        return None  # It answered.
    except NO_ANSWER as error:
        return " ".join(str(error).split())[:200]
    return None
