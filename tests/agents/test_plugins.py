"""Agents that other packages offer."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from progressgym_env.agents import AGENTS, Agent, AgentContext, agent_names, make_agent
from progressgym_env.agents.plugins import installed_agent
from progressgym_env.agents.policy import Policy
from progressgym_env.agents.registry import SHIPPED, agent_origin, check_agent
from progressgym_env.envs.registry import PluginError, make_challenge
from progressgym_env.errors import InvalidArgumentError, PolicyError, UnknownNameError
from progressgym_env.histories.history import History
from progressgym_env.histories.simulated import SimulatedHistories
from tests.scripted import scripted_history

NOTES = """
class Noting:
    def __init__(self, context): self.context = context
    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return 0 * observation["preferences"], state
"""
OWN_KIND = """
from progressgym_env.envs.progress import ProgressEnv
class Env(ProgressEnv):
    challenge = "Mine"
    def _reward(self): return 1 / self.n_steps
    @classmethod
    def score_of(cls, **values): return 1.0
"""
OF_FOLLOW = """
from progressgym_env.envs.follow import FollowEnv
class Env(FollowEnv):
    challenge = "Mine"
"""


@pytest.fixture
def momentum(installed, monkeypatch):
    """That package, for the present process."""
    monkeypatch.syspath_prepend(str(installed))
    return "momentum"


def test_nothing_else_is_installed_where_tests_run():
    assert agent_names() == AGENTS
    assert installed_agent("hold", AGENTS) is None


def test_a_users_agent_by_name(momentum):
    assert agent_names() == (*AGENTS, momentum)
    assert check_agent(momentum) == momentum
    assert agent_origin(momentum) == "progressgym-lead 0.1.0"
    assert agent_origin("hold") is agent_origin("extrapolative-1-2") is None
    with pytest.raises(UnknownNameError, match=r"known: .*momentum.*did you mean 'momentum'"):
        check_agent("momentun")


@pytest.mark.parametrize("history", ["scripted", "simulated"])
@pytest.mark.parametrize("challenge", ["lead", "predict"])
def test_a_users_agent_plays_with_return_equal_to_score(momentum, challenge, history):
    history = scripted_history(6) if history == "scripted" else history
    env = make_challenge(challenge, history=history)
    agent = make_agent(momentum, challenge=challenge, history=history)
    observation, info = env.reset(seed=1)
    state, rewards = None, []
    while "score" not in info:
        action, state = agent.predict(observation, state)
        assert env.action_space.contains(action)
        observation, reward, *_, info = env.step(action)
        rewards.append(reward)
    assert sum(rewards) == pytest.approx(info["score"], abs=1e-12)


def test_the_guides_agent_does_what_it_says_in_batches_too(momentum):
    one, two = (np.full((2, 3), m, dtype=np.float32) for m in (0.2, 0.6))
    for ahead in (1, 2):
        agent = make_agent(momentum, history=scripted_history(6), steps_ahead=ahead)
        first, state = agent.predict({"preferences": one})
        assert first == pytest.approx(0.2)
        # The second episode of the batch has just begun.
        then, _ = agent.predict({"preferences": two}, state, np.array([False, True]))
        assert then[0] == pytest.approx(0.2 + 0.5 * ahead * 0.4)
        assert then[1] == pytest.approx(0.2)


def test_an_agent_is_told_what_it_plays(shelf):
    shelf.offer("agents", "noting", NOTES, "Noting")
    history = scripted_history(6)
    agent = make_agent("noting", challenge="predict", history=history, steps_ahead=2, seed=7)
    assert agent.context == AgentContext("predict", history, 2, 7)
    assert agent.context.history is history
    assert isinstance(agent, Agent)
    assert not hasattr(agent, "name"), "what a user's agent calls itself is left alone"
    context = make_agent("noting", history="simulated").context
    assert (context.challenge, context.steps_ahead, context.seed) == (None, 1, 0)
    assert isinstance(context.history, SimulatedHistories)
    assert isinstance(make_agent("noting").context.history, History)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"challenge": "folow"}, UnknownNameError, "did you mean 'follow'"),
        ({"challenge": 3}, InvalidArgumentError, "challenge=3 must be a name"),
        ({"history": "embeded"}, UnknownNameError, "did you mean 'embedded'"),
        ({"steps_ahead": 0}, InvalidArgumentError, "steps_ahead=0 must be 1 or more"),
        ({"steps_ahead": 1.0}, InvalidArgumentError, "steps_ahead=1.0 must be an integer"),
    ],
)
def test_arguments_are_checked_before_an_agent_is_made(shelf, arguments, error, message):
    shelf.offer("agents", "noting", NOTES, "Noting")
    with pytest.raises(error, match=message):
        make_agent("noting", **arguments)


@pytest.mark.parametrize(
    ("name", "code", "attribute", "message"),
    [
        ("mine", "import no_such_module", "f", r"does not load \(ModuleNotFoundError: .*uninstall"),
        ("mine", "raise OSError('no disk')", "f", r"does not load \(OSError: no disk\)"),
        ("mine", "", "f", r"does not load \(AttributeError: .*must be module:attribute"),
        ("mine", "f = 3", "f", "is 3, which cannot be called; name a function or a class"),
        ("hold", NOTES, "Noting", "has the name of a built-in agent; .*pip uninstall other"),
        ("extrapolative-1-2", NOTES, "Noting", "has the name of a built-in agent"),
        ("policy", NOTES, "Noting", "has the name of a built-in agent"),
        ("Mine", NOTES, "Noting", "has no legal name; .*lower-case"),
        ("mine,hold", NOTES, "Noting", "has no legal name"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(shelf, name, code, attribute, message):
    """The message names the package, what is wrong with it, and what to do."""
    module = shelf.offer("agents", name, code, attribute)
    for call in (check_agent, make_agent):
        with pytest.raises(PluginError, match=message) as caught:
            call(name)
        assert f"agent {name!r} of the package other 1.5 ('{module}" in str(caught.value)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def f(): pass", r"could not be made \(TypeError: .*called with one argument, an AgentCo"),
        ("def f(context): return 1 / 0", r"could not be made \(ZeroDivisionError"),
        (
            "def f(context): return None",
            "made None, which has no `predict` to call; return an ob",
        ),
        ("class A: predict = 3\ndef f(context): return A()", "which has no `predict` to call"),
        (f"{NOTES}\ndef f(context): return Noting", "made <class .*return an object with"),
    ],
)
def test_a_factory_that_makes_no_agent_is_refused(shelf, code, message):
    shelf.offer("agents", "mine", code, "f")
    assert check_agent("mine") == "mine"
    with pytest.raises(PluginError, match=message):
        make_agent("mine", history="simulated")


def test_a_users_own_words_about_a_mistake_are_kept(shelf):
    code = (
        "from progressgym_env.errors import InvalidArgumentError\n"
        "def f(context): raise InvalidArgumentError('mine plays coevolve alone')"
    )
    shelf.offer("agents", "mine", code, "f")
    with pytest.raises(InvalidArgumentError, match=r"^mine plays coevolve alone$"):
        make_agent("mine", history="simulated")


def test_two_packages_of_one_agent(shelf):
    for by in ("one", "another"):
        shelf.offer("agents", "mine", NOTES, "Noting", by=by)
    assert agent_names() == (*AGENTS, "mine")
    with pytest.raises(PluginError, match=r"'mine' is offered by another 1\.5 and one 1\.5; unin"):
        make_agent("mine")


def test_a_broken_package_stops_nobody_else(shelf):
    broken = shelf.offer("agents", "broken", "1 / 0", "f", by="broken")
    shelf.offer("agents", "mine", NOTES, "Noting")
    assert agent_names() == (*AGENTS, "broken", "mine")
    for name in ("hold", "mine"):
        assert isinstance(make_agent(name, history="simulated"), Agent)
    assert broken not in sys.modules


# Built-in agents on a user's challenge


@pytest.mark.parametrize("name", ["oracle", "policy"])
def test_who_needs_to_know_the_kind_says_so_where_there_is_none(shelf, name):
    shelf.offer("challenges", "mine", OWN_KIND, "Env")
    with pytest.raises(
        InvalidArgumentError, match=f"'mine' is of a kind of its own; leave '{name}' out of the ag"
    ):
        make_agent(name, challenge="mine", history=scripted_history(6))


def test_all_others_play_a_challenge_of_a_kind_of_its_own(shelf):
    shelf.offer("challenges", "mine", OWN_KIND, "Env")
    observation, _ = make_challenge("mine", history=scripted_history(6)).reset(seed=0)
    for name in set(AGENTS) - {"oracle", "policy"}:
        agent = make_agent(name, challenge="mine", history=scripted_history(6))
        assert agent.predict(observation)[0].shape == (19,)


@pytest.mark.parametrize(
    ("code", "trained_for", "plays"),
    [
        (OF_FOLLOW, "follow", True),  # its kind
        (OF_FOLLOW, "mine", True),  # the very challenge
        (OF_FOLLOW, "coevolve", False),
        (OWN_KIND, "mine", True),
        (OWN_KIND, "follow", True),  # there is nothing to hold it against
    ],
)
def test_a_policy_of_your_own_on_a_challenge_of_your_own(shelf, tmp_path, code, trained_for, plays):
    shelf.offer("challenges", "mine", code, "Env")
    shipped = Policy.read(SHIPPED / "follow")
    given = {**vars(shipped), "challenge": trained_for}
    Policy(**given).save(tmp_path / "policy")
    arguments = {"challenge": "mine", "history": scripted_history(6)}
    if plays:
        assert isinstance(make_agent(f"policy:{tmp_path / 'policy'}", **arguments), Agent)
    else:
        with pytest.raises(PolicyError, match="was trained for coevolve, and follow is played"):
            make_agent(f"policy:{tmp_path / 'policy'}", **arguments)
