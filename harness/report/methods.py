"""What a report says about its own methods: glossary, the paragraph for a paper, and the sources of both."""

from __future__ import annotations

from dataclasses import dataclass

from harness.analysis import Analysis
from harness.report.lookup import effects_of, metric_of, of_test_set, on_held_out
from harness.report.words import listed, margin, paired
from harness.text import plural


@dataclass(frozen=True, slots=True)
class Source:
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
        Source(
            "holm1979",
            "article",
            "Holm, S.",
            "A simple sequentially rejective multiple test procedure",
            1979,
            "Scandinavian Journal of Statistics",
            "6, 65-70",
        ),
        Source(
            "schuirmann1987",
            "article",
            "Schuirmann, D. J.",
            "A comparison of the two one-sided tests procedure and the "
            "power approach for assessing the equivalence of average bioavailability",
            1987,
            "Journal of Pharmacokinetics and Biopharmaceutics",
            "15, 657-680",
        ),
        Source(
            "bouthillier2021",
            "inproceedings",
            "Bouthillier, X. and others",
            "Accounting for variance in machine learning benchmarks",
            2021,
            "Proceedings of Machine Learning and Systems",
            "3, 747-769",
        ),
        Source(
            "jordan2023",
            "misc",
            "Jordan, K.",
            "Calibrated chaos: variance between runs of neural network training is "
            "harmless and inevitable",
            2023,
            "arXiv",
            "2304.01910",
        ),
        Source(
            "jordan2024",
            "inproceedings",
            "Jordan, K.",
            "On the variance of neural network training with respect to test "
            "sets and distributions",
            2024,
            "International Conference on Learning Representations",
            "arXiv 2304.01910",
        ),
        Source(
            "smith2019",
            "inproceedings",
            "Smith, L. N. and Topin, N.",
            "Super-convergence: very fast training of neural networks using large learning rates",
            2019,
            "Artificial Intelligence and Machine Learning for Multi-Domain Operations Applications",
            "SPIE 11006; arXiv 1708.07120",
        ),
        Source(
            "pocock1977",
            "article",
            "Pocock, S. J.",
            "Group sequential methods in the design and analysis of clinical trials",
            1977,
            "Biometrika",
            "64, 191-199",
        ),
        Source(
            "wangtsiatis1987",
            "article",
            "Wang, S. K. and Tsiatis, A. A.",
            "Approximately optimal one-parameter boundaries for group sequential trials",
            1987,
            "Biometrics",
            "43, 193-199",
        ),
        Source(
            "jennison1989",
            "article",
            "Jennison, C. and Turnbull, B. W.",
            "Interim analyses: the repeated confidence interval approach",
            1989,
            "Journal of the Royal Statistical Society B",
            "51, 305-361",
        ),
        Source(
            "shapley1953",
            "inproceedings",
            "Shapley, L. S.",
            "A value for n-person games",
            1953,
            "Contributions to the Theory of Games II",
            "307-317",
        ),
        Source(
            "box1961",
            "article",
            "Box, G. E. P. and Hunter, J. S.",
            "The 2^(k-p) fractional factorial designs",
            1961,
            "Technometrics",
            "3, 311-351",
        ),
        Source(
            "guo2017",
            "inproceedings",
            "Guo, C. and Pleiss, G. and Sun, Y. and Weinberger, K. Q.",
            "On calibration of modern neural networks",
            2017,
            "International Conference on Machine Learning",
            "1321-1330",
        ),
        Source(
            "efron1987",
            "article",
            "Efron, B.",
            "Better bootstrap confidence intervals",
            1987,
            "Journal of the American Statistical Association",
            "82, 171-185",
        ),
        Source(
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


def cited(analysis: Analysis, *, tuned: bool = False) -> list[Source]:
    """Return the sources that a study's methods rest on, by key."""
    keys = {"holm1979", "schuirmann1987", "bouthillier2021", "jordan2023", "efron1987"}
    study = analysis.study
    if not study.table:
        keys.add("akiba2019")
    if len(study.looks) > 1:
        keys |= {"pocock1977" if study.boundary == "pocock" else "wangtsiatis1987", "jennison1989"}
    if effects_of(analysis, "shapley"):
        keys.add("shapley1953")
    if study.design == "fraction":
        keys.add("box1961")
    if any(effect.sd_real is not None for effect in analysis.effects):
        keys.add("jordan2024")
    if any(effect.metric == "ece" for effect in analysis.effects):
        keys.add("guo2017")
    if study.base_recipe.schedule.name == "one-cycle" and not study.foreign:
        keys.add("smith2019")
    if tuned:
        keys.add("akiba2019")
    return [SOURCES[key] for key in sorted(keys)]


def paragraph(analysis: Analysis) -> list[tuple[str, str]]:
    """Return the methods as (sentence, key of its source or nothing), generated from the plan."""
    study, metric = analysis.study, metric_of(analysis)
    recipe = study.base_recipe
    arms = len(analysis.arms)
    designs = {
        "leave-one-out": "each component was taken out of the full recipe, one at a time",
        "add-one-in": "each component was added, one at a time, to a recipe without any",
        "both": "each component was taken out of the full recipe and, separately, added to a recipe without any",
        "factorial": f"all combinations of {plural(len(study.factors), 'component')} were trained",
        "fraction": f"a fraction of the combinations of {plural(len(study.factors), 'component')} was trained",
        "sweep": f"each level of {listed([f.name for f in study.factors])} was compared with the baseline",
        "arms": "variants written by hand were compared with the baseline",
    }
    done = len(analysis.seeds)
    within = f"{study.margin_pp:g} pp" if metric.unit == "pp" else f"{study.margin_pp / 100:g}"
    judged = (
        f"We report mean {paired(study)} differences with {100 * (1 - study.alpha):g} % t intervals over seeds, and judge them at level "
        f"{study.alpha:g} with Holm's correction over each family of comparisons"
    )
    scored = on_held_out(analysis, "accuracy")
    outcome = f"The outcome is {metric.label} after the last epoch; the overfitting gap is train minus {scored}."
    rules = [
        (f"{judged}.", "holm1979"),
        (
            f"Differences within {within} of zero are tested for equivalence by two one-sided tests.",
            "schuirmann1987",
        ),
    ]
    seeds = plural(done, "random seed") + (
        f" of {study.seeds} planned" if done != study.seeds else ""
    )
    trained = (
        f"Every recipe was trained for {plural(recipe.train.epochs, 'epoch')} with {seeds}; a seed gives every recipe the same "
        "initialisation, order of images and random draws"
    )
    if study.scripted:
        trained = f"A training script was run with {seeds} in every setting; a seed is handed to the script of every arm alike"
        outcome = f"The outcome is {metric.label}, as the script reports it."
    if study.table:
        compared = f"{plural(arms, 'arm')} were compared on {plural(done, 'seed')}, differences paired by seed"
        if study.pairing != "seed":
            compared = (
                f"{plural(arms, 'arm')} were compared as groups of runs without pairs (Welch's t)"
            )
        elif len(set(study.datasets)) > 1:
            sets = plural(len(set(study.datasets)), "data set")
            compared = (
                f"{plural(arms, 'arm')} were compared on {done} pairs of a seed and one of {sets}"
            )
        return [
            (
                f"From a table of finished runs, {compared}; the outcome is {metric.label}.",
                "bouthillier2021",
            ),
            *rules,
        ]
    told = [
        (f"We compared {plural(arms, 'training recipe')}: {designs[study.design]}.", ""),
        (f"{trained}, so that differences are paired by seed.", "bouthillier2021"),
        (outcome, ""),
        *rules,
    ]
    if len(study.looks) > 1:
        looks = listed([str(look) for look in study.looks])
        pocock = study.boundary == "pocock"
        rule, source = (
            ("Pocock's rule", "pocock1977")
            if pocock
            else ("the rule of Wang and Tsiatis", "wangtsiatis1987")
        )
        told.append(
            (
                f"Seeds were added at declared looks ({looks} seeds) under {rule}, with repeated intervals.",
                source,
            )
        )
    if effects_of(analysis, "shapley"):
        told.append(
            (
                "Shapley values average a component's contribution over all orders of adding it.",
                "shapley1953",
            )
        )
    if recipe.schedule.name == "one-cycle" and not study.foreign:
        told.append(("The learning rate follows a one-cycle schedule.", "smith2019"))
    told.append(("Runs were queued and recorded with Optuna.", "akiba2019"))
    return [(sentence if sentence.endswith(".") else sentence + ".", key) for sentence, key in told]


def glossary(analysis: Analysis) -> tuple[tuple[str, str], ...]:
    """Return the terms of a report and what they mean."""
    study = analysis.study
    terms = [
        ("arm", "one variant of the recipe; the baseline is the arm that the others depart from"),
        (
            "seed",
            "the number that fixes a run's random draws; the same seed gives every arm the same ones",
        ),
        ("trial", "one training run: one recipe at one seed"),
        (
            "paired difference",
            "an arm's score minus its reference's score at the same seed, averaged over seeds",
        ),
        (
            "95 % t interval",
            "the range of true differences that the seeds are compatible with, for new seeds on these images",
        ),
        (
            "margin",
            f"differences within ±{study.margin_pp:g} pp, declared before the first run not to be worth acting on",
        ),
        (
            "▲ better, ▼ worse",
            "told apart from zero after correction for the number of comparisons (Holm)",
        ),
        (
            "■ equivalent",
            "shown to lie inside the margin (two one-sided tests); this is not the same as unresolved",
        ),
        ("○ unresolved", "neither; more seeds may tell, and a small effect is still possible"),
        ("× not judged", "too few seeds, or unstable: a seed failed or diverged"),
        ("exploratory", "a verdict from 3 or 4 seeds, or from rules changed after the first run"),
        (
            "overfitting gap",
            "clean train accuracy (no augmentation, eval mode) minus validation accuracy, last epoch",
        ),
        (
            "regularises",
            "the gap narrows and accuracy is better or equivalent; gaps are tested as a family of their own (Holm)",
        ),
        ("underfits", "the gap narrows and accuracy is worse"),
        (
            "helps, hurts",
            "the gap widens and accuracy is better, or worse; without a word, one of the two is unresolved",
        ),
        (
            "new images too",
            "the interval that also allows for other images of the same kind (two-way, seeds and images)",
        ),
        ("onset", "the epoch after which validation loss rises for good"),
        (
            "validation, test",
            "validation images decide everything; test images are read once a trial, after its last epoch, and only shown",
        ),
    ]
    if study.table:
        told = {
            "paired difference": f"an arm's score minus its reference's {'at the same seed' if study.pairing == 'seed' else '(here unpaired: of the means of two groups)'}",
            "seed": "the number that pairs rows: one row of every arm for each",
            "trial": "one row of the table: one run",
            "margin": f"differences within {margin(analysis)}, named when the table was analysed, not worth acting on",
            "overfitting gap": "the score on training images minus the score that decides, as the table has them",
        }
        return tuple(
            (term, told.get(term, text))
            for term, text in terms
            if term not in ("onset", "validation, test")
        )
    if study.scripted:
        told = {
            "seed": "the number that a script is given for its random draws; the same one is given to every arm",
            "trial": "one run of the script: one arm's settings at one seed",
            "overfitting gap": "train accuracy minus accuracy, as the script reports them",
        }
        return tuple(
            (term, told.get(term, text)) for term, text in terms if term != "validation, test"
        )
    if study.without_validation:
        told = {
            "overfitting gap": f"clean train accuracy (no augmentation, eval mode) minus {of_test_set('validation accuracy')}, "
            "last epoch",
            "onset": f"the epoch after which {of_test_set('validation loss')} rises for good",
            "validation, test": "no validation images were kept: test images took their place after every epoch, and so "
            "nothing is judged",
        }
        return tuple((term, told.get(term, text)) for term, text in terms)
    return tuple(terms)
