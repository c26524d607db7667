"""The first stages of a build: text, base, and the models of the centuries."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from progressgym_env.errors import HistoryError, InvalidArgumentError
from progressgym_env.files import file_hash
from progressgym_env.histories.declared import Checkpoint
from progressgym_env.histories.hub import revisions
from progressgym_env.histories.text.base_model import (
    base_source,
    base_tokenizer,
    copy_base,
    scratch_base,
)
from progressgym_env.histories.text.batches import (
    century_rows,
    conversation_rows,
    mixed,
    passes,
)
from progressgym_env.histories.text.century_models import (
    BASE,
    AdapterMaker,
    FullModelMaker,
    ModelMaker,
    Training,
)
from progressgym_env.histories.text.context import STAGES, Context
from progressgym_env.histories.text.corpus import build_corpus
from progressgym_env.histories.text.finding import find_files
from progressgym_env.histories.text.passages import passages_file
from progressgym_env.histories.text.stages import digest_of, folder_digest
from progressgym_env.histories.text.timeless import instruction_examples
from progressgym_env.models.loading import longest_input
from progressgym_env.models.text_training import Row, TextTrainingSettings, TokenBatch
from progressgym_env.values.choosing import resolve_questions
from progressgym_env.values.dimensions import DIMENSION_KEYS
from progressgym_env.values.questions import QUESTION_SETS, QuestionSet

__all__ = ["Making"]

_FORMAT = 1
"""Raised whenever the same settings would give something else: what is done is done again then."""

Batches = Callable[[np.random.Generator], list[TokenBatch]]


class Making:
    """Makes the models of one build, stage by stage; what is done already is left as it is.

    Args:
        build: what is built, and where.

    Attributes:
        base_revision: what exactly the base is, of the hub or a folder; None of one from nothing.
    """

    def __init__(self, build: Context) -> None:
        self.build, self.recipe, self.stages = build, build.recipe, build.stages
        self.exchanges = [
            (exchange.prompt, exchange.reply)
            for exchange in instruction_examples(build.stream("conversations"))
        ]
        self.taught = digest_of(self.exchanges)
        self.base_revision: str | None = None
        self._maker: ModelMaker | None = None

    def check(self) -> QuestionSet:
        """Say what cannot be used before hours of work.

        Returns:
            The questions that the models are measured with.

        Raises:
            HistoryError: of the base, its tokenizer, or its context.
            InvalidArgumentError: of the questions.
        """
        questions = self._questions()
        if self.recipe.base.scratch is None:
            source = base_source(self.recipe)
            tokenizer = base_tokenizer(self.recipe)
            checkpoint = Checkpoint("every century", source.model, source.revision)
            self.base_revision = revisions([checkpoint])[checkpoint.century]
            context, most = self.recipe.pretrain.context, longest_input(source)
            if most is not None and context > most:
                raise HistoryError(
                    f"[pretrain] context={context} is more than {source.model} can read, {most} "
                    f"tokens; set it to {most} or less"
                )
            conversation_rows(tokenizer, self.exchanges, context)
        return questions

    def _questions(self) -> QuestionSet:
        named = self.recipe.measure.questions
        beside = self.recipe.root / named
        own = named in QUESTION_SETS or not beside.exists()
        questions = resolve_questions(named if own else str(beside))
        for key in DIMENSION_KEYS:
            n = sum(key in question.upholds for question in questions.eval)
            if n < 2:
                raise InvalidArgumentError(
                    f"[measure] questions={named!r} have {n} eval questions on {key!r}, must have "
                    "2 or more on every dimension, for standard errors"
                )
        return questions

    def read_text(self) -> dict[str, str]:
        """Century → a digest of its passages, oldest first."""
        recipe, text = self.recipe, self.build.text
        key = digest_of(_FORMAT, recipe.text.to_json(), recipe.seed, self._local_files())
        done = self.stages.outcome("text", key)
        if done is not None and _same_files(text, done["centuries"]):
            return dict(done["centuries"])
        with self.stages.doing("text", key) as noted:
            if text.exists():
                shutil.rmtree(text)  # What was found out about other text.
            report = build_corpus(
                recipe.text, recipe.root, text, self.build.stream("text"), self.build.tell
            )
            names = [century.name for century in report.centuries]
            if len(names) < 2:
                raise HistoryError(
                    f"the text is of {names} alone, and a history has two centuries or more; "
                    "add sources, or correct 'centuries' in [text]"
                )
            noted["centuries"] = {name: file_hash(passages_file(text, name)) for name in names}
        return dict(noted["centuries"])

    def _local_files(self) -> list[list[Any]]:
        """The files to read that lie here, with sizes and times; those of the hub stay as found."""
        local = tuple(s for s in self.recipe.text.sources if not s.startswith("hub:"))
        if not local:
            return []
        files, _ = find_files(replace(self.recipe.text, sources=local), self.recipe.root)
        stats = [(file.name, file.path().stat()) for file in files]
        return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]

    def make_base(self, texts: Mapping[str, str]) -> str:
        """The base model; a digest of its files."""
        recipe, stage, place = self.recipe, "base", self.build.out / BASE
        told: list[Any] = [_FORMAT, asdict(recipe.base), recipe.pretrain.context]
        scratch = recipe.base.scratch
        told += [self.base_revision] if scratch is None else [texts, self.taught, recipe.seed]
        key = digest_of(*told)
        done = self.stages.outcome(stage, key)
        if done is not None and place.is_dir():
            return str(done["digest"])
        with self.stages.doing(stage, key) as noted:
            if scratch is None:
                self.build.tell(stage, 0, 1)
                copy_base(recipe, self.base_revision, place)
                self.build.tell(stage, 1, 1)
            else:
                losses = scratch_base(
                    scratch,
                    self.build.text,
                    tuple(texts),
                    self.exchanges,
                    recipe.pretrain.context,
                    self.build.stream(stage),
                    place,
                    device=self.build.device,
                    checkpoint=self.stages.checkpoint(stage),
                    key=key,
                    progress=lambda step, steps: self.build.tell(stage, step, steps),
                )
                noted["losses"] = _thinned(losses)
            noted["digest"] = folder_digest(place)
        self.stages.checkpoint(stage).unlink(missing_ok=True)
        return str(noted["digest"])

    def open_maker(self) -> None:
        """Load what the centuries are trained with."""
        settings = self.recipe.pretrain
        if settings.method == "full":
            self._maker = FullModelMaker(self.build.out, self.build.device)
            return
        seed = int(self.build.stream("adapter").integers(2**31))
        self._maker = AdapterMaker(self.build.out, settings.rank, self.build.device, seed)

    def close_maker(self) -> ModelMaker:
        """Make room for what is measured: the maker only knows where things lie from now on."""
        maker = self.maker
        maker.release()
        return maker

    @property
    def maker(self) -> ModelMaker:
        """What the centuries are trained with."""
        if self._maker is None:
            raise HistoryError("no base is loaded; call open_maker() first")
        return self._maker

    def _keys(self, century: str, base: str, text: str) -> tuple[str, str]:
        """Keys that name the outcomes of a century's two trainings."""
        recipe = self.recipe
        first = digest_of(
            _FORMAT, base, text, asdict(recipe.pretrain), recipe.seed, f"pretrain-{century}"
        )
        second = digest_of(first, self.taught, asdict(recipe.instruct), f"instruct-{century}")
        return first, second

    def pretrain(self, base: str, texts: Mapping[str, str]) -> None:
        """Continued pretraining of every century that is not finished."""
        settings = self.recipe.pretrain
        for century, text in texts.items():
            first, second = self._keys(century, base, text)
            if self._is_done(f"instruct-{century}", second, self.maker.place(century)):
                continue

            def batches(rng: np.random.Generator, century: str = century) -> list[TokenBatch]:
                tokenizer = self.maker.tokenizer
                rows = century_rows(tokenizer, self.build.text, century, settings.context)
                pad = tokenizer.pad_token_id
                return passes(rows, settings.epochs, settings.batch_tokens, pad, rng)

            rate = settings.rate(self.maker.n_parameters)
            out = self._pretrained(century)
            self._train(f"pretrain-{century}", first, None, out, batches, rate)

    def instruct(self, base: str, texts: Mapping[str, str]) -> dict[str, str]:
        """Tuning of every century on conversations; century → a key that names its model."""
        recipe, settings = self.recipe, self.recipe.instruct
        keys = {}
        for century, text in texts.items():
            stage, place = f"instruct-{century}", self.maker.place(century)
            _, keys[century] = self._keys(century, base, text)
            if self._is_done(stage, keys[century], place):
                continue

            def batches(rng: np.random.Generator, century: str = century) -> list[TokenBatch]:
                tokenizer, pad = self.maker.tokenizer, self.maker.tokenizer.pad_token_id
                main = passes(self._chats, settings.epochs, settings.batch_tokens, pad, rng)
                rows = century_rows(tokenizer, self.build.text, century, recipe.pretrain.context)
                return mixed(main, rows, settings.text_share, settings.batch_tokens, pad, rng)

            rate = settings.rate(recipe.pretrain.method, self.maker.n_parameters)
            tuned = self.build.out / STAGES / "tuned" / century
            start = self._pretrained(century)
            self._train(stage, keys[century], start, tuned, batches, rate, finished=century)
            if recipe.pretrain.method == "full":
                shutil.rmtree(start)  # As large as the model itself.
        return keys

    @cached_property
    def _chats(self) -> list[Row]:
        """The conversations as rows, the same for all centuries."""
        context = self.recipe.pretrain.context
        return conversation_rows(self.maker.tokenizer, self.exchanges, context)

    def _pretrained(self, century: str) -> Path:
        return self.build.out / STAGES / "pretrained" / century

    def _is_done(self, stage: str, key: str, made: Path) -> bool:
        return self.stages.outcome(stage, key) is not None and made.is_dir()

    def _train(
        self,
        stage: str,
        key: str,
        start: Path | None,
        out: Path,
        batches: Batches,
        rate: float,
        finished: str | None = None,
    ) -> None:
        """One training, unless it is done."""
        checkpoint = self.stages.checkpoint(stage)
        if self._is_done(stage, key, out if finished is None else self.maker.place(finished)):
            checkpoint.unlink(missing_ok=True)
            return
        rng = self.build.stream(stage)
        with self.stages.doing(stage, key) as noted:
            training = Training(
                batches=batches(rng),
                settings=TextTrainingSettings(rate, accumulate=self.recipe.pretrain.accumulate),
                seed=int(rng.integers(2**31)),
                checkpoint=checkpoint,
                key=key,
                progress=lambda n, steps: self.build.tell(stage.replace("-", " "), n, steps),
            )
            noted["tokens"] = sum(batch.n_tokens for batch in training.batches)
            noted["losses"] = _thinned(self.maker.train(start, out, training))
            if finished is not None:
                self.maker.finish(out, finished)
                shutil.rmtree(out)
        checkpoint.unlink(missing_ok=True)


def _same_files(text: Path, digests: Mapping[str, str]) -> bool:
    """Whether a century's passages are all there, as they were written."""
    places = {name: passages_file(text, name) for name in digests}
    return all(places[n].is_file() and file_hash(places[n]) == d for n, d in digests.items())


def _thinned(losses: Sequence[float], most: int = 100) -> list[float]:
    """At most so many means of neighbouring steps, for a curve."""
    parts = np.array_split(np.array(losses), min(most, len(losses))) if losses else []
    return [round(float(part.mean()), 5) for part in parts]
