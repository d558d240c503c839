r"""Tables and text for a paper: effects.tex, ablation.tex, methods.tex and refs.bib, for any article with booktabs.

Every file compiles unedited inside ``\documentclass[twocolumn]{article}`` with
``\usepackage{booktabs}``; names may hold any character.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from harness.analysis import Analysis
from harness.analysis.tuning_facts import TuningFacts
from harness.report.lookup import (
    effect_on,
    effects_of,
    in_order,
    leading,
    metric_of,
    second_metric,
    summary_of,
)
from harness.report.methods import Publication, cited, paragraph
from harness.report.words import MINUS, bounds, direction, number, paired, sample
from harness.text import plural

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "'": "'",
    "`": r"\textasciigrave{}",
    MINUS: "$-$",
    "±": r"$\pm$",
    "–": "--",
    "→": r"$\to$",
    "×": r"$\times$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "…": r"\dots{}",
    "·": r"$\cdot$",
}
_CHECK = r"$\checkmark$"


def escape(text: str) -> str:
    """Return plain text with every character that LaTeX acts on made harmless; letters outside Latin-1 become ``?``."""
    out = []
    for char in text:
        if char in _SPECIAL:
            out.append(_SPECIAL[char])
        elif char.isascii() or "\u00c0" <= char <= "\u00ff":
            out.append(char)
        else:
            out.append("?")
    return "".join(out)


def files(analysis: Analysis, tuning: TuningFacts | None = None) -> dict[str, str]:
    """Return ``{name: text}`` of the four files."""
    sources = cited(analysis, tuning)
    made = {"methods.tex": _methods(analysis, tuning), "refs.bib": _bib(sources)}
    if effects_of(analysis, "arm") or effects_of(analysis, "main"):
        made["effects.tex"] = _effects(analysis)
    made["ablation.tex"] = _ablation(analysis)
    return made


_HEADER = (
    "% Written by harness. Needs \\usepackage{booktabs} and \\usepackage{amssymb}.\n"
    "% Put \\input{NAME} inside a table or a table* environment.\n"
)


def _effects(analysis: Analysis) -> str:
    """Differences with intervals and verdicts."""
    metric, rows = metric_of(analysis), []
    effects = in_order(analysis, leading(analysis))
    second = second_metric(analysis)
    several = len({e.reference for e in effects}) > 1
    seen = ""
    for effect in effects:
        if several and effect.reference != seen and effect.kind == "arm":
            rows.append(
                rf"\multicolumn{{4}}{{l}}{{\emph{{against {escape(effect.reference)}}}}} \\"
            )
            seen = effect.reference
        other = effect_on(analysis, effect, second)
        mark = effect.verdict or "not judged"
        note = f" ({effect.note})" if effect.note else ""
        cells = [
            escape(effect.term),
            _interval(effect.estimate, effect.low, effect.high, effect.unit),
            _interval(other.estimate, other.low, other.high, other.unit)
            if other is not None
            else "",
            escape(mark + note),
        ]
        rows.append(" & ".join(cells) + r" \\")
    heads = [
        "Arm" if effects[0].kind == "arm" else "Component",
        rf"$\Delta$ {escape(_short(metric.label, metric.unit))}",
        rf"$\Delta$ {escape('gap' if second == analysis.gap else 'accuracy')}",
        "Verdict",
    ]
    note = f"Mean {paired(analysis.study)} difference [low, high], {sample(analysis.study, effects)}; {direction(metric)}."
    return _tabular("effects", "lrrl", heads, rows, note)


def _ablation(analysis: Analysis) -> str:
    """One row an arm: a check mark for every component that is on, then mean, sd, interval and n."""
    study, metric = analysis.study, metric_of(analysis)
    # a swept factor is neither on nor off
    factors = study.factors if study.design not in ("sweep", "arms") else ()
    rows = []
    for arm in analysis.arms:
        marks = []
        for factor in factors:
            # an arm made by hand keeps every component
            level = arm.components.get(factor.name, factor.on)
            marks.append(_CHECK if level == factor.on else "")
        summary = summary_of(analysis, arm.name, metric.name)
        gap = summary_of(analysis, arm.name, analysis.gap) if metric.name != analysis.gap else None
        cells = [escape(arm.name), *marks]
        if summary is None or summary.mean is None:
            cells += ["--", "", "", "", "0"]
        else:
            cells += [
                number(summary.mean, summary.unit),
                number(summary.sd, summary.unit),
                escape(bounds(summary.low, summary.high, summary.unit)),
                number(gap.mean, gap.unit) if gap is not None and gap.mean is not None else "",
                str(summary.n),
            ]
        rows.append(" & ".join(_minus(cell) for cell in cells) + r" \\")
    heads = [
        "Arm",
        *(escape(factor.name) for factor in factors),
        escape(_short(metric.label, metric.unit, level=True)),
        "sd",
        rf"{100 * (1 - study.alpha):g}\,\% interval",
        "gap, pp",
        "$n$",
    ]
    note = f"Mean over $n$ seeds with a {100 * (1 - study.alpha):g}\\,\\% t interval."
    return _tabular("ablation", "l" + "c" * len(factors) + "rrrrr", heads, rows, note, raw=True)


def _tabular(
    name: str,
    columns: str,
    heads: Sequence[str],
    rows: Sequence[str],
    note: str,
    *,
    raw: bool = False,
) -> str:
    body = "\n".join(rows)
    return (
        _HEADER.replace("NAME", f"{name}.tex")
        + "\\begingroup\\footnotesize\\setlength{\\tabcolsep}{3pt}%\n"
        + f"\\begin{{tabular}}{{@{{}}{columns}@{{}}}}\n\\toprule\n{' & '.join(heads)} \\\\\n\\midrule\n{body}\n\\bottomrule\n"
        + f"\\multicolumn{{{len(heads)}}}{{@{{}}l@{{}}}}{{\\scriptsize {note if raw else escape(note)}}}\n"
        + "\\end{tabular}\\endgroup\n"
    )


def _methods(analysis: Analysis, tuning: TuningFacts | None) -> str:
    sentences = []
    for sentence, key in paragraph(analysis, tuning):
        cite = f"~\\cite{{{key}}}" if key else ""
        sentences.append(escape(sentence.rstrip(".")) + cite + ".")
    done = plural(sum(arm.completed for arm in analysis.arms), "completed trial")
    return (
        "% Written by harness from the study's plan. Cites refs.bib.\n"
        + "\n".join(sentences)
        + f"\n% {done}\n"
    )


def _bib(sources: Sequence[Publication]) -> str:
    kinds: Mapping[str, str] = {
        "article": "journal",
        "inproceedings": "booktitle",
        "misc": "howpublished",
        "book": "publisher",
    }
    entries = []
    for source in sources:
        fields = {
            "author": source.author,
            "title": f"{{{source.title}}}",
            "year": str(source.year),
            kinds[source.kind]: source.where,
        }
        fields["note"] = source.more
        # the only formula in a title
        title = source.title.replace("2^(k-p)", "$2^{k-p}$")
        fields["title"] = f"{{{title}}}"
        lines = ",\n".join(
            f"  {name} = {{{value.replace('&', chr(92) + '&')}}}"
            for name, value in fields.items()
            if value
        )
        entries.append(f"@{source.kind}{{{source.key},\n{lines}\n}}\n")
    return "\n".join(entries)


def _interval(estimate: float | None, low: float | None, high: float | None, unit: str) -> str:
    if estimate is None:
        return "--"
    return _minus(
        f"{number(estimate, unit, signed=True)} {bounds(low, high, unit, signed=True)}".strip()
    )


def _minus(text: str) -> str:
    return text.replace(MINUS, "$-$")


def _short(label: str, unit: str, *, level: bool = False) -> str:
    label = re.sub(r"^validation ", "val. ", label)
    return f"{label}, {'%' if level else 'pp'}" if unit == "pp" else label
