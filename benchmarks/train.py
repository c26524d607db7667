"""Training a policy as one run: checkpoints, a learning curve, and how it does on new histories."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import bootstrap

from progressgym_env import __version__
from progressgym_env.agents.policy import PolicyAgent
from progressgym_env.agents.registry import make_agent
from progressgym_env.agents.training import TrainConfig, Trainer
from progressgym_env.benchmarks.batch import oracle_of, play_batch
from progressgym_env.benchmarks.plots import draw_curve
from progressgym_env.errors import InvalidArgumentError
from progressgym_env.files import atomic_path, write_json
from progressgym_env.values.embedding import FloatArray

__all__ = ["BASELINES", "Comparison", "compare", "differences", "train"]

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
        resume: go on from its checkpoint, to the very weights an unbroken training would reach.
        on_point: called with every point of the learning curve.
        on_rollout: called with SB3's algorithm after every rollout.

    Returns:
        The summary.

    Raises:
        InvalidArgumentError: there is nothing to resume.
        PolicyError: the checkpoint is damaged, or of another training or version.
    """
    trainer = Trainer(config, on_rollout=on_rollout)
    if resume:
        if not (folder / CHECKPOINTS).is_dir():
            raise InvalidArgumentError(
                f"{folder} holds no checkpoint to resume from; train without --resume"
            )
        trainer.restore(folder / CHECKPOINTS)
    else:
        settings = {**asdict(config), "settings": dict(config.settings)}
        write_json(folder / CONFIG_FILE, {**settings, "package_version": __version__})
    points = _points(folder / CURVE_FILE, trainer.segment)
    began = time.perf_counter() - (points[-1]["seconds"] if points else 0.0)
    while not trainer.done:
        trainer.train_segment()
        point = _point(trainer, time.perf_counter() - began)
        points.append(point)
        trainer.save(folder / CHECKPOINTS)
        trainer.policy().save(folder / POLICY)
        with atomic_path(folder / CURVE_FILE) as path:
            path.write_text("".join(json.dumps(p) + "\n" for p in points), encoding="utf-8")
        on_point(point)
    score, rows = compare(config.challenge, PolicyAgent(trainer.policy()), **_arguments(config))
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
    if not path.is_file() or segments == 0:
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines[:segments]]
