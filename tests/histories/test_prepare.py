"""Histories of full models: measured once, played with the first model."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import progressgym_env  # noqa: F401
from progressgym_env.benchmarks.bench import default_workers
from progressgym_env.errors import HistoryError, InvalidArgumentError
from progressgym_env.histories import read_history, remeasure
from progressgym_env.histories.declared import declaration
from progressgym_env.histories.prepare import open_prompts, prepare
from progressgym_env.models import loading, memory
from progressgym_env.models.language import LanguageHost, LanguageModel
from progressgym_env.models.loading import BaseSource
from progressgym_env.values.questions import QuestionSet, load_questions
from tests.histories.full_models import CENTURIES, TEMPLATE, declare
from tests.models.tiny import make_tokenizer


def test_what_is_stored_is_what_each_model_says(prepared: Path, models: Path, asked: QuestionSet):
    history = read_history(prepared)
    assert history.names == CENTURIES
    assert repr(history) == "History('mine', C019 to C021, real)"
    for index, century in enumerate(CENTURIES):
        source = BaseSource(str(models / century), chat_template=TEMPLATE)
        host = LanguageHost(source, device="cpu")
        model = LanguageModel(host, host.fresh, history.questions)
        np.testing.assert_array_equal(history.values[index], model.values().values)
        np.testing.assert_array_equal(
            history.preferences[index], model.preferences(history.questions.pairs)
        )
    assert len({value.tobytes() for value in history.values}) == 3
    assert [e.prompt for e in history.dialogue(1)] == open_prompts()
    assert all(len(history.influence(t)) == len(asked.train) for t in range(3))
    # Asked with the declared template, which makes other numbers than the tokenizer's own.
    host = LanguageHost(models / "C019", device="cpu")
    own = LanguageModel(host, host.fresh, history.questions)
    assert not np.array_equal(history.values[0], own.values().values)


@pytest.mark.parametrize("challenge", ["Follow", "Coevolve"])
def test_an_episode_needs_the_first_model_alone(
    challenge: str, copies: Path, tmp_path: Path, asked: QuestionSet
):
    declared = declaration(declare(copies, "C019", "C020"))
    out = tmp_path / "history"
    prepare(declared, out, asked, device="cpu")
    shutil.rmtree(copies / "C020")
    env = gym.make(f"ProgressGym/{challenge}-v0", history=str(out), update="sft", device="cpu")
    observation, _ = env.reset(seed=0)
    _, reward, terminated, _, _ = env.step(np.sign(observation["preferences"]) / 5)
    assert terminated
    assert 0 < float(reward) <= 1
    env.close()


def test_another_century_is_loaded_in_place_of_the_one_before(prepared: Path):
    history = read_history(prepared)
    first, second = history.model(0, "cpu"), history.model(1, "cpu")
    assert history.model(1, "cpu").host is second.host
    assert history.model(0, "cpu").host is not first.host, "the first was let go of"
    np.testing.assert_array_equal(history.values[1], second.values().values)
    with pytest.raises(HistoryError, match="progressgym history prepare"):
        remeasure(prepared)


class Stop(Exception):
    pass


def test_an_interrupted_preparation_goes_on_with_the_next_century(
    prepared: Path,
    copies: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: QuestionSet,
):
    declared = declaration(declare(copies, chat_template=TEMPLATE, description="Tiny."))
    out = tmp_path / "history"

    def stop(stage: str, done: int, total: int) -> None:
        if done == 2:
            raise Stop

    with pytest.raises(Stop):
        prepare(declared, out, asked, device="cpu", progress=stop)
    assert not (out / "history.json").exists()
    before = {path: path.stat().st_mtime_ns for path in (out / "measured").iterdir()}
    assert [path.stem for path in sorted(before)] == ["C019", "C020"]
    loaded: list[str] = []
    load_base = loading.load_base

    def noted(base: Any, device: torch.device) -> Any:
        loaded.append(Path(base.model).name)
        return load_base(base, device)

    monkeypatch.setattr("progressgym_env.models.host.load_base", noted)
    history = prepare(declared, out, asked, device="cpu")
    assert loaded == ["C021"]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    whole = read_history(prepared)
    np.testing.assert_array_equal(history.values, whole.values)
    assert [history.dialogue(t) for t in range(3)] == [whole.dialogue(t) for t in range(3)]
    # Again, nothing is to be done; another model is measured anew, and so is another seed.
    prepare(declared, out, asked, device="cpu")
    assert loaded == ["C021"]
    digest = history.digest
    assert prepare(declared, out, asked, device="cpu").digest == digest
    (copies / "C020" / "config.json").touch()
    with pytest.raises(HistoryError, match="has changed since it was measured"):
        read_history(out).model(1, "cpu")
    prepare(declared, out, asked, device="cpu")
    assert loaded == ["C021", "C020"]
    with pytest.raises(InvalidArgumentError, match="another seed; it would be lost"):
        prepare(declared, out, asked, device="cpu", seed=1)
    with pytest.raises(InvalidArgumentError, match="with other questions"):
        prepare(declared, out, load_questions(), device="cpu")


def test_a_damaged_part_is_named(copies: Path, tmp_path: Path, asked: QuestionSet):
    out = tmp_path / "history"
    (out / "measured").mkdir(parents=True)
    (out / "measured" / "C019.json").write_text('{"key": ')
    with pytest.raises(HistoryError, match=r"C019\.json is damaged.*remove it"):
        prepare(declaration(declare(copies)), out, asked, device="cpu")


def test_questions_of_another_set_are_kept_in_the_folder(prepared: Path, asked: QuestionSet):
    again = read_history(prepared)
    assert again.questions.hash == asked.hash
    assert again.questions.name == "moralevals"
    assert again.preferences.shape == (3, len(asked.pairs))
    with pytest.raises(HistoryError, match=r"another question set.*progressgym history prepare"):
        read_history(prepared, load_questions())


# Models that cannot be had


def lacks_weights(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")


def lacks_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lacks_weights, r"of C021 lacks \*\.safetensors; give a folder as 'save_pretrained'"),
        (lacks_tokenizer, r"of C021 lacks tokenizer_config\.json"),
        (shutil.rmtree, "is not on the hub|cannot be had|is missing"),
    ],
)
def test_a_model_that_is_not_whole_is_found_before_anything_is_measured(
    damage: Callable[[Path], None], says: str, copies: Path, tmp_path: Path, asked: QuestionSet
):
    damage(copies / "C021")
    with pytest.raises(HistoryError, match=says):
        prepare(declaration(declare(copies)), tmp_path / "out", asked, device="cpu")
    assert not (tmp_path / "out").exists()


def test_a_model_without_a_chat_template_is_refused(
    copies: Path, tmp_path: Path, asked: QuestionSet
):
    for path in copies.glob("*/chat_template.jinja"):
        path.unlink()
    with pytest.raises(HistoryError, match="lacks a chat template"):
        prepare(declaration(declare(copies)), tmp_path / "out", asked, device="cpu")


def test_a_tokenizer_of_another_vocabulary_is_refused(
    copies: Path, tmp_path: Path, asked: QuestionSet
):
    tokenizer = make_tokenizer()
    tokenizer.add_tokens([f"word{n}" for n in range(9)])
    tokenizer.save_pretrained(copies / "C019")
    with pytest.raises(HistoryError, match=r"C019 has 4\d\d tokens, and the model only 4\d\d"):
        prepare(declaration(declare(copies)), tmp_path / "out", asked, device="cpu")


def test_too_little_memory_is_said_before_loading(
    copies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: QuestionSet
):
    monkeypatch.setattr(loading, "SMALL_BASE", 10)
    monkeypatch.setattr(memory, "available_bytes", lambda device: 100_000)
    monkeypatch.setattr(
        loading.AutoModelForCausalLM, "from_pretrained", lambda *a, **k: pytest.fail("loaded")
    )
    with pytest.raises(InvalidArgumentError, match=r"needs about .* GiB on cpu .* are free; use a"):
        prepare(declaration(declare(copies)), tmp_path / "out", asked, device="cpu")


def test_memory_is_that_of_the_machine():
    free = memory.available_bytes(torch.device("cpu"))
    assert free is None or 2**28 < free < 2**50
    assert memory.needed_bytes(8_000_000_000, torch.bfloat16) == 24_000_000_000


def test_a_history_of_adapters_is_never_overwritten(
    models: Path, short_history: Path, tmp_path: Path, asked: QuestionSet
):
    out = shutil.copytree(short_history, tmp_path / "adapters")
    before = (out / "history.json").read_bytes()
    with pytest.raises(InvalidArgumentError, match="holds a history of adapters"):
        prepare(declaration(declare(models)), out, asked, device="cpu")
    assert (out / "history.json").read_bytes() == before


def test_full_models_are_played_one_after_another(prepared: Path, short_history: Path):
    assert read_history(prepared).of_full_models
    assert not read_history(short_history).of_full_models
    assert default_workers(9, 1, alone=True) == 1


def test_something_else_is_never_overwritten(models: Path, tmp_path: Path, asked: QuestionSet):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(InvalidArgumentError, match="holds something that is no prepared history"):
        prepare(declaration(declare(models)), tmp_path, asked, device="cpu")
    with pytest.raises(InvalidArgumentError, match="is a file"):
        prepare(declaration(declare(models)), tmp_path / "letter.txt", asked, device="cpu")
