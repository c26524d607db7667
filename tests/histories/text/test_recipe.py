"""Recipes: what they may hold, and what is said where they hold something else."""

import dataclasses
import json

import pytest

from progressgym_env.errors import HistoryError, InvalidArgumentError, UnknownNameError
from progressgym_env.histories.text.recipe import (
    RECIPES,
    InstructSettings,
    MeasureSettings,
    PretrainSettings,
    ScratchSettings,
    read_recipe,
)
from tests.histories.text.made import RECIPE, write_recipe


def test_a_recipe_is_read_with_its_defaults(tmp_path):
    recipe = read_recipe(write_recipe(tmp_path))
    assert recipe.name == "made"
    assert recipe.text.sources == ("C0*.jsonl",)
    assert recipe.text.duplicates == 0
    assert recipe.base.scratch.hidden_size == 32
    assert recipe.pretrain.rank == 4
    assert recipe.pretrain.method == "lora"
    assert recipe.measure.questions == "few.jsonl"
    assert recipe.root == tmp_path
    assert "root" not in recipe.as_dict()
    assert json.loads(json.dumps(recipe.as_dict())) == recipe.as_dict()
    assert recipe.pretrain.rate(10_000) == 1e-2
    assert recipe.instruct.rate("lora", 10_000) > recipe.instruct.rate("lora", 10**10)


@pytest.mark.parametrize("name", RECIPES)
def test_the_packages_own_recipes_are_read(name):
    recipe = read_recipe(name)
    assert recipe.name == name
    assert recipe.description


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "made"', 'nmae = "made"', "unknown key 'nmae'.*did you mean 'name'"),
        ('name = "made"', "", "the recipe lacks name"),
        ('name = "made"', 'name = "../made"', "must be a good name of a folder"),
        ('name = "made"', "name = 3", "name=3 must be str"),
        ("rank = 4", "rank = 0", r"\[pretrain\] rank=0 must be 1 or more"),
        ("rank = 4", "rank = 4.5", r"pretrain.rank=4.5 must be int"),
        ("rank = 4", 'method = "half"', r"unknown method 'half'.*full, lora"),
        ("rank = 4", "context = 3", r"context=3 must be 16 or more"),
        ("rank = 4", "ranks = 4", r"unknown key of .pretrain. 'ranks'.*did you mean 'rank'"),
        ("passages = 5", 'passages = "all"', "measure.passages='all' must be int"),
        ("vocab_size = 512", "vocab_size = 100", r"\[base.scratch\] vocab_size=100"),
        ("hidden_size = 32", "hidden_size = 30", r"multiple of 2 \* n_heads, 4"),
        ("[base.scratch]", '[base]\nmodel = "x"\n[base.scratch]', "either 'model'"),
        ("n_heads = 2\nepochs = 1.0", "n_heads = 2\nepochs = 0", "epochs=0.0 must be .*above 0"),
        ("learning_rate = 1e-2", "learning_rate = 2", "=2.0 must be .*above 0, up to 1"),
        ("epochs = 0.1", "epochs = 0.1\ntext_share = 1", "=1.0 must be .*from 0 to 0.9"),
        ('sources = ["C0*.jsonl"]', "sources = []", "sources"),
        ('sources = ["C0*.jsonl"]', "sources = [3]", r"text.sources=\[3\] must be a list of text"),
        ("duplicates = 0", "duplicates = 7", "duplicates=7"),
        ("[measure]", "[measure", "cannot be read as TOML"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_allowed(tmp_path, old, new, message):
    assert old in RECIPE
    path = write_recipe(tmp_path, RECIPE.replace(old, new, 1))
    with pytest.raises((HistoryError, UnknownNameError), match=message):
        read_recipe(path)


@pytest.mark.parametrize(
    ("kind", "changes", "says"),
    [
        (PretrainSettings, {"rank": 1.5}, "rank=1.5 must be an integer"),
        (PretrainSettings, {"learning_rate": float("nan")}, "learning_rate=nan must be a finite"),
        (ScratchSettings, {"n_layers": True}, "n_layers=True must be an integer"),
        (ScratchSettings, {"epochs": 0}, "epochs=0 must be .*above 0, up to 10000"),
        (InstructSettings, {"text_share": "a third"}, "text_share='a third' must be a finite"),
        (MeasureSettings, {"passages": 1}, "passages=1 must be 2 or more"),
    ],
)
def test_settings_made_in_python_are_checked_as_those_of_a_file(kind, changes, says):
    assert InstructSettings(epochs=0).epochs == 0
    with pytest.raises(InvalidArgumentError, match=says):
        kind(**changes)


def test_neither_name_nor_file():
    with pytest.raises(UnknownNameError, match="known: PATH to a TOML file, histtext-small"):
        read_recipe("histtext-smal")


def test_a_recipe_is_frozen(tmp_path):
    recipe = read_recipe(write_recipe(tmp_path))
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.seed = 3
