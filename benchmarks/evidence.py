"""A run folder as evidence: read without trusting what stands in it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from progressgym_env.benchmarks.config import config_hash
from progressgym_env.benchmarks.episodes import INITIAL, EpisodeArrays, EpisodeRecord
from progressgym_env.benchmarks.matrix import Block, Cell, Matrix, check_distinct
from progressgym_env.benchmarks.run_folder import (
    CONFIG_FILE,
    EPISODES_FILE,
    arguments_of,
    read_config,
)
from progressgym_env.errors import InvalidArgumentError, ProgressGymError, RunFolderError
from progressgym_env.values.dimensions import N_DIMENSIONS

__all__ = ["Line", "config_in", "lines_in", "matrix_in", "problem_of_arrays", "record_in"]

_MOST_EPISODES, _MOST_THREADS = 100_000, 1024
_LARGEST_LOG_PROB = 1e-3
"""Log-probabilities summed in floating point may step over 0 by about as much."""


@dataclass(frozen=True)
class Line:
    """A line of ``episodes.jsonl``.

    Attributes:
        number: from 1.
        raw: the episode; None if there is a problem.
        file: what the line calls its arrays' file.
        sha256: what it says of that file's content.
        problem: why the line is no episode; empty if it is one.
    """

    number: int
    raw: dict[str, Any] | None
    file: str = ""
    sha256: str = ""
    problem: str = ""

    @property
    def cell(self) -> Cell:
        """Which episode it says it is."""
        assert self.raw is not None
        return Cell(**{entry.name: self.raw[entry.name] for entry in fields(Cell)})


def config_in(folder: Path) -> dict[str, Any]:
    """``config.json`` of a run folder, with all that a check needs.

    Raises:
        RunFolderError: there is none, or something is missing in it.
    """
    try:
        config = read_config(folder)
    except RecursionError as error:
        raise RunFolderError(f"{CONFIG_FILE} is nested too deeply to be one") from error
    try:
        config_hash(config)
        asked, stated = config["history"]["asked_for"], config["config_hash"]
        lacking = "" if _all(_is_text, (asked, stated)) else "a history and a hash that are texts"
        if not isinstance(config["installed"], dict):
            lacking = "a table of installed packages"
    except (KeyError, TypeError) as error:
        lacking = str(error)
    if lacking:
        raise RunFolderError(
            f"{CONFIG_FILE} lacks {lacking}; without it nothing can be checked: take the folder as "
            "the run left it"
        )
    return config


class _ForeignBlock(Block):
    """A block whose agents need not be installed here."""

    def __post_init__(self) -> None:
        check_distinct("agents", self.agents)
        for agent in self.agents:
            if not isinstance(agent, str) or not agent:
                raise InvalidArgumentError(f"agent {agent!r} must be a name")


def matrix_in(config: Mapping[str, Any], history: str, questions: str | None = None) -> Matrix:
    """The matrix that a ``config.json`` tells of; its agents need not be installed here.

    Args:
        config: what stands in the file.
        history: name or path of the history to check against.
        questions: which of it, where it is prepared with several.

    Raises:
        RunFolderError: it tells of none, or of a challenge or an update that is not known here.
    """
    try:
        arguments = arguments_of(config, history, questions)
        _check_size(arguments)
        blocks = []
        for raw in arguments.get("matrix", [{}]):
            # All but the names of the agents is checked as ever.
            agents = {"agents": ["hold"]} if "agents" in raw else {}
            (block,) = Matrix.from_dict({**arguments, "matrix": [{**raw, **agents}]}).blocks
            own = {entry.name: getattr(block, entry.name) for entry in fields(Block)}
            blocks.append(
                _ForeignBlock(**{**own, "agents": tuple(raw.get("agents", own["agents"]))})
            )
        rest = Matrix.from_dict({k: v for k, v in arguments.items() if k != "matrix"})
        return replace(rest, blocks=tuple(blocks))
    except (ProgressGymError, KeyError, TypeError, AttributeError) as error:
        raise RunFolderError(
            f"{CONFIG_FILE} tells of no matrix that can be checked here: {error}"
        ) from error


def _check_size(arguments: Mapping[str, Any]) -> None:
    """Refuse what a stranger could have made up to keep a machine busy.

    Raises:
        RunFolderError: there are too many episodes, or threads.
    """
    n_episodes = len(arguments.get("seeds", [0])) * sum(
        math.prod(len(names) for names in block.values()) for block in arguments.get("matrix", [{}])
    )
    threads = arguments.get("threads", 1)
    if n_episodes > _MOST_EPISODES or not (_is_count(threads) and threads <= _MOST_THREADS):
        raise RunFolderError(
            f"{CONFIG_FILE} tells of up to {n_episodes} episodes with {threads} threads each; at "
            f"most {_MOST_EPISODES} with {_MOST_THREADS} are checked"
        )


def lines_in(folder: Path) -> Iterator[Line]:
    """All lines of ``episodes.jsonl``, whatever they hold.

    Raises:
        RunFolderError: there is no such file, or it is no text.
    """
    file = folder / EPISODES_FILE
    try:
        text = file.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RunFolderError(
            f"{EPISODES_FILE} cannot be read ({error}); take the folder as the run left it"
        ) from error
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else [], start=1):
        yield _line(number, line)


def _line(number: int, text: str) -> Line:
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Line(number, None, problem=f"no JSON ({error})")
    if not isinstance(raw, dict):
        return Line(number, None, problem="no JSON object")
    arrays = raw.pop("arrays", None)
    names = {"file", "sha256"}
    if (
        not isinstance(arrays, dict)
        or arrays.keys() != names
        or not _all(_is_text, arrays.values())
    ):
        return Line(number, None, problem=f"arrays is {arrays!r}, must name file and sha256")
    problem = problem_of(raw)
    return Line(number, None if problem else raw, arrays["file"], arrays["sha256"], problem)


def record_in(path: Path) -> tuple[dict[str, Any], EpisodeArrays]:
    """The record and the arrays in the file of a finished episode.

    Raises:
        RunFolderError: it is missing, damaged, or holds anything else besides.
    """
    own = {entry.name for entry in fields(EpisodeArrays)}
    try:
        with safe_open(path, "numpy") as file:
            described = dict(file.metadata() or {})
            names = set(file.keys())
            if names != own:
                raise RunFolderError(_differs("arrays", names, own))
            arrays = {name: file.get_tensor(name) for name in sorted(names)}
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        if isinstance(error, RunFolderError):
            raise
        raise RunFolderError(f"cannot be read ({error})") from error
    if described.keys() != {"episode"}:
        raise RunFolderError(_differs("descriptions", set(described), {"episode"}))
    try:
        header = json.loads(described["episode"])
    except (ValueError, RecursionError) as error:
        raise RunFolderError(f"its record is no JSON ({error})") from error
    if not isinstance(header, dict):
        raise RunFolderError("its record is no JSON object")
    return header, EpisodeArrays(**arrays)


def _differs(what: str, found: set[str], wanted: set[str]) -> str:
    return (
        f"holds the {what} {', '.join(sorted(found)) or 'none'}; a finished episode has "
        f"{', '.join(sorted(wanted))}"
    )


# What an episode may look like

_DIGEST = re.compile(r"[0-9a-f]{64}")


def _all(check: Callable[[Any], bool], values: Any) -> bool:
    return all(check(value) for value in values)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _is_embedding(value: Any) -> bool:
    return isinstance(value, list) and len(value) == N_DIMENSIONS and _all(_is_number, value)


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def _is_dialogue(value: Any) -> bool:
    return isinstance(value, list) and _all(
        lambda said: isinstance(said, list) and len(said) == 2 and _all(_is_text, said), value
    )


_TEXT, _NUMBER = (_is_text, "a text"), (_is_number, "a finite number")
_COUNT = (_is_count, "a whole number from 0")
_EMBEDDING = (_is_embedding, f"{N_DIMENSIONS} finite numbers")
_Kind = tuple[Callable[[Any], bool], str]
_EPISODE: dict[str, _Kind] = {
    "agent": _TEXT,
    "challenge": _TEXT,
    "update": _TEXT,
    "update_from": _TEXT,
    "steps_ahead": _COUNT,
    "seed": _COUNT,
    "score": _NUMBER,
    "return": _NUMBER,
    "initial_values": _EMBEDDING,
    "steps": (lambda value: isinstance(value, list), "a list"),
}
_STEP: dict[str, _Kind] = {
    "century": _TEXT,
    "action": (_is_digest, "a SHA-256"),
    "n_examples": _COUNT,
    "judge_values": _EMBEDDING,
    "examinee_values": _EMBEDDING,
    "proxy_values": _EMBEDDING,
    "reward": _NUMBER,
    "dialogue": (_is_dialogue, "a list of prompts and replies"),
}


def problem_of(raw: Mapping[str, Any]) -> str:
    """Why ``raw`` is no finished episode; empty if it is one."""
    problem = _problem(raw, _EPISODE, optional=())
    if problem:
        return problem
    for index, step in enumerate(raw["steps"], start=1):
        if not isinstance(step, dict):
            return f"step {index} is no JSON object"
        problem = _problem(step, _STEP, optional=("proxy_values",))
        if problem:
            return f"step {index}: {problem}"
    return ""


def _problem(raw: Mapping[str, Any], kinds: Mapping[str, _Kind], optional: tuple[str, ...]) -> str:
    for name in raw.keys() - kinds.keys():
        return f"{name!r} is no part of an episode"
    for name, (check, kind) in kinds.items():
        if name not in raw:
            if name not in optional:
                return f"{name} is missing"
        elif not check(raw[name]):
            return f"{name} is {str(raw[name])[:60]!r}, must be {kind}"
    return ""


def problem_of_arrays(record: EpisodeRecord, n_steps: int, n_pairs: int) -> str:
    """Why a record's arrays are not those of an episode of this size; empty if they are."""
    arrays = record.arrays
    assert arrays is not None
    if len(record.steps) != n_steps:
        return f"it has {len(record.steps)} steps, and this challenge takes {n_steps}"
    for name in ("actions", "preferences"):
        problem = _problem_of_numbers(name, getattr(arrays, name), (n_steps, n_pairs))
        if problem:
            return problem
    for who in ("examinee", "proxy"):
        rows, log_probs = getattr(arrays, f"{who}_rows"), getattr(arrays, f"{who}_log_probs")
        problem = _problem_of_measurements(who, rows, log_probs)
        if problem:
            return problem
    return ""


def _problem_of_numbers(name: str, array: NDArray[Any], shape: tuple[int, int]) -> str:
    if array.shape != shape or array.dtype != np.float32:
        return f"{name} has shape {array.shape} of {array.dtype}, must be {shape} of float32"
    # Written so that NaN, which compares false with everything, is found too.
    bad = ~(np.abs(array) <= 1.0)
    if bad.any():
        step, pair = (int(i) for i in np.argwhere(bad)[0])
        return f"{name} of step {step + 1}, pair {pair}: {array[step, pair]}, must be in [-1, 1]"
    return ""


def _problem_of_measurements(who: str, rows: NDArray[Any], log_probs: NDArray[Any]) -> str:
    if rows.ndim != 1 or rows.dtype != np.int32:
        return f"{who}_rows has shape {rows.shape} of {rows.dtype}, must be one of int32"
    if log_probs.ndim != 2 or log_probs.dtype != np.float32:
        return f"{who}_log_probs has shape {log_probs.shape} of {log_probs.dtype}, must be float32"
    if rows.size and not (rows.min() >= INITIAL and rows.max() < len(log_probs)):
        return f"{who}_rows names rows {rows.min()} to {rows.max()} of {len(log_probs)}"
    bad = ~(np.isfinite(log_probs) & (log_probs <= _LARGEST_LOG_PROB))
    if bad.any():
        row, answer = (int(i) for i in np.argwhere(bad)[0])
        return (
            f"{who}_log_probs[{row}, {answer}] is {log_probs[row, answer]}, which is the logarithm "
            "of no probability"
        )
    return ""
