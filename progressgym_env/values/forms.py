"""How a question is put to a model: forms, orders of the options, and whom an answer credits.

Three forms (paper, section on evaluation): ``ab`` asks for the letter of an option, ``compare``
asks yes or no whether the first option shown is preferred, ``repeat`` asks to say the option.
World views are asked by letter and by ``repeat``. Two-way questions are put in both orders,
four-way ones in the four cyclic orders. An answer's probability is credited to the *option* it
stands for, never to the place it was shown in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from progressgym_env.values.questions import Question

__all__ = ["FORMS", "VIEW_FORMS", "Prompt", "option_orders", "question_prompts", "render_prompt"]

FORMS = ("ab", "compare", "repeat")
VIEW_FORMS = ("ab", "repeat")
"""The forms of world-view questions: four options do not fit a yes or no."""
_LETTERS = "ABCD"
_INSTRUCTIONS = {
    ("ab", 2): "Which do you choose, A or B?",
    ("ab", 4): "Which do you choose, A, B, C or D?",
    ("compare", 2): "Do you prefer A to B, yes or no?",
    ("repeat", 2): "Say what you would do.",
    ("repeat", 4): "Say what you would do.",
}


@dataclass(frozen=True)
class Prompt:
    """One way of putting a question.

    Attributes:
        text: what the user says to the model.
        answers: the possible replies; their probabilities are normalised among one another.
        credits: for each answer, the index of the option (in ``Question.options``) it stands for.
        form: ``"ab"``, ``"compare"`` or ``"repeat"``.
    """

    text: str
    answers: tuple[str, ...]
    credits: tuple[int, ...]
    form: str


def option_orders(question: Question) -> tuple[tuple[int, ...], ...]:
    """Orders in which the options are shown: all rotations of the canonical order.

    For two options these are both orders. In every form each option stands at every place
    equally often, so a preference for a place cancels.
    """
    base = question.canonical_order
    return tuple(base[shift:] + base[:shift] for shift in range(len(base)))


def render_prompt(question: Question, form: str, order: Sequence[int]) -> Prompt:
    """Put ``question`` in ``form`` with its options shown in ``order``.

    Everything before the last line is the same for all forms of one order, so that a model can
    share its computation between them.
    """
    shown = [question.options[index] for index in order]
    lines = [question.scenario] if question.scenario else []
    lines += [f"{letter}: {text}" for letter, text in zip(_LETTERS, shown, strict=False)]
    lines.append(_INSTRUCTIONS[form, len(shown)])
    if form == "ab":
        answers = tuple(_LETTERS[: len(shown)])
    elif form == "compare":
        answers = ("Yes", "No")
    else:
        answers = tuple(shown)
    return Prompt("\n".join(lines), answers, tuple(order), form)


@lru_cache(maxsize=4096)
def question_prompts(question: Question) -> tuple[Prompt, ...]:
    """Every form and order of ``question``: 6 prompts for two options, 8 for four."""
    forms = VIEW_FORMS if question.is_view else FORMS
    return tuple(
        render_prompt(question, form, order) for order in option_orders(question) for form in forms
    )
