"""Training policies with Stable-Baselines3 on simulated histories: settings, checkpoints, resuming.

Training goes in segments. Each begins with fresh episodes and random numbers of its own, drawn from
the seed and the segment's number, and ends with a checkpoint (safetensors and JSON; SB3's own zip
holds pickles). So a run that was stopped goes on from its last checkpoint to the very weights it
would have had without the stop.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import set_random_seed

from progressgym_env import CHALLENGES, __version__
from progressgym_env.agents.checkpoints import restore, write_checkpoint
from progressgym_env.agents.policy import Policy, PolicyView, weights_of
from progressgym_env.arguments import check_choice, check_integer
from progressgym_env.errors import InvalidArgumentError, PolicyError, unknown_name
from progressgym_env.models.randomness import random_states_kept
from progressgym_env.wrappers.sb3 import ProgressVecEnv, policy_vec_env

__all__ = [
    "ALGORITHMS",
    "TrainConfig",
    "Trainer",
    "default_settings",
    "default_steps",
    "policy_of",
    "read_sb3",
]

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {"ppo": PPO, "sac": SAC}
_ACTIVATIONS = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}
# Settings that are this package's own; all others go to the algorithm.
_OWN = (
    "n_envs", "length", "reward_scale", "relative", "net_arch", "activation", "log_std_init",
    "final_rate", "segment",
)  # fmt: skip


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
        history: where training histories come from.
        total_steps: environment steps, 1 or more; rounded up to whole segments.
        seed: decides everything.
        steps_ahead: Predict only.
        settings: of the algorithm; by default the tuned ones. ``n_envs``, ``length``,
            ``reward_scale``, ``relative``, ``net_arch``, ``activation``, ``log_std_init``,
            ``final_rate`` and ``segment`` (steps) are this package's, the rest go to the algorithm
            as they are.
    """

    algorithm: str = "ppo"
    challenge: str = "coevolve"
    history: str = "simulated-train"
    total_steps: int = 8_192_000
    seed: int = 0
    steps_ahead: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        tuned = default_settings(self.algorithm, self.challenge)
        for name in self.settings:
            if name not in tuned:
                raise unknown_name(f"setting of {self.algorithm}", name, tuned)
        object.__setattr__(self, "settings", {**tuned, **self.settings})
        check_integer("total_steps", self.total_steps, 1)
        check_integer("seed", self.seed, 0)

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
            "activation_fn": _ACTIVATIONS[own["activation"]],
        }
        if "log_std_init" in own:
            policy["log_std_init"] = own["log_std_init"]
        rate = float(settings.pop("learning_rate"))
        with random_states_kept():
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
        with random_states_kept():
            # SB3 shuffles with the global generators; they are put back afterwards.
            set_random_seed(int(entropy[0]))
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
                **self._config,
                "steps_done": int(self.model.num_timesteps),
                "package_version": __version__,
            },
        )

    def save(self, folder: Path) -> None:
        """Write a checkpoint into ``folder``: weights, optimisers and counters."""
        write_checkpoint(folder, self.model, self._config, self.segment)

    def restore(self, folder: Path) -> None:
        """Go on from the checkpoint in ``folder``.

        Raises:
            PolicyError: there is none, it is damaged, of another version, or of another training.
        """
        self.segment = restore(folder, self.model, self._config)

    @property
    def _config(self) -> dict[str, Any]:
        return {**asdict(self.config), "settings": dict(self.config.settings)}

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


def policy_of(
    model: BaseAlgorithm, view: PolicyView, *, challenge: str, training: Mapping[str, Any]
) -> Policy:
    """The deterministic policy of an SB3 algorithm, without SB3.

    Args:
        model: PPO or SAC with an ``MlpPolicy``.
        view: what it was trained on.
        challenge: what it was trained for.
        training: how it came to be, for readers; JSON-able.

    Raises:
        PolicyError: the algorithm is another one, or its policy has no plain layers.
    """
    actor: list[torch.nn.Module]
    if isinstance(model, PPO):
        actor = [*model.policy.mlp_extractor.policy_net, model.policy.action_net]
        squash = "clip"
    elif isinstance(model, SAC):
        actor = [*model.actor.latent_pi, model.actor.mu]
        squash = "tanh"
    else:
        raise PolicyError(f"{type(model).__name__} is neither PPO nor SAC; train with one of them")
    layers = [layer for layer in actor if isinstance(layer, torch.nn.Linear)]
    kinds = {type(layer) for layer in actor} - {torch.nn.Linear}
    names = [name for name, kind in _ACTIVATIONS.items() if kinds <= {kind}]
    if not names:
        raise PolicyError(
            f"activations {sorted(k.__name__ for k in kinds)} are not among {list(_ACTIVATIONS)}"
        )
    weights = weights_of(
        [(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in layers]
    )
    return Policy(challenge, view, weights, names[0], squash, training)


def read_sb3(path: Path, view: PolicyView, challenge: str, *, trusted: bool) -> Policy:
    """The policy of a zip file that SB3 saved.

    Such a file holds pickles, which run whatever code they like when loaded.

    Args:
        path: the zip file.
        view: what the policy was trained on.
        challenge: what it was trained for.
        trusted: must be True: you know who made the file.

    Raises:
        InvalidArgumentError: ``trusted`` is not True.
        PolicyError: it is neither PPO's nor SAC's, or was trained on another space.
    """
    if trusted is not True:
        raise InvalidArgumentError(
            f"{path}: files of Stable-Baselines3 hold pickles, which can run any code; if you "
            "know who made this one, say trusted=True, else ask for policy.json and "
            "policy.safetensors"
        )
    failures = []
    for algorithm in ALGORITHMS.values():
        try:
            model = algorithm.load(path, device="cpu")
        except (ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
            failures.append(f"{algorithm.__name__}: {error}")
            continue
        space = model.observation_space.shape
        if space != (view.n_features,):
            raise PolicyError(
                f"{path} was trained on observations of shape {space}, and the view has "
                f"({view.n_features},); give the view it was trained on"
            )
        return policy_of(model, view, challenge=challenge, training={"from": path.name})
    raise PolicyError(f"{path} is no policy of {', '.join(ALGORITHMS)}: {'; '.join(failures)}")


def _training_env(config: TrainConfig, own: Mapping[str, Any]) -> ProgressVecEnv:
    arguments = {"steps_ahead": config.steps_ahead} if config.challenge == "predict" else {}
    return policy_vec_env(
        config.challenge,
        int(own["n_envs"]),
        config.history,
        view=PolicyView(length=int(own["length"])),
        reward_scale=float(own["reward_scale"]),
        relative=bool(own["relative"]),
        **arguments,
    )
