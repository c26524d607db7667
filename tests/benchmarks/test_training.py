"""Training as one run: what is written, and going on from wherever it was stopped."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from progressgym_env import __version__
from progressgym_env.agents.training import TrainConfig, Trainer
from progressgym_env.benchmarks import train as training
from progressgym_env.benchmarks.train import describe, read_config, train
from progressgym_env.errors import InvalidArgumentError, PolicyError
from progressgym_env.values.questions import load_questions
from tests.agents.small_training import config

ROOT = Path(__file__).parents[2]


def few_episodes(patch):
    patch.setattr(training, "_FINAL_EPISODES", 20)
    patch.setattr(training, "_CURVE_EPISODES", 20)


@pytest.fixture(autouse=True)
def _few_episodes(monkeypatch):
    few_episodes(monkeypatch)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a training of three segments that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        few_episodes(patch)
        train(config(), folder)
    return folder


def curve(folder):
    """The learning curve, without clock times."""
    points = map(json.loads, (folder / "curve.jsonl").read_text().splitlines())
    return [{key: value for key, value in point.items() if key != "seconds"} for point in points]


def same_training(one, other):
    assert curve(one) == curve(other)
    for place in ("policy/policy.safetensors", "checkpoint/checkpoint-000003.safetensors"):
        assert (one / place).read_bytes() == (other / place).read_bytes(), place
    summaries = [json.loads((f / "summary.json").read_text()) for f in (one, other)]
    assert summaries[0] | {"seconds": 0} == summaries[1] | {"seconds": 0}


def stopped(chosen, folder, segment, *, after):
    """Train until before or after the checkpoint of a segment is written."""
    save = Trainer.save

    def interrupted(trainer, place):
        if trainer.segment < segment or after:
            save(trainer, place)
        if trainer.segment == segment:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(chosen, folder)


@pytest.mark.parametrize("segment", [1, 2, 3])
@pytest.mark.parametrize("after", [False, True])
def test_stopped_anywhere_it_goes_on_as_if_it_never_had_been(whole, tmp_path, segment, after):
    """The first segment's checkpoint is one place: without it, training starts over."""
    folder = tmp_path / "run"
    stopped(config(), folder, segment, after=after)
    assert not (folder / "summary.json").exists()
    assert (folder / "checkpoint").is_dir() == (segment > 1 or after)
    told = []
    summary = train(config(), folder, resume=True, on_point=told.append)
    assert len(told) == 3 - segment + (not after)
    assert summary == json.loads((folder / "summary.json").read_text())
    same_training(folder, whole)


def test_the_only_segments_point_is_not_lost(tmp_path):
    chosen = config(segments=1)
    stopped(chosen, tmp_path, 1, after=True)
    summary = train(chosen, tmp_path, resume=True)
    (point,) = curve(tmp_path)
    assert point["steps"] == summary["steps"]


def test_a_point_too_many_is_cut(whole, tmp_path):
    """The curve is written before the checkpoint, which may never come."""
    stopped(config(), tmp_path, 2, after=False)
    assert curve(tmp_path) == curve(whole)[:2]
    file = tmp_path / "curve.jsonl"
    first, second = map(json.loads, file.read_text().splitlines())
    file.write_text(f"{json.dumps(first)}\n{json.dumps({**second, 'score': -1})}\n")
    train(config(), tmp_path, resume=True)
    same_training(tmp_path, whole)


def test_sac_is_resumed_too(tmp_path):
    chosen = config("sac", segments=2)
    train(chosen, tmp_path / "whole")
    stopped(chosen, tmp_path / "run", 1, after=True)
    train(chosen, tmp_path / "run", resume=True)
    one, other = (
        load_file(tmp_path / name / "policy" / "policy.safetensors") for name in ("whole", "run")
    )
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name])


def test_of_config_json_the_training_can_be_had_again(whole):
    content = json.loads((whole / "config.json").read_text())
    assert content == describe(config())
    assert read_config(whole) == config()
    assert {key: content[key] for key in asdict(config())} == asdict(config())
    assert content["package_version"] == __version__
    assert content["python"] == platform.python_version()
    assert content["versions"]["stable_baselines3"] == version("stable-baselines3")
    assert {"numpy", "torch", "gymnasium"} <= set(content["versions"])
    assert content["question_set_hash"] == load_questions().hash
    laws = ROOT / "progressgym_env" / "models" / "data" / "simulated.json"
    assert content["laws_digest"] == hashlib.sha256(laws.read_bytes()).hexdigest()


def test_without_config_json_the_checkpoint_knows(tmp_path):
    trainer = Trainer(config())
    trainer.train_segment()
    trainer.save(tmp_path / "checkpoint")
    assert read_config(tmp_path) == config()


def test_only_a_training_can_be_resumed(whole, tmp_path):
    with pytest.raises(InvalidArgumentError, match=r"neither config\.json nor a checkpoint"):
        train(config(), tmp_path, resume=True)
    with pytest.raises(InvalidArgumentError, match=r"neither config\.json nor a checkpoint"):
        read_config(tmp_path / "nowhere")
    file = tmp_path / "config.json"
    for content, told in (
        ("{", "config.json is damaged"),
        ("[]", "lacks algorithm, challenge"),
        (json.dumps({"challenge": "follow", "seed": 0}), "lacks algorithm, history"),
    ):
        file.write_text(content)
        with pytest.raises(PolicyError, match=told):
            read_config(tmp_path)
    file.write_text((whole / "config.json").read_text())
    with pytest.raises(PolicyError, match=r"of another training: seed is 0 there and 1 here"):
        train(replace(config(), seed=1), tmp_path, resume=True)
    with pytest.raises(PolicyError, match=r"checkpoint in .*: threads is 1 there and 2 here"):
        train(replace(config(), threads=2), whole, resume=True)


@pytest.mark.parametrize(
    ("content", "told"),
    [("", "has 0 points, and the checkpoint beside it 1 segments"), ("{\n", "cannot be read")],
)
def test_a_damaged_curve_is_said_to_be(tmp_path, content, told):
    stopped(config(), tmp_path, 1, after=True)
    (tmp_path / "curve.jsonl").write_text(content)
    with pytest.raises(PolicyError, match=told):
        train(config(), tmp_path, resume=True)


def test_nothing_is_overwritten_and_no_mistake_leaves_a_folder(whole, tmp_path):
    with pytest.raises(InvalidArgumentError, match="holds something already"):
        train(config(), whole)
    with pytest.raises(InvalidArgumentError, match="cannot be batched"):
        train(TrainConfig(history="embedded"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_comparison_is_of_as_many_episodes_as_it_says(tmp_path, monkeypatch):
    played = []
    play = training.play_batch

    def counted(challenge, agent, **options):
        played.append(options["n_episodes"])
        return play(challenge, agent, **options)

    monkeypatch.setattr(training, "play_batch", counted)
    summary = train(config(segments=1), tmp_path)
    assert summary["episodes"] == 20
    assert set(played) == {20}
