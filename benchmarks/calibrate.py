"""Fit the simulation to recorded training of language models, and check it.

Run as a program, in three steps::

    python -m progressgym_env.benchmarks.calibrate record --folder RECORDINGS
    python -m progressgym_env.benchmarks.calibrate fit --folder RECORDINGS --out laws.json
    python -m progressgym_env.benchmarks.calibrate check --folder RECORDINGS

``record`` trains the embedded language models on varied proposals and plays episodes with them
(some three hours on one core); ``fit`` writes the laws; ``check`` compares, on the episodes, which
no fit has seen, what the simulation predicts with what was measured. Without ``--folder``, ``fit``
and ``check`` take the recordings that ship with the package.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor

from progressgym_env.benchmarks.fidelity import compare_scores, held_out_updates
from progressgym_env.benchmarks.played import Played, record_episodes
from progressgym_env.benchmarks.recordings import KINDS, Recordings, record
from progressgym_env.files import write_json
from progressgym_env.histories.history import History
from progressgym_env.histories.loading import load_one
from progressgym_env.models.laws import FULL_UPDATE
from progressgym_env.values.dimensions import N_DIMENSIONS, N_TWO_WAY
from progressgym_env.values.embedding import FloatArray
from progressgym_env.values.logits import from_logits, log_odds, pair_directions
from progressgym_env.values.questions import QuestionSet

__all__ = ["Fit", "fit_imitation", "fit_update", "fitted"]

# Components that share their numbers: the three directions that change most, each its own; all
# other two-way ones; the mean of the views' logits, which means nothing; and their contrasts.
_TIED = np.array([0, 1, 2] + [3] * (N_TWO_WAY - 3) + [4] + [5] * 3)
RECORDINGS_FILE, PLAYED_FILE = "recordings.safetensors", "played.safetensors"
_STEPS, _RATE, _FOLDS = 600, 0.03, 5


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted law and how well it does on chains of trainings that were left out.

    Attributes:
        law: as ``models/data/simulated.json`` holds it.
        correlation: between predicted and measured changes of the embedding.
        error: root mean square error of the predicted embedding.
        n: how many trainings were fitted.
    """

    law: dict[str, Any]
    correlation: float
    error: float
    n: int


def fit_update(recordings: Recordings, questions: QuestionSet, kind: str) -> Fit:
    """The law of ``"dpo"`` or ``"sft"``."""
    rows = np.flatnonzero(recordings.update_kind == KINDS.index(kind))
    directions = pair_directions(questions.pairs)
    copies = recordings.copies[rows].astype(np.float64)
    force = copies @ directions / np.abs(directions).sum(axis=0)
    n = np.abs(copies).sum(axis=1, keepdims=True)
    rows, force, n = (array[n[:, 0] > 0] for array in (rows, force, n))
    logits = log_odds(recordings.update_values[rows])
    before, change = logits[:, 0], logits[:, 1] - logits[:, 0]
    basis = _basis(change)
    f, z, size = _tensor(force), _tensor(before), _tensor(n / FULL_UPDATE)

    def start() -> dict[str, Tensor]:
        return {**_law_start(), "floor": torch.tensor(-1.0), "power": torch.tensor(-2.0),
                "haste": torch.tensor(0.0)}  # fmt: skip

    def predict(p: Mapping[str, Tensor], i: Tensor) -> Tensor:
        rms = torch.sqrt((f[i] ** 2).mean(dim=1, keepdim=True) + p["floor"].exp() ** 2)
        scale = size[i].clamp(min=0.01) ** p["power"].exp() * p["floor"].exp() / rms
        amount = torch.tanh(p["haste"].exp() * size[i])
        return _response(p, z[i], f[i] * scale, amount, basis)

    found, residual, scores = _fit(predict, start, before, change, recordings.update_chain[rows])
    law = {
        "law": _law(found, basis, residual, _chance(recordings, KINDS.index(kind), None)),
        **{name: float(found[name].exp()) for name in ("floor", "power", "haste")},
    }
    return Fit(law, *scores, len(rows))


def fit_imitation(recordings: Recordings) -> Fit:
    """The law of imitation, given what the speaker values (not what was said by chance)."""
    logits = log_odds(recordings.influence_values)
    before, change = logits[:, 0], logits[:, 1] - logits[:, 0]
    basis = _basis(change)
    gap = recordings.speaker_values - recordings.influence_values[:, 0]
    f, z, epochs = _tensor(gap), _tensor(before), _tensor(recordings.epochs[:, None])

    def start() -> dict[str, Tensor]:
        return {**_law_start(), "rate": torch.tensor(0.0)}

    def predict(p: Mapping[str, Tensor], i: Tensor) -> Tensor:
        amount = 1 - torch.exp(-p["rate"].exp() * epochs[i])
        return amount * _response(p, z[i], f[i], torch.tensor(1.0), basis)

    found, residual, scores = _fit(predict, start, before, change, recordings.influence_chain)
    rate = float(found["rate"].exp())
    repeats = recordings.repeat_amount[recordings.repeat_kind == len(KINDS)]
    law = _law(
        found, basis, residual, _chance(recordings, len(KINDS), 1.0 - np.exp(-rate * repeats))
    )
    return Fit({"law": law, "rate": rate}, *scores, len(gap))


def fitted(recordings: Recordings, history: History) -> tuple[dict[str, Any], dict[str, Fit]]:
    """Everything that ``models/data/simulated.json`` holds, and the fits it is made of."""
    fits = {kind: fit_update(recordings, history.questions, kind) for kind in KINDS}
    fits["imitation"] = fit_imitation(recordings)
    directions = pair_directions(history.questions.pairs)
    margins = 2 * np.arctanh(np.clip(history.preferences, -0.998, 0.998))
    offsets = (margins - log_odds(history.values) @ directions.T).mean(axis=0)
    spread = np.sqrt(history.values * (1 - history.values))
    content = {
        "updates": {kind: fits[kind].law for kind in KINDS},
        "imitation": fits["imitation"].law,
        "offset_scale": round(float(offsets.std()), 4),
        "error_scale": np.round((history.standard_errors / spread).mean(axis=0), 4).tolist(),
        "fit": {
            name: {"n": fit.n, "correlation": round(fit.correlation, 4),
                   "root_mean_square_error": round(fit.error, 4)}
            for name, fit in fits.items()
        },
        "history": history.name,
        "history_digest": history.digest,
    }  # fmt: skip
    return content, fits


def main(arguments: Sequence[str] | None = None) -> None:
    """Record, fit or check; see the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("record", "fit", "check"))
    shipped = Path(str(files("progressgym_env.benchmarks"))) / "data"
    parser.add_argument("--folder", type=Path, default=shipped, help="where recordings lie")
    parser.add_argument("--out", type=Path, help="fit: the file that the laws are written to")
    parser.add_argument("--history", default="embedded", help="name or folder of a history")
    parser.add_argument("--seed", type=int, default=0, help="of what is recorded")
    chosen = parser.parse_args(arguments)
    history, console = load_one(chosen.history), Console()
    if chosen.what == "record":
        if chosen.folder == shipped:
            parser.error("record needs --folder: a folder for the recordings")
        _record(history, chosen.folder, chosen.seed, console)
    elif chosen.what == "fit":
        if chosen.out is None:
            parser.error("fit needs --out: the file that the laws are written to")
        recordings = Recordings.read(chosen.folder / RECORDINGS_FILE)
        content, fits = fitted(recordings, history)
        write_json(chosen.out, content)
        for name, fit in fits.items():
            console.print(f"{name}: n {fit.n}, correlation {fit.correlation:.3f}", highlight=False)
    else:
        _check(history, Played.read(chosen.folder / PLAYED_FILE), console)


def _record(history: History, folder: Path, seed: int, console: Console) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    played = record_episodes(history, seeds=(seed, seed + 1), tell=lambda line: console.print(line))
    played.save(folder / PLAYED_FILE)
    recordings = record(
        history, seed=seed, tell=lambda done, total: console.print(f"chain {done} of {total}")
    )
    recordings.save(folder / RECORDINGS_FILE)


def _check(history: History, played: Played, console: Console) -> None:
    updates = held_out_updates(played, history)
    console.print(
        f"{updates.n} updates of episodes: correlation {updates.correlation:.3f}, error "
        f"{updates.error:.4f} where values change by {updates.change:.4f} (root mean squares)",
        highlight=False,
    )
    cells, rank = compare_scores(played, history)
    table = Table("agent", "challenge", "measured", "simulated")
    for cell in cells:
        simulated = f"{cell.simulated:.4f} ± {cell.spread:.4f}"
        table.add_row(cell.agent, cell.challenge, f"{cell.measured:.4f}", simulated)
    console.print(table)
    console.print(f"Spearman's rank correlation: {rank:.3f}", highlight=False)


def _basis(change: FloatArray) -> FloatArray:
    """(19, 19), orthonormal columns: what two-way dimensions did together, and the views apart."""
    basis = np.zeros((N_DIMENSIONS, N_DIMENSIONS))
    basis[:N_TWO_WAY, :N_TWO_WAY] = np.linalg.svd(change[:, :N_TWO_WAY], full_matrices=False)[2].T
    n_views = N_DIMENSIONS - N_TWO_WAY
    basis[N_TWO_WAY:, N_TWO_WAY:] = np.linalg.svd(np.ones((1, n_views)))[2].T
    return basis


def _law_start() -> dict[str, Tensor]:
    n = int(_TIED.max()) + 1
    return {
        "gain": torch.full((n,), -1.0),
        "saturation": torch.full((n,), 0.9),
        "decay": torch.zeros(n),
        "unrest": torch.zeros(n),
    }


def _response(
    p: Mapping[str, Tensor], logits: Tensor, force: Tensor, amount: Tensor, basis: FloatArray
) -> Tensor:
    """The arithmetic of ``models.laws.Law``, for gradients; a test compares the two."""
    columns = _tensor(basis)
    push = p["gain"].exp()[_TIED] * (force @ columns)
    saturation = p["saturation"].exp()[_TIED]
    strength = torch.sqrt((force**2).mean(dim=1, keepdim=True))
    lost = (p["decay"][_TIED] * amount + p["unrest"][_TIED] * strength) * (logits @ columns)
    return (saturation * torch.tanh(push / saturation) - lost) @ columns.T


def _fit(
    predict: Callable[[Mapping[str, Tensor], Tensor], Tensor],
    start: Callable[[], dict[str, Tensor]],
    before: FloatArray,
    change: FloatArray,
    chains: NDArray[Any],
) -> tuple[dict[str, Tensor], FloatArray, tuple[float, float]]:
    """Parameters of a fit to everything; and, each chain predicted without it, what is left over,
    the correlation of changes of the embedding, and their root mean square error.
    """
    start_at, measured, everything = _tensor(before), _tensor(change), np.arange(len(change))
    predicted = np.zeros_like(change)
    folds = np.unique(chains, return_inverse=True)[1] % _FOLDS
    for fold in range(_FOLDS):
        out = folds == fold
        found = _descended(predict, start(), start_at, measured, everything[~out])
        predicted[out] = predict(found, torch.tensor(everything[out])).numpy()
    found = _descended(predict, start(), start_at, measured, everything)
    moves = from_logits(before + predicted) - from_logits(before)
    real = from_logits(before + change) - from_logits(before)
    correlation = float(np.corrcoef(moves.ravel(), real.ravel())[0, 1])
    error = float(np.sqrt(np.square(moves - real).mean()))
    return found, change - predicted, (correlation, error)


def _descended(
    predict: Callable[[Mapping[str, Tensor], Tensor], Tensor],
    parameters: dict[str, Tensor],
    start: Tensor,
    measured: Tensor,
    rows: NDArray[Any],
) -> dict[str, Tensor]:
    own = {name: p.double().requires_grad_() for name, p in parameters.items()}
    optimiser = torch.optim.Adam(list(own.values()), lr=_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, _STEPS)
    chosen = torch.tensor(rows)
    goal = _value_tensor(start[chosen] + measured[chosen])
    for _ in range(_STEPS):
        loss = torch.square(_value_tensor(start[chosen] + predict(own, chosen)) - goal).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return {name: p.detach() for name, p in own.items()}


def _law(
    found: Mapping[str, Tensor], basis: FloatArray, residual: FloatArray, chance: float
) -> dict[str, Any]:
    # Chance moves values along the same directions as the fit's error, but not as far: its size is
    # that of repeated trainings.
    spread = np.cov(residual.T) + 1e-6 * np.eye(N_DIMENSIONS)
    numbers = {
        "basis": basis,
        "gain": found["gain"].exp()[_TIED].numpy(),
        "saturation": found["saturation"].exp()[_TIED].numpy(),
        "decay": found["decay"][_TIED].numpy(),
        "unrest": found["unrest"][_TIED].numpy(),
        "noise": np.linalg.cholesky(spread * (chance**2 / np.diag(spread).mean())),
    }
    return {name: np.round(array, 5).tolist() for name, array in numbers.items()}


def _tensor(array: Any) -> Tensor:
    return torch.tensor(np.asarray(array), dtype=torch.float64)


def _value_tensor(logits: Tensor) -> Tensor:
    """``from_logits``, for gradients."""
    two_way, views = logits[:, :N_TWO_WAY], logits[:, N_TWO_WAY:]
    return torch.cat([torch.sigmoid(two_way), torch.softmax(views, dim=1)], dim=1)


def _chance(recordings: Recordings, kind: int, amounts: FloatArray | None) -> float:
    """Root mean square, in logits, of what chance does in one training of full size.

    ``amounts`` are those of the repeated trainings; None takes their numbers of examples.
    """
    rows = recordings.repeat_kind == kind
    after = log_odds(recordings.repeat_values[rows][:, 1:])
    size = recordings.repeat_amount[rows] / FULL_UPDATE if amounts is None else amounts
    variance = np.square(after[:, 0] - after[:, 1]).mean(axis=1) / 2
    return float(np.sqrt((variance / size).mean()))


if __name__ == "__main__":
    main()
