"""Training policies with Stable-Baselines3 on simulated histories: settings, checkpoints, resuming.

Training goes in segments. Each begins with fresh episodes and random numbers of its own, drawn from
the seed and the segment's number, and ends with a checkpoint (safetensors and JSON; SB3's own zip
holds pickles). So a run that was stopped goes on from its last checkpoint to the very weights it
would have had without the stop.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import set_random_seed

from progressgym_env import CHALLENGES, __version__
from progressgym_env.agents.policy import Policy, PolicyView, weights_of
from progressgym_env.arguments import check_choice, check_integer
from progressgym_env.errors import InvalidArgumentError, PolicyError, unknown_name
from progressgym_env.files import write_bytes, write_json
from progressgym_env.models.randomness import random_states_kept
from progressgym_env.wrappers.sb3 import ProgressVecEnv, policy_vec_env

__all__ = [
    "ALGORITHMS",
    "TrainConfig",
    "Trainer",
    "default_settings",
    "policy_of",
    "read_sb3",
]

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {"ppo": PPO, "sac": SAC}
CHECKPOINT_FILE, TENSORS_FILE = "checkpoint.json", "checkpoint.safetensors"
CHECKPOINT_VERSION = 1
_ACTIVATIONS = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}
# Settings that are this package's own; all others go to the algorithm.
_OWN = (
    "n_envs", "length", "reward_scale", "net_arch", "activation", "log_std_init", "final_rate",
    "segment",
)  # fmt: skip
_BUFFER = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


def default_settings(algorithm: str, challenge: str) -> dict[str, Any]:
    """The tuned settings of an algorithm for a challenge, from ``settings/*.toml``.

    Raises:
        UnknownNameError: there is no such algorithm or challenge.
    """
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
            ``reward_scale``, ``net_arch``, ``activation``, ``log_std_init``, ``final_rate`` and
            ``segment`` (steps) are this package's, the rest go to the algorithm as they are.
    """

    algorithm: str = "ppo"
    challenge: str = "coevolve"
    history: str = "simulated-train"
    total_steps: int = 8_000_000
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
                **asdict(config),
                "settings": dict(config.settings),
                "steps_done": int(self.model.num_timesteps),
                "package_version": __version__,
            },
        )

    def save(self, folder: Path) -> None:
        """Write a checkpoint into ``folder``: weights, optimisers and counters."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors, header = _state_of(self.model)
        write_bytes(folder / TENSORS_FILE, save(tensors))
        # Last, so that a checkpoint with a header is whole.
        content = {
            "checkpoint_version": CHECKPOINT_VERSION,
            "config": {**asdict(self.config), "settings": dict(self.config.settings)},
            "segment": self.segment,
            "tensors": hashlib.sha256((folder / TENSORS_FILE).read_bytes()).hexdigest(),
            **header,
        }
        write_json(folder / CHECKPOINT_FILE, content)

    def restore(self, folder: Path) -> None:
        """Go on from the checkpoint in ``folder``.

        Raises:
            PolicyError: there is none, it is damaged, of another version, or of another training.
        """
        header = _read_checkpoint(folder)
        config = {**asdict(self.config), "settings": dict(self.config.settings)}
        differing = [key for key in config if header["config"].get(key) != config[key]]
        if differing:
            key = differing[0]
            raise PolicyError(
                f"the checkpoint in {folder} is of another training: {key} is "
                f"{header['config'].get(key)!r} there and {config[key]!r} here; resume with the "
                "same settings, or train into another folder"
            )
        _restore_state(self.model, load_file(folder / TENSORS_FILE), header)
        self.segment = int(header["segment"])

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
    weights = weights_of([(la.weight.detach(), la.bias.detach()) for la in layers])
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
        **arguments,
    )


def _state_of(model: BaseAlgorithm) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors and numbers that training goes on from."""
    tensors: dict[str, torch.Tensor] = {}
    numbers: dict[str, Any] = {"num_timesteps": int(model.num_timesteps)}
    names, variables = model._get_torch_save_params()
    for name in names:
        part = _attribute(model, name)
        state = part.state_dict()
        if isinstance(part, torch.optim.Optimizer):
            for index, entries in state["state"].items():
                for key, value in entries.items():
                    tensors[f"{name}/{index}/{key}"] = value
        else:
            tensors.update({f"{name}/{key}": value for key, value in state.items()})
    for name in variables:
        tensors[f"{name}/"] = _attribute(model, name).detach()
    numbers["n_updates"] = int(getattr(model, "_n_updates", 0))
    if isinstance(model, SAC) and model.replay_buffer is not None:
        buffer = model.replay_buffer
        for key in _BUFFER:
            tensors[f"replay_buffer/{key}"] = torch.from_numpy(getattr(buffer, key))
        numbers["replay_buffer"] = {"pos": int(buffer.pos), "full": bool(buffer.full)}
    return {key: value.clone().contiguous() for key, value in tensors.items()}, numbers


def _restore_state(
    model: BaseAlgorithm, tensors: Mapping[str, torch.Tensor], numbers: Mapping[str, Any]
) -> None:
    names, variables = model._get_torch_save_params()
    for name in names:
        part, prefix = _attribute(model, name), f"{name}/"
        own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        if isinstance(part, torch.optim.Optimizer):
            state: dict[int, dict[str, torch.Tensor]] = {}
            for key, value in own.items():
                index, entry = key.split("/")
                state.setdefault(int(index), {})[entry] = value
            part.load_state_dict({**part.state_dict(), "state": state})
        else:
            part.load_state_dict(own)
    with torch.no_grad():
        for name in variables:
            _attribute(model, name).copy_(tensors[f"{name}/"])
    model.num_timesteps = int(numbers["num_timesteps"])
    model._n_updates = int(numbers["n_updates"])
    if isinstance(model, SAC) and model.replay_buffer is not None:
        for key in _BUFFER:
            getattr(model.replay_buffer, key)[...] = tensors[f"replay_buffer/{key}"].numpy()
        model.replay_buffer.pos = int(numbers["replay_buffer"]["pos"])
        model.replay_buffer.full = bool(numbers["replay_buffer"]["full"])


def _attribute(model: BaseAlgorithm, path: str) -> Any:
    found: Any = model
    for name in path.split("."):
        found = getattr(found, name)
    return found


def _read_checkpoint(folder: Path) -> dict[str, Any]:
    try:
        header = json.loads((folder / CHECKPOINT_FILE).read_text(encoding="utf-8"))
        digest = hashlib.sha256((folder / TENSORS_FILE).read_bytes()).hexdigest()
    except (OSError, ValueError) as error:
        raise PolicyError(
            f"{folder} holds no checkpoint that can be read ({error}); train from the start"
        ) from error
    version = header.get("checkpoint_version") if isinstance(header, dict) else None
    if version != CHECKPOINT_VERSION:
        raise PolicyError(
            f"the checkpoint in {folder} has version {version!r}, and this package reads "
            f"{CHECKPOINT_VERSION}; train from the start, or use the version that made it"
        )
    if header.get("tensors") != digest:
        raise PolicyError(
            f"the checkpoint in {folder} is damaged: {TENSORS_FILE} is not the file that "
            f"{CHECKPOINT_FILE} was written for; train from the start"
        )
    checked: dict[str, Any] = header
    return checked
