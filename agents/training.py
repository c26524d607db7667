"""Training policies with Stable-Baselines3 on simulated histories: settings, checkpoints, resuming.

Training goes in segments. Each begins with fresh episodes and random numbers of its own, drawn from
the seed and the segment's number, and ends with a checkpoint (safetensors and JSON; SB3's own zip
holds pickles). So a run that was stopped goes on from its last checkpoint to the very weights it
would have had without the stop.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch

from progressgym_env import CHALLENGES, __version__
from progressgym_env.agents.checkpoints import (
    ACTIVATIONS,
    ALGORITHMS,
    policy_of,
    read_sb3,
    restore,
    write_checkpoint,
)
from progressgym_env.agents.policy import Policy, PolicyView
from progressgym_env.arguments import check_choice, check_integer, check_number
from progressgym_env.errors import InvalidArgumentError, unknown_name
from progressgym_env.histories.loading import load
from progressgym_env.histories.simulated import SimulatedHistories
from progressgym_env.models.randomness import random_states_kept
from progressgym_env.wrappers.sb3 import ProgressVecEnv, policy_vec_env

# After checkpoints, which says what to install where Stable-Baselines3 is missing.
# isort: split
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import set_random_seed

__all__ = [
    "ALGORITHMS",
    "TrainConfig",
    "Trainer",
    "default_settings",
    "default_steps",
    "policy_of",
    "read_sb3",
]

# Settings that are this package's own; all others go to the algorithm.
_OWN = (
    "n_envs", "length", "reward_scale", "relative", "net_arch", "activation", "log_std_init",
    "final_rate", "segment",
)  # fmt: skip


def _integer(low: int) -> Callable[[str, object], int]:
    return lambda name, value: check_integer(name, value, low)


def _number(low: float, high: float = math.inf, *, above: bool = False) -> Callable[..., float]:
    def check(name: str, value: object) -> float:
        number = check_number(name, value, low, above=above)
        if number > high:
            raise InvalidArgumentError(f"{name}={value!r} must be {high:g} or less")
        return number

    return check


def _boolean(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidArgumentError(f"{name}={value!r} must be True or False")
    return value


def _layers(name: str, value: object) -> list[int]:
    if not isinstance(value, list | tuple):
        raise InvalidArgumentError(
            f"{name}={value!r} must list the sizes of the layers, integers of 1 or more, as "
            "[128, 128]"
        )
    return [check_integer(f"{name}[{index}]", size, 1) for index, size in enumerate(value)]


def _entropy(name: str, value: object) -> float | str:
    if not isinstance(value, str):
        return check_number(name, value, 0.0)
    start, _, initial = value.partition("_")
    try:
        good = start == "auto" and (value == "auto" or 0 < float(initial) < math.inf)
    except ValueError:
        good = False
    if not good:
        raise InvalidArgumentError(
            f"{name}={value!r} must be a number, 0 or more, 'auto', or 'auto_' and the number "
            "above 0 to begin with, as 'auto_0.01'"
        )
    return value


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    **dict.fromkeys(("n_envs", "segment", "n_steps", "n_epochs"), _integer(1)),
    **dict.fromkeys(("buffer_size", "train_freq"), _integer(1)),
    **dict.fromkeys(("length", "batch_size"), _integer(2)),
    "learning_starts": _integer(0),
    # -1 is SB3's word for as many as there were steps.
    "gradient_steps": _integer(-1),
    **dict.fromkeys(("reward_scale", "learning_rate", "clip_range"), _number(0.0, above=True)),
    **dict.fromkeys(("max_grad_norm",), _number(0.0, above=True)),
    **dict.fromkeys(("gamma", "gae_lambda", "final_rate"), _number(0.0, 1.0)),
    "tau": _number(0.0, 1.0, above=True),
    "log_std_init": _number(-20.0),
    "relative": _boolean,
    "net_arch": _layers,
    "activation": lambda name, value: check_choice(name, value, tuple(ACTIVATIONS)),
    "ent_coef": _number(0.0),
}
"""How every setting is checked, and made a value that JSON keeps as it is."""


def default_settings(algorithm: str, challenge: str) -> dict[str, Any]:
    """The tuned settings of an algorithm for a challenge, from ``settings/*.toml``.

    Raises:
        UnknownNameError: there is no such algorithm or challenge.
    """
    tuned = _tuned(algorithm, challenge)
    del tuned["total_steps"]
    return tuned


def default_steps(algorithm: str, challenge: str) -> int:
    """Environment steps that the tuned settings are meant for: about ten minutes on two cores.

    Raises:
        UnknownNameError: there is no such algorithm or challenge.
    """
    return int(_tuned(algorithm, challenge)["total_steps"])


def _tuned(algorithm: str, challenge: str) -> dict[str, Any]:
    check_choice("algorithm", algorithm, tuple(ALGORITHMS))
    check_choice("challenge", challenge, tuple(CHALLENGES))
    text = (files("progressgym_env.agents") / "settings" / f"{algorithm}.toml").read_text("utf-8")
    tables = tomllib.loads(text)
    return {**tables["all"], **tables.get(challenge, {})}


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """All that a trained policy depends on.

    Attributes:
        algorithm: ``"ppo"`` or ``"sac"``.
        challenge: ``"follow"``, ``"predict"`` or ``"coevolve"``.
        history: name of simulated histories to train on.
        total_steps: environment steps, 1 or more; rounded up to whole segments.
        seed: decides everything.
        steps_ahead: Predict only, 1 elsewhere.
        threads: of torch. Sums depend on how they are split, so another number gives other
            weights.
        settings: of the algorithm; by default the tuned ones. ``n_envs``, ``length``,
            ``reward_scale``, ``relative``, ``net_arch``, ``activation``, ``log_std_init``,
            ``final_rate`` and ``segment`` (steps) are this package's, the rest go to the algorithm
            as they are.

    Raises:
        InvalidArgumentError: a value is of the wrong kind or out of its range.
        UnknownNameError: there is no such algorithm, challenge, history or setting.
    """

    algorithm: str = "ppo"
    challenge: str = "coevolve"
    history: str = "simulated-train"
    total_steps: int = 8_192_000
    seed: int = 0
    steps_ahead: int = 1
    threads: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", self._checked_settings())
        for name, low in (("total_steps", 1), ("seed", 0), ("steps_ahead", 1), ("threads", 1)):
            object.__setattr__(self, name, check_integer(name, getattr(self, name), low))
        last = self.n_centuries - 2
        if self.challenge == "predict":
            check_integer("steps_ahead", self.steps_ahead, 1, last)
        elif self.steps_ahead != 1:
            raise InvalidArgumentError(
                f"steps_ahead={self.steps_ahead} belongs to the challenge predict; "
                f"{self.challenge} has none, so leave it out or change the challenge"
            )

    def _checked_settings(self) -> dict[str, Any]:
        tuned = default_settings(self.algorithm, self.challenge)
        if not isinstance(self.settings, Mapping):
            raise InvalidArgumentError(
                f"settings={self.settings!r} must be a mapping of names to values, as "
                "{'learning_rate': 1e-3}"
            )
        for name in self.settings:
            if name not in tuned:
                raise unknown_name(f"setting of {self.algorithm}", name, tuned)
        checks = {**_CHECKS, "ent_coef": _entropy} if self.algorithm == "sac" else _CHECKS
        settings = {**tuned, **self.settings}
        return {name: checks[name](name, value) for name, value in settings.items()}

    @property
    def n_centuries(self) -> int:
        """Length of the histories."""
        histories = load(self.history) if isinstance(self.history, str) else None
        if not isinstance(histories, SimulatedHistories):
            raise InvalidArgumentError(
                f"history={self.history!r} must be the name of simulated histories, as "
                "'simulated-train': models that are trained one at a time cannot be batched, and "
                "a checkpoint keeps names only"
            )
        return histories.n_centuries

    @property
    def n_segments(self) -> int:
        """How many segments the training has."""
        return -(-self.total_steps // int(self.settings["segment"]))


class Trainer:
    """Trains one policy, segment by segment.

    Args:
        config: what to train.
        on_rollout: called after every rollout with SB3's algorithm; for displays and logs.

    Attributes:
        model: SB3's algorithm.
        segment: segments done.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        on_rollout: Callable[[BaseAlgorithm], None] = lambda model: None,
    ) -> None:
        self.config, self.segment = config, 0
        self._callback = _Callback(on_rollout)
        settings = dict(config.settings)
        own = {name: settings.pop(name) for name in _OWN if name in settings}
        self._final_rate, self._segment_steps = float(own["final_rate"]), int(own["segment"])
        self.env = _training_env(config, own)
        policy: dict[str, Any] = {
            "net_arch": list(own["net_arch"]),
            "activation_fn": ACTIVATIONS[own["activation"]],
        }
        if "log_std_init" in own:
            policy["log_std_init"] = own["log_std_init"]
        rate = float(settings.pop("learning_rate"))
        with _apart(config.threads):
            self.model: BaseAlgorithm = ALGORITHMS[config.algorithm](
                "MlpPolicy",
                self.env,
                # Not SB3's remaining progress, which knows one segment only.
                learning_rate=lambda _: rate * self._rate_left(),
                policy_kwargs=policy,
                seed=config.seed,
                device="cpu",
                **settings,
            )

    @property
    def done(self) -> bool:
        """Whether all segments are done."""
        return self.segment >= self.config.n_segments

    def train_segment(self) -> None:
        """Train one segment: fresh episodes, random numbers of its own."""
        entropy = np.random.SeedSequence((self.config.seed, self.segment)).generate_state(2)
        with _apart(self.config.threads):
            # SB3 shuffles with the global generators; SAC's warm-up draws from the action space.
            set_random_seed(int(entropy[0]))
            self.model.action_space.seed(int(entropy[0]))
            self.env.seed(int(entropy[1]) % 2**31)
            self.model._last_obs = None
            self.model.learn(
                self._segment_steps, callback=self._callback, reset_num_timesteps=False
            )
        self.segment += 1

    def policy(self) -> Policy:
        """The policy as it is now."""
        config = self.config
        return policy_of(
            self.model,
            self._view,
            challenge=config.challenge,
            training={
                **asdict(config),
                "steps_done": int(self.model.num_timesteps),
                "package_version": __version__,
            },
        )

    def save(self, folder: Path) -> None:
        """Write a checkpoint into ``folder``: weights, optimisers and counters."""
        config = asdict(self.config)
        write_checkpoint(folder, self.model, config, self.segment, to_go_on=not self.done)

    def restore(self, folder: Path) -> None:
        """Go on from the checkpoint in ``folder``.

        Raises:
            PolicyError: there is none, it is damaged, of another version, or of another training.
        """
        self.segment = restore(folder, self.model, asdict(self.config))

    @property
    def _view(self) -> PolicyView:
        assert self.env.view is not None
        return self.env.view

    def _rate_left(self) -> float:
        done = min(self.segment / self.config.n_segments, 1.0)
        return 1.0 - (1.0 - self._final_rate) * done


class _Callback(BaseCallback):
    def __init__(self, on_rollout: Callable[[BaseAlgorithm], None]) -> None:
        super().__init__()
        self._on_rollout_done = on_rollout

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self._on_rollout_done(self.model)


@contextmanager
def _apart(threads: int) -> Iterator[None]:
    """Compute with ``threads``; torch's own number and all random states are put back after it."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with random_states_kept():
            yield
    finally:
        torch.set_num_threads(before)


def _training_env(config: TrainConfig, own: Mapping[str, Any]) -> ProgressVecEnv:
    arguments = {"steps_ahead": config.steps_ahead} if config.challenge == "predict" else {}
    return policy_vec_env(
        config.challenge,
        int(own["n_envs"]),
        config.history,
        view=PolicyView(length=int(own["length"]), n_centuries=config.n_centuries),
        reward_scale=float(own["reward_scale"]),
        relative=bool(own["relative"]),
        **arguments,
    )
