"""How good the shipped policies are, and how much there is to learn: the tables of the RL guide.

Run as a program: ``python -m progressgym_env.benchmarks.studies --out results.json`` (about ten
minutes on one core). It tunes the scripted agents on the training split, compares them, the paper's
algorithms and the shipped policies on held-out histories, and measures how well the next century
can be forecast at all. The guide's numbers are those of ``docs/rl-results.json``; a test compares.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from progressgym_env import CHALLENGES, __version__
from progressgym_env.agents.policy import Policy, PolicyAgent
from progressgym_env.agents.registry import make_agent
from progressgym_env.agents.value_extrapolation import ValueExtrapolationAgent
from progressgym_env.benchmarks.batch import oracle_of, play_batch
from progressgym_env.benchmarks.train import compare
from progressgym_env.files import write_json
from progressgym_env.histories.simulated import SimulatedHistories
from progressgym_env.scoring import dot, unit
from progressgym_env.values.dimensions import N_DIMENSIONS, N_TWO_WAY
from progressgym_env.values.embedding import FloatArray
from progressgym_env.values.logits import from_logits

__all__ = ["Forecast", "forecasts", "markdown", "tuned_oracle", "tuned_scripted"]

# 450 settings of the scripted agent, 50 of the oracle.
_GAINS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0, 1.4)
_SCRIPTED = {
    "order": (0, 1, 2),
    "strength": (0.5, 1.0, 1.5),
    "gain": _GAINS,
    "lead": (0.0, 0.25, 0.5, 1.0, 2.0),
}
_ORACLE = {"gain": _GAINS, "lead": (0.25, 0.5, 1.0, 1.5, 2.0)}
# Centuries that a forecast looks back on.
_MEMORY = 4


def tuned_scripted(
    challenge: str, n_episodes: int = 500, grid: Mapping[str, Sequence[float]] = _SCRIPTED
) -> tuple[dict[str, float], float]:
    """The best settings of ``ValueExtrapolationAgent`` on training histories, and their score."""

    def play(settings: dict[str, Any]) -> float:
        agent = ValueExtrapolationAgent(**settings)
        return _train_score(challenge, agent, n_episodes)

    return _best(grid, play)


def tuned_oracle(
    challenge: str, n_episodes: int = 500, grid: Mapping[str, Sequence[float]] = _ORACLE
) -> tuple[dict[str, float], float]:
    """The best settings of the oracle on training histories, and their score."""
    if challenge != "coevolve":
        # It runs ahead of no proxy there.
        grid = {**grid, "lead": (1.0,)}
    return _best(grid, lambda s: _train_score(challenge, oracle_of(challenge, 1, **s), n_episodes))


def _train_score(challenge: str, agent: Any, n_episodes: int) -> float:
    scores = play_batch(
        challenge, agent, n_episodes=n_episodes, history="simulated-train", seed=2**31
    )
    return float(scores.mean())


def _best(grid: Mapping[str, Sequence[float]], play: Any) -> tuple[dict[str, float], float]:
    every = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    scores = [play(settings) for settings in every]
    best = int(np.argmax(scores))
    return every[best], scores[best]


@dataclass(frozen=True)
class Forecast:
    """How well the next century is forecast.

    Attributes:
        name: of the method.
        score: what steering the model perfectly to the forecast would score in Predict.
        explained: R² of the change of logits from this century to the next, over all dimensions.
    """

    name: str
    score: float
    explained: float


def forecasts(
    n_train: int = 40_000, n_test: int = 1_000, *, epochs: int = 15, seed: int = 0
) -> list[Forecast]:
    """Forecasts of the next century, judged on held-out histories.

    Args:
        n_train: histories of the training split to fit the linear and the neural forecast to.
        n_test: histories of the test split.
        epochs: passes of the neural forecast over the training data.
        seed: of the histories and of the network.
    """
    seen, change, _ = _examples("train", n_train, seed)
    tests, wanted, future = _examples("test", n_test, seed)
    now = tests[:, -1 - N_DIMENSIONS : -1]
    before = tests[:, -1 - 2 * N_DIMENSIONS : -1 - N_DIMENSIONS]
    ridge = np.linalg.solve(seen.T @ seen + np.eye(seen.shape[1]), seen.T @ change)
    guesses = {
        "the present century again": np.zeros_like(wanted),
        "the line through the last two centuries": now - before,
        "the best linear forecast": tests @ ridge,
        "a neural forecast": _neural(seen, change, tests, epochs, seed),
    }
    spread = np.square(wanted).sum()
    return [
        Forecast(
            name,
            float(dot(unit(from_logits(now + guess)), unit(future)).mean()),
            float(1 - np.square(wanted - guess).sum() / spread),
        )
        for name, guess in guesses.items()
    ]


def _examples(split: str, n: int, seed: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(n·7, features): the last centuries' logits, oldest first, and a one; the change of logits to
    the next century; and that century's embedding.
    """
    source = SimulatedHistories(split=split)
    words = np.random.default_rng(seed).bit_generator.random_raw(n)
    logits = source.worlds(source.seeds_of(words))[0].astype(np.float64)
    # The mean of the views' logits means nothing.
    logits[..., N_TWO_WAY:] -= logits[..., N_TWO_WAY:].mean(axis=-1, keepdims=True)
    # Before history begins, everything was as in its first century.
    early = np.repeat(logits[:, :1], _MEMORY - 1, axis=1)
    padded = np.concatenate([early, logits], axis=1)
    steps = range(1, logits.shape[1] - 1)
    seen = np.stack([padded[:, t : t + _MEMORY].reshape(n, -1) for t in steps], axis=1)
    change = np.stack([logits[:, t + 1] - logits[:, t] for t in steps], axis=1)
    future = np.stack([from_logits(logits[:, t + 1]) for t in steps], axis=1)
    flat = seen.reshape(-1, seen.shape[-1])
    features = np.concatenate([flat, np.ones((len(flat), 1))], axis=1)
    return features, change.reshape(-1, N_DIMENSIONS), future.reshape(-1, N_DIMENSIONS)


def _neural(
    seen: FloatArray, change: FloatArray, tests: FloatArray, epochs: int, seed: int
) -> FloatArray:
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = torch.nn.Sequential(
            torch.nn.Linear(seen.shape[1], 512), torch.nn.GELU(),
            torch.nn.Linear(512, 512), torch.nn.GELU(), torch.nn.Linear(512, N_DIMENSIONS),
        )  # fmt: skip
    inputs, targets = (torch.tensor(array, dtype=torch.float32) for array in (seen, change))
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    size = min(1024, len(inputs))
    n_steps = epochs * (len(inputs) // size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, n_steps)
    for _ in range(epochs):
        order = torch.randperm(len(inputs), generator=generator)
        for rows in order[: len(order) // size * size].view(-1, size):
            loss = torch.square(network(inputs[rows]) - targets[rows]).mean()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    with torch.no_grad():
        guess: FloatArray = network(torch.tensor(tests, dtype=torch.float32)).double().numpy()
    return guess


def _compared(challenge: str, also: Mapping[str, Path], console: Console) -> dict[str, Any]:
    settings, scripted = tuned_scripted(challenge)
    console.print(f"{challenge}: best scripted agent {settings}, {scripted:.4f} on training")
    sure, known = tuned_oracle(challenge)
    console.print(f"{challenge}: best oracle {sure}, {known:.4f} on training")
    others: dict[str, Any] = {
        "tuned scripted agent": ValueExtrapolationAgent(**settings),  # type: ignore[arg-type]
        "tuned oracle": oracle_of(challenge, 1, **sure),
    }
    for name, folder in also.items():
        policy = Policy.read(folder)
        if policy.challenge == challenge:
            others[name] = PolicyAgent(policy)
    score, rows = compare(challenge, make_agent("policy", challenge=challenge), others=others)
    by_name = {row.agent: row.score for row in rows}
    gaps = {
        name: (score - by_name["hold"]) / (by_name[name] - by_name["hold"])
        for name in ("oracle", "tuned oracle")
    }
    return {
        "policy": score,
        "compared": [asdict(row) for row in rows],
        "share of the gap from hold to": gaps,
        "tuned scripted agent": settings,
        "tuned oracle": sure,
    }


def markdown(results: Mapping[str, Any]) -> list[str]:
    """Lines of the guide's tables: agents by challenge, and forecasts."""
    columns = [results["challenges"][name] for name in CHALLENGES]
    titles = [name.capitalize() for name in CHALLENGES]
    header = "| agent | " + " | ".join(f"{title} | PPO ahead by" for title in titles) + " |"
    lines = [header, "|---" * (1 + 2 * len(titles)) + "|"]
    lines.append(
        "| PPO (`policy`) | " + " | ".join(f"**{c['policy']:.4f}** |  " for c in columns) + " |"
    )
    by_name = [{row["agent"]: row for row in column["compared"]} for column in columns]
    names = list(dict.fromkeys(name for column in by_name for name in column))
    for name in names:
        if name.startswith("extrapolative-0"):
            # The same as lifelong, by definition.
            continue
        cells = []
        for column in by_name:
            row = column.get(name)
            cells.append(" |  " if row is None else _cell(row))
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    lines += ["| forecast | score | R² of the change |", "|---|---|---|"]
    lines += [
        f"| {f['name']} | {f['score']:.4f} | {f['explained']:.2f} |" for f in results["forecasts"]
    ]
    return lines


def _cell(row: Mapping[str, Any]) -> str:
    ahead = f"{row['ahead']:+.4f} ({row['low']:+.4f} to {row['high']:+.4f})"
    return f"{row['score']:.4f} | {ahead}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Do all of it and write it down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    parser.add_argument(
        "--also", action="append", default=[], metavar="NAME=FOLDER", help="a further policy"
    )
    chosen = parser.parse_args(arguments)
    also = {name: Path(folder) for name, _, folder in (e.partition("=") for e in chosen.also)}
    console = Console(highlight=False)
    results: dict[str, Any] = {"package_version": __version__, "episodes": 1000}
    results["challenges"] = {name: _compared(name, also, console) for name in CHALLENGES}
    results["forecasts"] = [asdict(forecast) for forecast in forecasts()]
    write_json(chosen.out, results)
    console.print("\n".join(markdown(results)), soft_wrap=True, markup=False)


if __name__ == "__main__":
    main()
