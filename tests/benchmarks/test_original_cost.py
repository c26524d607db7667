"""The original's prompts are counted as it makes them; ours as they are computed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from progressgym_env.benchmarks.original_cost import Cost, main, original_cost, our_cost
from progressgym_env.errors import QuestionError
from progressgym_env.values.forms import question_prompts
from progressgym_env.values.questions import load_questions
from tests.values.scorers import two_way
from tests.values.test_moralevals import write

PUBLISHED = Path("../shared/data/moralevals")


def words(text: str) -> list[int]:
    """A token a word: enough to compare, and countable by hand."""
    return [hash(word) for word in text.split()]


def n_words(text: str) -> int:
    return len(text.split())


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"the published files are not at {PUBLISHED}")
def test_for_the_same_questions_a_twentieth_is_sent():
    theirs = original_cost(PUBLISHED, n_words)
    # 1,280 two-way rows × 3 forms × 2 orders, 539 four-way rows × 2 forms × 24 orders.
    assert theirs.prompts == 1280 * 6 + 539 * 48 == 33_552
    assert theirs.answers == 1280 * 6 * 2 + 539 * 48 * 4 == 118_848
    questions = load_questions("moralevals", PUBLISHED)
    ours = our_cost(questions.questions, words)
    assert ours.prompts == sum(8 if q.is_view else 6 for q in questions.questions)
    assert theirs.tokens / ours.tokens > 20
    # Even if the original kept every prompt that it sends again with another answer.
    assert theirs.prompt_tokens / ours.prompt_tokens > 10


def test_a_small_set_is_counted_by_hand(tmp_path: Path):
    folder = write(tmp_path / "raw_dataset").parent
    templates = folder / "assets" / "data" / "question_templates"
    templates.mkdir(parents=True)
    two = {"question_header": "Say: ", "question": "{} or {} {}"}
    four = [{"question_header": "Say: ", "question": "{}: {} {} {} {}"}, {"unused": ""}]
    for name, template in {
        "ab": two, "compare": two, "repeat": two, "abcd": four, "repeat_2": four,
    }.items():  # fmt: skip
        (templates / f"{name}.json").write_text(json.dumps(template))
    # Two-way: 2 rows of moralchoice, 10 of foundation; four-way: 2. Scenarios are of two words,
    # options of moralchoice and foundation of three, of views of two.
    cost = original_cost(folder, n_words)
    assert (cost.prompts, cost.answers) == (12 * 6 + 2 * 48, 12 * 6 * 2 + 2 * 48 * 4)
    two_way_prompt, view_prompt = 1 + 2 + 1 + 3 + 3, 1 + 2 + 4 * 2
    assert cost.prompt_tokens == 72 * two_way_prompt + 96 * view_prompt
    answers = 12 * (2 * 2 * 2 + 2 * (3 + 3)) + 2 * (24 * 4 + 24 * 4 * 2)
    assert cost.tokens == 72 * two_way_prompt * 2 + 96 * view_prompt * 4 + answers
    with pytest.raises(SystemExit):
        main([str(tmp_path / "absent")])
    (templates / "ab.json").unlink()
    with pytest.raises(QuestionError, match=r"ab\.json cannot be read .* give src/evaluation"):
        original_cost(folder, n_words)


def test_what_prompts_share_is_counted_once():
    question = two_way("boat", "care")
    prompts = question_prompts(question)
    beginnings = {tuple(words(p.text)[: n + 1]) for p in prompts for n in range(n_words(p.text))}
    # Of an answer, the last token is only read: "uphold" and "violate" behind both orders.
    cost = our_cost([question], words)
    assert cost == Cost(6, 12, len(beginnings), len(beginnings) + 2 * 2)
