"""Training a policy as one run: checkpoints, a learning curve, and how it does on new histories."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import bootstrap

from progressgym_env import __version__
from progressgym_env.agents.checkpoints import CHECKPOINT_FILE, check_same_training, read_checkpoint
from progressgym_env.agents.policy import PolicyAgent
from progressgym_env.agents.registry import make_agent
from progressgym_env.agents.training import TrainConfig, Trainer
from progressgym_env.benchmarks.batch import oracle_of, play_batch
from progressgym_env.benchmarks.plots import draw_curve
from progressgym_env.errors import InvalidArgumentError, PolicyError
from progressgym_env.files import new_folder, write_json, write_text
from progressgym_env.histories.loading import load
from progressgym_env.values.embedding import FloatArray

__all__ = [
    "BASELINES",
    "Comparison",
    "compare",
    "describe",
    "differences",
    "read_config",
    "train",
]

BASELINES: tuple[str, ...] = (
    "hold",
    "lifelong",
    "lifelong-soft",
    "extrapolative-0",
    "extrapolative-0-soft",
    "extrapolative-1",
    "extrapolative-1-soft",
    "extrapolative-2",
    "extrapolative-2-soft",
)
"""The paper's algorithms, and doing nothing."""

CONFIG_FILE, CURVE_FILE, SUMMARY_FILE = "config.json", "curve.jsonl", "summary.json"
PICTURE_FILE = "curve.png"
# Agents that a learning curve is drawn beside; the oracle is another.
_DRAWN = ("hold", "lifelong", "extrapolative-2")
CHECKPOINTS, POLICY = "checkpoint", "policy"
_PACKAGES = ("gymnasium", "numpy", "torch", "stable_baselines3", "safetensors", "scipy")
# Episodes of a point of the learning curve, and of the comparison at the end.
_CURVE_EPISODES, _FINAL_EPISODES = 500, 1000


@dataclass(frozen=True)
class Comparison:
    """One agent beside a policy, on the same histories and chance.

    Attributes:
        agent: its name.
        score: its mean official score.
        ahead: mean of (policy - agent) over episodes.
        low: lower end of the bootstrap 95% interval of ``ahead``.
        high: upper end.
    """

    agent: str
    score: float
    ahead: float
    low: float
    high: float


def differences(policy: FloatArray, other: FloatArray, seed: int = 0) -> tuple[float, float, float]:
    """Mean of the paired differences of scores, and its bootstrap 95% interval."""
    ahead = policy - other
    if np.ptp(ahead) == 0:
        return float(ahead[0]), float(ahead[0]), float(ahead[0])
    found = bootstrap(
        (ahead,), np.mean, rng=np.random.default_rng(seed), n_resamples=2000, method="percentile"
    )
    interval = found.confidence_interval
    return float(ahead.mean()), float(interval.low), float(interval.high)


def compare(
    challenge: str,
    agent: Any,
    *,
    others: Mapping[str, Any] | None = None,
    n_episodes: int = _FINAL_EPISODES,
    seed: int = 0,
    **arguments: Any,
) -> tuple[float, list[Comparison]]:
    """A policy beside the paper's algorithms, the oracle, and others, on held-out histories.

    Args:
        challenge: ``"follow"``, ``"predict"`` or ``"coevolve"``.
        agent: the policy's agent.
        others: further agents by name.
        n_episodes: how many episodes, a history each.
        seed: of the first episode.
        **arguments: of the environment, ``steps_ahead`` among them.

    Returns:
        The policy's mean score, and a comparison with every other.
    """
    ahead = int(arguments.get("steps_ahead", 1))
    rivals: dict[str, Any] = {name: make_agent(name, steps_ahead=ahead) for name in BASELINES}
    rivals.update(others or {})
    rivals["oracle"] = oracle_of(challenge, ahead)
    options = {"n_episodes": n_episodes, "seed": seed, **arguments}
    own = play_batch(challenge, agent, **options)
    rows = []
    for name, rival in rivals.items():
        scores = play_batch(challenge, rival, **options)
        rows.append(Comparison(name, float(scores.mean()), *differences(own, scores)))
    return float(own.mean()), rows


def train(
    config: TrainConfig,
    folder: Path,
    *,
    resume: bool = False,
    on_point: Callable[[Mapping[str, float]], None] = lambda point: None,
    on_rollout: Callable[[Any], None] = lambda model: None,
) -> dict[str, Any]:
    """Train a policy and write all of it into ``folder``.

    There will be ``config.json``, ``curve.jsonl`` (a line a segment), the last ``checkpoint/``,
    the ``policy/``, and at the end ``summary.json`` with the comparison on held-out histories, and
    ``curve.png``.

    Args:
        config: what to train.
        folder: empty or new; with ``resume``, one that a training was stopped in.
        resume: go on from its checkpoint, to the very weights an unbroken training would reach;
            stopped before the first one, it starts over.
        on_point: called with every point of the learning curve.
        on_rollout: called with SB3's algorithm after every rollout.

    Returns:
        The summary.

    Raises:
        InvalidArgumentError: there is nothing to resume, or the folder holds something already.
        PolicyError: what is to be resumed is damaged, or of another training or version.
    """
    trainer = Trainer(config, on_rollout=on_rollout)
    if resume:
        _resume(trainer, folder)
    else:
        write_json(new_folder(folder) / CONFIG_FILE, describe(config))
    points = _points(folder / CURVE_FILE, trainer.segment)
    began = time.perf_counter() - (points[-1]["seconds"] if points else 0.0)
    while not trainer.done:
        trainer.train_segment()
        point = _point(trainer, time.perf_counter() - began)
        points.append(point)
        # The checkpoint last: if this is interrupted, resuming cuts the point that is too many.
        write_text(folder / CURVE_FILE, "".join(json.dumps(p) + "\n" for p in points))
        trainer.policy().save(folder / POLICY)
        trainer.save(folder / CHECKPOINTS)
        on_point(point)
    score, rows = compare(
        config.challenge,
        PolicyAgent(trainer.policy()),
        n_episodes=_FINAL_EPISODES,
        **_arguments(config),
    )
    summary = {
        "challenge": config.challenge,
        "score": score,
        "seconds": points[-1]["seconds"],
        "steps": int(points[-1]["steps"]),
        "episodes": _FINAL_EPISODES,
        "history": "simulated-test",
        "compared": [asdict(row) for row in rows],
    }
    write_json(folder / SUMMARY_FILE, summary)
    draw_curve(
        folder / PICTURE_FILE,
        points,
        _levels(config),
        f"{config.algorithm.upper()} on {config.challenge}: {_CURVE_EPISODES} fresh histories of "
        f"{config.history}",
    )
    return summary


def describe(config: TrainConfig) -> dict[str, Any]:
    """What goes to ``config.json``: the training, and all that its results depend on besides."""
    laws = files("progressgym_env.models") / "data" / "simulated.json"
    return {
        **asdict(config),
        "package_version": __version__,
        "question_set_hash": load(config.history).questions.hash,
        "laws_digest": hashlib.sha256(laws.read_bytes()).hexdigest(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _PACKAGES},
    }


def read_config(folder: Path) -> TrainConfig:
    """What the training in ``folder`` is of: from ``config.json``, else from its checkpoint.

    Raises:
        InvalidArgumentError: there is no training.
        PolicyError: its configuration cannot be read.
    """
    path = folder / CONFIG_FILE
    if path.is_file():
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise PolicyError(
                f"{path} is damaged ({error}); put it right, or train from the start"
            ) from error
    elif (folder / CHECKPOINTS / CHECKPOINT_FILE).is_file():
        content = read_checkpoint(folder / CHECKPOINTS)["config"]
    else:
        raise InvalidArgumentError(
            f"{folder} holds neither {CONFIG_FILE} nor a checkpoint: no training to resume; give "
            "the folder of one, or train without --resume"
        )
    wanted = [f.name for f in fields(TrainConfig)]
    missing = [name for name in wanted if not isinstance(content, dict) or name not in content]
    if missing:
        raise PolicyError(
            f"{folder} holds no training that can be resumed: its configuration lacks "
            f"{', '.join(missing)}; give the folder of a training, or train from the start"
        )
    return TrainConfig(**{name: content[name] for name in wanted})


def _resume(trainer: Trainer, folder: Path) -> None:
    """Put ``trainer`` where the training in ``folder`` was stopped."""
    if (folder / CHECKPOINTS / CHECKPOINT_FILE).is_file():
        trainer.restore(folder / CHECKPOINTS)
    else:
        # Stopped in the first segment: it starts over.
        started = asdict(read_config(folder))
        check_same_training(f"the training in {folder}", started, asdict(trainer.config))


def _arguments(config: TrainConfig) -> dict[str, Any]:
    return {"steps_ahead": config.steps_ahead} if config.challenge == "predict" else {}


def _point(trainer: Trainer, seconds: float) -> dict[str, float]:
    scores = _curve_scores(trainer.config, PolicyAgent(trainer.policy()))
    return {
        "segment": trainer.segment,
        "steps": int(trainer.model.num_timesteps),
        "seconds": round(seconds, 1),
        "score": float(scores.mean()),
        "standard_error": float(scores.std(ddof=1) / np.sqrt(len(scores))),
    }


def _levels(config: TrainConfig) -> dict[str, float]:
    """Scores of other agents in the episodes that a learning curve is made of."""
    ahead = config.steps_ahead
    others: dict[str, Any] = {name: make_agent(name, steps_ahead=ahead) for name in _DRAWN}
    others["oracle"] = oracle_of(config.challenge, ahead)
    return {name: float(_curve_scores(config, agent).mean()) for name, agent in others.items()}


def _curve_scores(config: TrainConfig, agent: Any) -> FloatArray:
    return play_batch(
        config.challenge,
        agent,
        n_episodes=_CURVE_EPISODES,
        # Histories of the training split that no training draws, so that the test split stays new.
        history=config.history,
        seed=2**31,
        **_arguments(config),
    )


def _points(path: Path, segments: int) -> list[dict[str, float]]:
    """The points of the learning curve that a checkpoint has behind it."""
    if segments == 0:
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()[:segments]
        points = [json.loads(line) for line in lines]
    except (OSError, ValueError) as error:
        raise PolicyError(
            f"{path} cannot be read ({error}); put it right, or train from the start"
        ) from error
    if len(points) < segments:
        raise PolicyError(
            f"{path} has {len(points)} points, and the checkpoint beside it {segments} segments; "
            "put the missing ones back, or train from the start"
        )
    return points
