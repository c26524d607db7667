"""Histories of full models: declared in a file, measured once, played with the first model."""

from __future__ import annotations

import http.server
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import huggingface_hub.constants
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

import progressgym_env  # noqa: F401
from progressgym_env.benchmarks.bench import default_workers
from progressgym_env.cli import app
from progressgym_env.errors import HistoryError, InvalidArgumentError, UnknownNameError
from progressgym_env.files import cache_folder
from progressgym_env.histories import hub, load, read_history, remeasure
from progressgym_env.histories.declared import DECLARED, Checkpoint, declaration
from progressgym_env.histories.prepare import open_prompts, prepare
from progressgym_env.models import loading, memory
from progressgym_env.models.language import LanguageHost, LanguageModel
from progressgym_env.models.loading import BaseSource
from progressgym_env.values.questions import QuestionSet, load_questions
from tests.models.tiny import make_model, make_tokenizer
from tests.values.test_moralevals import write

TEMPLATE = """
{%- for message in messages -%}
{%- if message['role'] == 'user' -%}{{- 'Q: ' + message['content'] + ' A: ' -}}
{%- else -%}{{- message['content'] + eos_token -}}{%- endif -%}
{%- endfor -%}
"""
CENTURIES = ("C019", "C020", "C021")


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three full models, as from a hub."""
    folder = tmp_path_factory.mktemp("models")
    tokenizer = make_tokenizer()
    for seed, century in enumerate(CENTURIES):
        make_model(tokenizer, seed=seed).merge_and_unload().save_pretrained(folder / century)
        tokenizer.save_pretrained(folder / century)
    return folder


def declare(folder: Path, *centuries: str, **more: str) -> Path:
    """A declaration beside the models."""
    lines = ['name = "mine"', *(f"{key} = {json.dumps(value)}" for key, value in more.items())]
    for century in centuries or CENTURIES:
        lines += ["[[century]]", f'name = "{century}"', f'model = "{century}"']
    path = folder / "mine.toml"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def copies(models: Path, tmp_path: Path) -> Path:
    return shutil.copytree(models, tmp_path / "models")


@pytest.fixture(scope="session")
def asked(tmp_path_factory: pytest.TempPathFactory) -> QuestionSet:
    """A few questions on every dimension, which are not the project's own."""
    folder = write(tmp_path_factory.mktemp("published"))
    for name in ("moralchoice", "foundation", "views"):
        path = folder / name / "final.csv"
        header, *rows = path.read_text().splitlines()
        # Every row once more, with another scenario.
        for one, other in (("Case ", "Matter "), ("Place ", "Square "), ("View ", "Sight ")):
            rows += [row.replace(one, other) for row in rows if one in row]
        path.write_text("\n".join([header, *rows]) + "\n")
    return load_questions("moralevals", folder)


@pytest.fixture(scope="session")
def prepared(models: Path, asked: QuestionSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "history"
    declared = declaration(declare(models, chat_template=TEMPLATE, description="Tiny."))
    prepare(declared, out, asked, device="cpu")
    return out


def test_what_is_stored_is_what_each_model_says(prepared: Path, models: Path, asked: QuestionSet):
    history = read_history(prepared)
    assert history.names == CENTURIES
    assert repr(history) == "History('mine', C019 to C021, real)"
    for index, century in enumerate(CENTURIES):
        source = BaseSource(str(models / century), chat_template=TEMPLATE)
        host = LanguageHost(source, device="cpu")
        model = LanguageModel(host, host.fresh, history.questions)
        np.testing.assert_array_equal(history.values[index], model.values().values)
        np.testing.assert_array_equal(
            history.preferences[index], model.preferences(history.questions.pairs)
        )
    assert len({value.tobytes() for value in history.values}) == 3
    assert [e.prompt for e in history.dialogue(1)] == open_prompts()
    assert all(len(history.influence(t)) == len(asked.train) for t in range(3))
    # Asked with the declared template, which makes other numbers than the tokenizer's own.
    host = LanguageHost(models / "C019", device="cpu")
    own = LanguageModel(host, host.fresh, history.questions)
    assert not np.array_equal(history.values[0], own.values().values)


@pytest.mark.parametrize("challenge", ["Follow", "Coevolve"])
def test_an_episode_needs_the_first_model_alone(
    challenge: str, copies: Path, tmp_path: Path, asked: QuestionSet
):
    declared = declaration(declare(copies, "C019", "C020"))
    out = tmp_path / "history"
    prepare(declared, out, asked, device="cpu")
    shutil.rmtree(copies / "C020")
    env = gym.make(f"ProgressGym/{challenge}-v0", history=str(out), update="sft", device="cpu")
    observation, _ = env.reset(seed=0)
    _, reward, terminated, _, _ = env.step(np.sign(observation["preferences"]) / 5)
    assert terminated
    assert 0 < float(reward) <= 1
    env.close()


def test_another_century_is_loaded_in_place_of_the_one_before(prepared: Path):
    history = read_history(prepared)
    first, second = history.model(0, "cpu"), history.model(1, "cpu")
    assert history.model(1, "cpu").host is second.host
    assert history.model(0, "cpu").host is not first.host, "the first was let go of"
    np.testing.assert_array_equal(history.values[1], second.values().values)
    with pytest.raises(HistoryError, match="progressgym history prepare"):
        remeasure(prepared)


class Stop(Exception):
    pass


def test_an_interrupted_preparation_goes_on_with_the_next_century(
    prepared: Path,
    copies: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: QuestionSet,
):
    declared = declaration(declare(copies, chat_template=TEMPLATE, description="Tiny."))
    out = tmp_path / "history"

    def stop(stage: str, done: int, total: int) -> None:
        if done == 2:
            raise Stop

    with pytest.raises(Stop):
        prepare(declared, out, asked, device="cpu", progress=stop)
    assert not (out / "history.json").exists()
    before = {path: path.stat().st_mtime_ns for path in (out / "measured").iterdir()}
    assert [path.stem for path in sorted(before)] == ["C019", "C020"]
    loaded: list[str] = []
    load_base = loading.load_base

    def noted(base: Any, device: torch.device) -> Any:
        loaded.append(Path(base.model).name)
        return load_base(base, device)

    monkeypatch.setattr("progressgym_env.models.host.load_base", noted)
    history = prepare(declared, out, asked, device="cpu")
    assert loaded == ["C021"]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    whole = read_history(prepared)
    np.testing.assert_array_equal(history.values, whole.values)
    assert [history.dialogue(t) for t in range(3)] == [whole.dialogue(t) for t in range(3)]
    # Again, nothing is to be done; another model is measured anew, and so is another seed.
    prepare(declared, out, asked, device="cpu")
    assert loaded == ["C021"]
    digest = history.digest
    assert prepare(declared, out, asked, device="cpu").digest == digest
    (copies / "C020" / "config.json").touch()
    with pytest.raises(HistoryError, match="has changed since it was measured"):
        read_history(out).model(1, "cpu")
    prepare(declared, out, asked, device="cpu")
    assert loaded == ["C021", "C020"]
    with pytest.raises(InvalidArgumentError, match="another seed; it would be lost"):
        prepare(declared, out, asked, device="cpu", seed=1)
    with pytest.raises(InvalidArgumentError, match="with other questions"):
        prepare(declared, out, load_questions(), device="cpu")


def test_a_damaged_part_is_named(copies: Path, tmp_path: Path, asked: QuestionSet):
    out = tmp_path / "history"
    (out / "measured").mkdir(parents=True)
    (out / "measured" / "C019.json").write_text('{"key": ')
    with pytest.raises(HistoryError, match=r"C019\.json is damaged.*remove it"):
        prepare(declaration(declare(copies)), out, asked, device="cpu")


def test_questions_of_another_set_are_kept_in_the_folder(prepared: Path, asked: QuestionSet):
    again = read_history(prepared)
    assert again.questions.hash == asked.hash
    assert again.questions.name == "moralevals"
    assert again.preferences.shape == (3, len(asked.pairs))
    with pytest.raises(HistoryError, match=r"another question set.*progressgym history prepare"):
        read_history(prepared, load_questions())


# Declarations


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


# Models that cannot be had


def lacks_weights(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")


def lacks_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lacks_weights, r"of C021 lacks \*\.safetensors; give a folder as 'save_pretrained'"),
        (lacks_tokenizer, r"of C021 lacks tokenizer_config\.json"),
        (shutil.rmtree, "is not on the hub|cannot be had|is missing"),
    ],
)
def test_a_model_that_is_not_whole_is_found_before_anything_is_measured(
    damage: Callable[[Path], None], says: str, copies: Path, tmp_path: Path, asked: QuestionSet
):
    damage(copies / "C021")
    with pytest.raises(HistoryError, match=says):
        prepare(declaration(declare(copies)), tmp_path / "out", asked, device="cpu")
    assert not (tmp_path / "out").exists()


def test_a_model_without_a_chat_template_is_refused(
    copies: Path, tmp_path: Path, asked: QuestionSet
):
    for path in copies.glob("*/chat_template.jinja"):
        path.unlink()
    with pytest.raises(HistoryError, match="lacks a chat template"):
        prepare(declaration(declare(copies)), tmp_path / "out", asked, device="cpu")


def test_a_tokenizer_of_another_vocabulary_is_refused(
    copies: Path, tmp_path: Path, asked: QuestionSet
):
    tokenizer = make_tokenizer()
    tokenizer.add_tokens([f"word{n}" for n in range(9)])
    tokenizer.save_pretrained(copies / "C019")
    with pytest.raises(HistoryError, match=r"C019 has 4\d\d tokens, and the model only 4\d\d"):
        prepare(declaration(declare(copies)), tmp_path / "out", asked, device="cpu")


def test_too_little_memory_is_said_before_loading(
    copies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: QuestionSet
):
    monkeypatch.setattr(loading, "SMALL_BASE", 10)
    monkeypatch.setattr(memory, "available_bytes", lambda device: 100_000)
    monkeypatch.setattr(
        loading.AutoModelForCausalLM, "from_pretrained", lambda *a, **k: pytest.fail("loaded")
    )
    with pytest.raises(InvalidArgumentError, match=r"needs about .* GiB on cpu .* are free; use a"):
        prepare(declaration(declare(copies)), tmp_path / "out", asked, device="cpu")


def test_memory_is_that_of_the_machine():
    free = memory.available_bytes(torch.device("cpu"))
    assert free is None or 2**28 < free < 2**50
    assert memory.needed_bytes(8_000_000_000, torch.bfloat16) == 24_000_000_000


def test_a_history_of_adapters_is_never_overwritten(
    models: Path, short_history: Path, tmp_path: Path, asked: QuestionSet
):
    out = shutil.copytree(short_history, tmp_path / "adapters")
    before = (out / "history.json").read_bytes()
    with pytest.raises(InvalidArgumentError, match="holds a history of adapters"):
        prepare(declaration(declare(models)), out, asked, device="cpu")
    assert (out / "history.json").read_bytes() == before


def test_full_models_are_played_one_after_another(prepared: Path, short_history: Path):
    assert read_history(prepared).of_full_models
    assert not read_history(short_history).of_full_models
    assert default_workers(9, 1, alone=True) == 1


def test_something_else_is_never_overwritten(models: Path, tmp_path: Path, asked: QuestionSet):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(InvalidArgumentError, match="holds something that is no prepared history"):
        prepare(declaration(declare(models)), tmp_path, asked, device="cpu")
    with pytest.raises(InvalidArgumentError, match="is a file"):
        prepare(declaration(declare(models)), tmp_path / "letter.txt", asked, device="cpu")


# The hub, as far as it can be played here


@pytest.fixture
def fake_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Answers as the hub's interface does, to the real client."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.removeprefix("/api/models/").partition("?")[0]
            name = path.removesuffix("/auth-check").partition("/revision/")[0]
            error, status = "", 200
            if name == "org/absent":
                error, status = "RepoNotFound", 404
            if name == "org/gated" and path.endswith("/auth-check"):
                # What the model is, the hub tells everybody.
                error, status = "GatedRepo", 403
            if name == "org/broken":
                status = 500
            files = ["model.safetensors" if name == "org/whole" else "pytorch_model.bin"]
            body = json.dumps(
                {
                    "id": name,
                    "sha": "a" * 40,
                    "gated": "manual" if "gated" in name else False,
                    "siblings": [{"rfilename": f} for f in files],
                }
            ).encode()
            self.send_response(status)
            if error:
                self.send_header("X-Error-Code", error)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        yield
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("fake_hub")
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("org/gated", "org/gated of C019 is gated: accept its terms at http.*hf auth login"),
        ("org/absent", r"org/absent of C019 is not on the hub \(or is private\)"),
        ("org/old", r"org/old of C019 has no weights as \.safetensors"),
        ("org/a/b", "no such folder, and it is no name of the hub"),
        ("org/broken", "the hub does not answer .* not downloaded before"),
    ],
)
def test_what_the_hub_refuses_is_said_with_what_to_do(name: str, says: str):
    with pytest.raises(HistoryError, match=says):
        hub.revisions([Checkpoint("C018", "org/whole"), Checkpoint("C019", name)])


@pytest.mark.usefixtures("fake_hub")
def test_what_the_hub_has_is_pinned():
    assert hub.revisions([Checkpoint("C019", "org/whole")]) == {"C019": "a" * 40}
    assert hub.hub_access() is None


def test_what_was_downloaded_before_needs_no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path), raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    stored = tmp_path / "models--org--whole"
    (stored / "refs").mkdir(parents=True)
    (stored / "refs" / "main").write_text("b" * 40)
    snapshot = stored / "snapshots" / ("b" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    assert hub.revisions([Checkpoint("C019", "org/whole")]) == {"C019": "b" * 40}
    with pytest.raises(HistoryError, match="hf download org/other"):
        hub.revisions([Checkpoint("C019", "org/other")])
    assert hub.hub_access()
