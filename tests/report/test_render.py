"""What the page and the Markdown hold, and what they never hold."""

from __future__ import annotations

import html.parser
import json
import re
from pathlib import Path

import pytest

from harness.report import Written, words, write_material
from harness.report.render import escape_markdown
from tests.report import planted

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Elements(html.parser.HTMLParser):
    """Collects tags, ids and the text of tables, and checks that tags nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def elements(page: str) -> Elements:
    found = Elements()
    found.feed(page)
    assert not found.open
    return found


def test_the_page_holds_no_script_and_asks_for_nothing(page: str) -> None:
    tags = elements(page).tags
    assert "script" not in {tag for tag, _ in tags}
    links = [
        value
        for _, attrs in tags
        for name, value in attrs.items()
        if name in ("src", "href", "xlink:href", "srcset")
    ]
    assert all(value is not None and value.startswith(("#", "data:")) for value in links)
    assert not re.search(r"url\((?!#)", page)


def test_the_page_forbids_itself_everything_but_its_own_styles(page: str) -> None:
    policy = next(
        a["content"]
        for t, a in elements(page).tags
        if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")


def test_every_id_of_the_page_is_used_once(page: str) -> None:
    ids = [attrs["id"] for _, attrs in elements(page).tags if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_every_anchor_of_the_page_leads_somewhere(page: str) -> None:
    tags = elements(page).tags
    ids = {attrs["id"] for _, attrs in tags if "id" in attrs}
    targets = {
        str(value)[1:]
        for _, attrs in tags
        for name, value in attrs.items()
        if "href" in name and str(value).startswith("#")
    }
    assert targets <= ids


def test_every_drawing_has_its_finding_as_its_name(page: str) -> None:
    drawings = [
        attrs
        for tag, attrs in elements(page).tags
        if tag == "svg" and attrs.get("aria-hidden") != "true"
    ]
    assert drawings
    assert all(
        attrs.get("role") == "img" and len(attrs.get("aria-label") or "") > 20 for attrs in drawings
    )


def test_drawings_follow_the_colours_of_the_page(page: str) -> None:
    assert "var(--ink)" in page
    body = page[page.index("</style>") :]
    assert "#1b1c1e" not in body


def test_the_numbers_of_the_verdict_table_are_those_of_analysis_json(
    written: Written, page: str
) -> None:
    content = json.loads((written.folder / "analysis.json").read_bytes())
    table = page[page.index('class="verdicts"') : page.index("</table>")]
    shown = re.findall(r'<b><data value="([^"]+)">([^<]+)</data>', table)
    wanted = {}
    for effect in content["effects"]:
        if effect["kind"] == "arm" and effect["metric"] in ("accuracy", "gap"):
            wanted[f"{effect['estimate']:.6g}"] = words.number(
                effect["estimate"], effect["unit"], signed=True
            )
    assert len(wanted) == 16
    for value, text in wanted.items():
        assert (value, text) in shown


def test_learning_rates_on_the_axis_keep_their_digits(written: Written) -> None:
    svg = (written.folder / "figures" / "rates.svg").read_text(encoding="utf-8")
    assert re.search(r">0\.00[1-9]\d*<", svg)  # coordinates are cut to hundredths, labels never


def test_names_with_html_are_shown_as_text(small: Written) -> None:
    text = small.index.read_text(encoding="utf-8")
    found = elements(text)
    assert not {"script", "em", "i"} & {tag for tag, _ in found.tags}
    assert "&lt;script&gt;alert(" in text
    markdown = re.sub(
        r"```.*?```", "", (small.folder / "report.md").read_text(encoding="utf-8"), flags=re.DOTALL
    )
    assert not re.search(r"(?<!\\)<(script|b|i|em)\b", markdown)


def test_markdown_shows_its_main_figure_from_a_file_that_is_there(written: Written) -> None:
    text = (written.folder / "report.md").read_text(encoding="utf-8")
    images = re.findall(r"^!\[.*\]\(([^)]+)\)$", text, re.MULTILINE)
    assert "figures/forest.svg" in images
    assert all((written.folder / image).is_file() for image in images)


def test_markdown_tables_have_as_many_cells_in_every_row(written: Written) -> None:
    text = (written.folder / "report.md").read_text(encoding="utf-8")
    for block in text.split("\n\n"):
        rows = [line for line in block.splitlines() if line.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) <= 1


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a_b*c", r"a\_b\*c"),
        ("<b>&", r"\<b\>\&"),
        ("a | b", r"a \| b"),
        ("[x](y)", r"[x\](y)"),
        ("# head", r"\# head"),
        ("1. x", r"1\. x"),
        ("- x", r"\- x"),
    ],
)
def test_markdown_is_escaped(text: str, escaped: str) -> None:
    assert escape_markdown(text) == escaped


def test_every_interval_in_a_caption_names_its_kind(page: str) -> None:
    captions = re.findall(r"<caption>([^<]*)</caption>", page)
    with_intervals = [caption for caption in captions if "[low, high]" in caption]
    assert with_intervals
    assert all("t" in caption or "bench" in caption for caption in with_intervals)


def test_where_the_test_set_took_the_place_of_validation_images_no_number_is_called_one_of_validation(
    tmp_path: Path,
) -> None:
    """Two arms, so that every table and figure is there; what is left are sentences that say that there were none."""
    arm = {"name": "cutout", "set": {"augment.cutout": 2}}
    study = planted.study_of(
        {
            "design": "arms",
            "arms": [arm],
            "base": {"data.val": 0},
            "profiles": {"quick": {"data.val": 0}},
        }
    )
    written = write_material(tmp_path / "planted-quick", planted.material(study))
    shown = "\n".join(
        re.sub(
            r"<(style|svg|script)\b.*?</\1>",
            "",
            (written.folder / name).read_text(encoding="utf-8"),
            flags=re.DOTALL,
        )
        for name in ("index.html", "report.md", "methods.tex", "ablation.tex", "effects.tex")
    ) + "".join(
        path.read_text(encoding="utf-8") for path in (written.folder / "figures").glob("*.svg")
    )
    assert "test accuracy (used for validation)" in shown
    assert "test loss (used for validation)" in shown
    rest = re.sub(
        r"used for validation|without validation|no validation|keep validation|validation, test|1,000 validation"
        r"|(?<=<td>)validation(?=</td>)|\| validation \||validation: data.val is 0",
        "",
        shown,
        flags=re.IGNORECASE,
    )
    assert re.findall(r".{0,60}validation.{0,40}", rest, flags=re.IGNORECASE) == []
