"""What a report says about its own methods: glossary, the paragraph for a paper, and the sources of both."""

from __future__ import annotations

from dataclasses import dataclass

from harness.analysis import Analysis
from harness.analysis.tuning_facts import TuningFacts
from harness.report.lookup import effects_of, has_metric, leading, metric_of, on_held_out
from harness.report.words import (
    confidence,
    images,
    listed,
    margin,
    named,
    paired,
    plain_confidence,
    unit_of_run,
)
from harness.text import plural


@dataclass(frozen=True, slots=True)
class Publication:
    """A published source.

    Attributes:
        key: for citing.
        kind: article, inproceedings, book or misc, as BibTeX has them.
        fields: BibTeX fields, in plain characters.
    """

    key: str
    kind: str
    author: str
    title: str
    year: int
    where: str  # journal, proceedings or publisher
    more: str = ""  # volume, pages, or arXiv number, as text

    @property
    def text(self) -> str:
        """The source as a line of a reference list."""
        more = f", {self.more}" if self.more else ""
        return f"{self.author} ({self.year}). {self.title}. {self.where}{more}."


SOURCES = {
    source.key: source
    for source in (
        Publication(
            "holm1979",
            "article",
            "Holm, S.",
            "A simple sequentially rejective multiple test procedure",
            1979,
            "Scandinavian Journal of Statistics",
            "6, 65-70",
        ),
        Publication(
            "schuirmann1987",
            "article",
            "Schuirmann, D. J.",
            "A comparison of the two one-sided tests procedure and the "
            "power approach for assessing the equivalence of average bioavailability",
            1987,
            "Journal of Pharmacokinetics and Biopharmaceutics",
            "15, 657-680",
        ),
        Publication(
            "bouthillier2021",
            "inproceedings",
            "Bouthillier, X. and others",
            "Accounting for variance in machine learning benchmarks",
            2021,
            "Proceedings of Machine Learning and Systems",
            "3, 747-769",
        ),
        Publication(
            "jordan2023",
            "misc",
            "Jordan, K.",
            "Calibrated chaos: variance between runs of neural network training is "
            "harmless and inevitable",
            2023,
            "arXiv",
            "2304.01910",
        ),
        Publication(
            "jordan2024",
            "inproceedings",
            "Jordan, K.",
            "On the variance of neural network training with respect to test "
            "sets and distributions",
            2024,
            "International Conference on Learning Representations",
            "arXiv 2304.01910",
        ),
        Publication(
            "smith2019",
            "inproceedings",
            "Smith, L. N. and Topin, N.",
            "Super-convergence: very fast training of neural networks using large learning rates",
            2019,
            "Artificial Intelligence and Machine Learning for Multi-Domain Operations Applications",
            "SPIE 11006; arXiv 1708.07120",
        ),
        Publication(
            "pocock1977",
            "article",
            "Pocock, S. J.",
            "Group sequential methods in the design and analysis of clinical trials",
            1977,
            "Biometrika",
            "64, 191-199",
        ),
        Publication(
            "wangtsiatis1987",
            "article",
            "Wang, S. K. and Tsiatis, A. A.",
            "Approximately optimal one-parameter boundaries for group sequential trials",
            1987,
            "Biometrics",
            "43, 193-199",
        ),
        Publication(
            "jennison1989",
            "article",
            "Jennison, C. and Turnbull, B. W.",
            "Interim analyses: the repeated confidence interval approach",
            1989,
            "Journal of the Royal Statistical Society B",
            "51, 305-361",
        ),
        Publication(
            "shapley1953",
            "inproceedings",
            "Shapley, L. S.",
            "A value for n-person games",
            1953,
            "Contributions to the Theory of Games II",
            "307-317",
        ),
        Publication(
            "box1961",
            "article",
            "Box, G. E. P. and Hunter, J. S.",
            "The 2^(k-p) fractional factorial designs",
            1961,
            "Technometrics",
            "3, 311-351",
        ),
        Publication(
            "guo2017",
            "inproceedings",
            "Guo, C. and Pleiss, G. and Sun, Y. and Weinberger, K. Q.",
            "On calibration of modern neural networks",
            2017,
            "International Conference on Machine Learning",
            "1321-1330",
        ),
        Publication(
            "efron1987",
            "article",
            "Efron, B.",
            "Better bootstrap confidence intervals",
            1987,
            "Journal of the American Statistical Association",
            "82, 171-185",
        ),
        Publication(
            "akiba2019",
            "inproceedings",
            "Akiba, T. and Sano, S. and Yanase, T. and Ohta, T. and Koyama, M.",
            "Optuna: a next-generation hyperparameter optimization framework",
            2019,
            "ACM SIGKDD Conference on Knowledge Discovery and Data Mining",
            "2623-2631",
        ),
    )
}


Sentence = tuple[str, str]
"""A sentence of the methods and the key of its source, empty without one."""


def cited(analysis: Analysis, tuning: TuningFacts | None = None) -> list[Publication]:
    """Return the sources that the methods cite, by key."""
    keys = {key for _, key in paragraph(analysis, tuning) if key}
    return [SOURCES[key] for key in sorted(keys)]


def paragraph(analysis: Analysis, tuning: TuningFacts | None = None) -> list[Sentence]:
    """Return the methods as sentences with their sources, generated from the plan; only what this study did."""
    study = analysis.study
    if study.table:
        sentences = _of_table(analysis)
    else:
        sentences = [*_design(analysis, tuning), *_training(analysis), _outcome(analysis)]
    sentences += _rules(analysis)
    if study.base_recipe.schedule.name == "one-cycle" and not study.foreign:
        sentences.append(("The learning rate follows a one-cycle schedule.", "smith2019"))
    if not study.table:
        sentences.append(("Runs were queued and recorded with Optuna.", "akiba2019"))
    return sentences


def _of_table(analysis: Analysis) -> list[Sentence]:
    study, done = analysis.study, len(analysis.seeds)
    compared = f"were compared on {plural(done, 'seed')}, differences paired by seed"
    if study.pairing != "seed":
        compared = "were compared as groups of runs without pairs (Welch's t)"
    elif study.datasets:
        compared += f", each a mean over {len(study.datasets)} data sets, which are taken as fixed"
    text = (
        f"From a table of finished runs, {plural(len(analysis.arms), 'arm')} {compared}; "
        f"the outcome is {metric_of(analysis).label}."
    )
    return [(text, "bouthillier2021")]


def _design(analysis: Analysis, tuning: TuningFacts | None) -> list[Sentence]:
    """What was compared with what, in the words of the design."""
    study, arms = analysis.study, len(analysis.arms)
    if tuning is not None:
        return _search(analysis, tuning)
    what = "setting of a training script" if study.scripted else "training recipe"
    if arms == 1:
        return [(f"One {what} was run, and nothing is compared.", "")]
    base = study.baseline
    designs = {
        "leave-one-out": "each component was taken out of the full recipe, one at a time",
        "add-one-in": "each component was added, one at a time, to a recipe without any",
        "both": "each component was taken out of the full recipe and, separately, added to a recipe without any",
        "factorial": f"all combinations of {plural(len(study.factors), 'component')} were run",
        "fraction": f"a fraction of the combinations of {plural(len(study.factors), 'component')} was run",
        "sweep": f"each level of {listed([factor.name for factor in study.factors])} was compared with {base}",
        "arms": f"variants written by hand were compared with {base}",
    }
    many = what.replace("setting", "settings") if study.scripted else f"{what}s"
    text = f"We compared {arms} {many}: {designs[study.design]}"
    if study.design not in ("sweep", "arms") and study.arms:
        text += f"; {plural(len(study.arms), 'variant')} written by hand came on top"
    return [(f"{text}.", "box1961" if study.design == "fraction" else "")]


def _search(analysis: Analysis, tuning: TuningFacts) -> list[Sentence]:
    """How the recipes of a search were found, and what was run again."""
    tried = plural(len(tuning.history), "trial")
    sampler = f" with the sampler {tuning.sampler}" if tuning.sampler else ""
    pruner = "" if tuning.pruner in ("", "none") else f" and the pruner {tuning.pruner}"
    sentences = [
        (
            f"A search of {tried}{sampler}{pruner}, one seed each, scored recipes on validation.",
            "akiba2019",
        )
    ]
    # the reference is the first arm of a confirmation
    again = len(analysis.arms) - 1 - len(tuning.at_size)
    if again > 0:
        best = f"its {again} best recipes" if again > 1 else "its best recipe"
        text = f"The reference and {best} were trained again on seeds that the search had not used"
        sentences.append(
            (
                f"{text}; the best of them on validation was then compared with the reference on the test set.",
                "",
            )
        )
    trained = [arm.name for arm in analysis.arms if arm.name in tuning.at_size and arm.completed]
    if trained:
        text = "To tell size from recipe, the reference was also trained at the finalists' sizes"
        sentences.append((f"{text} ({listed(trained)}), on the same seeds.", ""))
    return sentences


def _training(analysis: Analysis) -> list[Sentence]:
    """Epochs and seeds, and what a seed keeps the same; of one arm nothing is paired."""
    study, done = analysis.study, len(analysis.seeds)
    seeds = plural(done, "random seed")
    seeds += f" of {study.seeds} planned" if done != study.seeds else ""
    alone = len(analysis.arms) == 1
    if study.scripted:
        text = f"The script was run with {seeds}" + ("" if alone else " in every setting")
        return [
            (
                f"{text}{'' if alone else '; every arm gets the same seeds, and differences are paired by seed'}.",
                "",
            )
        ]
    epochs = plural(study.base_recipe.train.epochs, "epoch")
    if alone:
        return [(f"It was trained for {epochs} with {seeds}.", "")]
    # two nets of different shapes have no weights in common to begin with
    sizes = {arm.params_m for arm in analysis.arms if arm.params_m is not None}
    start = "initialisation, order of images" if len(sizes) < 2 else "order of images"
    text = (
        f"Every recipe was trained for {epochs} with {seeds}; a seed gives every recipe the same {start} "
        "and random draws, so that differences are paired by seed."
    )
    return [(text, "bouthillier2021")]


def _outcome(analysis: Analysis) -> Sentence:
    study, label = analysis.study, metric_of(analysis).label
    if study.scripted:
        return (f"The outcome is {label}, as the script reports it.", "")
    scored = on_held_out(analysis, "accuracy")
    return (
        f"The outcome is {label} after the last epoch; the overfitting gap is clean train accuracy minus {scored}.",
        "",
    )


def _rules(analysis: Analysis) -> list[Sentence]:
    """How differences are estimated and judged: only of a study that has any."""
    study = analysis.study
    if len(analysis.arms) == 1:
        return [(f"Means have {plain_confidence(study)} intervals over seeds.", "")]
    tested = [effect for effect in analysis.effects if effect.p is not None]
    kind = plain_confidence(study) if study.pairing == "seed" else confidence(study)
    text = f"We report mean {paired(study)} differences with {kind} intervals over {unit_of_run(study)}s"
    if not tested:
        return [(f"{text}.", "")]
    # a correction is named where it changed a p-value, not where there was nothing to correct
    rules = [(f"{text}, and judge them at level {study.alpha:g}.", "")]
    if any(effect.p_holm is not None and effect.p_holm != effect.p for effect in tested):
        rules.append(
            ("Holm's correction holds that level over each family of comparisons.", "holm1979")
        )
    if any(effect.p_equivalence is not None for effect in tested):
        unit = "pp" if metric_of(analysis).unit == "pp" else ""
        width = f"{analysis.margin:g} {unit}".strip()
        rules.append(
            (
                f"Differences within {width} of zero are tested for equivalence by two one-sided tests.",
                "schuirmann1987",
            )
        )
    return [*rules, *_more_rules(analysis)]


def _more_rules(analysis: Analysis) -> list[Sentence]:
    """Rules that only some studies need: looks, shares of components, intervals for other images."""
    study, more = analysis.study, []
    if len(study.looks) > 1:
        looks = listed([str(look) for look in study.looks])
        pocock = study.boundary == "pocock"
        rule = "Pocock's rule" if pocock else "the rule of Wang and Tsiatis"
        source = "pocock1977" if pocock else "wangtsiatis1987"
        more += [
            (f"Seeds were added at declared looks ({looks} seeds) under {rule}.", source),
            ("Intervals are repeated ones, which hold at every look.", "jennison1989"),
        ]
    if effects_of(analysis, "shapley"):
        text = "Shapley values average a component's contribution over all orders of adding it."
        more.append((text, "shapley1953"))
    if any(effect.sd_images is not None for effect in analysis.effects):
        text = "The sd between seeds is split into what is real and what finitely many images add."
        more.append((text, "jordan2024"))
    if any(len(effect.differences) >= 3 for effect in leading(analysis)):
        text = "Bootstrap intervals (BCa) of the same differences are given for comparison."
        more.append((text, "efron1987"))
    if any(effect.metric == "ece" for effect in analysis.effects):
        more.append(
            ("Calibration error is the expected one over equal bins of confidence.", "guo2017")
        )
    return more


# The glossary


def glossary(analysis: Analysis, tuning: TuningFacts | None = None) -> tuple[tuple[str, str], ...]:
    """Return the terms that this report uses and what they mean here."""
    # a term that the page does not use would send its reader looking for it
    terms = [*_basic_terms(analysis, tuning)]
    if len(analysis.arms) > 1:
        terms += _verdict_terms(analysis)
    terms += _gap_terms(analysis)
    if any(effect.image_low is not None for effect in analysis.effects):
        text = "the interval that also allows for other images of the same kind (two-way, seeds and images)"
        terms.append(("new images too", text))
    if any(arm.onset_epoch is not None or arm.onset_none for arm in analysis.arms):
        text = f"the epoch after which {on_held_out(analysis, 'loss')} later rises by more than 2 % (smoothed)"
        terms.append(("onset", text))
    return (*terms, *_image_terms(analysis, tuning))


def _basic_terms(analysis: Analysis, tuning: TuningFacts | None) -> list[tuple[str, str]]:
    study = analysis.study
    kind = "recipe" if not study.scripted else "settings"
    terms = [
        (
            "arm",
            f"one variant of the {kind}"
            if not study.table
            else "one variant, by its name in the table",
        )
    ]
    if len(analysis.arms) > 1:
        terms.append(
            ("baseline", f"the arm that the others depart from, here {named(study.baseline)}")
        )
    if study.table:
        if study.pairing == "seed":
            terms.append(("seed", "the number that pairs rows: one row of every arm for each"))
        terms += [
            ("trial", "one row of the table: one run"),
        ]
    elif study.scripted:
        terms += [
            (
                "seed",
                "the number that a script gets for its random draws; every arm gets the same ones",
            ),
            ("trial", "one run of the script: one arm's settings at one seed"),
        ]
    else:
        terms += [
            (
                "seed",
                "the number that fixes a run's random draws; the same seed gives every arm the same ones",
            ),
            ("trial", "one training run: one recipe at one seed"),
        ]
    if tuning is not None:
        terms += [
            (
                "search score",
                "validation accuracy of one trial of the search, at one seed; the best of many is optimistic",
            ),
            (
                "trial 7 (as an arm)",
                "the recipe that trial number 7 of the search tried, run again on fresh seeds",
            ),
            ("fresh seeds", "seeds that the search never used"),
            ("pruned", "stopped early because others were better by then; it has no score"),
        ]
    level, unit = f"{confidence(study)} interval", unit_of_run(study)
    terms.append(
        (
            level,
            f"the range of true values that the {unit}s are compatible with, {images(analysis)}",
        )
    )
    return terms


def _verdict_terms(analysis: Analysis) -> list[tuple[str, str]]:
    study = analysis.study
    when = "named when the table was analysed" if study.table else "declared before the first run"
    difference = (
        "an arm's score minus the score, at the same seed, of the arm it is compared with; averaged over seeds"
        if study.pairing == "seed"
        else "the mean score of an arm's runs minus that of the arm it is compared with"
    )
    unit = unit_of_run(study)
    terms = [
        (f"{paired(study)} difference", difference),
        ("margin", f"differences within {margin(analysis)}, {when} not to be worth acting on"),
        (
            "▲ better, ▼ worse",
            "shown to differ from zero, after correction for the number of comparisons (Holm)",
        ),
        (
            "■ equivalent",
            "shown to lie inside the margin (two one-sided tests); this is not the same as unresolved",
        ),
        (
            "○ unresolved",
            f"neither; more {unit}s may settle it, and a small effect is still possible",
        ),
        ("× not judged", f"too few {unit}s, or unstable: a {unit} failed or diverged"),
    ]
    if any("exploratory" in effect.note for effect in analysis.effects):
        terms.append(
            (
                "exploratory",
                f"a verdict from 3 or 4 {unit}s, or from rules changed after the first run",
            )
        )
    return terms


def _gap_terms(analysis: Analysis) -> list[tuple[str, str]]:
    study = analysis.study
    meaning = f"clean train accuracy (no augmentation, eval mode) minus {on_held_out(analysis, 'accuracy')}, last epoch"
    if study.table:
        meaning = "the score on training images minus the score that decides, as the table has them"
    elif study.scripted:
        meaning = "train accuracy minus accuracy, as the script reports them"
    terms = [("overfitting gap", meaning)] if has_metric(analysis, analysis.gap) else []
    # the four words exclude each other, and most pages have two of them
    words = {arm.word for arm in analysis.arms}
    if "regularises" in words:
        text = "the gap narrows and accuracy is better or equivalent; gaps are a family of their own (Holm)"
        terms.append(("regularises", text))
    if "underfits" in words:
        terms.append(("underfits", "the gap narrows and accuracy is worse"))
    if words & {"helps", "hurts"}:
        terms.append(("helps, hurts", "the gap widens and accuracy is better, or worse"))
    return terms


def _image_terms(analysis: Analysis, tuning: TuningFacts | None) -> list[tuple[str, str]]:
    """Which images decide and which are only read; of a table and of a script nobody here knows."""
    if analysis.study.foreign:
        return []
    text = "validation images decide everything; test images are read once a trial, after its last epoch, and only shown"
    if tuning is not None:
        text = (
            "validation images decide everything; test images are read only for the chosen recipe, the reference and the "
            "reference at its size, after the choice"
        )
    if analysis.study.without_validation:
        text = "no validation images were kept: test images took their place after every epoch, and so nothing is judged"
    return [("validation, test", text)]
