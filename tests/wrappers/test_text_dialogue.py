"""Dialogue as strings: every string is in the space, and what is said arrives."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import (
    batch_space,
    create_shared_memory,
    read_from_shared_memory,
    write_to_shared_memory,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from progressgym_env import CHALLENGES
from progressgym_env.envs.dialogue import decode_dialogue, encode_dialogue
from progressgym_env.errors import InvalidArgumentError
from progressgym_env.histories.history import History
from progressgym_env.histories.records import Exchange
from progressgym_env.wrappers.text_dialogue import MAX_PROMPT_LENGTH, TextDialogue, UnicodeText
from tests.envs.episodes import make, play
from tests.scripted import scripted_history
from tests.wrappers.stacks import assert_survives_json, every_challenge, every_mode, side_by_side

# Characters of one to four bytes, with odd ones among them.
texts = st.text(st.sampled_from("aþſ€😀 \0\n") | st.characters(exclude_categories=["Cs"]))


@given(texts, st.integers(0, 20))
@settings(deadline=None)
def test_the_space_holds_every_string_that_is_not_too_long(text, length):
    assert (text in UnicodeText(length)) == (len(text) <= length)
    assert [text] not in UnicodeText(length)
    assert text.encode() not in UnicodeText(length)


@given(st.lists(texts.map(lambda t: t[:12]), min_size=2, max_size=4))
@settings(max_examples=50, deadline=None)
def test_strings_survive_shared_memory_and_flattening(said):
    """Which work on a Text, and on no space of another kind."""
    space = UnicodeText(12)
    memory = create_shared_memory(space, n=len(said))
    for index, text in enumerate(said):
        write_to_shared_memory(space, index, text, memory)
    shown = read_from_shared_memory(space, memory, n=len(said))
    copied = copy.deepcopy(shown)
    assert list(shown) == list(copied) == said
    assert copied in batch_space(space, len(said))
    write_to_shared_memory(space, 0, "changed", memory)
    assert (shown[0], copied[0]) == ("changed", said[0])
    flat = spaces.flatten_space(space)
    for text in said:
        assert spaces.flatten(space, text) in flat
        assert spaces.unflatten(space, spaces.flatten(space, text)) == text


def test_samples_are_strings_of_the_space():
    space, other = UnicodeText(40, seed=1), UnicodeText(40, seed=1)
    samples = [space.sample() for _ in range(300)]
    assert samples == [other.sample() for _ in range(300)]
    assert all(sample in space for sample in samples)
    assert {len(sample) for sample in samples} == set(range(41))
    points = [ord(character) for sample in samples for character in sample.encode().decode()]
    assert max(points) > 0x100000
    assert min(points) < 0x1000
    with pytest.raises(InvalidArgumentError, match="neither mask"):
        space.sample(mask=(3, None))


def test_the_space_is_a_value():
    space = UnicodeText(40)
    assert copy.deepcopy(space) == space == UnicodeText(40)
    assert space != UnicodeText(41)
    assert space != spaces.Text(40, min_length=0)
    assert repr(space) == "UnicodeText(40)"
    assert len(space.characters) == len(space.character_set) == 0x110000
    assert "þ" in space.character_set
    assert "þa" not in space.character_set
    assert space.character_list[space.character_index("þ")] == "þ"


@every_challenge
def test_reads_what_is_said(challenge):
    env, plain = TextDialogue(make(challenge)), make(challenge)
    assert list(env.observation_space) == [*plain.observation_space, "dialogue_prompts"]
    for step, expected in zip(play(env, seed=1), play(plain, seed=1), strict=True):
        observation = dict(step[0])
        assert observation in env.observation_space
        assert observation["dialogue"] == decode_dialogue(expected[0]["dialogue"])
        assert observation["dialogue"] == expected[4]["dialogue"], "no reply is cut here"
        assert observation.pop("dialogue_prompts") == expected[4]["dialogue_prompts"]
        observation["dialogue"] = expected[0]["dialogue"]
        assert data_equivalence((observation, *step[1:]), expected, exact=True)
        assert "Þus" in step[0]["dialogue"][0]


def saying(exchanges: list[tuple[str, str]]) -> History:
    """The scripted history, whose people say this and nothing else."""
    history = scripted_history()
    spoken = tuple(Exchange(prompt, reply) for prompt, reply in exchanges)
    records = replace(history.records, open_replies=(spoken,) * history.n_centuries)
    return History(
        name="saying",
        names=history.names,
        questions=history.questions,
        records=records,
        source=history._source,
        provenance=history.provenance,
    )


long_texts = st.text(st.sampled_from("aþ€😀"), min_size=80, max_size=300) | texts


@given(st.lists(st.tuples(texts, long_texts), min_size=2, max_size=3))
@settings(max_examples=50, deadline=None)
def test_whatever_is_said_lies_in_the_space(exchanges):
    env = TextDialogue(make("follow", history=saying(exchanges), dialogue_samples=2))
    observation, info = env.reset(seed=0)
    assert observation in env.observation_space
    assert observation["dialogue_prompts"] == info["dialogue_prompts"]
    assert set(zip(info["dialogue_prompts"], info["dialogue"], strict=True)) <= set(exchanges)
    for text, reply in zip(observation["dialogue"], info["dialogue"], strict=True):
        assert reply.replace("\0", "").startswith(text)
        assert text == decode_dialogue(encode_dialogue([reply]))[0]


def test_long_prompts_are_cut():
    history = saying([("þ" * 2000, "Yes.")])
    env = TextDialogue(make("follow", history=history, dialogue_samples=1))
    observation, _ = env.reset(seed=0)
    assert observation["dialogue_prompts"] == ("þ" * MAX_PROMPT_LENGTH,)
    assert observation in env.observation_space


@every_challenge
def test_survives_json(challenge):
    assert_survives_json(TextDialogue(gym.make(CHALLENGES[challenge])))
    assert_survives_json(TextDialogue(gym.make(CHALLENGES[challenge], dialogue_samples=2), False))


def test_without_prompts():
    env = TextDialogue(make("follow"), prompts=False)
    observation, _ = env.reset(seed=0)
    assert set(observation) == set(make("follow").observation_space)
    assert observation in env.observation_space


@every_challenge
def test_gymnasium_checker(challenge):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*different from the unwrapped version")
        check_env(TextDialogue(make(challenge)))


def test_needs_a_dialogue_of_bytes():
    with pytest.raises(InvalidArgumentError, match="it is text already"):
        TextDialogue(TextDialogue(make("follow")))
    with pytest.raises(InvalidArgumentError, match="Dict observation with 'dialogue'"):
        TextDialogue(gym.make("CartPole-v1"))


@every_mode
def test_side_by_side(mode):
    envs = side_by_side("follow", mode, TextDialogue)
    observations, infos = envs.reset(seed=0)
    for _ in range(1 if mode is AutoresetMode.DISABLED else 6):
        assert observations in envs.observation_space
        by_env = zip(*observations["dialogue"], strict=True)
        assert list(by_env) == list(infos["dialogue"])
        actions = np.zeros(envs.action_space.shape, dtype=np.float32)
        observations, _, _, _, infos = envs.step(actions)


@pytest.mark.parametrize("shared_memory", [True, False])
def test_in_other_processes(shared_memory):
    """Strings pass through shared memory, and those of one step are not those of the next."""
    envs = gym.make_vec(
        CHALLENGES["follow"],
        num_envs=2,
        vectorization_mode="async",
        vector_kwargs={"shared_memory": shared_memory},
        wrappers=[TextDialogue],
    )
    alone = [TextDialogue(gym.make(CHALLENGES["follow"])) for _ in range(2)]
    shown = [envs.reset(seed=4)[0]]
    expected = [[env.reset(seed=4 + row)[0] for row, env in enumerate(alone)]]
    for _ in range(2):
        actions = np.zeros(envs.action_space.shape, dtype=np.float32)
        shown.append(envs.step(actions)[0])
        expected.append([env.step(actions[0])[0] for env in alone])
    envs.close()
    for observations, rows in zip(shown, expected, strict=True):
        assert observations in envs.observation_space
        for key in ("dialogue", "dialogue_prompts"):
            by_env = list(zip(*observations[key], strict=True))
            assert by_env == [row[key] for row in rows]
