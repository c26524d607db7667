"""Real runs in seconds, and somebody who changes them and puts right what he can."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from progressgym_env.benchmarks.bench import Task, play_cell, play_matrix
from progressgym_env.benchmarks.cell_file import read_cell
from progressgym_env.benchmarks.config import config_hash
from progressgym_env.benchmarks.episodes import EpisodeArrays, EpisodeRecord, action_digest
from progressgym_env.benchmarks.evidence import record_in
from progressgym_env.benchmarks.manifest import Submitter
from progressgym_env.benchmarks.matrix import Block, Cell, Matrix
from progressgym_env.benchmarks.retelling import replay_cell
from progressgym_env.benchmarks.run_folder import RunFolder, matrix_of, read_config
from progressgym_env.benchmarks.verdict import Verdict
from progressgym_env.benchmarks.verify import verify
from progressgym_env.files import file_hash, new_folder, write_json, write_text
from progressgym_env.histories.history import History
from progressgym_env.histories.loading import load_one

WHO = Submitter("A tamperer's", ("A. Nonymous",))


class Inline:
    """Does tasks here, one after another, in place of processes."""

    def __init__(self, job: Callable[[Task, Callable[[Any], None]], Any]) -> None:
        self._job = job

    def run(self, tasks, *, on_start, on_report, on_end) -> None:
        for index, task in enumerate(tasks):
            on_start(index)
            on_end(index, self._job(task, lambda report, index=index: on_report(index, report)))


class Hooks:
    """Nothing besides the run folder."""

    def opened(self, folder: RunFolder, history: History, described: Mapping[str, Any]) -> None:
        pass

    def ended(self, cell: Cell) -> None:
        pass

    def summary(self, status: str) -> Mapping[str, Any]:
        return {"status": status}


_again: dict[Any, EpisodeRecord] = {}


def _replayed_once(task: Task, report: Callable[[Any], None]) -> EpisodeRecord:
    """As ``replay_cell``; what was played again once, from the same actions, is kept."""
    arrays = read_cell(task.file).arrays
    assert arrays is not None
    key = (task.cell, task.history, task.device, arrays.actions.tobytes())
    if key not in _again:
        _again[key] = replay_cell(task, report)
    return _again[key]


def inline(workers: int, threads: int) -> Inline:
    """Plays again in this process."""
    return Inline(_replayed_once)


def play(matrix: Matrix, folder: Path) -> Path:
    """A complete run of ``matrix`` in ``folder``."""
    play_matrix(
        matrix,
        Hooks(),
        make_folder=lambda: new_folder(folder),
        executor=lambda workers, logs: Inline(play_cell),
    )
    return folder


def real_matrix(history: Path) -> Matrix:
    """Two steps of Predict with several agents."""
    block = Block(("hold", "lifelong", "random"), ("predict",), ("sft",), steps_ahead=(6,))
    return Matrix((block,), str(history), seeds=(0, 1), device="cpu")


def talking_matrix(history: Path) -> Matrix:
    """An episode of Coevolve."""
    block = Block(("lifelong-soft",), ("coevolve",), ("sft",))
    return Matrix((block,), str(history), device="cpu")


def simulated_matrix(n_seeds: int = 2) -> Matrix:
    """All challenges in closed form."""
    block = Block(("hold", "random", "oracle"), ("predict", "coevolve"), ("dpo",))
    return Matrix((block,), "simulated", seeds=tuple(range(n_seeds)), device="cpu")


class Tamperer:
    """Changes a run folder; what follows from a change, and can be computed, is put right."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = RunFolder(folder, matrix_of(read_config(folder)).cells)

    def cell(self, agent: str, challenge: str, seed: int = 0) -> Cell:
        (found,) = (
            cell
            for cell in self.run.cells
            if (cell.agent, cell.challenge, cell.seed) == (agent, challenge, seed)
        )
        return found

    def episode(self, cell: Cell) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Record and arrays, to be changed."""
        raw, arrays = record_in(self.run.file_of(cell))
        own = {f.name: np.array(getattr(arrays, f.name)) for f in fields(EpisodeArrays)}
        return copy.deepcopy(raw), own

    def put(self, cell: Cell, raw: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write an episode's file, and its line with the file's hash."""
        file = self.run.file_of(cell)
        tensors = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        file.write_bytes(save(tensors, {"episode": json.dumps(raw)}))
        lines = self.lines()
        named = {"file": f"cells/{file.name}", "sha256": file_hash(file)}
        lines[self.run.cells.index(cell)] = {**raw, "arrays": named}
        self.put_lines(lines)

    def lines(self) -> list[dict[str, Any]]:
        text = (self.folder / "episodes.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def put_lines(self, lines: list[dict[str, Any]]) -> None:
        write_text(
            self.folder / "episodes.jsonl", "".join(json.dumps(line) + "\n" for line in lines)
        )

    def put_config(self, **changes: Any) -> None:
        """Change arguments in ``config.json``, with its hash."""
        config = read_config(self.folder)
        config["arguments"].update(changes)
        config["config_hash"] = config_hash(config)
        write_json(self.folder / "config.json", config)

    def rescored(self, cell: Cell, raw: dict[str, Any]) -> dict[str, Any]:
        """Rewards, return and score as they follow from the embeddings that ``raw`` holds."""
        from progressgym_env.scoring import coevolve_term, cosine

        values = load_one(matrix_of(read_config(self.folder)).history, cell.seed).values
        n = len(raw["steps"])
        if cell.challenge == "predict":
            for index, step in enumerate(raw["steps"]):
                target = values[1 + index + cell.steps_ahead]
                step["reward"] = float(cosine(step["examinee_values"], target)) / n
        else:
            states = [raw["initial_values"], *(step["proxy_values"] for step in raw["steps"])]
            terms = [float(coevolve_term(state, values)) / (n + 1) for state in states]
            for index, step in enumerate(raw["steps"]):
                step["reward"] = terms[index + 1] + (terms[0] if index == 0 else 0.0)
                step["judge_values"] = states[index]
        raw["score"] = raw["return"] = sum(step["reward"] for step in raw["steps"])
        return raw

    def acted(self, raw: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
        """Digests of the actions that ``arrays`` holds."""
        for step, action in zip(raw["steps"], arrays["actions"], strict=True):
            step["action"] = action_digest(action)

    def relabelled(self, before: Matrix, after: Matrix) -> None:
        """Pass the cells of one matrix off as those of another, everywhere."""
        episodes = [self.episode(cell) for cell in self.run.cells]
        for cell in self.run.cells:
            self.run.file_of(cell).unlink()
        arguments = {k: v for k, v in after.to_dict().items() if k != "history"}
        self.put_config(**arguments)
        self.run = RunFolder(self.folder, after.cells)
        self.put_lines([{}] * len(after.cells))
        for cell, (raw, arrays) in zip(after.cells, episodes, strict=True):
            told = {f.name: getattr(cell, f.name) for f in fields(Cell)}
            self.put(cell, {**raw, **told}, arrays)


def renumbered(matrix: Matrix, **changes: Any) -> Matrix:
    """The matrix with other blocks' parts, for relabelling."""
    return replace(matrix, blocks=tuple(replace(block, **changes) for block in matrix.blocks))


def errors(verdict: Verdict) -> str:
    return "\n".join(map(str, verdict.errors))


def found(tamperer: Tamperer, *words: str, **options: Any) -> str:
    """What is found in a folder that must not pass; it names all ``words``."""
    verdict = verify(tamperer.folder, **options)
    assert not verdict.ok
    said = errors(verdict)
    for word in words:
        assert word in said, said
    return said
