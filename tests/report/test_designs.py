"""Every design has its own words: no page says a sentence of another's, miscounts, or prints a command that is none."""

from __future__ import annotations

import functools
import re
import shlex
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.analysis.runs_table import read_runs
from harness.report import latex, render, searched
from harness.report.build import build
from harness.report.document import Block, Details, Listing
from harness.report.figures import tradeoffs
from harness.report.material import Material
from harness.report.reproduction import differing
from harness.report.write import analysed
from tests.report import planted
from tests.report.designs import DESIGNS

UNPAIRED = {"unpaired", "one run an arm"}
TABLES = {"table", "data sets", *UNPAIRED}
OURS = {*TABLES, "script"}  # trained by our engine are all the others
ALONE = {"one arm", "one seed", "reproduction"}
# A phrase of every template that only some designs may print, and those designs.
TEMPLATES: dict[str, set[str]] = {
    "Added alone to a recipe without any": {"both", "add-one-in"},
    "In the full recipe, leaving out": {"both", "leave-one-out"},
    "eaving out all of them": {"both", "add-one-in"},
    "Of the other variants,": {"leave-one-out"},
    "taken out of the full recipe": {"both", "leave-one-out"},
    "Averaged over all settings of the others": {"factorial", "fraction"},
    "are three families": {"factorial", "fraction"},
    "all combinations of": {"factorial"},
    "a fraction of the combinations": {"fraction"},
    "cannot tell apart": {"fraction"},
    "Shapley": {"factorial"},
    "each level of": {"sweep", "retuned"},
    "reference (dropout =": {"sweep", "retuned"},
    "variants written by hand were compared": {"arms", "script"},
    "Nothing is compared": {"one arm", "one seed"},
    "nothing is compared": ALONE,
    "What the write-up reports": {"reproduction"},
    "eproduced": {"reproduction"},
    "A search of": {"tune"},
    "search score": {"tune", "retuned"},
    "The search was optimistic": {"tune"},
    "fresh seeds of this recipe": {"tune"},
    "the finalists' sizes": {"tune"},
    "of the reference at its size": {"tune"},
    "every arm retuned": {"retuned"},
    "as the script reports": {"script"},
    "table of finished runs": TABLES,
    "Welch": UNPAIRED,
    "two groups of runs": UNPAIRED,
    "data sets": {"data sets"},
    "Holm": DESIGNS.keys() - ALONE,
    "paired": DESIGNS.keys() - ALONE,
    "differences paired by seed": {"table", "data sets"},
    "the same initialisation": DESIGNS.keys() - ALONE - OURS,
    "one-cycle schedule": DESIGNS.keys() - OURS,
    "epoch": DESIGNS.keys() - OURS,
    "queued and recorded with Optuna": DESIGNS.keys() - TABLES,
}
# What a design must say, so that a template that is never printed is found too.
NEEDED = {
    phrase: designs
    for phrase, designs in TEMPLATES.items()
    if phrase
    not in {
        "the same initialisation",
        "epoch",
        "search score",
        "fresh seeds of this recipe",
    }
}


@functools.cache
def page(design: str) -> tuple[str, tuple[str, ...]]:
    """Return the words of a design's report and of its methods, and the commands that it prints."""
    with tempfile.TemporaryDirectory() as folder:
        material = DESIGNS[design](Path(folder))
    analysis = analysed(material)
    material = replace(material, tuning=searched.settled(material, analysis))
    report = build(material, analysis, formats=(), brief=False)
    text = render.markdown(report)
    text = re.sub(
        r"```text\n.*?```", "", text, flags=re.DOTALL
    )  # the study file, in the user's words
    text += latex.files(analysis, material.tuning)["methods.tex"]
    blocks = [block for section in report.sections for block in section.blocks]
    return re.sub(r"\\(.)", r"\1", text), tuple(commands(blocks))


def commands(blocks: Iterable[Block]) -> Iterable[str]:
    for block in blocks:
        if isinstance(block, Details):
            yield from commands(block.blocks)
        elif isinstance(block, Listing):
            yield from (line for line in block.text.splitlines() if line.startswith("harness "))


@pytest.mark.parametrize("design", DESIGNS)
def test_a_page_says_no_sentence_of_another_design_and_all_of_its_own(design: str) -> None:
    text = page(design)[0]
    strange = [p for p, designs in TEMPLATES.items() if p in text and design not in designs]
    missing = [p for p, designs in NEEDED.items() if design in designs and p not in text]
    assert (strange, missing) == ([], [])


@pytest.mark.parametrize("design", DESIGNS)
def test_singular_and_plural_hold_on_every_page(design: str) -> None:
    text = page(design)[0]
    things = (
        "arm|seed|trial|epoch|component|schedule|parameter|row|check|recipe|setting|interaction"
    )
    many = rf"(?<![\d.,\w-])1 (?:\w+ )?(?:{things})s\b"
    few = rf"(?<![\d.,\w-])(?<!trial )(?:[2-9]|[1-9]\d+) (?:{things})\b(?!s| \d)"
    # "each of 1", "in any of 1 arm", "is complete"/"are complete"
    agreement = r"\b1 (?:\w+ )?(?:seed|arm|trial) (?:are|were|have)\b|(?<!of )\b\d\d? (?:seeds|arms|trials) (?:is|was|has)\b|of 1 arm\b"
    found = [re.findall(pattern, text) for pattern in (many, few, agreement)]
    assert found == [[], [], []]


@pytest.mark.parametrize("design", DESIGNS)
def test_every_command_that_a_page_prints_exists_and_takes_its_options(design: str) -> None:
    import typer

    from harness.cli import app

    printed = page(design)[1]
    assert printed
    for command in printed:
        group = typer.main.get_command(app)
        arguments = shlex.split(command)[1:]
        while hasattr(group, "resolve_command"):
            outer = group.make_context("harness", list(arguments), resilient_parsing=True)
            _, group, arguments = group.resolve_command(outer, arguments)
        assert group.make_context(command, arguments, resilient_parsing=False).params


@pytest.mark.parametrize("design", DESIGNS)
def test_every_interval_of_an_answer_has_its_kind_and_n(design: str) -> None:
    text = page(design)[0]
    answer = next(line for line in text.splitlines() if line.startswith("**"))
    assert "[" not in answer or re.search(r"95 % (repeated |Welch )?t, n = \d", answer)


def test_the_gap_of_a_tables_own_metric_is_drawn_with_its_own_direction(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    rows = [
        f"{arm},{seed},{loss + 0.01 * seed},{loss - gap}"
        for arm, loss, gap in (("base", 0.5, 0.1), ("wide", 0.4, 0.2))
        for seed in range(3)
    ]
    path.write_text("\n".join(["model,seed,loss,train", *rows]) + "\n", encoding="utf-8")
    runs = read_runs(
        path, arm="model", metric="loss", seed="seed", train="train", baseline="base",
        margin=0.05, lower_is_better=True,
    )  # fmt: skip
    material = Material(study=runs.study, trials=tuple(runs.trials), metrics=dict(runs.metrics))
    drawn = tradeoffs.against_gap(analysed(material), ())
    assert drawn is not None
    assert drawn.title == "Loss against overfitting gap"
    assert drawn.alt.startswith("The lowest loss, 0.410, is that of wide, at a gap of 0.210;")
    assert "Down is better; left overfits less" in drawn.caption


def test_images_at_their_own_size_have_the_size_that_a_write_up_gives_for_them() -> None:
    raw = {
        "design": "arms",
        "base": {"data.val": 0, "data.name": "cifar10", "data.size": 0},
        "profiles": {"quick": {"data.val": 0, "data.size": 0, "data.name": "cifar10"}},
        "reported": {"metrics": {"accuracy": 0.92}, "settings": {"data.size": 32}},
    }
    material = planted.material(planted.study_of(raw))
    assert material.study.base_recipe.data.size == 0
    assert differing(analysed(material)) == []


def test_a_search_without_confirmation_shows_the_search_and_compares_nothing() -> None:
    found = DESIGNS["tune"](Path())
    assert found.tuning is not None
    tuning = found.tuning.model_copy(
        update={"finalists": (), "confirmed": None, "answer": searched.answer(None, open_trials=3)}
    )
    material = replace(found, trials=(), tuning=tuning, incomplete=True)
    report = build(material, analysed(material), formats=(), brief=False)
    assert [section.id for section in report.sections] == ["tuning", "reproduce", "glossary"]
    (alert,) = report.alerts
    assert "Incomplete: 5 of 5 trials of the search have ended, and none of its" in alert.text
    assert {"Arms", "Seeds"}.isdisjoint(name for name, _ in report.facts)
