"""Write the README's three results from the committed reports, so that its numbers are theirs.

python tools/readme_findings.py         # rewrite the part of README.md between the markers

Every difference comes with its interval and its number of seeds, and every judgement is the
report's verdict: what is unresolved is called so. Each line is from the largest size at which the
study has verdicts. A report that is not there has no line.
"""

from __future__ import annotations

from pathlib import Path

from harness.analysis import Analysis, Effect
from harness.report import read_analysis
from harness.report.folder import read_tuning
from harness.report.lookup import pixels

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / "reports"
BEGIN, END = "<!-- findings: begin -->\n", "<!-- findings: end -->"
CLAIM = {
    "better": "helps",
    "worse": "hurts",
    "equivalent": "makes no difference beyond the margin",
    "unresolved": "is unresolved",
    "": "is not judged",
}


def findings(reports: Path = REPORTS) -> str:
    """Return the three lines in Markdown, from the reports that are there."""
    made = ((_augmentations, "augmentations"), (_claims, "claims"), (_search, "tune"))
    lines = [line for write, study in made for line in write(_largest(reports, study))]
    return "\n".join(lines or ["No report has been committed yet."]) + "\n"


def _largest(reports: Path, study: str) -> Path:
    """Return the folder of the largest size at which a study has verdicts."""
    for size in ("full", "medium"):
        analysis = _read(reports / f"{study}-{size}")
        if analysis is not None and any(effect.verdict for effect in analysis.effects):
            return reports / f"{study}-{size}"
    return reports / f"{study}-small"


def _so_far(analysis: Analysis) -> str:
    """Return of how many seeds those of a line are the first, while some are still to come."""
    done, planned = len(analysis.seeds), analysis.seeds_planned
    return f" so far of {planned}" if done < planned else ""


def _at(analysis: Analysis) -> str:
    """Return what a line was measured on, with a link to its report."""
    recipe, folder = analysis.study.base_recipe, analysis.study.folder
    return f"[{recipe.data.train:,} images, {pixels(analysis)} pixels](reports/{folder}/report.md)"


def _augmentations(folder: Path) -> list[str]:
    """Return what leaving out every augmentation does to accuracy and gap."""
    analysis = _read(folder)
    effects = {} if analysis is None else {e.metric: e for e in analysis.effects if _bare(e)}
    if analysis is None or not effects:
        return []
    accuracy, gap = effects[analysis.study.metric], effects[analysis.gap]
    cost = f"accuracy is {accuracy.verdict or 'not judged'}, {_pp(accuracy)}"
    moves = "widens" if (gap.estimate or 0.0) > 0 else "narrows"
    effect = f"the overfitting gap {moves}, {_pp(gap)} (95 % t, n = {accuracy.n} seeds{_so_far(analysis)}; {_at(analysis)})"
    return [f"- **Augmentations**: without them {cost}, and {effect}."]


def _bare(effect: Effect) -> bool:
    return effect.kind == "arm" and effect.term == "none" and effect.reference == "reference"


def _claims(folder: Path) -> list[str]:
    """Return whether each part that the write-up credits helps, over all settings of the others."""
    analysis = _read(folder)
    if analysis is None:
        return []
    mains = [e for e in analysis.effects if e.kind == "main" and e.metric == analysis.study.metric]
    mains.sort(key=lambda effect: -(effect.estimate or 0.0))
    parts = "; ".join(f"{e.term} {CLAIM[e.verdict]}, {_pp(e)}" for e in mains)
    seeds = ", ".join(str(n) for n in sorted({e.n for e in mains}))
    return [
        f"- **Parts that the original write-up credits**: {parts} (95 % t, n = {seeds} seeds{_so_far(analysis)}; {_at(analysis)})."
    ]


def _search(folder: Path) -> list[str]:
    """Return what the best recipe of the search gains on the test set."""
    analysis, tuning = _read(folder), read_tuning(folder / "tuning.json")
    chosen = None if tuning is None else tuning.confirmed
    if analysis is None or tuning is None or chosen is None or chosen.test is None:
        return []
    low, high = chosen.test_image_low, chosen.test_image_high
    kind = "95 % for new seeds and images"
    if low is None or high is None:
        low, high, kind = chosen.test_low, chosen.test_high, "95 % t"
    if low is None or high is None:
        return []
    limits = f" within {tuning.limits}" if tuning.limits else ""
    gain = _signed(100 * chosen.test, 100 * low, 100 * high)
    return [
        f"- **A search of {len(tuning.history)} recipes{limits}** found one that gains {gain} on the test set ({kind}, n = {chosen.n} seeds; {_at(analysis)})."
    ]


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
