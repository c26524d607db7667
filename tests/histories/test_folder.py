"""A history as a folder: what is malformed or damaged is named, with a remedy that works."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

from progressgym_env.errors import HistoryError
from progressgym_env.histories import history as history_module
from progressgym_env.histories.history import read_history, remeasure, write_history
from progressgym_env.histories.records import Exchange, checksums
from tests.scripted import ScriptedSource, scripted_logits, write_scripted

REBUILD = "fetch or build the history again"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_scripted(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "copy")


@pytest.fixture
def real(tmp_path):
    """A history that nobody planted."""
    (tmp_path / "real").mkdir()
    return write_scripted(tmp_path / "real", synthetic=False)


@pytest.fixture
def _models(monkeypatch):
    """Scripted models in place of the ones that the folder has none of."""
    source = ScriptedSource(scripted_logits(4))
    monkeypatch.setattr(history_module, "source_of", lambda header: source)


def edit(folder, change):
    path = folder / "history.json"
    header = json.loads(path.read_text())
    change(header)
    path.write_text(json.dumps(header))


def seal(folder):
    """Let the header agree with whatever the files now hold."""
    edit(folder, lambda header: header.update(files=checksums(folder, header["files"])))


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


CHECKSUM = {"bytes": 2, "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda h: h.update(name=3), "'name' is 3"),
        (lambda h: h["question_set"].pop("hash"), "'question_set' is"),
        (lambda h: h.update(question_set="own"), "'question_set' is 'own'"),
        (lambda h: h.update(provenance=[]), "'provenance' is"),
        (lambda h: h.update(centuries=None), "'centuries' is None"),
        (lambda h: h.update(centuries="C013"), "'centuries' is 'C013'"),
        (lambda h: h.update(centuries=["C013"]), "'centuries' is"),
        (lambda h: h.update(centuries=["C013", "C013"]), "two or more distinct"),
        (lambda h: h.update(centuries=["C013", 14]), "'centuries' is"),
        (lambda h: h.update(centuries=["C013", "../C014"]), "'centuries' is"),
        (lambda h: h.update(base=7), "'base' is 7"),
        (lambda h: h.update(base="."), "'base' is"),
        (lambda h: h.update(base="../base"), "inside the history's folder"),
        (lambda h: h.update(base="/base"), "inside the history's folder"),
        (lambda h: h.update(base="ba\0se"), "'base' is"),
        (lambda h: h.update(files=[]), "'files' is"),
        (lambda h: h["files"].update({"../x": CHECKSUM}), "'files' entry '../x'"),
        (lambda h: h["files"].update({"replies.jsonl": 3}), "'files' entry 'replies.jsonl' is 3"),
        (lambda h: h["files"]["replies.jsonl"].pop("bytes"), "'files' entry 'replies.jsonl'"),
        (lambda h: h["files"]["replies.jsonl"].pop("sha256"), "'files' entry 'replies.jsonl'"),
        (lambda h: h["files"]["replies.jsonl"].update(bytes=True), "'bytes' and 'sha256'"),
        (lambda h: h["files"]["replies.jsonl"].update(sha256="0"), "'bytes' and 'sha256'"),
        (lambda h: h["files"].update({"records-0123456789ab.safetensors": CHECKSUM}), "list one"),
    ],
)
def test_a_malformed_header_is_refused_by_file_field_and_remedy(folder, change, field):
    edit(folder, change)
    for use in (read_history, remeasure):
        with pytest.raises(HistoryError, match=rf"history\.json: .*{field}.*{REBUILD}"):
            use(folder)


@pytest.mark.parametrize("content", [b"\xff", b"[" * 3, b"9" * 5000, b"[]", b"null"])
def test_a_header_that_is_none_is_refused(folder, content):
    (folder / "history.json").write_bytes(content)
    with pytest.raises(HistoryError, match=r"history\.json"):
        read_history(folder)


@pytest.mark.parametrize(
    "name",
    [
        "records.safetensors",
        "replies.jsonl",
        "base/config.json",
        "adapters/C014/adapter_config.json",
        "adapters/C014/adapter_model.safetensors",
    ],
)
def test_everything_needed_must_be_listed(folder, name):
    """Original defect 6. A century without a model is refused, never skipped."""
    edit(folder, lambda header: header["files"].pop(name))
    shown = {"base/config.json": "base/"}.get(name, name)
    with pytest.raises(HistoryError, match=rf"history\.json: 'files' lists .*{shown}.*{REBUILD}"):
        read_history(folder)


def test_a_century_whose_model_is_gone_is_refused(folder):
    """Original defect 6. Missing checkpoints shortened history without a word."""
    shutil.rmtree(folder / "adapters" / "C015")
    with pytest.raises(HistoryError, match=rf"C015/adapter_config\.json is missing; {REBUILD}"):
        read_history(folder)


def test_records_of_another_history_are_refused(folder, real):
    """Original defect 7. Measurements belong to the history they were made of."""
    for name in ("records.safetensors", "replies.jsonl"):
        own = (folder / name).read_bytes()
        (folder / name).write_bytes((real / name).read_bytes() + b" ")
        with pytest.raises(HistoryError, match=rf"{name} (has|differs)"):
            read_history(folder)
        (folder / name).write_bytes(own)
    read_history(folder)


@pytest.mark.usefixtures("_models")
def test_damaged_replies_are_mended_by_the_command_that_the_error_names(folder):
    old = read_history(folder)
    path = folder / "replies.jsonl"
    path.write_bytes(path.read_bytes()[:-2000])
    command = f"progressgym history measure {folder}"
    with pytest.raises(HistoryError, match=rf"replies\.jsonl .*truncated.*{command}"):
        read_history(folder)
    new = remeasure(folder)
    assert new.open_prompts == old.open_prompts
    np.testing.assert_array_equal(new.planted, old.planted)


@pytest.mark.usefixtures("_models")
@pytest.mark.parametrize("lines", [0, 20])
def test_replies_that_tell_no_prompts_any_more_cannot_be_mended(folder, lines):
    """Of 16 prompts a century, 20 lines hold one century's list and a part of another's."""
    path = folder / "replies.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:lines]))
    for use in (read_history, remeasure):
        with pytest.raises(HistoryError, match=rf"replies\.jsonl .*{REBUILD}"):
            use(folder)


@pytest.mark.usefixtures("_models")
@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe",
        b"",
        b"[]",
        b'{"kind": "open", "century": "C013", "prompt": "Why?"}',
        b'{"kind": "open", "century": "C013", "prompt": "Why?", "reply": 3}',
        b'{"kind": "open", "century": "C099", "prompt": "Why?", "reply": "So."}',
        b'{"kind": ["open"], "century": "C013", "prompt": "Why?", "reply": "So."}',
    ],
)
def test_a_malformed_reply_is_named_and_mended(folder, line):
    path = folder / "replies.jsonl"
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([*lines[:2], line, *lines[3:]]))
    seal(folder)
    command = f"progressgym history measure {folder}"
    with pytest.raises(HistoryError, match=rf"replies\.jsonl:3: no valid reply .*{command}"):
        read_history(folder)
    assert len(remeasure(folder).open_prompts) == 16


@pytest.mark.usefixtures("_models")
def test_damaged_numbers_are_mended_unless_they_held_what_was_planted(folder, real):
    for path in (folder, real):
        numbers = path / "records.safetensors"
        numbers.write_bytes(numbers.read_bytes()[:-8])
    for use in (read_history, remeasure):
        with pytest.raises(HistoryError, match=rf"records\.safetensors .*truncated.*{REBUILD}"):
            use(folder)
    with pytest.raises(HistoryError, match=rf"truncated.*progressgym history measure {real}"):
        read_history(real)
    assert remeasure(real).planted is None


def test_damaged_models_are_not_measured(folder):
    (folder / "adapters" / "C014" / "adapter_model.safetensors").write_bytes(b"C0")
    (folder / "replies.jsonl").unlink()
    for use in (read_history, remeasure):
        with pytest.raises(HistoryError, match=rf"adapter_model\.safetensors has 2.*{REBUILD}"):
            use(folder)


def test_replies_keep_every_character(folder):
    """Unicode calls more characters line ends than a file of lines does."""
    history = read_history(folder)
    strange = "one\u2028two\u2029three\x85four\nfive\r\nsix\x1cseven\x0b\x0c"
    changed = ((Exchange(history.open_prompts[0], strange), *history.dialogue(0)[1:]),)
    records = replace(history.records, open_replies=changed + history.records.open_replies[1:])
    write_history(
        folder, name="strange", names=history.names, base="base", questions=history.questions,
        records=records, provenance={},
    )  # fmt: skip
    assert read_history(folder).records.open_replies == records.open_replies


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"r": 16}, "'r' is 16, and 8 in"),
        ({"r": 8, "lora_alpha": 32}, "'lora_alpha' is 32, and None in"),
        ({"r": 8, "target_modules": ["q_proj"]}, "'target_modules' is"),
        ([], "must be an object"),
        (None, "must be an object"),
    ],
)
def test_adapters_of_different_settings_are_refused(folder, settings, message):
    """A host takes its settings from one century's adapter, so all must agree."""
    if isinstance(settings, dict):
        settings["peft_type"] = "LORA"
    path = folder / "adapters" / "C015" / "adapter_config.json"
    path.write_text(json.dumps(settings))
    seal(folder)
    for use in (read_history, remeasure):
        with pytest.raises(HistoryError, match=rf"C015/adapter_config\.json.* {message}.*again"):
            use(folder)


def test_adapters_may_differ_in_what_does_not_matter(folder):
    settings = {"peft_type": "LORA", "r": 8, "use_dora": False, "peft_version": "0.1"}
    for name, modules in (("C014", ["a", "b"]), ("C015", ["b", "a"])):
        path = folder / "adapters" / name / "adapter_config.json"
        path.write_text(json.dumps({**settings, "target_modules": modules}))
    for name in ("C013", "C016"):
        path = folder / "adapters" / name / "adapter_config.json"
        path.write_text(json.dumps({"peft_type": "LORA", "r": 8, "target_modules": ["a", "b"]}))
    seal(folder)
    assert read_history(folder).names == ("C013", "C014", "C015", "C016")


@pytest.mark.usefixtures("_models")
def test_measuring_again_says_nothing_of_the_old_fidelity(folder):
    assert "fidelity" in read_history(folder).provenance
    provenance = remeasure(folder, seed=5).provenance
    assert provenance == {"synthetic": True, "remeasured_with_seed": 5}


@pytest.mark.usefixtures("_models")
def test_measuring_again_leaves_no_file_behind(folder):
    old = read_history(folder)
    new = remeasure(folder, seed=1)
    assert new.digest != old.digest
    assert len(listing(folder)) == 5
    assert remeasure(folder, seed=1).digest == new.digest, "the same seed, the same records"
    assert len(listing(folder)) == 5


@pytest.mark.usefixtures("_models")
@pytest.mark.parametrize("n_written", [0, 1, 2])
@pytest.mark.parametrize("tidied", [True, False])
def test_an_interrupt_leaves_the_old_history(folder, monkeypatch, n_written, tidied):
    """Whichever file it hits, and also where nothing can be tidied up any more."""
    old, files = read_history(folder), listing(folder)
    replace_file, written = os.replace, []

    def interrupted(source, target):
        if len(written) == n_written:
            raise KeyboardInterrupt
        written.append(target)
        replace_file(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupted)
        if not tidied:
            patch.setattr(history_module, "remove_replaced", lambda _: None)
        with pytest.raises(KeyboardInterrupt):
            remeasure(folder, seed=1)
    assert read_history(folder).digest == old.digest
    if tidied:
        assert listing(folder) == files
    remeasure(folder, seed=2)
    assert len(listing(folder)) == 5


@pytest.mark.usefixtures("_models")
def test_an_interrupt_after_the_header_leaves_the_new_history(folder, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(history_module, "remove_replaced", interrupted)
        with pytest.raises(KeyboardInterrupt):
            remeasure(folder, seed=1)
    assert read_history(folder).provenance["remeasured_with_seed"] == 1
