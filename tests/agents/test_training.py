"""Training with Stable-Baselines3: learns, resumes to the very weights, and keeps no pickles."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch

from progressgym_env import CHALLENGES
from progressgym_env.agents.policy import Policy, PolicyAgent, PolicyView
from progressgym_env.agents.registry import make_agent
from progressgym_env.agents.training import TrainConfig, Trainer, default_settings, read_sb3
from progressgym_env.benchmarks.batch import play_batch
from progressgym_env.errors import InvalidArgumentError, PolicyError, UnknownNameError

SMALL = {
    "ppo": {"n_envs": 16, "segment": 256, "batch_size": 64, "n_epochs": 2, "net_arch": [16]},
    "sac": {"n_envs": 4, "segment": 64, "batch_size": 32, "net_arch": [16], "buffer_size": 512,
            "learning_starts": 32},
}  # fmt: skip


def config(algorithm="ppo", challenge="coevolve", segments=3, **changed):
    small = dict(SMALL[algorithm])
    if challenge == "predict" and algorithm == "ppo":
        small.update(segment=224, batch_size=56)
    return TrainConfig(
        algorithm=algorithm,
        challenge=challenge,
        total_steps=segments * small["segment"],
        settings={**small, **changed},
    )


def finished(trainer):
    while not trainer.done:
        trainer.train_segment()
    return trainer


def weights(trainer):
    return {name: tensor.clone() for name, tensor in trainer.model.policy.state_dict().items()}


@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
def test_resumed_is_as_if_never_stopped(algorithm, tmp_path):
    whole = finished(Trainer(config(algorithm)))
    stopped = Trainer(config(algorithm))
    stopped.train_segment()
    stopped.save(tmp_path)
    resumed = Trainer(config(algorithm))
    resumed.restore(tmp_path)
    finished(resumed)
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, resumed.model.policy.state_dict()[name]), name
    assert whole.model.num_timesteps == resumed.model.num_timesteps
    suffixes = {path.suffix for path in tmp_path.iterdir()}
    assert suffixes == {".json", ".safetensors"}


def test_checkpoints_replace_one_another(tmp_path):
    trainer = Trainer(config())
    for _ in range(2):
        trainer.train_segment()
        trainer.save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "checkpoint-000002.safetensors",
        "checkpoint.json",
    ]


@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
@pytest.mark.parametrize("challenge", CHALLENGES)
def test_the_policy_without_sb3_acts_as_with_it(algorithm, challenge):
    trainer = Trainer(config(algorithm, challenge, segments=1))
    trainer.train_segment()
    policy = trainer.policy()
    seen = np.random.default_rng(0).normal(size=(9, policy.view.n_features)).astype(np.float32)
    with_sb3, _ = trainer.model.predict(seen, deterministic=True)
    np.testing.assert_allclose(policy.pushes(seen), np.clip(with_sb3, -1, 1), atol=2e-6)
    assert json.dumps(dict(policy.training))


def test_training_leaves_the_global_generators_alone():
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    expected = random.random(), np.random.random(), torch.rand(1)  # noqa: NPY002
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    Trainer(config(segments=1)).train_segment()
    found = random.random(), np.random.random(), torch.rand(1)  # noqa: NPY002
    assert expected == found


def test_the_seed_decides():
    one, again = (finished(Trainer(config(segments=1))) for _ in range(2))
    other = finished(Trainer(TrainConfig(seed=1, total_steps=256, settings=SMALL["ppo"])))
    for name, tensor in weights(one).items():
        assert torch.equal(tensor, weights(again)[name])
    assert not torch.equal(one.model.policy.action_net.weight, other.model.policy.action_net.weight)


def test_ppo_learns_to_follow():
    """Half a minute of PPO must beat doing nothing, and the paper's lifelong agent."""
    chosen = TrainConfig(
        challenge="follow",
        total_steps=400_000,
        settings={"n_envs": 256, "segment": 100_352, "net_arch": [64], "batch_size": 2048},
    )
    policy = finished(Trainer(chosen)).policy()
    scores = {
        name: play_batch("follow", agent, n_episodes=300).mean()
        for name, agent in (
            ("policy", PolicyAgent(policy)),
            ("hold", make_agent("hold")),
            ("lifelong", make_agent("lifelong")),
        )
    }
    assert scores["policy"] > scores["lifelong"] + 0.005
    assert scores["policy"] > scores["hold"] + 0.02


def test_checkpoints_of_another_training_are_refused(tmp_path):
    trainer = Trainer(config())
    trainer.train_segment()
    trainer.save(tmp_path)
    with pytest.raises(PolicyError, match="settings is"):
        Trainer(config(net_arch=[8])).restore(tmp_path)
    with pytest.raises(PolicyError, match="challenge is 'coevolve' there and 'follow' here"):
        Trainer(config(challenge="follow")).restore(tmp_path)


def test_damaged_checkpoints_are_refused(tmp_path):
    trainer = Trainer(config())
    trainer.train_segment()
    trainer.save(tmp_path)
    header = json.loads((tmp_path / "checkpoint.json").read_text())
    (tmp_path / "checkpoint.json").write_text(json.dumps({**header, "checkpoint_version": 0}))
    with pytest.raises(PolicyError, match="version 0"):
        Trainer(config()).restore(tmp_path)
    (tmp_path / "checkpoint.json").write_text(json.dumps(header))
    tensors = tmp_path / header["tensors_file"]
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"\x01")
    with pytest.raises(PolicyError, match="damaged"):
        Trainer(config()).restore(tmp_path)
    tensors.unlink()
    with pytest.raises(PolicyError, match="can be read"):
        Trainer(config()).restore(tmp_path)


def test_a_zip_of_sb3_is_loaded_only_where_it_is_trusted(tmp_path):
    trainer = Trainer(config(segments=1))
    trainer.train_segment()
    trainer.model.lr_schedule = trainer.model.learning_rate = 1e-3
    path, view = tmp_path / "policy.zip", PolicyView()
    torch.manual_seed(0)
    from stable_baselines3 import PPO

    plain = PPO("MlpPolicy", trainer.env, n_steps=8, batch_size=64, device="cpu")
    plain.save(path)
    with pytest.raises(InvalidArgumentError, match="pickles"):
        read_sb3(path, view, "coevolve", trusted=False)
    policy = read_sb3(path, view, "coevolve", trusted=True)
    assert isinstance(policy, Policy)
    seen = np.random.default_rng(0).normal(size=(3, view.n_features)).astype(np.float32)
    np.testing.assert_allclose(
        policy.pushes(seen), np.clip(plain.predict(seen, deterministic=True)[0], -1, 1), atol=2e-6
    )
    with pytest.raises(PolicyError, match="shape"):
        read_sb3(path, PolicyView(length=6), "coevolve", trusted=True)


@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
@pytest.mark.parametrize("challenge", CHALLENGES)
def test_tuned_settings_are_complete(algorithm, challenge):
    tuned = default_settings(algorithm, challenge)
    assert {"n_envs", "segment", "learning_rate", "net_arch"} <= set(tuned)
    if algorithm == "ppo":
        assert tuned["segment"] % (tuned["n_envs"] * tuned["n_steps"]) == 0


def test_unknown_names_are_refused():
    with pytest.raises(UnknownNameError, match="ppo"):
        TrainConfig(algorithm="ppq")
    with pytest.raises(UnknownNameError, match="coevolve"):
        TrainConfig(challenge="coevolv")
    with pytest.raises(UnknownNameError, match="learning_rate"):
        TrainConfig(settings={"learning_rat": 1})
