"""Logging an environment's episodes to Weights & Biases."""

from __future__ import annotations

import inspect
import json
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, SupportsFloat

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs

from progressgym_env import __version__
from progressgym_env.envs.progress import Action, Observation, ProgressEnv
from progressgym_env.envs.rendering import trajectory_array
from progressgym_env.envs.trajectory import Trajectory
from progressgym_env.errors import InvalidArgumentError
from progressgym_env.wrappers.wandb_sink import Century, WandbSink

__all__ = ["WandbLogger"]

_PACKAGES = (
    "gymnasium", "numpy", "torch", "transformers", "peft", "trl", "stable_baselines3", "wandb",
)  # fmt: skip
_NO_ARGUMENTS = ("self", "unknown", "history", "render_mode")


class WandbLogger(gym.Wrapper[Observation, Action, Observation, Action], RecordConstructorArgs):
    """Logs every episode to one W&B run; changes nothing of what the environment gives or takes.

    | logged | what |
    |---|---|
    | `century/reward`, `/cosine`, `/examples`, `/index`, `/name` | every step: what the challenge paid, the cosine of the examinee after it and the judge the agent saw, … |
    | `judge/…`, `examinee/…`, `proxy/…` | every step: the 19 values by name, as `judge/do not kill`; `proxy/…` in Coevolve alone |
    | `episode/score`, `/return` | every finished episode; with the seed that `reset` was given |
    | `dialogue` | a table, a row a reply: episode, century, prompt, reply |
    | `trajectories` | at the end: the picture of the last episode |

    All are drawn over `episodes`, the number of episodes played. The run's config holds the
    environment's arguments, versions, and the hashes of history and questions.

    The run starts at the first reset and ends with :meth:`close`; a reset after that starts
    another. Nothing that W&B does stops an episode, though the first reset and :meth:`close` may
    have it wait. Starting takes 5 seconds at most where nobody answers, finishing 30 where the
    upload is slow; ``WANDB_INIT_TIMEOUT`` and ``WANDB_FINISH_TIMEOUT`` change that. See
    :class:`WandbSink`.

    Args:
        env: an environment of this package, wrapped or not.
        project: None for the environment variable ``WANDB_PROJECT``, or ``"progressgym"``.
        mode: ``"online"``, ``"offline"`` or ``"disabled"``; None for wandb's own setting.
        name: of the run; None lets W&B invent one.
        config: more for the run's config; JSON-able.
        folder: where wandb makes its folder ``wandb``; None for ``WANDB_DIR``, or the present one.
        dialogue: whether to log the dialogue; without it, training runs stay small.

    Raises:
        MissingPackageError: wandb is needed and not installed.
        InvalidArgumentError: ``env`` is none of this package's, ``config`` is not JSON-able, or
            ``project`` is no name that W&B takes.
        UnknownNameError: there is no such mode.
    """  # noqa: E501  # table rows cannot be broken

    def __init__(
        self,
        env: gym.Env[Observation, Action],
        project: str | None = None,
        mode: str | None = None,
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        folder: str | Path | None = None,
        dialogue: bool = True,
    ) -> None:
        place = None if folder is None else str(folder)
        extra = _checked_config(config)
        RecordConstructorArgs.__init__(
            self, project=project, mode=mode, name=name, config=extra, folder=place,
            dialogue=dialogue,
        )  # fmt: skip
        super().__init__(env)
        if not isinstance(env.unwrapped, ProgressEnv):
            raise InvalidArgumentError(
                f"{env} is no ProgressGym environment; make one with gymnasium.make, for instance "
                "'ProgressGym/Follow-v0'"
            )
        self._challenge: ProgressEnv = env.unwrapped
        self._dialogue = dialogue
        self._extra = extra or {}
        self._arguments: dict[str, Any] = {
            "project": project, "mode": mode, "name": name, "folder": place,
        }  # fmt: skip
        # Mistakes are to show now, and not at the reset that starts the run.
        WandbSink(**self._arguments)
        self._sink: WandbSink | None = None
        self._labels: dict[str, str | int] = {}
        self._last: Trajectory | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Reset, and log what the judge says; the first time, start the run."""
        observation, info = self.env.reset(seed=seed, options=options)
        sink = self._started_sink()
        sink.begin_episode()
        self._labels = {} if seed is None else {"seed": seed}
        number = getattr(self._challenge.history, "history_seed", None)
        if number is not None:
            # Text: W&B's numbers are floats, which are too short for it.
            self._labels["history_seed"] = str(number)
        self._log_dialogue(sink, info)
        return observation, info

    def step(self, action: Action) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step, and log what came of it."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        sink = self._started_sink()
        if sink.active:
            self._last = self._challenge.trajectory
            century = _last_century(self._last, info["n_examples"])
            sink.log_century(century, n_steps=self._challenge.n_steps, labels=self._labels)
            self._log_dialogue(sink, info)
            if terminated:
                total = float(self._last.rewards.sum())
                sink.log_episode(self._challenge.score(), total, self._labels)
        return observation, reward, terminated, truncated, info

    def close(self) -> None:
        """Log the picture, finish the run, close the environment. May be called more than once."""
        sink, self._sink = self._sink, None
        last, self._last = self._last, None
        if sink is not None:
            if sink.active and last is not None:
                challenge, history = self._challenge.challenge, self._challenge.history.name
                picture = trajectory_array(last, f"{challenge} through history {history!r}")
                sink.log_picture("trajectories", picture)
            sink.finish()
        super().close()

    def _started_sink(self) -> WandbSink:
        if self._sink is None:
            config = {**_config(self._challenge), **self._extra}
            self._sink = WandbSink(config=config, **self._arguments)
            self._sink.start()
        return self._sink

    def _log_dialogue(self, sink: WandbSink, info: Mapping[str, Any]) -> None:
        # A wrapper further in may have taken it out.
        if self._dialogue and "dialogue" in info:
            sink.log_dialogue(info["century_name"], info["dialogue_prompts"], info["dialogue"])


def _last_century(trajectory: Trajectory, n_examples: int) -> Century:
    index, proxy = len(trajectory.rewards), trajectory.proxy_values
    return Century(
        index=index,
        name=trajectory.names[index],
        reward=float(trajectory.rewards[-1]),
        judge_values=trajectory.judge_values[index] if proxy is None else proxy[index - 1],
        examinee_values=trajectory.examinee_values[index],
        proxy_values=None if proxy is None else proxy[index],
        n_examples=n_examples,
    )


def _config(challenge: ProgressEnv) -> dict[str, Any]:
    """What an episode depends on, besides the agent and the seeds."""
    history = challenge.history
    # Simulated histories are another one every episode, which the episode's own row names.
    fixed = getattr(history, "history_seed", None) is None
    return {
        "challenge": challenge.challenge.lower(),
        "arguments": _arguments(challenge),
        "package_version": __version__,
        "history": {
            "name": history.name,
            "centuries": list(history.names),
            "synthetic": bool(history.provenance.get("synthetic", False)),
        },
        "history_digest": history.digest if fixed else None,
        "question_set_hash": history.questions.hash,
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
    }


def _arguments(challenge: ProgressEnv) -> dict[str, Any]:
    """What the environment was made with, defaults included; objects by their name."""
    parameters = inspect.signature(type(challenge).__init__).parameters.values()
    given = challenge.spec.kwargs if challenge.spec is not None else {}
    wanted = {p.name: given.get(p.name, p.default) for p in parameters}
    return {
        key: value if _is_jsonable(value) else getattr(value, "name", type(value).__name__)
        for key, value in wanted.items()
        if key not in _NO_ARGUMENTS
    }


def _checked_config(config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if config is None:
        return None
    if not isinstance(config, Mapping) or not _is_jsonable(dict(config)):
        raise InvalidArgumentError(
            f"config={config!r} must be a mapping of JSON-able values, since it is part of the "
            "environment's specification; leave out or convert what is none"
        )
    return dict(config)


def _is_jsonable(value: object) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
