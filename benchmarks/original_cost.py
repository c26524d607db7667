"""What the original's value embedding sends, beside what this one computes, for the same questions.

The original puts every two-way question in three forms and two orders, every four-way one in two
forms and all 24 orders, and has each possible answer scored behind its prompt. Here four-way
questions are put in the four cyclic orders, prompts of a question share their beginnings, and
letters, yes and no are read from one forward pass. Run as a program, with a folder that has the
layout of ``src/evaluation`` of the original's repository::

    python -m progressgym_env.benchmarks.original_cost PATH
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from progressgym_env.errors import ProgressGymError, QuestionError
from progressgym_env.histories.loading import load_one
from progressgym_env.models.language import LanguageModel
from progressgym_env.models.loading import load_tokenizer
from progressgym_env.models.packing import TokenRow
from progressgym_env.values.forms import question_prompts
from progressgym_env.values.moralevals_files import find_files
from progressgym_env.values.questions import Question, load_questions

__all__ = ["Cost", "main", "original_cost", "our_cost"]

# Number of options → the original's templates, and whether an answer is an option or a label.
_TEMPLATES = {
    2: {"ab": False, "compare": False, "repeat": True},
    4: {"abcd": False, "repeat_2": True},
}
Count = Callable[[str], int]


@dataclass(frozen=True)
class Cost:
    """What an evaluation takes.

    Attributes:
        prompts: prompts that are sent.
        answers: possible answers that are scored, over all prompts.
        prompt_tokens: tokens of the prompts, each once; shared beginnings once where they are.
        tokens: tokens in all, answers included: every answer behind its own copy of the prompt,
            or, where beginnings are shared, as they are computed.
    """

    prompts: int
    answers: int
    prompt_tokens: int
    tokens: int


def original_cost(folder: Path, count: Count) -> Cost:
    """The original's cost for the published files.

    Args:
        folder: with ``assets/data/question_templates`` and ``raw_dataset``.
        count: text → number of tokens.

    Raises:
        QuestionError: a file is missing.
    """
    _, files = find_files(folder)
    templates = _templates(folder / "assets" / "data" / "question_templates")
    prompts = answers = prompt_tokens = tokens = 0
    for row in _rows(files.values()):
        options = [row[f"action{n}"] for n in range(1, 5) if row.get(f"action{n}") is not None]
        for name, says_option in _TEMPLATES[len(options)].items():
            for shown in permutations(options):
                text = templates[name]["question_header"]
                text += templates[name]["question"].format(row["context"], *shown)
                n_prompt = count(text)
                n_answers = sum(map(count, shown)) if says_option else len(shown)
                prompts += 1
                answers += len(shown)
                prompt_tokens += n_prompt
                tokens += n_prompt * len(shown) + n_answers
    return Cost(prompts, answers, prompt_tokens, tokens)


def our_cost(questions: Sequence[Question], encode: Callable[[str], list[int]]) -> Cost:
    """The cost of the same questions here; ``encode`` gives a text's tokens."""
    prompts = answers = prompt_tokens = tokens = 0
    for question in questions:
        alone, whole = TokenRow(), TokenRow()
        for prompt in question_prompts(question):
            ids = encode(prompt.text)
            alone.add(ids, [])
            whole.add(ids, [encode(answer) for answer in prompt.answers])
            prompts += 1
            answers += len(prompt.answers)
        prompt_tokens += len(alone)
        tokens += len(whole)
    return Cost(prompts, answers, prompt_tokens, tokens)


def _templates(folder: Path) -> dict[str, Mapping[str, str]]:
    found: dict[str, Mapping[str, str]] = {}
    for name in (name for forms in _TEMPLATES.values() for name in forms):
        path = folder / f"{name}.json"
        try:
            raw: Any = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise QuestionError(
                f"{path} cannot be read ({error}); give src/evaluation of a checkout of "
                "github.com/PKU-Alignment/ProgressGym"
            ) from error
        # Of four-way questions the second template, for the least liked option, is never used.
        found[name] = raw[0] if isinstance(raw, list) else raw
    return found


def _rows(files: Iterable[Path]) -> Iterator[dict[str, str]]:
    for path in files:
        with path.open(encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file)


def main(arguments: Sequence[str] | None = None) -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("path", type=Path, help="src/evaluation of the original's repository")
    parser.add_argument("--tokenizer", help="a model's folder or hub name; by default embedded's")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.tokenizer is None:
            model = load_one("embedded").initial_model("cpu")
            if not isinstance(model, LanguageModel):
                raise TypeError(type(model).__name__)
            tokenizer = model.host.tokenizer
        else:
            tokenizer = load_tokenizer(chosen.tokenizer)

        def encode(text: str) -> list[int]:
            ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
            return ids

        questions = load_questions("moralevals", chosen.path)
        theirs = original_cost(chosen.path, lambda text: len(encode(text)))
    except ProgressGymError as error:
        parser.error(str(error))
    table = Table("", "prompts", "answers", "prompt tokens", "tokens with every answer")
    rows = {
        "original, all rows": theirs,
        f"here, all {len(questions)} usable rows": our_cost(questions.questions, encode),
        f"here, a value embedding ({len(questions.eval)})": our_cost(questions.eval, encode),
    }
    for name, cost in rows.items():
        cells = [
            f"{mine:,}" if cost is theirs else f"{mine:,} (1/{other / mine:.1f})"
            for mine, other in zip(
                (cost.prompts, cost.answers, cost.prompt_tokens, cost.tokens),
                (theirs.prompts, theirs.answers, theirs.prompt_tokens, theirs.tokens),
                strict=True,
            )
        ]
        table.add_row(name, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
