"""Whole folders: what is in them, that they can be rebuilt byte by byte, and that they are replaced, never half written."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.analysis import Analysis
from harness.analysis.tuning_facts import Confirmed, Finalist, Importance, SearchTrial, TuningFacts
from harness.errors import ReportError
from harness.report import Material, Written, rebuild, write_material, write_report
from tests.report import planted


def none_finished() -> Material:
    return dataclasses.replace(
        planted.augmentations(images=False), trials=(), curves={}, incomplete=True
    )


def one_trial() -> Material:
    whole = planted.augmentations(images=False)
    return dataclasses.replace(whole, trials=whole.trials[:1], incomplete=True)


def tuned() -> Material:
    history = tuple(
        SearchTrial(
            number=i,
            state="pruned" if i % 5 == 4 else "complete",
            value=0.7 + 0.01 * (i % 7),
            epoch=40,
            params={"model.dropout": 0.05 * (i % 9), "optimizer.name": "adam" if i % 2 else "sgd"},
        )
        for i in range(20)
    )
    facts = TuningFacts(
        sampler="TPESampler",
        pruner="MedianPruner",
        budget=20,
        history=history,
        best={"model.dropout": 0.1},
        best_value=0.76,
        reference_value=0.74,
        floor=0.1,
        floor_high=0.2,
        note="Too few trials for importances.",
        space={"model.dropout": "0 to 0.5"},
        importances=(Importance(parameter="model.dropout", value=0.7, low=0.5, high=0.8),),
        confirmed=Confirmed(
            name="A",
            n=5,
            fresh=0.012,
            fresh_low=0.004,
            fresh_high=0.02,
            verdict="better",
            improved=True,
        ),
        limits="at most 2 s a trial",
        recipe="best.toml",
        finalists=(
            Finalist(
                name="A",
                search=0.76,
                fresh=0.75,
                fresh_low=0.74,
                fresh_high=0.76,
                n=5,
                chosen=True,
                test=0.74,
            ),
        ),
    )
    return dataclasses.replace(planted.one_arm(3), tuning=facts)


GOLDEN: dict[str, Callable[[], Material]] = {
    "none finished": none_finished,
    "one trial": one_trial,
    "all failed": planted.all_failed,
    "one arm": planted.one_arm,
    "forty arms": planted.many_arms,
    "names with HTML": planted.html_names,
    "2^5 factorial": planted.factorial,
    "a sweep": planted.sweep,
    "looks stopped early": planted.with_looks,
    "a tune": tuned,
}


@pytest.mark.parametrize("name", GOLDEN)
def test_every_golden_study_renders_on_a_small_page(name: str, tmp_path: Path) -> None:
    written = write_material(tmp_path / "report", GOLDEN[name](), provisional=True)
    text = written.index.read_text(encoding="utf-8")
    assert text.endswith("</html>\n")
    assert len(text.encode()) <= 2_000_000


def test_a_finished_report_has_every_file(written: Written) -> None:
    names = {path.relative_to(written.folder).as_posix() for path in written.folder.rglob("*.*")}
    promised = {
        "index.html",
        "report.md",
        "effects.csv",
        "effects.tex",
        "ablation.tex",
        "methods.tex",
        "refs.bib",
        "trials.csv",
    }
    promised |= {
        "trials.parquet",
        "curves.parquet",
        "arms.csv",
        "images.npz",
        "samples.png",
        "analysis.json",
        "study.toml",
    }
    promised |= {f"figures/forest.{suffix}" for suffix in ("svg", "png", "pdf")}
    assert promised <= names
    assert names == set(written.files)


def test_a_whole_page_is_at_most_two_megabytes(written: Written) -> None:
    assert written.index.stat().st_size <= 2_000_000


def test_analysis_json_has_a_schema_version_and_reads_back(written: Written) -> None:
    content = json.loads((written.folder / "analysis.json").read_bytes())
    assert content["schema_version"] == 1
    assert Analysis.model_validate(content).study == written.analysis.study


def test_analysis_json_has_six_significant_digits(written: Written) -> None:
    content = json.loads((written.folder / "analysis.json").read_bytes())
    estimates = [
        effect["estimate"] for effect in content["effects"] if effect["estimate"] is not None
    ]
    assert estimates
    assert all(value == float(f"{value:.6g}") for value in estimates)


def test_rebuilt_elsewhere_every_file_has_the_same_bytes(tmp_path: Path) -> None:
    written = write_material(tmp_path / "r", planted.one_arm(2))
    again = rebuild(written.folder, into=tmp_path / "copy" / "r")
    for name in written.files:
        assert (again.folder / name).read_bytes() == (written.folder / name).read_bytes(), name


def test_rebuilding_in_place_and_without_torch_changes_no_byte(
    small: Written, tmp_path: Path
) -> None:
    shutil.copytree(small.folder, tmp_path / "html")
    code = (
        "import sys\n"
        "class NoTorch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('torch', 'torchvision'): raise ImportError(name)\n"
        "sys.meta_path.insert(0, NoTorch())\n"
        "from pathlib import Path; from harness.report import rebuild\n"
        "rebuild(Path(sys.argv[1]))"
    )
    subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(tmp_path / "html")], check=True, timeout=120
    )
    assert {name: (tmp_path / "html" / name).read_bytes() for name in small.files} == {
        name: (small.folder / name).read_bytes() for name in small.files
    }


def test_importing_the_report_loads_no_heavy_library() -> None:
    code = "import sys, harness.report; print([m for m in ('torch','matplotlib','seaborn','optuna','pandas') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_trials_in_any_order_give_the_same_report(tmp_path: Path) -> None:
    material = planted.html_names()
    for name, trials in (("a", material.trials), ("b", material.trials[::-1])):
        write_report(
            tmp_path / name / "r",
            material.study,
            trials,
            curves=material.curves,
            outcomes=material.outcomes,
            labels=material.labels_N,
            classes=material.classes,
            samples=material.samples,
            provenance=material.provenance,
            provisional=True,
        )
    for name in (path.name for path in (tmp_path / "a" / "r").iterdir()):
        assert (tmp_path / "a" / "r" / name).read_bytes() == (
            tmp_path / "b" / "r" / name
        ).read_bytes(), name


def test_nothing_is_left_beside_the_folder(written: Written) -> None:
    assert [path.name for path in written.folder.parent.iterdir()] == [written.folder.name]


def test_figures_of_an_earlier_report_are_removed_and_other_files_stay(tmp_path: Path) -> None:
    (tmp_path / "r" / "figures").mkdir(parents=True)
    for name in ("figures/forest.png", "effects.tex"):
        (tmp_path / "r" / name).write_text("of an earlier report")
    (tmp_path / "r" / "notes.txt").write_text("mine")
    write_material(tmp_path / "r", planted.one_arm(2))
    assert not (tmp_path / "r" / "figures" / "forest.png").exists()
    assert not (tmp_path / "r" / "effects.tex").exists()
    assert (tmp_path / "r" / "notes.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReportError, match="could not write"):
        write_material(tmp_path / "file" / "r", planted.one_arm(2), provisional=True)


def test_a_provisional_report_says_that_it_is_incomplete(tmp_path: Path) -> None:
    written = write_material(tmp_path / "r", one_trial(), provisional=True)
    assert "Incomplete: 1 seed of 8 is complete" in written.index.read_text(
        encoding="utf-8"
    ).replace("\N{NO-BREAK SPACE}", " ")


def test_a_saved_benchmark_is_shown(tmp_path: Path) -> None:
    result = {
        "name": "augment/ours",
        "images_per_second": 12000.0,
        "low": 11000.0,
        "high": 12500.0,
        "n": 5,
        "ratio": 6.5,
    }
    bench = {
        "schema": 1,
        "environment": {},
        "results": [result | {"reference": "augment/pil", "share_of_ceiling": None}],
    }
    material = dataclasses.replace(planted.one_arm(2), bench=bench)
    assert "augment/ours" in write_material(tmp_path / "r", material).index.read_text(
        encoding="utf-8"
    )


def test_a_search_answers_with_its_confirmation_wherever_it_is_written(tmp_path: Path) -> None:
    assert write_material(tmp_path / "report", tuned(), provisional=True).answer.startswith(
        "A beats the reference on fresh seeds: +1.20 pp"
    )


def test_the_ticks_of_a_logarithmic_parameter_need_no_tex(tmp_path: Path) -> None:
    material = tuned()
    assert material.tuning is not None
    history = tuple(
        one.model_copy(
            update={
                "state": "complete",
                "params": {"optimizer.weight_decay": 10.0 ** (one.number % 5 - 6)},
            }
        )
        for one in material.tuning.history
    )
    facts = material.tuning.model_copy(update={"history": history})
    page = write_material(
        tmp_path / "report", dataclasses.replace(material, tuning=facts), provisional=True
    ).index
    assert "mathdefault" not in page.read_text(encoding="utf-8")


def test_the_report_of_a_search_points_to_its_recipe_and_to_no_run_that_would_confirm_it_again(
    tmp_path: Path,
) -> None:
    plain = planted.augmentations(images=False)
    # One arm gains 20 pp, so that there is something to recommend.
    better = plain.trials[-1].recipe_id
    lifted = [
        t.model_copy(
            update={
                "metrics": {
                    **t.metrics,
                    "accuracy": t.metrics["accuracy"] + 0.2 * (t.recipe_id == better),
                }
            }
        )
        for t in plain.trials
    ]
    whole = dataclasses.replace(plain, trials=tuple(lifted))
    assert "--recommended" in write_material(
        tmp_path / "ablation", whole, provisional=True
    ).index.read_text(encoding="utf-8")
    searched = dataclasses.replace(whole, tuning=tuned().tuning)
    page = write_material(tmp_path / "search", searched, provisional=True).index.read_text(
        encoding="utf-8"
    )
    assert "--recommended" not in page
    assert f"--base reports/{whole.study.folder}/best.toml" in page
