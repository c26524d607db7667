"""Challenges by name: those of this package, and those that other packages offer."""

from __future__ import annotations

import json
import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env

from progressgym_env import CHALLENGES
from progressgym_env.agents import make_agent
from progressgym_env.envs.follow import FollowEnv
from progressgym_env.envs.progress import ProgressEnv
from progressgym_env.envs.registry import (
    PluginError,
    challenge_class,
    challenge_id,
    challenge_origin,
    challenges,
    check_challenge,
    kind_of,
    make_challenge,
    takes_steps_ahead,
)
from progressgym_env.errors import InvalidArgumentError, UnknownNameError
from progressgym_env.scoring import cosine
from tests.envs.episodes import make, play
from tests.installed import guide_blocks, python
from tests.scripted import scripted_history

every_challenge = pytest.mark.parametrize("challenge", CHALLENGES)


@pytest.fixture
def lead(installed, monkeypatch):
    """That package, for the present process."""
    monkeypatch.syspath_prepend(str(installed))
    return "lead"


# The built-in ones


def test_nothing_else_is_installed_where_tests_run():
    assert challenges() == tuple(CHALLENGES) == ("follow", "predict", "coevolve")


@every_challenge
def test_a_built_in_challenge_is_what_gymnasium_has(challenge):
    assert check_challenge(challenge) == challenge == kind_of(challenge)
    assert challenge_id(challenge) == CHALLENGES[challenge]
    assert challenge_origin(challenge) is None
    spec = gym.spec(CHALLENGES[challenge])
    assert challenge_class(challenge) is load_env_creator(spec.entry_point)
    assert challenge_class(challenge).challenge.lower() == challenge
    env = make_challenge(challenge, history=scripted_history(), dialogue_samples=2)
    assert env.spec.id == spec.id
    assert env.observation_space["dialogue"].shape[0] == 2
    assert takes_steps_ahead(challenge) == (challenge == "predict")


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("folow", UnknownNameError, "unknown challenge 'folow'; known: coevolve, .*mean 'follow'"),
        ("Follow", UnknownNameError, "did you mean 'follow'"),
        ("", UnknownNameError, "unknown challenge ''"),
        (3, InvalidArgumentError, "challenge=3 must be a name, one of follow, predict, coevolve"),
        (None, InvalidArgumentError, "challenge=None must be a name"),
    ],
)
@pytest.mark.parametrize(
    "call", [check_challenge, challenge_class, challenge_id, kind_of, make_challenge]
)
def test_bad_names(call, name, error, message):
    with pytest.raises(error, match=message):
        call(name)


# The one of the guide, installed by pip


def test_the_command_line_lists_what_is_installed(installed):
    names = json.loads(python(installed, "-m", "progressgym_env.cli", "list", "--json"))
    assert names["challenges"] == ["follow", "predict", "coevolve", "lead"]
    assert names["agents"][-1] == "momentum"
    assert names["agents"][0] == "hold"


def test_the_guides_check_of_an_episode_holds(installed):
    """A user's agent on a user's challenge: the return equals the score."""
    _, check, _ = guide_blocks("py")
    code = f"{check}\nprint(info['score'])"
    assert 0.5 < float(python(installed, "-c", code)) <= 1


def test_examples_stay_short():
    assert max(len(block.splitlines()) for block in guide_blocks("py")) < 40


def test_a_users_challenge_by_name(lead):
    assert challenges() == ("follow", "predict", "coevolve", "lead")
    assert check_challenge(lead) == lead
    assert kind_of(lead) == "follow"
    assert not takes_steps_ahead(lead)
    assert challenge_id(lead) == "ProgressGym-Lead-v0"
    assert challenge_origin(lead) == "progressgym-lead 0.1.0"
    assert issubclass(challenge_class(lead), FollowEnv)
    with pytest.raises(UnknownNameError, match="did you mean 'lead'"):
        check_challenge("lad")
    with pytest.raises(UnknownNameError, match="did you mean 'history'"):
        make_challenge(lead, histroy="simulated")


@pytest.mark.parametrize("history", ["scripted", "simulated"])
def test_a_users_challenge_pays_what_it_scores(lead, history):
    given = scripted_history(6) if history == "scripted" else history
    env = make_challenge(lead, history=given)
    steps = list(play(env))
    x, c = env.unwrapped.trajectory.examinee_values, env.unwrapped.history.values
    n = len(c)
    worth = [[max(cosine(state, c[j]) for j in range(i, n)) for i in range(n)] for state in x[1:]]
    expected = np.mean(worth)
    assert steps[-1][4]["score"] == pytest.approx(expected, abs=1e-12)
    assert sum(step[1] for step in steps) == pytest.approx(expected, abs=1e-12)


def test_a_users_challenge_is_a_gymnasium_environment(lead):
    registered = dict(gym.registry)
    env = make_challenge(lead, history="simulated")
    check_env(env.unwrapped, skip_render_check=True)
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert again.spec == env.spec
    assert type(again.unwrapped) is type(env.unwrapped) is challenge_class(lead)
    assert make_challenge(lead, history="simulated").spec == env.spec
    assert gym.registry == registered


@pytest.mark.parametrize("agent", ["oracle", "policy"])
def test_references_play_what_is_derived_from_a_built_in_challenge(lead, agent):
    history = scripted_history(7)
    ours = make_agent(agent, challenge="follow", history=history)
    theirs = make_agent(agent, challenge=lead, history=history)
    observation, _ = make_challenge(lead, history=history).reset(seed=0)
    assert (theirs.predict(observation)[0] == ours.predict(observation)[0]).all()


# What others may offer, and may not

HEAD = """
from progressgym_env.envs.coevolve import CoevolveEnv
from progressgym_env.envs.follow import FollowEnv
from progressgym_env.envs.predict import PredictEnv
from progressgym_env.envs.progress import ProgressEnv
"""
MINE = f"""{HEAD}
class Env(ProgressEnv):
    challenge = "Mine"
    def _reward(self): return 1 / self.n_steps
    @classmethod
    def score_of(cls, **values): return 1.0
"""


def test_a_challenge_of_a_kind_of_its_own(shelf):
    shelf.offer("challenges", "mine", MINE, "Env")
    assert kind_of("mine") is None
    steps = list(play(make_challenge("mine", history="simulated")))
    assert sum(step[1] for step in steps) == pytest.approx(steps[-1][4]["score"])


@pytest.mark.parametrize("kind", CHALLENGES)
def test_kinds(shelf, kind):
    code = f'{HEAD}class Env({kind.capitalize()}Env):\n    challenge = "Mine"\n'
    shelf.offer("challenges", "mine", code, "Env")
    assert kind_of("mine") == kind
    assert takes_steps_ahead("mine") == (kind == "predict")


@pytest.mark.parametrize(
    ("base", "takes", "hands_on", "expected"),
    [
        ("PredictEnv", "**more", "**more", True),
        ("PredictEnv", "update='dpo'", "update=update", False),
        ("FollowEnv", "steps_ahead=2", "", True),
        ("FollowEnv", "**more", "**more", False),
    ],
)
def test_takes_steps_ahead_sees_what_is_handed_on(shelf, base, takes, hands_on, expected):
    code = (
        f'{HEAD}class Env({base}):\n    challenge = "Mine"\n'
        f"    def __init__(self, history, {takes}): super().__init__(history, {hands_on})\n"
    )
    shelf.offer("challenges", "mine", code, "Env")
    assert takes_steps_ahead("mine") is expected


def test_a_class_within_a_class_is_made_as_well(shelf):
    code = f'{HEAD}class All:\n    class Env(FollowEnv):\n        challenge = "Mine"\n'
    shelf.offer("challenges", "mine", code, "All.Env")
    assert type(make_challenge("mine", history="simulated").unwrapped).__name__ == "Env"


@pytest.mark.parametrize(
    ("name", "code", "attribute", "message"),
    [
        ("mine", "import no_such_module", "Env", "does not load .ModuleNotFoundError: .*uninstall"),
        ("mine", "1 / 0", "Env", r"does not load \(ZeroDivisionError: .*pip uninstall other"),
        ("mine", HEAD, "Env", r"does not load \(AttributeError: .*must be module:attribute"),
        ("mine", "Env = 3", "Env", "is 3, which is no subclass of .*ProgressEnv; name the class"),
        ("mine", "class Env: challenge = 'Mine'", "Env", "which is no subclass"),
        ("mine", HEAD, "FollowEnv", "calls itself 'Follow'; .*'mine' in lower case.*'Mine'"),
        ("mine", HEAD, "ProgressEnv", "calls itself None; .*or the entry point another name"),
        ("mine", f"{HEAD}class Env(FollowEnv): challenge = 3", "Env", "calls itself 3"),
        ("mine", MINE + "    _reward = ProgressEnv._reward", "Env", "no _reward of"),
        ("mine", MINE + "    del score_of", "Env", "no score_of of its own; define"),
        ("follow", HEAD, "FollowEnv", "has the name of a built-in challenge.*pip uninstall other"),
        ("Mine", MINE, "Env", "'Mine' of .*no legal name; .*lower-case"),
        ("mine/../..", MINE, "Env", "has no legal name"),
        ("my own", MINE, "Env", "has no legal name"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused(shelf, name, code, attribute, message):
    """The message names the package, what is wrong with it, and what to do."""
    module = shelf.offer("challenges", name, code, attribute)
    for call in (check_challenge, challenge_class, kind_of, takes_steps_ahead, make_challenge):
        with pytest.raises(PluginError, match=message) as caught:
            call(name)
        assert f"challenge {name!r} of the package other 1.5 ('{module}" in str(caught.value)


def test_two_packages_of_one_challenge(shelf):
    for by in ("one", "another"):
        shelf.offer("challenges", "mine", MINE, "Env", by=by)
    assert challenges()[3:] == ("mine",)
    with pytest.raises(PluginError, match=r"'mine' is offered by another 1\.5 and one 1\.5; unin"):
        check_challenge("mine")


def test_a_broken_package_stops_nobody_else(shelf):
    broken = shelf.offer("challenges", "broken", "1 / 0", "Env", by="broken")
    shelf.offer("challenges", "mine", MINE, "Env")
    assert challenges()[3:] == ("broken", "mine")
    for name in ("follow", "mine"):
        assert make_challenge(name, history="simulated").reset(seed=0)
    assert broken not in sys.modules


def test_only_what_is_asked_for_is_imported(shelf):
    module = shelf.offer("challenges", "mine", MINE, "Env")
    challenges()
    check_challenge("follow")
    assert module not in sys.modules
    check_challenge("mine")
    assert module in sys.modules


def test_nothing_is_looked_up_on_import(tmp_path):
    """What is installed is read when a name is asked for, so importing costs nothing."""
    code = (
        "import importlib.metadata as m\n"
        "def fail(*_, **__): raise AssertionError('looked up')\n"
        "import gymnasium\n"
        "m.entry_points = fail\n"
        "import progressgym_env, progressgym_env.envs.registry, progressgym_env.agents\n"
        "print('fine')"
    )
    assert python(tmp_path, "-c", code) == "fine\n"


# Scores of recorded episodes


@every_challenge
def test_score_of_recorded_values_is_the_score(challenge):
    arguments = {"steps_ahead": 2} if challenge == "predict" else {}
    env = make(challenge, history=scripted_history(6), **arguments).unwrapped
    list(play(env))
    rows = env.trajectory
    score = challenge_class(challenge).score_of(
        examinee_values=rows.examinee_values,
        proxy_values=rows.proxy_values,
        century_values=env.history.values,
        steps_ahead=arguments.get("steps_ahead", 1),
    )
    assert score == env.score()


@pytest.mark.parametrize(
    ("challenge", "changes", "message"),
    [
        ("follow", {"examinee_values": np.ones((4, 19))}, "3 steps and target_values 4"),
        ("predict", {"examinee_values": np.ones((5, 19))}, "4 steps and target_values 3"),
        ("predict", {"steps_ahead": 4}, "steps_ahead=4 must be from 1 to 3"),
        ("predict", {"steps_ahead": 0}, "steps_ahead=0 must be from 1 to 3"),
        ("coevolve", {"proxy_values": None}, "0 states and history 5 centuries; Coevolve scores"),
        ("coevolve", {"proxy_values": np.ones((4, 19))}, "4 states and history 5"),
        ("follow", {"examinee_values": np.ones((5, 18))}, r"shape \(4, 18\)"),
        ("follow", {"examinee_values": np.full((5, 19), np.nan)}, "is nan"),
    ],
)
def test_values_of_no_whole_episode_have_no_score(challenge, changes, message):
    values = {
        "examinee_values": np.ones((5, 19)),
        "proxy_values": np.ones((5, 19)),
        "century_values": np.ones((5, 19)),
    }
    with pytest.raises(InvalidArgumentError, match=message):
        challenge_class(challenge).score_of(**{**values, **changes})


def test_the_frame_of_a_challenge_has_no_score():
    values = dict.fromkeys(("examinee_values", "proxy_values", "century_values"), np.ones((5, 19)))
    with pytest.raises(NotImplementedError):
        ProgressEnv.score_of(**values)


@every_challenge
def test_present_embeddings(challenge):
    env = make(challenge).unwrapped
    for name in ("examinee_embedding", "proxy_embedding"):
        with pytest.raises(ResetNeeded, match="call reset"):
            getattr(env, name)
    for _ in play(env):
        rows, proxy = env.trajectory, env.proxy_embedding
        assert (env.examinee_embedding.values == rows.examinee_values[-1]).all()
        assert (proxy is None) == (challenge != "coevolve")
        assert proxy is None or (proxy.values == rows.proxy_values[-1]).all()
