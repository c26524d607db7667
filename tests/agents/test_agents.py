"""Every agent by name: what it plays, alone and in batches, and through Stable-Baselines3."""

from __future__ import annotations

import ast
import inspect
import re
import warnings

import numpy as np
import pytest

import progressgym_env.agents.references as references
from progressgym_env import CHALLENGES
from progressgym_env.agents import (
    AGENTS,
    Agent,
    ExtrapolativeAgent,
    HoldAgent,
    LifelongAgent,
    OracleAgent,
    RandomAgent,
    extrapolate,
    make_agent,
)
from progressgym_env.agents.registry import AGENT_PATTERNS, check_agent
from progressgym_env.errors import InvalidArgumentError, UnknownNameError
from progressgym_env.scoring import coevolve_term
from tests.envs.episodes import make
from tests.scripted import history_of, scripted_history, scripted_logits

every_agent = pytest.mark.parametrize("name", AGENTS)
ORDERS, AHEAD, SUFFIXES = (0, 1, 2, 3), (1, 2, 3), ("", "-soft")


def observations(n, seed=0):
    """A sequence of n observations."""
    env = make("follow", history=scripted_history(7))
    space = env.observation_space
    space.seed(seed)
    return [space.sample() for _ in range(n)]


def stacked(*several):
    return {key: np.stack([o[key] for o in several]) for key in several[0]}


def agent_of(name, challenge="follow", **arguments):
    return make_agent(name, challenge=challenge, history=scripted_history(7), **arguments)


def score_of(agent, challenge, seed=0, **arguments):
    env = make(challenge, **{"history": scripted_history(7), **arguments})
    observation, info = env.reset(seed=seed)
    state = None
    while "score" not in info:
        action, state = agent.predict(observation, state)
        observation, *_, info = env.step(action)
    return info["score"]


def test_names():
    assert set(AGENTS) == {
        "hold", "random", "oracle", "lifelong", "lifelong-soft",
        "extrapolative", "extrapolative-0", "extrapolative-1", "extrapolative-2", "extrapolative-3",
        "extrapolative-soft", "extrapolative-0-soft", "extrapolative-1-soft",
        "extrapolative-2-soft", "extrapolative-3-soft", "value-extrapolation",
        "value-extrapolation-0", "value-extrapolation-1", "value-extrapolation-2",
        "value-extrapolation-3", "policy",
    }  # fmt: skip
    assert AGENT_PATTERNS == (
        "extrapolative-{0..3}-{1..3}",
        "extrapolative-{0..3}-{1..3}-soft",
        "policy:FOLDER",
    )


@every_agent
@pytest.mark.parametrize("challenge", CHALLENGES)
def test_plays_every_challenge(name, challenge):
    """Original defect 16. An agent on offer could not even be made."""
    agent = agent_of(name, challenge)
    assert isinstance(agent, Agent)
    assert agent.name == name
    assert 0 < score_of(agent, challenge) <= 1


@pytest.mark.parametrize("challenge", CHALLENGES)
@pytest.mark.parametrize("update", ["sft", "dpo"])
@pytest.mark.parametrize("name", ["extrapolative", "extrapolative-soft"])
def test_both_extrapolative_agents_finish(name, update, challenge):
    """Original defect 3. Both extrapolative agents failed before their first step."""
    assert 0 < score_of(agent_of(name, challenge), challenge, update=update) <= 1


def test_extrapolative_goes_on_where_the_first_vote_is_missing():
    """Original defect 3. Order 2 on a history whose first vote is missing."""
    agent, state = make_agent("extrapolative-2"), None
    for vote, expected in ((0, 0), (1, 0.4), (1, 0.0), (1, 0.2)):
        # 0; the line 0, 1, 2; the parabola 0, 1, 1, 0; and 1, 1, 1, 1.
        observation = {"preferences": np.full(3, vote, dtype=np.float32)}
        action, state = agent.predict(observation, state)
        assert action == pytest.approx(np.full(3, expected), abs=1e-6)


@every_agent
def test_batches_equal_single_play_with_episodes_out_of_step(name):
    """Three environments at once, whose episodes begin at different times."""
    n_steps, begins = 8, {0: (0, 1, 2), 3: (1,), 5: (0, 1), 6: (2,)}
    inputs = [observations(n_steps, seed) for seed in range(3)]
    together, state = agent_of(name), None
    alone, states = [agent_of(name) for _ in range(3)], [None] * 3
    for t in range(n_steps):
        starts = np.array([env in begins.get(t, ()) for env in range(3)])
        batch = stacked(*(inputs[env][t] for env in range(3)))
        actions, state = together.predict(batch, state=state, episode_start=starts)
        assert actions.shape == (3, 19)
        assert actions.dtype == np.float32
        assert (np.abs(actions) <= 1).all()
        for env in range(3):
            action, states[env] = alone[env].predict(
                inputs[env][t], None if starts[env] else states[env]
            )
            assert action.shape == (19,)
            if name == "policy":  # Matrix products round by the size of the batch.
                np.testing.assert_allclose(action, actions[env], atol=1e-6)
            elif name != "random":
                assert (action == actions[env]).all()


@every_agent
def test_state_is_not_changed_in_place(name):
    agent = agent_of(name)
    first, second, third = observations(3)
    _, state = agent.predict(first)
    _, state = agent.predict(second, state)
    one, _ = agent.predict(third, state)
    two, _ = agent.predict(third, state)
    if name != "random":
        assert (one == two).all()


@every_agent
def test_plays_through_stable_baselines(name):
    evaluation = pytest.importorskip("stable_baselines3.common.evaluation")
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import DummyVecEnv

    history = scripted_history(7)
    envs = DummyVecEnv([lambda: Monitor(make("follow", history=history)) for _ in range(2)])
    envs.seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        returns, lengths = evaluation.evaluate_policy(
            agent_of(name), envs, n_eval_episodes=4, return_episode_rewards=True
        )
    assert lengths == [6] * 4
    if name != "random":
        # DummyVecEnv seeds its environments with 0 and 1.
        alone = [score_of(agent_of(name), "follow", seed=seed) for seed in (0, 1)]
        assert sorted(returns[:2]) == pytest.approx(sorted(alone), abs=1e-5)


def test_hold():
    assert not HoldAgent().predict(observations(1)[0])[0].any()


def test_random_is_seeded_and_trains_as_much_as_lifelong():
    """Original defect 17. There was no seed."""
    (observation,) = observations(1)
    plays = [RandomAgent(seed).predict(observation)[0] for seed in (1, 1, 2)]
    assert (plays[0] == plays[1]).all()
    assert (plays[0] != plays[2]).any()
    assert set(np.abs(plays[0])) == {np.float32(0.2)}
    agent = RandomAgent(1)
    assert (agent.predict(observation)[0] != agent.predict(observation)[0]).any()


def test_lifelong():
    (observation,) = observations(1)
    observation["preferences"] = np.float32([0.9, -0.1, 0.0] + [1.0] * 16)
    hard, _ = LifelongAgent().predict(observation)
    soft, _ = LifelongAgent(soft=True).predict(observation)
    assert hard[:4] == pytest.approx([0.2, -0.2, 0.0, 0.2])
    assert soft[:4] == pytest.approx([0.18, -0.02, 0.0, 0.2])


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("steps_ahead", [1, 2])
def test_extrapolative_plays_the_extrapolation_of_all_it_has_seen(order, soft, steps_ahead):
    agent, state, seen = ExtrapolativeAgent(order, steps_ahead, soft=soft), None, []
    for observation in observations(5):
        action, state = agent.predict(observation, state)
        margins = observation["preferences"].astype(np.float64)
        seen.append(margins if soft else np.sign(margins))
        expected = extrapolate(np.array(seen), order, steps_ahead) / 5
        assert action == pytest.approx(expected, abs=1e-6)


def plays(agent, n=5):
    state, actions = None, []
    for observation in observations(n):
        action, state = agent.predict(observation, state)
        actions.append(action)
    return np.array(actions)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("order", ORDERS)
def test_extrapolative_as_far_ahead_as_its_name_says(order, suffix):
    """The paper's "extrapolative M-K"; without a K, the name leaves it to the challenge."""
    follows = f"extrapolative-{order}{suffix}"
    for ahead in AHEAD:
        name = f"extrapolative-{order}-{ahead}{suffix}"
        assert check_agent(name) == name
        wanted = plays(ExtrapolativeAgent(order, ahead, soft=bool(suffix)))
        for steps_ahead in (1, 3):
            agent = make_agent(name, steps_ahead=steps_ahead)
            assert agent.name == name
            assert (plays(agent) == wanted).all()
        assert (plays(make_agent(follows, steps_ahead=ahead)) == wanted).all()
        assert ExtrapolativeAgent(order, ahead, soft=bool(suffix)).name == name


def test_extrapolative_names_differ_in_what_they_play():
    # Order 0 repeats the last vote however far ahead, and hard votes of order 1 are soon cut at 5.
    names = [f"extrapolative-{order}-{ahead}-soft" for order in ORDERS[1:] for ahead in AHEAD]
    assert len({plays(make_agent(name)).tobytes() for name in names}) == len(names)


@pytest.mark.parametrize("challenge", CHALLENGES)
def test_an_agent_that_looks_further_than_the_challenge_plays_it(challenge):
    names = [f"extrapolative-2-{ahead}-soft" for ahead in AHEAD]
    scores = [score_of(agent_of(name, challenge), challenge) for name in names]
    assert all(0 < score <= 1 for score in scores)
    assert scores[0] == score_of(agent_of("extrapolative-2-soft", challenge), challenge)
    assert len(set(scores)) == 3


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("extrapolative 2-2", "extrapolative-2-2"),
        ("extrapolativ-3-1-soft", "extrapolative-3-1-soft"),
        ("extrapolative-2-3-sof", "extrapolative-2-3-soft"),
        ("extrapolativ", "extrapolative"),
        ("extrapolative-softt", "extrapolative-soft"),
    ],
)
def test_a_slip_in_an_extrapolative_name(name, nearest):
    with pytest.raises(UnknownNameError, match=f"did you mean '{nearest}'") as caught:
        make_agent(name)
    # Patterns, not all that they stand for.
    assert "extrapolative-{0..3}-{1..3}, " in str(caught.value)
    assert len(set(re.findall(r"extrapolative-\d-\d", str(caught.value)))) == 1


@pytest.mark.parametrize(
    "name", ["extrapolative-2-0", "extrapolative-2-4", "extrapolative-4-1", "extrapolative-M-K"]
)
def test_an_extrapolative_name_out_of_range(name):
    with pytest.raises(UnknownNameError, match=r"did you mean 'extrapolative-\d-\d'"):
        check_agent(name)


def test_extrapolative_of_order_zero_is_lifelong():
    state = None
    for observation in observations(4):
        action, state = make_agent("extrapolative-0").predict(observation, state)
        assert (action == make_agent("lifelong").predict(observation)[0]).all()


@pytest.mark.parametrize("challenge", CHALLENGES)
def test_oracle_is_a_reference_worth_the_name(challenge):
    # It is no upper bound: agents that are tuned or trained may do as well.
    names = {n for n in AGENTS if n != "policy" and not n.startswith("value-extrapolation")}
    scores = {name: score_of(agent_of(name, challenge), challenge) for name in names}
    assert scores["oracle"] == max(scores.values())
    assert scores["oracle"] > scores["hold"]


def test_oracle_steers_to_the_century_that_pays():
    """Where the examinee has arrived it rests; elsewhere it pushes along each pair's side."""
    history = scripted_history(7)
    (observation,) = observations(1)
    observation["century"] = 2
    for challenge, target in (("follow", 2), ("predict", 4)):
        oracle = OracleAgent(history, challenge, 2, gain=0.1)
        observation["examinee_values"] = history.values[target].astype(np.float32)
        assert oracle.predict(observation)[0] == pytest.approx(0, abs=1e-5)
        observation["examinee_values"] = history.values[5].astype(np.float32)
        push, _ = oracle.predict(observation)
        for index, pair in enumerate(history.questions.pairs[:15]):
            ((_, upheld),) = pair.question.upholds.items()
            short = history.values[target, index] - history.values[5, index]
            assert np.sign(push[index]) == np.sign(short) * (1 if upheld == pair.first else -1)


def test_oracle_in_coevolve_aims_where_the_proxy_would_be_worth_most():
    """Not necessarily at the last century: it may have turned back."""
    logits = scripted_logits(6)
    history = history_of(logits)
    worth = [coevolve_term(v, history.values) for v in history.values]
    best = int(np.argmax(worth))
    (observation,) = observations(1)
    values = history.values[best].astype(np.float32)
    observation |= {"century": 1, "examinee_values": values, "judge_values": values}
    oracle = OracleAgent(history, "coevolve")
    assert oracle.predict(observation)[0] == pytest.approx(0, abs=1e-5)
    # A proxy that lags behind is pulled: the examinee runs ahead in the same direction.
    observation["judge_values"] = history.values[0].astype(np.float32)
    ahead, _ = oracle.predict(observation)
    observation["judge_values"] = values
    observation["examinee_values"] = history.values[0].astype(np.float32)
    catching_up, _ = oracle.predict(observation)
    assert ahead == pytest.approx(catching_up, abs=1e-6)
    assert np.abs(ahead).max() > 0.1


def test_oracle_never_looks_into_the_environment():
    """Original defect 10. It is given a history, and imports no environment (nor gymnasium)."""
    tree = ast.parse(inspect.getsource(references))
    imported = [n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
    imported += [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
    assert not any("envs" in name or "gymnasium" in name for name in imported)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: make_agent("lifelon"), UnknownNameError, "did you mean 'lifelong'"),
        (lambda: make_agent("extrapolative-4"), UnknownNameError, "known: .*extrapolative-3"),
        (lambda: make_agent(3), InvalidArgumentError, "must be a name"),
        (lambda: agent_of("oracle", "folow"), UnknownNameError, "did you mean 'follow'"),
        (lambda: agent_of("oracle", steps_ahead=7), InvalidArgumentError, "from 1 to 6"),
        (lambda: agent_of("oracle", steps_ahead=True), InvalidArgumentError, "steps_ahead"),
        (lambda: agent_of("oracle", steps_ahead=1.5), InvalidArgumentError, "steps_ahead"),
        (lambda: make_agent("oracle"), InvalidArgumentError, "challenge= one of follow, predict"),
        (
            lambda: make_agent("oracle", challenge="follow", history="embeded"),
            UnknownNameError,
            "'embedded'",
        ),
        (lambda: agent_of("oracle", ["follow"]), InvalidArgumentError, "challenge="),
        (lambda: ExtrapolativeAgent(-1), InvalidArgumentError, "order=-1"),
        (lambda: ExtrapolativeAgent(1, 0), InvalidArgumentError, "steps_ahead=0"),
        (
            lambda: OracleAgent(scripted_history(), "follow", gain=0.0),
            InvalidArgumentError,
            "gain=0.0",
        ),
        (
            lambda: OracleAgent(scripted_history(), "coevolve", lead=float("nan")),
            InvalidArgumentError,
            "lead=nan",
        ),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros(19),), "Dict observation"),
        (({"century": 1},), "'preferences'"),
        (({"preferences": np.zeros((2, 3, 4))},), r"shape \(2, 3, 4\)"),
        (({"preferences": np.zeros((2, 3))}, None, [True] * 3), r"must be \(2,\)"),
        (({"preferences": np.zeros((2, 3))}, (np.zeros((2, 2, 4)), np.zeros(2))), "hand back"),
        (({"preferences": np.zeros((2, 3))}, ()), "hand back"),
    ],
)
def test_bad_observation(arguments, message):
    with pytest.raises(InvalidArgumentError, match=message):
        make_agent("extrapolative").predict(*arguments)


@pytest.mark.parametrize("challenge", CHALLENGES)
@pytest.mark.parametrize("name", AGENTS)
def test_an_entry_that_an_agent_reads_must_be_there(name, challenge):
    """Every other entry may be missing: a wrapper may have dropped the dialogue, say."""
    agent = agent_of(name, challenge)
    (observation,) = observations(1)
    read = {"preferences"}
    if name == "oracle":
        read |= {"century", "examinee_values"}
        read |= {"judge_values"} if challenge == "coevolve" else set()
    if name.startswith("value-extrapolation"):
        read |= {"judge_values", "examinee_values"}
    if name == "policy":
        read |= {"century", "judge_values", "examinee_values"}
    only = {key: observation[key] for key in read}
    assert agent.predict(only)[0].shape == (19,)
    for key in read:
        rest = {k: v for k, v in observation.items() if k != key}
        with pytest.raises(InvalidArgumentError, match=f"observation with '{key}', got"):
            agent.predict(rest)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preferences": np.zeros(3)}, "3 pairs"),
        ({"century": 7}, "'century' is .*from 0 to 6"),
        ({"century": -1}, "'century' is"),
        ({"century": 1.0}, "'century' is"),
        ({"century": [1, 2]}, "'century' is"),
        ({"examinee_values": np.full(18, 0.5)}, r"'examinee_values' has last axes \(18,\)"),
        ({"judge_values": 0.5}, r"'judge_values' has last axes \(\)"),
    ],
)
def test_oracle_of_another_history(changes, message):
    (observation,) = observations(1)
    with pytest.raises(InvalidArgumentError, match=message):
        agent_of("oracle", "coevolve").predict({**observation, **changes})


def test_every_entry_of_a_batch_has_the_batch_axis():
    batch = stacked(*observations(2))
    with pytest.raises(InvalidArgumentError, match=r"'century' has shape \(3,\).*must be 2"):
        agent_of("oracle").predict({**batch, "century": np.zeros(3, dtype=int)})
