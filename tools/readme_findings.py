"""Write the README's results from the committed reports, so that its numbers are theirs.

python tools/readme_findings.py         # rewrite the part of README.md between the markers

Every difference comes with its interval and its number of seeds, and every judgement is the
report's verdict: what is unresolved is called so. Each line is from the largest size at which the
study has verdicts. A report that is not there has no line.
"""

from __future__ import annotations

from pathlib import Path

from harness.analysis import Analysis, Effect
from harness.analysis.verdicts import FIRM_PAIRS
from harness.report import read_analysis
from harness.report.answers import at_size, level, over
from harness.report.folder import read_tuning
from harness.report.lookup import arm_of, effect_on, pixels
from harness.report.words import gap_word, margin

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / "reports"
BEGIN, END = "<!-- findings: begin -->\n", "<!-- findings: end -->"
LEVELS = ("train_accuracy", "accuracy", "gap")
CONSTANT = "a constant rate as high as its peak"
CLAIM = {
    "better": "raises accuracy",
    "worse": "lowers accuracy",
    "equivalent": "changes accuracy by less than the margin",
    "unresolved": "is unresolved",
    "": "is not judged",
}


def findings(reports: Path = REPORTS) -> str:
    """Return the lines in Markdown, from the reports that are there."""
    made = (
        (_reproduction, "reference"),
        (_augmentations, "augmentations"),
        (_claims, "claims"),
        (_search, "tune"),
    )
    lines = [line for write, study in made for line in write(_largest(reports, study))]
    return "\n".join(lines or ["No report has been committed yet."]) + "\n"


def _largest(reports: Path, study: str) -> Path:
    """Return the folder of the largest size at which a study has verdicts, or seeds where it judges nothing."""
    for size in ("full", "medium"):
        analysis = _read(reports / f"{study}-{size}")
        if analysis is None or not analysis.seeds:
            continue
        if len(analysis.arms) == 1 or any(effect.verdict for effect in analysis.effects):
            return reports / f"{study}-{size}"
    return reports / f"{study}-small"


def _seeds(analysis: Analysis, n: str = "") -> str:
    """Return ``n = 8 seeds``, of how many while some are still to come, and whether verdicts on so few are exploratory."""
    done, planned = len(analysis.seeds), analysis.seeds_planned
    text = f"n = {n or done} seeds" + (f" so far of {planned}" if done < planned else "")
    return f"{text}, exploratory" if done < FIRM_PAIRS and len(analysis.arms) > 1 else text


def _at(analysis: Analysis) -> str:
    """Return what a line was measured on, with a link to its report."""
    recipe, folder = analysis.study.base_recipe, analysis.study.folder
    return f"[{recipe.data.train:,} images, {pixels(analysis)} pixels](reports/{folder}/report.md)"


def _reproduction(folder: Path) -> list[str]:
    """Return what the recipe reaches when it is trained as the write-up trained its own."""
    analysis = _read(folder)
    if analysis is None or not analysis.seeds:
        return []
    arm = analysis.arms[0]
    train, test, gap = (level(analysis, arm.name, m, kind=False) for m in LEVELS)
    epochs = analysis.study.base_recipe.train.epochs
    turns = f"test loss does not turn up in {epochs} epochs"
    if arm.onset_epoch is not None:
        turns = f"test loss turns up after epoch {arm.onset_epoch:g} (median of {arm.onsets} seeds)"
    text = (
        f"- **The write-up's overfitting** (98 % training, 92 % test accuracy): ours reaches {train} and {test}, "
        f"a gap of {gap}; {turns} (95 % t, {_seeds(analysis)}; {_at(analysis)})."
    )
    return [text]


def _augmentations(folder: Path) -> list[str]:
    """Return what leaving out every augmentation does to accuracy and gap, and which of them alone closes it most."""
    analysis = _read(folder)
    effects = {} if analysis is None else {e.metric: e for e in analysis.effects if _bare(e)}
    if analysis is None or not effects:
        return []
    accuracy, gap = effects[analysis.study.metric], effects[analysis.gap]
    cost = f"accuracy is {accuracy.verdict or 'not judged'}, {_pp(accuracy)}"
    moves = gap_word(gap, analysis) or "not shown to change"
    text = f"- **Augmentations**: without any of them {cost}, and the overfitting gap is {moves}, {_pp(gap)}."
    alone = [
        (other, effect)
        for effect in analysis.effects
        if (effect.kind, effect.reference, effect.metric) == ("arm", "none", analysis.gap)
        and gap_word(effect, analysis) == "narrower"
        and (other := effect_on(analysis, effect, analysis.study.metric)) is not None
    ]
    if alone:
        other, best = min(alone, key=lambda pair: pair[1].estimate or 0.0)
        name = best.term.removeprefix("only-")
        text += f" Added alone, {name} narrows it most, {_pp(best)}; accuracy is then {other.verdict or 'not judged'}, {_pp(other)}."
    return [f"{text} (95 % t, {_seeds(analysis)}; {_at(analysis)})"]


def _bare(effect: Effect) -> bool:
    return effect.kind == "arm" and effect.term == "none" and effect.reference == "reference"


def _claims(folder: Path) -> list[str]:
    """Return whether each part that the write-up credits helps, over all settings of the others."""
    analysis = _read(folder)
    if analysis is None:
        return []
    mains = [e for e in analysis.effects if e.kind == "main" and e.metric == analysis.study.metric]
    mains.sort(key=lambda effect: -(effect.estimate or 0.0))
    parts = []
    for effect in mains:
        gap = gap_word(effect_on(analysis, effect, analysis.gap), analysis)
        of_gap = f", and makes the gap {gap}" if gap else ""
        # what it is switched off for makes most of the difference
        off = f", against {CONSTANT}," if effect.term == "one-cycle" else ""
        parts.append(f"{effect.term}{off} {CLAIM[effect.verdict]}, {_pp(effect)}{of_gap}")
    seeds = ", ".join(str(n) for n in sorted({e.n for e in mains}))
    return [
        f"- **Parts that the write-up credits**: {'; '.join(parts)} (95 % t, {_seeds(analysis, seeds)}, margin {margin(analysis)}; {_at(analysis)})."
    ]


def _search(folder: Path) -> list[str]:
    """Return what the best recipe of the search gains on the test set."""
    analysis, tuning = _read(folder), read_tuning(folder / "tuning.json")
    chosen = None if tuning is None else tuning.confirmed
    if (
        analysis is None
        or tuning is None
        or chosen is None
        or chosen.test is None
        or not chosen.improved
    ):
        return []
    low, high = chosen.test_image_low, chosen.test_image_high
    kind = "95 % for new seeds and images"
    if low is None or high is None:
        low, high, kind = chosen.test_low, chosen.test_high, "95 % t"
    if low is None or high is None:
        return []
    limits = f", {tuning.limits} at most" if tuning.limits else ""
    gain = _signed(100 * chosen.test, 100 * low, 100 * high)
    gap = next(
        (e for e in analysis.effects if (e.term, e.metric) == (chosen.name, analysis.gap)), None
    )
    moved = gap_word(gap, analysis)
    price = []
    if gap is not None and moved == "wider":
        price.append(f"the gap wider by {_pp(gap).lstrip('+')}")
    alike = None
    arm, base = arm_of(analysis, chosen.name), arm_of(analysis, analysis.study.baseline)
    if arm is not None and base is not None and arm.params_m and base.params_m:
        price.append(f"{arm.params_m / base.params_m:.1f} times the weights")
        alike = at_size(analysis, arm)
    text = (
        f"- **A search** ({len(tuning.history)} trials{limits}) found a recipe that gains {gain} on the test set"
        f"{' with ' if price else ''}{' and '.join(price)} ({kind}, n = {chosen.n} seeds; {_at(analysis)})."
    )
    if alike is not None:
        left = [over(analysis, chosen.name, alike.name, m) for m in ("test_accuracy", analysis.gap)]
        shown = [_signed(one.mean, one.low, one.high) for one in left if one is not None]
        if len(shown) == len(left):
            text += f" Over the reference at that size: {shown[0]}, gap {shown[1]} (95 % t)."
    return [text]


def _read(folder: Path) -> Analysis | None:
    return read_analysis(folder) if (folder / "analysis.json").is_file() else None


def _pp(effect: Effect) -> str:
    if effect.estimate is None or effect.low is None or effect.high is None:
        return "not estimated"
    return _signed(effect.estimate, effect.low, effect.high)


def _signed(estimate_pp: float, low_pp: float, high_pp: float) -> str:
    return f"{estimate_pp:+.2f} pp [{low_pp:+.2f}, {high_pp:+.2f}]".replace("-", "−")


def readme(text: str) -> str:
    """Return a README with the lines put in."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}{findings()}{END}{tail}"


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(readme(path.read_text(encoding="utf-8")), encoding="utf-8")
