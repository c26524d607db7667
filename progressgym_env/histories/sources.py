"""Where a history's models come from: adapters over one base, or a full model a century."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from progressgym_env.errors import HistoryError
from progressgym_env.histories.declared import IN_FOLDER, Checkpoint
from progressgym_env.histories.folder import ADAPTERS, Header
from progressgym_env.models.base import Model
from progressgym_env.values.questions import QuestionSet

if TYPE_CHECKING:
    from progressgym_env.models.language import LanguageHost, LanguageModel

__all__ = ["AdapterSource", "CheckpointSource", "ModelSource", "give_back", "source_of"]


class ModelSource(Protocol):
    """Where a history's models come from."""

    def model(self, century: int, device: str, questions: QuestionSet) -> Model:
        """The model of the people of ``century``."""
        ...

    def release(self) -> None:
        """Let go of whatever is loaded; it is loaded anew when next asked for."""
        ...


class AdapterSource:
    """Adapters beside one base, loaded when first asked for; one host a device."""

    def __init__(self, folder: Path, base: str, names: tuple[str, ...]) -> None:
        self.folder, self.base, self.names = folder, base, names
        self._hosts: dict[str, LanguageHost] = {}

    def model(self, century: int, device: str, questions: QuestionSet) -> LanguageModel:
        """The model of ``century``: its adapter over the base."""
        # Imported here: only whoever wants language models pays for torch.
        from progressgym_env.models.language import (
            LanguageHost,
            LanguageModel,
            read_lora_config,
            resolve_device,
        )

        device = resolve_device(device)
        adapter = self.folder / ADAPTERS / self.names[century]
        if device not in self._hosts:
            self._hosts[device] = LanguageHost(
                self.folder / self.base, device=device, lora=read_lora_config(adapter)
            )
        host = self._hosts[device]
        return LanguageModel(host, host.read_adapter(adapter), questions)

    def release(self) -> None:
        """Let go of the bases in memory."""
        self._hosts.clear()
        give_back()


class CheckpointSource:
    """Full models that lie elsewhere; one in memory at a time, a device."""

    def __init__(self, checkpoints: Sequence[Checkpoint], chat_template: str | None) -> None:
        self.checkpoints, self.chat_template = checkpoints, chat_template
        self._hosts: dict[str, tuple[int, LanguageHost]] = {}

    def model(self, century: int, device: str, questions: QuestionSet) -> LanguageModel:
        """The model of ``century``, as it was published: with an adapter that changes nothing."""
        from progressgym_env.models.language import LanguageHost, LanguageModel, resolve_device
        from progressgym_env.models.loading import BaseSource

        device = resolve_device(device)
        checkpoint = self.checkpoints[century]
        folder = Path(checkpoint.model).is_dir()
        if folder and checkpoint.revision != IN_FOLDER:
            # Also where it is in memory: whoever shares it is to learn of it as others are.
            _check_unchanged(checkpoint)
        if device not in self._hosts or self._hosts[device][0] != century:
            # Before the next is loaded: two do not fit.
            self._hosts.pop(device, None)
            give_back()
            source = BaseSource(
                checkpoint.model, None if folder else checkpoint.revision, self.chat_template
            )
            self._hosts[device] = (century, LanguageHost(source, device=device))
        host = self._hosts[device][1]
        return LanguageModel(host, host.fresh, questions)

    def release(self) -> None:
        """Let go of the model in memory."""
        self._hosts.clear()
        give_back()


def give_back() -> None:
    """Let a device have what nothing refers to any more."""
    import torch

    gc.collect()  # Layers and what they were compiled to refer to one another.
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


def _check_unchanged(checkpoint: Checkpoint) -> None:
    from progressgym_env.histories.hub import folder_revision

    found = folder_revision(checkpoint.century, Path(checkpoint.model))
    if found != checkpoint.revision:
        raise HistoryError(
            f"the model {checkpoint.model} of {checkpoint.century} has changed since it was "
            "measured, and the records are another model's; prepare the history anew: "
            "progressgym history prepare"
        )


def source_of(header: Header) -> ModelSource:
    """Where the models of a history folder come from."""
    if header.base is None:
        return CheckpointSource(header.checkpoints, header.chat_template)
    return AdapterSource(header.folder, header.base, header.centuries)
