"""Tables and text for a paper."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.analysis import analyze
from harness.report import Material, latex
from tests.report import planted

ARTICLE = r"""\documentclass[twocolumn]{article}
\usepackage[utf8]{inputenc}\usepackage[T1]{fontenc}\usepackage{booktabs}\usepackage{amssymb}\usepackage{textcomp}
\begin{document}
\section{Methods}\input{methods.tex}
\begin{table*}\centering\input{effects.tex}\caption{Effects}\end{table*}
\begin{table*}\centering\input{ablation.tex}\caption{Ablation}\end{table*}
\bibliographystyle{plain}\bibliography{refs}
\end{document}
"""
STUDIES: dict[str, Callable[[], Material]] = {
    "augmentations": planted.augmentations,
    "html": planted.html_names,
    "factorial": lambda: planted.factorial(3),
}


def files(name: str) -> dict[str, str]:
    material = STUDIES[name]()
    return latex.files(analyze(material.study, material.trials, curves=material.curves))


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.skipif(
    shutil.which("pdflatex") is None or shutil.which("bibtex") is None,
    reason="no pdflatex and bibtex here",
)
def test_every_file_compiles_unedited_in_a_two_column_article(name: str, tmp_path: Path) -> None:
    for file, text in files(name).items():
        (tmp_path / file).write_text(text, encoding="utf-8")
    (tmp_path / "paper.tex").write_text(ARTICLE, encoding="utf-8")
    for command in (
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper"],
        ["bibtex", "paper"],
    ):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert (tmp_path / "paper.pdf").stat().st_size > 10_000


@pytest.mark.parametrize("name", STUDIES)
def test_every_table_has_as_many_cells_as_columns(name: str) -> None:
    for file, text in files(name).items():
        if not file.endswith(("effects.tex", "ablation.tex")):
            continue
        body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
        rows = [
            line
            for line in body.splitlines()
            if line.endswith(r"\\") and r"\multicolumn" not in line
        ]
        assert len({line.replace(r"\&", "").count("&") for line in rows}) == 1


@pytest.mark.parametrize("name", STUDIES)
def test_braces_and_environments_are_balanced(name: str) -> None:
    for text in files(name).values():
        plain = text.replace(r"\{", "").replace(r"\}", "")
        assert plain.count("{") == plain.count("}")
        assert text.count(r"\begin{") == text.count(r"\end{")


def test_every_citation_is_in_the_bibliography() -> None:
    made = files("augmentations")
    keys = {part.split("}")[0] for part in made["methods.tex"].split(r"\cite{")[1:]}
    assert keys
    assert all(f"{{{key}," in made["refs.bib"] for key in keys)


def test_components_have_check_marks() -> None:
    rows = files("augmentations")["ablation.tex"].splitlines()
    assert next(row for row in rows if row.startswith("no-crop")).count(r"\checkmark") == 2
    assert next(row for row in rows if row.startswith("none")).count(r"\checkmark") == 0


@pytest.mark.parametrize(
    ("text", "escaped"), [("50 % & $x_1$", r"50 \% \& \$x\_1\$"), ("−1", "$-$1"), ("中", "?")]
)
def test_special_characters_are_made_harmless(text: str, escaped: str) -> None:
    assert latex.escape(text) == escaped
