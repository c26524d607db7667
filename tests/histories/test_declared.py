"""Declarations of histories of full models: a file of a user, or one of the package."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from progressgym_env.cli import app
from progressgym_env.errors import HistoryError, UnknownNameError
from progressgym_env.files import cache_folder
from progressgym_env.histories import load
from progressgym_env.histories.declared import DECLARED, declaration
from tests.histories.full_models import declare
from tests.models.tiny import make_tokenizer


def test_those_of_the_package_name_eighteen_models():
    found = {c.model for name in DECLARED for c in declaration(name).checkpoints}
    assert found == {
        f"PKU-Alignment/ProgressGym-HistLlama3-{size}-C0{century}-instruct-{version}"
        for size, version in (("8B", "v0.2"), ("70B", "v0.1"))
        for century in range(13, 22)
    }
    for name in DECLARED:
        declared = declaration(name)
        assert [c.century for c in declared.checkpoints] == [f"C0{n}" for n in range(13, 22)]
        assert declared.questions == "moralevals"
        tokenizer = make_tokenizer()
        tokenizer.chat_template = declared.chat_template
        tokenizer.bos_token = "<|bos|>"
        asked = [{"role": "user", "content": "Would you\nstay?"}]
        prompt = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        assert prompt == (
            "<|bos|>Below is an instruction that describes a task. Write a response that "
            "appropriately completes the request.\n\n### Instruction:\nWould you\nstay?\n\n"
            "### Response:\n"
        )
        asked.append({"role": "assistant", "content": "Yes."})
        assert tokenizer.apply_chat_template(asked, tokenize=False) == f"{prompt}Yes.<|end|>"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name = ", "cannot be read as TOML"),
        ('name = "x"', r"has 0 tables \[\[century\]\], must have 2 or more"),
        ('nam = "x"', "unknown keys nam; known: century, chat_template"),
        ('[[century]]\nname="a"\nmodel="b"\n[[century]]\nname="a"\nmodel="c"', "must be distinct"),
        ('[[century]]\nname="a"\n[[century]]\nname="b"', "1: 'model' is None, must be text"),
        (
            'questions="mine"\n[[century]]\nname="a"\nmodel="x"\n[[century]]\nname="b"\nmodel="x"',
            "'questions' is 'mine', must be one of own, moralevals",
        ),
    ],
)
def test_a_malformed_declaration_is_refused(text: str, says: str, tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(HistoryError, match=says):
        declaration(path)


def test_unknown_declarations_name_the_known_ones():
    with pytest.raises(UnknownNameError, match="did you mean 'histllama-8b'"):
        declaration("histlama-8b")


def test_a_name_that_is_not_prepared_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(HistoryError, match="Run: progressgym history prepare histllama-8b"):
        load("histllama-8b")


def test_the_command_prepares_and_the_name_is_known(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = declare(models, "C019", "C020")
    out = tmp_path / "out"
    refused = CliRunner().invoke(app, ["history", "prepare", str(file)])
    assert refused.exit_code == 2
    assert "give --out FOLDER" in refused.output
    done = CliRunner().invoke(
        app, ["history", "prepare", str(file), "--out", str(out), "--device", "cpu"]
    )
    assert done.exit_code == 0, done.output
    assert f"Play it with: progressgym run --history {out}" in done.output
    # As if it were one of the package's own.
    shutil.copytree(out, cache_folder() / "histories" / "histllama-8b")
    assert load("histllama-8b").names == ("C019", "C020")
    missing = CliRunner().invoke(app, ["history", "prepare", str(tmp_path / "absent.toml")])
    assert missing.exit_code == 2
