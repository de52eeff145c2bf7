"""Recipes: what each fills in, and that an option of its own always wins."""

from dataclasses import asdict
from pathlib import Path
from typing import Literal, get_args

import pytest

from schemas import FeatureSpec, Recipe, RunConfig
from trainer.errors import ConfigError
from trainer.recipes import RECIPES, check_filters
from trainer.training.schedule import Sweep


def test_every_recipe_is_there_and_the_papers_is_the_default_of_the_config() -> None:
    assert set(RECIPES) == set(get_args(Recipe))
    paper = RECIPES["paper"]
    for name in ("layer_groups", "moments", "first_conv"):
        assert getattr(paper, name) == RunConfig.model_fields[name].default
    assert (paper.carry, paper.best_of) == ("stage", "array")
    assert (paper.precision, paper.mel_scale, paper.sweep_end) == (None, None, Sweep().end)


def test_the_recipe_of_2019_has_every_piece_of_the_protocol() -> None:
    found = RECIPES["fastai-2019"]
    assert (found.carry, found.best_of) == ("stage", "stage")
    assert (found.layer_groups, found.moments, found.first_conv) == (3, "carried", "red-frozen")
    assert (found.precision, found.mel_scale) == ("float32", "torchaudio-2019")
    assert Sweep(100, end=found.sweep_end).lr(99) == pytest.approx(8.3, abs=0.05)


def test_the_list_of_deviations_has_every_piece_of_the_recipe_that_is_not_the_default() -> None:
    page = (Path(__file__).parents[2] / "docs/design.md").read_text()
    section = page.split("## Deviations")[1].split("\n## ")[0]
    papers, codes = (asdict(RECIPES[name]) for name in ("paper", "fastai-2019"))
    for name, value in codes.items():
        if name == "sweep_end":
            assert f"λ = {value:.1f}" in section
        elif value != papers[name]:
            option = f"--{name.replace('_', '-')} {value}"
            assert option in section or f"{name}: {value}" in section


@pytest.mark.parametrize("mel_scale", ["htk", "slaney"])
def test_other_filters_than_the_recipes_are_refused_with_what_to_do(
    mel_scale: Literal["htk", "slaney"],
) -> None:
    with pytest.raises(ConfigError, match=rf"'torchaudio-2019'.*'{mel_scale}'.*--spec.*mel_scale"):
        check_filters(FeatureSpec(mel_scale=mel_scale), "fastai-2019")
    check_filters(FeatureSpec(mel_scale=mel_scale), "paper")


def test_the_recipes_own_filters_are_taken() -> None:
    check_filters(FeatureSpec(mel_scale="torchaudio-2019"), "fastai-2019")
    check_filters(FeatureSpec(mel_scale="torchaudio-2019"), "paper")
