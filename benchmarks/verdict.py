"""What came of checking a run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from progressgym_env.benchmarks.episode_check import Replayed

__all__ = ["Finding", "Verdict"]


@dataclass(frozen=True)
class Finding:
    """Something that does not agree, or that could not be looked at.

    Attributes:
        severity: ``"error"``: the run does not say what happened; ``"note"``: worth knowing.
        where: an episode, a file or an agent.
        what: what does not agree with what.
    """

    severity: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True)
class Verdict:
    """What came of a check.

    Attributes:
        path: what was checked.
        submission: whether by the rules of a submission.
        n_episodes: of the matrix.
        n_checked: episodes of which everything was checked that can be without replay.
        findings: errors and notes.
        replayed: what came of playing episodes again; None if none were.
        replay_seed: what decided which.
    """

    path: Path
    submission: bool
    n_episodes: int
    n_checked: int
    findings: tuple[Finding, ...]
    replayed: Replayed | None = None
    replay_seed: int | None = None

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What does not agree."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    @property
    def ok(self) -> bool:
        """Whether everything that was checked agrees."""
        return not self.errors

    def as_dict(self) -> dict[str, Any]:
        """The verdict as JSON-able values."""
        again = self.replayed
        return {
            "path": str(self.path),
            "ok": self.ok,
            "submission": self.submission,
            "episodes": self.n_episodes,
            "checked": self.n_checked,
            "replay": None
            if again is None
            else {
                "episodes": [asdict(cell) for cell in again.cells],
                "seed": self.replay_seed,
                "bit_identity_required": again.exact,
                "tolerance": None if again.exact else asdict(again.tolerance),
                "identical": again.identical,
                "within_tolerance": again.within,
                "largest_difference": again.largest,
            },
            "findings": [asdict(finding) for finding in self.findings],
        }

    def in_words(self) -> str:
        """The verdict in a few lines."""
        kind = "submission" if self.submission else "run"
        lines = [
            f"{self.path}: {self.n_checked} of {self.n_episodes} episodes of this {kind} checked "
            "against their seeds, agents and measurements",
            self._replay_in_words(),
        ]
        if self.ok:
            lines.append("verified: everything that was checked agrees")
        else:
            lines.append(f"NOT verified: {len(self.errors)} things do not agree")
        return "\n".join(lines)

    def _replay_in_words(self) -> str:
        again = self.replayed
        if again is None:
            return "none played again: whether models were really trained and measured is not known"
        chosen = "" if self.replay_seed is None else f", chosen with seed {self.replay_seed}"
        asked = (
            "had to come out to the last bit, as processor, versions and device are the same"
            if again.exact
            else f"could be {again.tolerance.embedding:g} off in an entry of an embedding "
            f"(the human proxy's: {2 * again.tolerance.embedding:g}) and "
            f"{again.tolerance.score:g} in the score, as processor, versions or device may differ"
        )
        return (
            f"{len(again.cells)} of {self.n_episodes} played again{chosen}: {again.identical} came "
            f"out to the last bit, {again.within} within tolerance, {len(again.problems)} "
            f"otherwise; they {asked} (largest difference {again.largest:.2g})"
        )
