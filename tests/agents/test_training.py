"""Training with Stable-Baselines3: learns, resumes to the very weights, and keeps no pickles."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from dataclasses import asdict, replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from stable_baselines3 import PPO

from progressgym_env import CHALLENGES
from progressgym_env.agents.checkpoints import check_same_training
from progressgym_env.agents.policy import Policy, PolicyAgent, PolicyView
from progressgym_env.agents.registry import make_agent
from progressgym_env.agents.training import TrainConfig, Trainer, default_settings, read_sb3
from progressgym_env.benchmarks.batch import play_batch
from progressgym_env.errors import InvalidArgumentError, PolicyError, UnknownNameError
from progressgym_env.histories.simulated import simulated_histories
from progressgym_env.wrappers.sb3 import ProgressVecEnv
from tests.agents.small_training import SMALL, config, finished, weights


@pytest.mark.parametrize(
    ("algorithm", "changed"),
    [
        ("ppo", {}),
        # A tuple is a list in JSON, and no other training.
        ("ppo", {"net_arch": (16,)}),
        ("sac", {}),
        # Still drawing from the action space in the second segment.
        ("sac", {"learning_starts": 100}),
        # A replay buffer that has come round.
        ("sac", {"buffer_size": 48}),
    ],
)
def test_resumed_is_as_if_never_stopped(algorithm, changed, tmp_path):
    chosen = config(algorithm, **changed)
    whole = finished(Trainer(chosen))
    stopped = Trainer(chosen)
    stopped.train_segment()
    stopped.save(tmp_path)
    resumed = Trainer(chosen)
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
    with pytest.raises(PolicyError, match=r"net_arch is \[16\] there and \[8\] here; resume with"):
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


def test_trainings_are_compared_as_json_keeps_them():
    check_same_training("it", {"settings": {"net_arch": [8]}}, {"settings": {"net_arch": (8,)}})
    with pytest.raises(PolicyError, match="it is of another training: seed is None there and 0"):
        check_same_training("it", {}, {"seed": 0})


def test_what_a_header_lacks_is_named(tmp_path):
    trainer = Trainer(config())
    trainer.train_segment()
    trainer.save(tmp_path)
    path = tmp_path / "checkpoint.json"
    header = json.loads(path.read_text())
    for key in ("config", "segment", "num_timesteps", "n_updates", "replay_buffer"):
        path.write_text(json.dumps({k: v for k, v in header.items() if k != key}))
        with pytest.raises(PolicyError, match=f"damaged: .* lacks or misstates {key}; train"):
            Trainer(config()).restore(tmp_path)
    path.write_text(json.dumps({**header, "config": "ppo"}))
    with pytest.raises(PolicyError, match="misstates config"):
        Trainer(config()).restore(tmp_path)
    path.write_text(json.dumps({**header, "replay_buffer": {"pos": 1}}))
    with pytest.raises(PolicyError, match="not what PPO goes on from"):
        Trainer(config()).restore(tmp_path)


def test_nothing_outside_the_folder_is_read(tmp_path):
    """A header may name a path; the file of that name in the folder is what was checked."""
    places = []
    for seed in (0, 1):
        trainer = Trainer(replace(config(), seed=seed))
        trainer.train_segment()
        trainer.save(tmp_path / str(seed))
        places.append((trainer, tmp_path / str(seed) / "checkpoint.json"))
    (trainer, path), (_, elsewhere) = places
    header = json.loads(path.read_text())
    named = elsewhere.parent / header["tensors_file"]
    assert named.is_file()
    path.write_text(json.dumps({**header, "tensors_file": str(named)}))
    other = Trainer(config())
    other.restore(path.parent)
    for name, tensor in weights(trainer).items():
        assert torch.equal(tensor, weights(other)[name]), name


def test_threads_are_part_of_the_training(tmp_path):
    used = []
    chosen = replace(config(), threads=2)
    before = torch.get_num_threads()
    trainer = Trainer(chosen, on_rollout=lambda model: used.append(torch.get_num_threads()))
    assert torch.get_num_threads() == before
    trainer.train_segment()
    assert (set(used), torch.get_num_threads()) == ({2}, before)
    trainer.save(tmp_path)
    assert trainer.policy().training["threads"] == 2
    with pytest.raises(PolicyError, match="threads is 2 there and 1 here"):
        Trainer(config()).restore(tmp_path)


@pytest.mark.parametrize(("n_segments", "full"), [(2, False), (9, True)])
def test_of_a_replay_buffer_what_is_needed_is_kept(n_segments, full, tmp_path):
    """Bit by bit, the filled part alone, and observations once."""
    chosen = config("sac", segments=10, learning_starts=10_000)
    trainer, other = Trainer(chosen), Trainer(chosen)
    for _ in range(n_segments):
        trainer.train_segment()
    trainer.save(tmp_path)
    other.restore(tmp_path)
    one, two = trainer.model.replay_buffer, other.model.replay_buffer
    assert (one.pos, one.full) == (two.pos, two.full)
    assert one.full == full
    sizes = []
    for name in ("observations", "next_observations", "actions", "rewards", "dones", "timeouts"):
        assert getattr(one, name).tobytes() == getattr(two, name).tobytes(), name
        sizes.append(getattr(one, name)[: one.buffer_size if full else one.pos].nbytes)
    (file,) = tmp_path.glob("*.safetensors")
    kept = sum(t.nbytes for k, t in load_file(file).items() if k.startswith("replay_buffer/"))
    assert kept < 0.7 * sum(sizes)


def test_the_last_checkpoint_holds_no_replay_buffer(tmp_path):
    trainer = finished(Trainer(config("sac", segments=1)))
    trainer.save(tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    assert not [key for key in load_file(file) if key.startswith("replay_buffer/")]
    other = Trainer(config("sac", segments=1))
    other.restore(tmp_path)
    assert other.done
    for name, tensor in weights(trainer).items():
        assert torch.equal(tensor, weights(other)[name]), name


def test_ppo_learns_from_the_dict_observation_too():
    """Steps are counted whatever becomes of the weights: they must change, all of them."""
    envs = gym.make_vec(
        CHALLENGES["follow"], num_envs=4, history="simulated", autoreset_mode="SameStep"
    )
    model = PPO(
        "MultiInputPolicy", ProgressVecEnv(envs), n_steps=8, batch_size=16, seed=0, device="cpu"
    )
    before = {name: tensor.clone() for name, tensor in model.policy.state_dict().items()}
    model.learn(32)
    assert model.num_timesteps == 32
    for name, tensor in model.policy.state_dict().items():
        assert not torch.equal(tensor, before[name]), name


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
    with pytest.raises(UnknownNameError, match="simulated-train"):
        TrainConfig(history="simulated-trian")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"total_steps": 0}, "total_steps=0 must be 1 or more"),
        ({"seed": 0.5}, "seed=0.5 must be an integer"),
        ({"threads": 0}, "threads=0 must be 1 or more"),
        ({"history": "embedded"}, "'embedded' must be the name of simulated .* cannot be batched"),
        ({"history": simulated_histories("simulated")}, "keeps names only"),
        ({"challenge": "follow", "steps_ahead": 2}, "belongs to the challenge predict; follow has"),
        ({"challenge": "coevolve", "steps_ahead": 2}, "leave it out or change the challenge"),
        ({"challenge": "predict", "steps_ahead": 8}, "steps_ahead=8 must be from 1 to 7"),
        ({"settings": 5}, "settings=5 must be a mapping"),
    ],
)
def test_arguments_out_of_their_range_are_refused(arguments, message):
    with pytest.raises(InvalidArgumentError, match=message):
        TrainConfig(**arguments)


@pytest.mark.parametrize(
    ("algorithm", "name", "value", "message"),
    [
        ("ppo", "activation", "gelu", "unknown activation 'gelu'; known: relu, tanh"),
        ("ppo", "activation", 1, "must be one of tanh, relu"),
        ("ppo", "segment", 0, "segment=0 must be 1 or more"),
        ("ppo", "net_arch", 5, r"net_arch=5 must list the sizes .* as \[128, 128\]"),
        ("ppo", "net_arch", [16, 0], r"net_arch\[1\]=0 must be 1 or more"),
        ("ppo", "net_arch", "16", "must list the sizes"),
        ("ppo", "learning_rate", "x", "learning_rate='x' must be a finite number above 0"),
        ("ppo", "learning_rate", 0, "above 0"),
        ("ppo", "relative", "yes", "relative='yes' must be True or False"),
        ("ppo", "gamma", 1.5, "gamma=1.5 must be 1 or less"),
        ("ppo", "length", 1, "length=1 must be 2 or more"),
        ("ppo", "batch_size", 1, "batch_size=1 must be 2 or more"),
        ("ppo", "ent_coef", "auto", "ent_coef='auto' must be a finite number"),
        ("sac", "ent_coef", "auto_x", "'auto', or 'auto_' and the number"),
        ("sac", "ent_coef", "automatic", "'auto_0.01'"),
        ("sac", "ent_coef", "auto_0", "above 0"),
        ("sac", "learning_starts", -1, "learning_starts=-1 must be 0 or more"),
        ("sac", "buffer_size", 1e5, "must be an integer"),
        ("sac", "tau", 0.0, "above 0"),
    ],
)
def test_settings_out_of_their_range_are_refused(algorithm, name, value, message):
    with pytest.raises(InvalidArgumentError, match=message):
        TrainConfig(algorithm=algorithm, settings={name: value})


@pytest.mark.parametrize("value", ["auto", "auto_0.5", 0.1, 0])
def test_sac_may_tune_its_entropy_or_not(value):
    assert TrainConfig(algorithm="sac", settings={"ent_coef": value}).settings["ent_coef"] == value


def test_a_configuration_is_what_json_makes_of_it():
    chosen = TrainConfig(
        total_steps=np.int64(5), settings={"net_arch": (np.int64(8),), "gamma": np.float32(0.5)}
    )
    assert json.loads(json.dumps(asdict(chosen))) == asdict(chosen)


def test_without_stable_baselines3_it_says_what_to_install():
    code = (
        "import sys; sys.modules['stable_baselines3'] = None\n"
        "from progressgym_env.errors import MissingPackageError\n"
        "for module in ('training', 'checkpoints'):\n"
        "    try: __import__('progressgym_env.agents.' + module)\n"
        "    except MissingPackageError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.startswith("training needs the package stable-baselines3")
        assert line.endswith("pip install 'progressgym-env[rl]'")
