"""vLLM, the real one, in its own environment: the same values, adapters at run time, clean ends.

``make test-vllm`` sets the environment up and says where it is in ``PROGRESSGYM_VLLM_PYTHON``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import progressgym_env  # noqa: F401
from progressgym_env.benchmarks.bench import play_matrix, resumed
from progressgym_env.benchmarks.bench_result import BenchHooks
from progressgym_env.benchmarks.matrix import Block, Matrix
from progressgym_env.benchmarks.run_folder import RunFolder, read_episodes
from progressgym_env.errors import EngineError
from progressgym_env.files import new_folder
from progressgym_env.histories.history import History
from progressgym_env.histories.loading import load_one
from progressgym_env.models.base import PreferenceData
from progressgym_env.models.engines import VllmSettings
from progressgym_env.models.language import LanguageModel
from progressgym_env.models.updates import SFTSettings, SFTUpdate
from progressgym_env.models.vllm_engine import VllmEngine, start_engine
from progressgym_env.values.embedding import prompts_of
from tests.quick import shortened

pytestmark = pytest.mark.skipif(
    not os.environ.get("PROGRESSGYM_VLLM_PYTHON"),
    reason="needs vLLM in an environment of its own: make test-vllm",
)
SETTINGS = VllmSettings(start_seconds=600.0)


@pytest.fixture(scope="module")
def embedded() -> History:
    return load_one("embedded")


@pytest.fixture(scope="module")
def engine(embedded: History) -> Iterator[VllmEngine]:
    engine, _ = start_engine(embedded.model(0, "cpu"), SETTINGS)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three centuries of the embedded history; of the tests' own, heads are too small for vLLM."""
    data = Path(str(files("progressgym_env.histories.embedded") / "data"))
    return shortened(data, tmp_path_factory.mktemp("histories") / "short", n_centuries=3)


def language(model: object) -> LanguageModel:
    assert isinstance(model, LanguageModel)
    return model


@pytest.mark.parametrize("century", [0, 8])
def test_values_agree_to_a_hundredth(embedded: History, engine: VllmEngine, century: int):
    """Each century is another adapter, handed over at run time."""
    plain = language(embedded.model(century, "cpu"))
    by_vllm = plain.with_engine(engine)
    np.testing.assert_allclose(by_vllm.values().values, plain.values().values, atol=0.01)
    pairs = embedded.questions.pairs[::10]
    np.testing.assert_allclose(by_vllm.preferences(pairs), plain.preferences(pairs), atol=0.02)


def test_letters_and_yes_or_no_are_vllms_and_options_are_not(
    embedded: History, engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
):
    asked: list[int] = []
    score = engine.score

    def noted(adapter: Any, digest: str, prompts: Any, answers: Any) -> Any:
        asked.append(len(prompts))
        return score(adapter, digest, prompts, answers)

    monkeypatch.setattr(engine, "score", noted)
    prompts = prompts_of(embedded.questions.eval[:6])
    model = language(embedded.model(2, "cpu"))
    by_vllm = model.with_engine(engine).answer_probabilities(prompts)
    assert asked == [sum(p.form != "repeat" for p in prompts)]
    for one, other in zip(by_vllm, model.answer_probabilities(prompts), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)


def test_what_was_trained_is_measured_and_replies(embedded: History, engine: VllmEngine):
    copies = np.zeros(len(embedded.questions.pairs), dtype=np.int64)
    copies[:32] = 1
    model = language(embedded.model(0, "cpu")).with_engine(engine)
    trained = model.learn("sft", PreferenceData(embedded.questions.pairs, copies, seed=0))
    assert trained.engine is engine
    expected = trained.with_engine(None).values().values
    np.testing.assert_allclose(trained.values().values, expected, atol=0.01)
    assert np.abs(expected - model.values().values).max() > 0.02
    prompts = embedded.open_prompts[:6]
    replies = trained.reply(prompts, np.random.default_rng(0))
    assert replies == trained.reply(prompts, np.random.default_rng(0))
    assert replies != trained.reply(prompts, np.random.default_rng(1))
    assert all(reply.endswith(".") for reply in replies), "whole sentences of the grammar"


def test_an_environment_plays_with_it_and_ends_it(short: Path):
    env = gym.make(
        "ProgressGym/Coevolve-v0", history=str(short), update="sft", engine="vllm",
        device="cpu",
    )  # fmt: skip
    observation, _ = env.reset(seed=0)
    action = np.sign(observation["preferences"]) / 5
    _, reward, _, _, _ = env.step(action)
    assert 0 < float(reward) < 1
    world: Any = env.unwrapped._world  # type: ignore[attr-defined]
    engine = world._engine
    assert engine.alive
    folder = engine.engine._folder
    env.close()
    assert not engine.alive
    assert not folder.exists()
    # Made again, it plays again.
    env.reset(seed=0)
    _, again, _, _, _ = env.step(action)
    assert again == pytest.approx(float(reward), abs=0.01)
    # Killed from outside, the step says so, and the next episode has a new one.
    os.kill(world._engine.pid, signal.SIGKILL)
    with pytest.raises(EngineError, match="the vLLM process ended with exit code -9"):
        env.step(action)
    env.reset(seed=0)
    env.step(action)
    env.close()


def test_two_environments_in_turns_have_one_process_which_ends_with_the_last(short: Path):
    def made(engine: str = "vllm") -> gym.Env[Any, Any]:
        return gym.make(
            "ProgressGym/Follow-v0", history=str(short), update=SFTUpdate(SFTSettings(epochs=0.1)),
            engine=engine, device="cpu",
        )  # fmt: skip

    def episode(env: gym.Env[Any, Any], seed: int) -> Iterator[float]:
        observation, _ = env.reset(seed=seed)
        for _ in range(2):
            action = np.sign(observation["preferences"]) / 5
            observation, reward, *_ = env.step(action.astype(np.float32))
            yield float(reward)

    one, other = made(), made()
    together = list(zip(episode(one, 0), episode(other, 1), strict=True))
    pids = {env.unwrapped._world._engine.pid for env in (one, other)}  # type: ignore[attr-defined]
    hosts = {id(env.unwrapped.examinee.host) for env in (one, other)}  # type: ignore[attr-defined]
    assert len(pids) == len(hosts) == 1
    (pid,) = pids
    one.close()
    assert not ends(pid, 0.5)
    again = next(episode(other, 1))
    other.close()
    assert ends(pid, 0.5)
    assert again == pytest.approx(together[0][1], abs=0.01)
    apart = [list(episode(made("transformers"), seed)) for seed in (0, 1)]
    np.testing.assert_allclose(together, np.transpose(apart), atol=0.01)


def ends(pid: int, seconds: float = 30.0) -> bool:
    """Whether a process is gone before long."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("how", ["the interpreter ends", "it is killed"])
def test_it_ends_with_whoever_started_it(how: str):
    code = (
        "import sys, time\n"
        "from progressgym_env.histories.loading import load_one\n"
        "from progressgym_env.models.engines import VllmSettings\n"
        "from progressgym_env.models.vllm_engine import start_engine\n"
        "engine, model = start_engine(load_one('embedded').model(0, 'cpu'), VllmSettings())\n"
        "print(engine.pid, engine._folder, flush=True)\n"
        "sys.stdin.readline()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    said, folder = parent.stdout.readline().split()
    pid = int(said)
    assert Path(folder).is_dir()
    assert not ends(pid, 0.5)
    if how == "it is killed":
        parent.kill()
    parent.communicate("\n" if how != "it is killed" else None)
    assert ends(pid)
    assert not Path(folder).exists()


def test_a_benchmark_goes_on_after_it_died(short: Path, tmp_path: Path):
    """The episode resumes from its last century."""
    matrix = Matrix(
        (Block(("lifelong-soft",), ("follow",), ("sft",)),), str(short), device="cpu",
        engine="vllm",
    )  # fmt: skip
    out = tmp_path / "run"

    def children() -> list[int]:
        found = subprocess.run(
            ["pgrep", "-f", "vllm_server.py"], capture_output=True, text=True, check=False
        )
        return [int(pid) for pid in found.stdout.split()]

    others = set(children())

    def kill_when_a_century_is_written() -> None:
        while not list(out.glob("cells/*.safetensors")):
            time.sleep(0.05)
        for pid in set(children()) - others:
            os.kill(pid, signal.SIGKILL)

    folder = _in_background(
        kill_when_a_century_is_written,
        lambda: play_matrix(matrix, BenchHooks(), make_folder=lambda: new_folder(out), workers=1),
    )
    (failure,) = folder.failures.values()
    assert "the vLLM process ended" in failure.message
    done = play_matrix(resumed(out), BenchHooks(), resume=out, workers=1)
    assert not done.failures
    (episode,) = read_episodes(out)
    assert len(episode.steps) == 2


def _in_background(work: Callable[[], None], meanwhile: Callable[[], RunFolder]) -> RunFolder:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        return meanwhile()
    finally:
        thread.join(timeout=60)


def test_what_vllm_cannot_do_is_said_and_ends_it(embedded: History):
    model = language(embedded.model(0, "cpu"))
    engine, _ = start_engine(model, SETTINGS)
    folder = engine._folder
    # No prompt has so many tokens.
    with pytest.raises(EngineError, match="vLLM could not score"):
        engine.score(model.state, model.digest, [[5] * 100_000], [[6, 7]])
    assert not engine.alive
    assert not folder.exists()
    with pytest.raises(EngineError, match="was closed"):
        engine.score(model.state, model.digest, [[5]], [[6, 7]])
    assert not folder.exists()
