"""What is kept of Stable-Baselines3's algorithms, as safetensors and JSON instead of pickles.

Checkpoints, which training goes on from, and policies, which play without SB3.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from progressgym_env.agents.policy import Policy, PolicyView, weights_of
from progressgym_env.errors import InvalidArgumentError, MissingPackageError, PolicyError
from progressgym_env.files import atomic_path, file_hash, write_json

try:
    from stable_baselines3 import PPO, SAC
    from stable_baselines3.common.base_class import BaseAlgorithm
except ModuleNotFoundError as error:
    raise MissingPackageError(
        "training needs the package stable-baselines3, which is not installed; install it with: "
        "pip install 'progressgym-env[rl]'"
    ) from error

__all__ = [
    "ACTIVATIONS",
    "ALGORITHMS",
    "CHECKPOINT_FILE",
    "check_same_training",
    "policy_of",
    "read_checkpoint",
    "read_sb3",
    "restore",
    "write_checkpoint",
]

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {"ppo": PPO, "sac": SAC}
ACTIVATIONS: dict[str, type[torch.nn.Module]] = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}
CHECKPOINT_FILE = "checkpoint.json"
CHECKPOINT_VERSION = 2
_BUFFER = ("observations", "actions", "rewards", "dones", "timeouts")
_HEADER: dict[str, type | tuple[type, ...]] = {
    "config": dict,
    "segment": int,
    "tensors_file": str,
    "num_timesteps": int,
    "n_updates": int,
    "replay_buffer": (dict, type(None)),
}


def write_checkpoint(
    folder: Path,
    model: BaseAlgorithm,
    config: Mapping[str, Any],
    segment: int,
    *,
    to_go_on: bool = True,
) -> None:
    """Write weights, optimisers, counters and any replay buffer of ``model`` into ``folder``.

    Args:
        folder: is made where it is missing; an older checkpoint in it is replaced.
        model: PPO or SAC.
        config: of the training, JSON-able.
        segment: segments done.
        to_go_on: whether there is more to train; if not, the replay buffer is left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors, numbers = _state_of(model)
    numbers["replay_buffer"] = None
    if to_go_on and _replay_buffer(model) is not None:
        stored, numbers["replay_buffer"] = _buffer_state(_replay_buffer(model))
        tensors.update(stored)
    name = f"checkpoint-{segment:06d}.safetensors"
    with atomic_path(folder / name) as path:
        save_file(tensors, path)
        digest = file_hash(path)
    # The header last, and the old tensors after it: an interrupt leaves one checkpoint whole.
    content = {
        "checkpoint_version": CHECKPOINT_VERSION,
        "config": config,
        "segment": segment,
        "tensors_file": name,
        "tensors": digest,
        **numbers,
    }
    write_json(folder / CHECKPOINT_FILE, content)
    for old in folder.glob("checkpoint-*.safetensors"):
        if old.name != name:
            old.unlink()


def restore(folder: Path, model: BaseAlgorithm, config: Mapping[str, Any]) -> int:
    """Put ``model`` where the checkpoint in ``folder`` was; the segments done.

    Raises:
        PolicyError: there is none, it is damaged, of another version, or of another training.
    """
    header = read_checkpoint(folder)
    check_same_training(f"the checkpoint in {folder}", header["config"], config)
    try:
        _restore_state(model, load_file(folder / Path(header["tensors_file"]).name), header)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise PolicyError(
            f"the checkpoint in {folder} is damaged: it holds not what {type(model).__name__} goes "
            f"on from ({error}); train from the start"
        ) from error
    return int(header["segment"])


def check_same_training(what: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Compare the configurations of two trainings, as JSON keeps them.

    Args:
        what: holds the first one; for the message.
        there: what was trained.
        here: what is asked for.

    Raises:
        PolicyError: they differ; the message names the first difference.
    """
    old, new = _flat(there), _flat(json.loads(json.dumps(here)))
    for key in new:
        if key not in old or old[key] != new[key]:
            raise PolicyError(
                f"{what} is of another training: {key} is {old.get(key)!r} there and "
                f"{new[key]!r} here; resume with the same settings, or train into another folder"
            )


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """The header of the checkpoint in ``folder``.

    Raises:
        PolicyError: there is none, or it is damaged or of another version.
    """
    try:
        header = json.loads((folder / CHECKPOINT_FILE).read_text(encoding="utf-8"))
        version = header["checkpoint_version"]
        # Only the name: whatever a header says, nothing outside the folder is read.
        name = Path(header["tensors_file"]).name if version == CHECKPOINT_VERSION else None
        digest = file_hash(folder / (name or CHECKPOINT_FILE))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PolicyError(
            f"{folder} holds no checkpoint that can be read ({error}); train from the start"
        ) from error
    if version != CHECKPOINT_VERSION:
        raise PolicyError(
            f"the checkpoint in {folder} has version {version!r}, and this package reads "
            f"{CHECKPOINT_VERSION}; train from the start, or use the version that made it"
        )
    if header.get("tensors") != digest:
        raise PolicyError(
            f"the checkpoint in {folder} is damaged: {name} is not the file that "
            f"{CHECKPOINT_FILE} was written for; train from the start"
        )
    wrong = [key for key, kind in _HEADER.items() if not isinstance(header.get(key, ...), kind)]
    if wrong:
        raise PolicyError(
            f"the checkpoint in {folder} is damaged: {CHECKPOINT_FILE} lacks or misstates "
            f"{', '.join(wrong)}; train from the start"
        )
    checked: dict[str, Any] = header
    return checked


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
    names = [name for name, kind in ACTIVATIONS.items() if kinds <= {kind}]
    if not names:
        raise PolicyError(
            f"activations {sorted(k.__name__ for k in kinds)} are not among {list(ACTIVATIONS)}"
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


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with its settings beside the rest, so that a difference has one name."""
    settings = config.get("settings")
    inner = settings if isinstance(settings, Mapping) else {}
    return {**{key: value for key, value in config.items() if key != "settings"}, **inner}


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
    if numbers["replay_buffer"] is not None:
        _restore_buffer(_replay_buffer(model), tensors, numbers["replay_buffer"])


def _replay_buffer(model: BaseAlgorithm) -> Any:
    """SAC's replay buffer; None of an algorithm that has none."""
    return getattr(model, "replay_buffer", None)


def _buffer_state(buffer: Any) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors and numbers of the filled part of a replay buffer.

    What followed an observation mostly is the next one in the buffer. It is kept only where it is
    not: at the ends of episodes and segments.
    """
    filled = buffer.buffer_size if buffer.full else buffer.pos
    kept = {key: getattr(buffer, key)[:filled] for key in _BUFFER}
    following = buffer.next_observations[:filled]
    # Compared as bits: 0 and -0 are equal, and no number equals NaN.
    bits, next_bits = (a.view(np.uint32) for a in (following, kept["observations"]))
    kept["apart"] = (bits != np.roll(next_bits, -1, axis=0)).any(axis=-1)
    kept["apart_observations"] = following[kept["apart"]]
    tensors = {f"replay_buffer/{key}": torch.from_numpy(a) for key, a in kept.items()}
    return tensors, {"pos": int(buffer.pos), "full": bool(buffer.full)}


def _restore_buffer(
    buffer: Any, tensors: Mapping[str, torch.Tensor], numbers: Mapping[str, Any]
) -> None:
    stored = {key: tensors[f"replay_buffer/{key}"].numpy() for key in (*_BUFFER, "apart")}
    filled = len(stored["apart"])
    for key in _BUFFER:
        getattr(buffer, key)[:filled] = stored[key]
    following = np.roll(stored["observations"], -1, axis=0)
    following[stored["apart"]] = tensors["replay_buffer/apart_observations"].numpy()
    buffer.next_observations[:filled] = following
    buffer.pos, buffer.full = int(numbers["pos"]), bool(numbers["full"])


def _attribute(model: BaseAlgorithm, path: str) -> Any:
    found: Any = model
    for name in path.split("."):
        found = getattr(found, name)
    return found
