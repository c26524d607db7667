"""Pictures of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from progressgym_env.benchmarks.episodes import EpisodeRecord
from progressgym_env.envs.rendering import trajectory_figure
from progressgym_env.errors import InvalidArgumentError
from progressgym_env.files import atomic_path
from progressgym_env.histories.history import History

__all__ = ["draw_curve", "draw_history", "draw_trajectories"]

# Fixed, so that the same run gives the same files.
_SVG_METADATA = {"Date": None}


def draw_trajectories(
    folder: Path, history: History, agents: Sequence[str], episodes: Sequence[EpisodeRecord]
) -> None:
    """Write ``trajectories.png`` and ``trajectories.svg`` to ``folder``, each atomically.

    Every agent has a line, the mean over its episodes, with a band from lowest to highest; in
    Coevolve a dashed one for its human proxy.

    Args:
        folder: an existing folder.
        history: the one that was played.
        agents: names, in the order of the legend; those without an episode are left out.
        episodes: at least one, all of one challenge.
    """
    import matplotlib as mpl

    challenge = episodes[0].challenge
    examinees, proxies = {}, {}
    for agent in agents:
        own = [episode for episode in episodes if episode.agent == agent]
        if own:
            examinees[agent] = np.stack([episode.examinee_values for episode in own])
            states = [e.proxy_values for e in own if e.proxy_values is not None]
            if states:
                proxies[agent] = np.stack(states)
    seeds = len({episode.seed for episode in episodes})
    synthetic = " (synthetic)" if history.provenance.get("synthetic") else ""
    title = f"{challenge.capitalize()} through history {history.name!r}{synthetic}" + (
        f", mean and range over {seeds} seeds" if seeds > 1 else f", seed {episodes[0].seed}"
    )
    figure = trajectory_figure(
        history.names,
        history.values,
        examinees,
        proxies or None,
        title=title,
        judge_label="people of the century",
    )
    with atomic_path(folder / "trajectories.png") as path:
        figure.savefig(path, dpi=150)
    with (
        mpl.rc_context({"svg.hashsalt": "progressgym"}),
        atomic_path(folder / "trajectories.svg") as path,
    ):
        figure.savefig(path, metadata=_SVG_METADATA)


def draw_history(path: Path, history: History) -> None:
    """Write a picture of a history's values to ``path`` (``.png`` or ``.svg``), atomically.

    Dots are measured values, the line is what was planted, where something was.

    Raises:
        InvalidArgumentError: another suffix.
    """
    import matplotlib as mpl

    if path.suffix not in (".png", ".svg"):
        raise InvalidArgumentError(f"{path}: draw to a .png or .svg file, not {path.suffix!r}")
    synthetic = " (synthetic)" if history.provenance.get("synthetic") else ""
    planted = {} if history.planted is None else {"planted": history.planted}
    figure = trajectory_figure(
        history.names,
        history.values,
        planted,
        title=f"History {history.name!r}{synthetic}",
        judge_label="measured",
    )
    with mpl.rc_context({"svg.hashsalt": "progressgym"}), atomic_path(path) as temporary:
        metadata = _SVG_METADATA if path.suffix == ".svg" else None
        figure.savefig(temporary, dpi=150, metadata=metadata)


def draw_curve(
    path: Path, points: Sequence[Mapping[str, float]], levels: Mapping[str, float], title: str
) -> None:
    """Write a learning curve to ``path`` (``.png``), atomically.

    Args:
        path: the file.
        points: steps, score and standard error, in order.
        levels: name → score of agents to compare with, drawn as lines.
        title: above it.
    """
    # Not pyplot, which keeps figures and looks for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    steps = np.array([point["steps"] for point in points]) / 1e6
    score = np.array([point["score"] for point in points])
    error = np.array([point["standard_error"] for point in points])
    axes.plot(steps, score, label="policy", color="C0", linewidth=2)
    axes.fill_between(steps, score - 2 * error, score + 2 * error, color="C0", alpha=0.2)
    for number, (name, level) in enumerate(levels.items(), start=1):
        axes.axhline(level, color=f"C{number}", linestyle="--", linewidth=1.2, label=name)
    axes.set_xlabel("environment steps, millions")
    axes.set_ylabel("official score, mean ± 2 standard errors")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)
