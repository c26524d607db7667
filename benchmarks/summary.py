"""The table of a run: score, skill and seconds of every agent, over its seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from progressgym_env.scoring import skill

__all__ = ["HOLD", "ORACLE", "Row", "Spread", "summarise"]

HOLD, ORACLE = "hold", "oracle"

Entry = tuple[str, int]
"""An agent's name and a seed."""


@dataclass(frozen=True)
class Spread:
    """A mean over seeds.

    Attributes:
        mean: the mean.
        sd: the standard deviation over seeds (n - 1 in the denominator); None for a single seed.
        n: the number of seeds.
    """

    mean: float
    sd: float | None
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
        return cls(float(np.mean(values)), sd, len(values))

    def text(self, digits: int) -> str:
        """``0.893``, or ``0.893 ± 0.004`` over several seeds."""
        mean = f"{self.mean:.{digits}f}"
        return mean if self.sd is None else f"{mean} ± {self.sd:.{digits}f}"


@dataclass(frozen=True)
class Row:
    """One agent's line of the table.

    Attributes:
        agent: its name.
        score: the official score; None if no episode ended.
        skill: 0 for hold, 1 for the oracle, over the seeds that both of them finished; None
            where there is no such seed, or no gap between the two to measure by.
        seconds: of an episode, processes side by side.
    """

    agent: str
    score: Spread | None
    skill: Spread | None
    seconds: Spread | None

    def as_dict(self) -> dict[str, Any]:
        """The row as JSON-able values."""
        return asdict(self)


def summarise(
    agents: Sequence[str],
    seeds: Sequence[int],
    scores: Mapping[Entry, float],
    seconds: Mapping[Entry, float],
) -> tuple[tuple[Row, ...], tuple[str, ...]]:
    """The rows of the table, in the order of ``agents``, and notes on what is missing and why.

    Args:
        agents: names, in the order of the rows.
        seeds: all seeds of the run.
        scores: official scores of the finished episodes.
        seconds: seconds of the finished episodes.
    """
    notes = []
    missing = [name for name in (HOLD, ORACLE) if name not in agents]
    done = {(agent, s) for agent in agents for s in seeds if (agent, s) in scores}
    scaled = [s for s in seeds if {(HOLD, s), (ORACLE, s)} <= done]
    flat = [s for s in scaled if scores[ORACLE, s] <= scores[HOLD, s]]
    if missing:
        notes.append(
            f"No skill: it is measured from hold (0) to oracle (1); add {' and '.join(missing)} "
            "to --agents."
        )
    elif not scaled:
        notes.append("No skill: hold or oracle finished no episode.")
    elif flat:
        notes.append(
            f"No skill for seed {', '.join(map(str, flat))}: the oracle scored no more than hold "
            "there."
        )
    usable = [s for s in scaled if s not in flat]
    rows = []
    for agent in agents:
        ended = [s for s in seeds if (agent, s) in done]
        if len(ended) < len(seeds):
            notes.append(f"{agent}: {len(ended)} of {len(seeds)} episodes finished.")
        skills = [
            float(skill(scores[agent, s], scores[HOLD, s], scores[ORACLE, s]))
            for s in ended
            if s in usable
        ]
        rows.append(
            Row(
                agent,
                Spread.of([scores[agent, s] for s in ended]) if ended else None,
                Spread.of(skills) if skills else None,
                Spread.of([seconds[agent, s] for s in ended]) if ended else None,
            )
        )
    return tuple(rows), tuple(notes)
