"""What every registered environment must do, whatever the challenge."""

from __future__ import annotations

import inspect
import itertools
import random
import re
import subprocess
import sys
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.wrappers import RecordEpisodeStatistics

from progressgym_env import CHALLENGES
from progressgym_env.errors import HistoryError, ProgressGymError
from tests.envs.episodes import digest, make, play, random_policy, zero_policy
from tests.scripted import (
    ScriptedModel,
    history_of,
    scripted_history,
    write_scripted,
)

every_challenge = pytest.mark.parametrize("challenge", CHALLENGES)
ROOT = Path(__file__).parents[2]


def test_every_registered_environment_is_a_challenge():
    registered = {key for key in gym.registry if key.startswith("ProgressGym/")}
    assert registered == set(CHALLENGES.values())


@every_challenge
def test_gymnasium_checker(challenge):
    env = make(challenge)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)
    env.close()


@every_challenge
def test_stable_baselines_checker(challenge):
    sb3 = pytest.importorskip("stable_baselines3.common.env_checker")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Advice for convolutional policies; a wrapper drops the box, or turns it into text.
        warnings.filterwarnings("ignore", "Your observation dialogue has an unconventional shape")
        sb3.check_env(make(challenge).unwrapped, skip_render_check=True)


@every_challenge
def test_docstring_tables_agree_with_the_environment(challenge):
    env = make(challenge)
    cls = type(env.unwrapped)
    doc = inspect.getdoc(cls)
    headings = re.findall(r"^## (.+)$", doc, re.MULTILINE)
    assert headings == [
        "Description", "Action Space", "Observation Space", "Starting State", "Rewards",
        "Episode End", "Information", "Arguments", "Version History",
    ]  # fmt: skip
    sections = dict(zip(headings, re.split(r"^## .+$", doc, flags=re.MULTILINE)[1:], strict=True))

    rows = {h: re.findall(r"^\| `(\w+)` \| (.+?) \| ", s, re.M) for h, s in sections.items()}
    named = {"n_centuries": "5", "n_pairs": "19", "dialogue_samples": "4"}
    for key, shown in rows["Observation Space"]:
        for name, number in named.items():
            shown = shown.replace(name, number)
        space = env.observation_space[key]
        expected = re.sub(r"\.0|\.0e\+00", "", str(space))
        assert shown == f"`{expected}`", key
    assert {key for key, _ in rows["Observation Space"]} == set(env.observation_space)

    parameters = inspect.signature(cls).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is not p.VAR_KEYWORD}
    assert {k: v.strip("`").replace('"', "'") for k, v in rows["Arguments"]} == {
        k: repr(v) for k, v in defaults.items()
    }

    last = list(play(env))[-1][4]
    assert {key for key, _ in rows["Information"]} == set(last)


@every_challenge
def test_same_seed_same_episode(challenge):
    """Original defect 17. There was no seed."""
    env, other = make(challenge), make(challenge)
    assert digest(play(env, seed=3)) == digest(play(other, seed=3)) == digest(play(env, seed=3))
    assert digest(play(env, seed=3)) != digest(play(env, seed=4))
    follow_ups = [digest(play(e, seed=None)) for e in (env, other)]
    assert follow_ups[0] != digest(play(env, seed=4)), "a reset without a seed goes on"
    assert follow_ups[0] != follow_ups[1], "the two have been reset with different seeds last"


def test_same_seed_same_episode_in_a_new_process():
    """Original defect 17. Seeds came from the clock."""
    code = (
        "from tests.envs.episodes import digest, make, play\n"
        f"for c in {list(CHALLENGES)}: print(digest(play(make(c), seed=11)))"
    )
    command = [sys.executable, "-W", "error::UserWarning", "-c", code]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert output.split() == [digest(play(make(c), seed=11)) for c in CHALLENGES]


@every_challenge
def test_global_random_states_stay_as_they_are(challenge):
    """Original defect 17. Global generators were seeded anew."""
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002  # only read
    list(play(make(challenge), seed=1))
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # noqa: NPY002


@every_challenge
def test_an_action_does_not_disturb_later_randomness(challenge):
    """Rounding in step two is the same whatever was done in step one."""
    env = make(challenge)
    trained = []
    for first in (-1.0, 0.0, 0.3):
        env.reset(seed=5)
        env.step(np.full(env.action_space.shape, first, dtype=np.float32))
        half = np.full(env.action_space.shape, 0.5, dtype=np.float32)
        trained.append(env.step(half)[4]["n_examples"])
    assert len(set(trained)) == 1


@every_challenge
@pytest.mark.parametrize("update_from", ["current", "initial"])
def test_zero_action_leaves_the_very_same_model(challenge, update_from):
    env = make(challenge, update_from=update_from).unwrapped
    env.reset(seed=0)
    first = env.examinee
    env.step(zero_policy(env))
    assert env.examinee is first
    env.step(random_policy(0)(env))
    moved = env.examinee
    assert moved is not first
    values = env.trajectory.examinee_values
    assert (values[0] == values[1]).all()
    assert (values[1] != values[2]).any()
    env.step(zero_policy(env))
    assert env.examinee is (moved if update_from == "current" else first)
    back = env.trajectory.examinee_values[3]
    assert (back == (values[2] if update_from == "current" else values[0])).all()


def test_update_from_initial_forgets_earlier_steps():
    """The paper's independent variant: the same proposal gives the same gap from the start."""
    history = scripted_history()
    env = make("follow", update_from="initial").unwrapped
    env.reset(seed=0)
    for _ in range(3):
        env.step(np.ones(env.action_space.shape))
    moved = env.trajectory.examinee_values[1:]
    assert np.ptp(moved, axis=0).max() < 0.03, "only the noise of training differs"
    assert np.abs(moved - history.values[0]).max() > 0.1


@every_challenge
def test_stochastic_rounding(challenge):
    env = make(challenge)
    n_pairs = env.action_space.shape[0]
    env.reset(seed=0)
    assert env.step(np.full(n_pairs, np.float32(1 / 5)))[4]["n_examples"] == n_pairs
    assert env.step(np.full(n_pairs, np.float32(-1)))[4]["n_examples"] == 5 * n_pairs

    mixed = np.resize(np.float32([0.5, -0.3, 0.01, -0.95, 0.0]), n_pairs)
    expected = 5 * np.abs(mixed.astype(float)).sum()
    drawn = []
    for _ in range(300):
        env.reset()
        drawn.append(env.step(mixed)[4]["n_examples"])
    deviation = np.std(drawn) / np.sqrt(len(drawn))
    assert abs(np.mean(drawn) - expected) < 4 * deviation
    assert np.std(drawn) > 0


@every_challenge
def test_lists_and_integers_are_actions(challenge):
    env = make(challenge)
    env.reset(seed=0)
    assert env.step([1] * 19)[4]["n_examples"] == 95


@every_challenge
def test_step_before_reset_and_after_the_end(challenge):
    for env in (make(challenge), make(challenge).unwrapped):
        with pytest.raises(ResetNeeded):
            env.step(zero_policy(env))
        list(play(env))
        with pytest.raises(ResetNeeded, match=r"the episode has ended; call reset\(\)"):
            env.step(zero_policy(env))
        env.reset()
        env.step(zero_policy(env))
    env.close()
    with pytest.raises(ResetNeeded, match=r"there is no episode yet; call reset\(\)"):
        env.step(zero_policy(env))


@every_challenge
def test_before_reset_there_is_no_episode(challenge):
    env = make(challenge).unwrapped
    for ask in (env.score, lambda: env.trajectory, lambda: env.examinee):
        with pytest.raises(ResetNeeded):
            ask()
    env.reset()
    with pytest.raises(ProgressGymError, match="0 of"):
        env.score()


def _history_with(model_class):
    """Four centuries of people who do not differ, whose models are of another kind."""
    logits = np.zeros((4, 19))
    history = history_of(logits)
    history._source = type(
        "Source", (), {"model": lambda self, t, device, q: model_class(logits[t], q)}
    )()
    return history


@every_challenge
@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_a_step_that_stops_midway_ends_the_episode(challenge, error):
    class Failing(ScriptedModel):
        def learn(self, update, data):
            raise error("as on a full device")

    env = make(challenge, history=_history_with(Failing))
    env.reset(seed=0)
    with pytest.raises(error):
        env.step(random_policy(0)(env))
    with pytest.raises(ResetNeeded, match=r"the last step failed or was interrupted.*reset\(\)"):
        env.step(zero_policy(env))
    env.reset(seed=0)
    env.step(zero_policy(env))


@every_challenge
def test_a_measurement_that_fails_is_an_error(challenge):
    """Original defect 8. It gave zeros, which were scored."""

    class Unmeasurable(ScriptedModel):
        def values(self):
            raise RuntimeError("no answer")

    env = make(challenge, history=history_of(np.zeros((4, 19)))).unwrapped
    env.history._source = _history_with(Unmeasurable)._source
    env.reset(seed=0)
    with pytest.raises(RuntimeError, match="no answer"):
        env.step(random_policy(0)(env))
    assert env.trajectory.rewards.size == 0
    assert (env.trajectory.examinee_values > 0).all()
    with pytest.raises(ProgressGymError, match="0 of"):
        env.score()


@every_challenge
def test_close_is_idempotent_and_reset_starts_afresh(challenge):
    env = make(challenge)
    expected = digest(play(env, seed=1))
    env.close()
    env.close()
    assert digest(play(env, seed=1)) == expected


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A history folder with real records and no models: enough for whoever trains nothing."""
    return write_scripted(tmp_path_factory.mktemp("recorded"))


@every_challenge
def test_spec_survives_json(challenge, folder):
    own = {"predict": {"steps_ahead": 2}, "coevolve": {"examinee_epochs": 0.5}}.get(challenge, {})
    env = make(challenge, history=str(folder), update="sft", dialogue_samples=2, **own)
    rebuilt = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert rebuilt.spec == env.spec
    assert data_equivalence(rebuilt.reset(seed=3), env.reset(seed=3), exact=True)


def test_judges_are_read_from_the_record(folder):
    """DESIGN: Follow and Predict run no judge; holding still, not even an examinee is loaded."""
    for challenge in ("follow", "predict"):
        steps = list(play(make(challenge, history=folder), policy=zero_policy))
        assert steps[-1][4]["score"] == pytest.approx(sum(s[1] for s in steps), abs=1e-9)


def test_missing_file_of_a_history_is_reported(folder, tmp_path):
    (tmp_path / "history.json").write_bytes((folder / "history.json").read_bytes())
    with pytest.raises(HistoryError, match="missing"):
        make("follow", history=tmp_path)


@every_challenge
def test_episode_statistics(challenge):
    env = RecordEpisodeStatistics(make(challenge))
    info = list(play(env))[-1][4]
    assert info["episode"]["r"] == pytest.approx(info["score"], abs=1e-6)
    assert info["episode"]["l"] == env.unwrapped.n_steps


@every_challenge
def test_vectorised(challenge):
    """Two side by side in one process are two episodes apart."""
    envs = gym.make_vec(
        CHALLENGES[challenge], num_envs=2, vectorization_mode="sync", history=scripted_history()
    )
    observations, info = envs.reset(seed=[3, 4])
    for index, seed in enumerate((3, 4)):
        alone, alone_info = make(challenge).reset(seed=seed)
        assert all((observations[key][index] == alone[key]).all() for key in alone)
        assert info["dialogue"][index] == alone_info["dialogue"]
    actions = np.zeros(envs.action_space.shape, dtype=np.float32)
    assert envs.step(actions)[1].shape == (2,)
    envs.close()


@every_challenge
def test_phases_are_reported(challenge):
    env = make(challenge)
    phases: list[str] = []
    env.unwrapped.on_phase = phases.append
    env.reset(seed=0)
    env.step(random_policy(0)(env))
    expected = ["training", "measuring"]
    if challenge == "coevolve":
        expected += ["influencing", "measuring", "eliciting"]
    assert phases == expected


@every_challenge
def test_what_is_returned_may_be_changed_by_its_owner(challenge):
    """Original defect 10. What agents wrote reached the judge."""
    env = make(challenge)
    expected = digest(play(env, seed=2))
    for observation, _, _, _, info in itertools.islice(play(env, seed=2), 3):
        for value in (*observation.values(), *info.values()):
            if isinstance(value, np.ndarray):
                value[...] = 0
        trajectory = env.unwrapped.trajectory
        trajectory.judge_values[...] = trajectory.examinee_values[...] = 0
    assert digest(play(env, seed=2)) == expected


@every_challenge
def test_nobody_writes_into_the_history(challenge):
    """Original defect 10. One history serves all environments of a process."""
    env = make(challenge).unwrapped
    history = env.history
    arrays = (history.values, history.standard_errors, history.preferences)
    for array in (*arrays, *(a[1] for a in arrays)):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    assert digest(play(env, seed=2)) == digest(play(make(challenge), seed=2))
