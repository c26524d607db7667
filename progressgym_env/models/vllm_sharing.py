"""One vLLM for all environments of a process that would run the same: equal settings, one base."""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from progressgym_env.errors import EngineError
from progressgym_env.models.base import Model
from progressgym_env.models.engines import VllmSettings
from progressgym_env.models.language import LanguageHost, LanguageModel
from progressgym_env.models.vllm_engine import VllmEngine, start_engine

__all__ = ["EngineShare", "share_engine"]


class _Running:
    """A vLLM, and how many have a share in it."""

    def __init__(self, engine: VllmEngine) -> None:
        self.engine = engine
        self._n_shares = 0
        self._pid = os.getpid()

    @property
    def ours(self) -> bool:
        """Whether this process started it; one that was forked has no use for its pipes."""
        return self._pid == os.getpid()

    def take(self) -> None:
        self._n_shares += 1

    def let_go(self) -> None:
        self._n_shares -= 1
        if self._n_shares == 0 and self.ours:
            self.engine.close()


_RUNNING: weakref.WeakKeyDictionary[LanguageHost, dict[VllmSettings, _Running]] = (
    weakref.WeakKeyDictionary()
)


class EngineShare:
    """One environment's share in a running vLLM, which ends with the last. Obeys ``Engine``.

    A share ends when it is closed or collected; what its environment trained then cannot be
    measured by it any more, though others go on.

    Attributes:
        engine: what all of them share.
    """

    def __init__(self, running: _Running) -> None:
        self.engine = running.engine
        running.take()
        self._end = weakref.finalize(self, running.let_go)

    @property
    def alive(self) -> bool:
        """Whether the share is open, and vLLM runs."""
        return self._end.alive and self.engine.alive

    @property
    def pid(self) -> int:
        """Of vLLM's process."""
        return self.engine.pid

    def score(
        self,
        adapter: Mapping[str, Any],
        digest: str,
        prompts: Sequence[Sequence[int]],
        answers: Sequence[Sequence[int]],
    ) -> list[NDArray[Any]]:
        """As ``VllmEngine.score``."""
        self._require_open()
        return self.engine.score(adapter, digest, prompts, answers)

    def reply(
        self,
        adapter: Mapping[str, Any],
        digest: str,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        *,
        max_new_tokens: int,
        temperature: float,
    ) -> list[list[int]]:
        """As ``VllmEngine.reply``."""
        self._require_open()
        return self.engine.reply(
            adapter, digest, prompts, seeds, max_new_tokens=max_new_tokens, temperature=temperature
        )

    def close(self) -> None:
        """Give the share back, with the last one vLLM ends; a second time does nothing."""
        self._end()

    def _require_open(self) -> None:
        if not self._end.alive:
            raise EngineError(
                "this share of the vLLM process was closed; reset the environment, or make another"
            )


def share_engine(model: Model, settings: VllmSettings) -> tuple[EngineShare, LanguageModel]:
    """A share in the vLLM of the host of ``model``, and the model as measured by it.

    Only what runs in this process with equal ``settings`` is shared; otherwise, or where it has
    died, one is started.

    Raises:
        InvalidArgumentError: it is no language model of a folder or of the hub.
        EngineError: vLLM did not start.
    """
    if isinstance(model, LanguageModel):
        running = _RUNNING.get(model.host, {}).get(settings)
        if running is not None and running.ours:
            # Taken before it is looked at: the last other one may be collected at any moment.
            share = EngineShare(running)
            if share.alive:
                return share, model.with_engine(share)
            share.close()
    engine, by_engine = start_engine(model, settings)
    running = _Running(engine)
    _RUNNING.setdefault(by_engine.host, {})[settings] = running
    share = EngineShare(running)
    return share, by_engine.with_engine(share)
