"""The page in a real Chromium: light, dark, narrow, printed, without scripts, for a keyboard and a screen reader."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.report import Written, words, write_index, write_material
from tests.report import planted

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytest.importorskip(
    "playwright", reason="playwright is not installed: pip install harness[browser]"
)
CHROMIUM = next(
    (
        path
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (path := shutil.which(name))
    ),
    None,
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

VIEWS = [(scheme, width) for scheme in ("light", "dark") for width in (1280, 375)]
STUDIES = ("augmentations-quick", "factorial", "html", "tune")


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Written]:
    from dataclasses import replace

    from harness.analysis.tuning_facts import Importance, SearchTrial, TuningFacts

    root = tmp_path_factory.mktemp("reports")
    history = tuple(
        SearchTrial(
            number=i,
            state="complete",
            value=0.7 + 0.01 * (i % 7),
            params={"model.dropout": 0.05 * (i % 9)},
        )
        for i in range(20)
    )
    found = (Importance(parameter="model.dropout", value=0.7),)
    facts = TuningFacts(
        budget=20,
        history=history,
        best={"model.dropout": 0.1},
        best_value=0.76,
        importances=found,
        floor=0.1,
    )
    materials = {
        "augmentations-quick": planted.augmentations(),
        "factorial": planted.factorial(3),
        "html": planted.html_names(),
        "tune": replace(planted.one_arm(3), tuning=facts),
    }
    written = {name: write_material(root / name, material) for name, material in materials.items()}
    write_index(root)
    return written


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        yield opened
        opened.close()


def show(
    browser: Browser, path: Path, *, scheme: str = "light", width: int = 1280, **more: Any
) -> Page:
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme=scheme,  # type: ignore[arg-type]
        **more,  # type: ignore[arg-type]
    )  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(path.as_uri())
    return page


def violations(page: Page) -> list[str]:
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{item['id']}: {item['nodes'][0]['html'][:120]}" for item in found]


@pytest.mark.parametrize("name", STUDIES)
def test_nothing_is_requested_but_the_file_itself_and_the_console_stays_empty(
    browser: Browser, reports: dict[str, Written], name: str
) -> None:
    context = browser.new_context()
    page = context.new_page()
    requests: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(reports[name].index.as_uri())
    assert [url for url in requests if not url.startswith("data:")] == [
        reports[name].index.as_uri()
    ]
    assert said == []
    context.close()


@pytest.mark.parametrize(("scheme", "width"), VIEWS)
@pytest.mark.parametrize("name", STUDIES)
def test_axe_finds_no_violation(
    browser: Browser, reports: dict[str, Written], name: str, scheme: str, width: int
) -> None:
    page = show(browser, reports[name].index, scheme=scheme, width=width)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert violations(page) == []
    page.context.close()


@pytest.mark.parametrize(("scheme", "width"), VIEWS)
def test_axe_finds_no_violation_on_the_index(
    browser: Browser, reports: dict[str, Written], scheme: str, width: int
) -> None:
    page = show(browser, reports["html"].folder.parent / "index.html", scheme=scheme, width=width)
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.context.close()


@pytest.mark.parametrize("width", [1280, 768, 375])
@pytest.mark.parametrize("name", STUDIES)
def test_the_page_never_scrolls_sideways(
    browser: Browser, reports: dict[str, Written], name: str, width: int
) -> None:
    page = show(browser, reports[name].index, width=width)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.context.close()


@pytest.mark.parametrize("width", [1280, 375])
def test_no_text_is_smaller_than_ten_pixels(
    browser: Browser, reports: dict[str, Written], width: int
) -> None:
    page = show(browser, reports["augmentations-quick"].index, width=width)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    smallest = page.evaluate(
        """() => {
          let least = 1e9;
          const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
          while (walker.nextNode()) {
            const node = walker.currentNode;
            if (!node.textContent.trim() || node.parentElement.closest('.skip, thead')) continue;
            const svg = node.parentElement.closest('svg');
            let scale = 1;
            if (svg && svg.viewBox.baseVal.width) scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
            least = Math.min(least, parseFloat(getComputedStyle(node.parentElement).fontSize) * scale);
          }
          return least;
        }"""
    )
    assert smallest >= 10
    page.context.close()


def test_the_keyboard_reaches_every_link_scroll_box_and_summary(
    browser: Browser, reports: dict[str, Written]
) -> None:
    page = show(browser, reports["html"].index)
    wanted = page.evaluate(
        "[...document.querySelectorAll('a[href], summary, [tabindex=\"0\"]')]"
        ".filter(e => e.checkVisibility({contentVisibilityAuto: true})).length"
    )
    seen: set[int] = set()
    for _ in range(wanted + 20):
        page.keyboard.press("Tab")
        place = page.evaluate(
            "[...document.querySelectorAll('a[href], summary, [tabindex=\"0\"]')].indexOf(document.activeElement)"
        )
        if place >= 0:
            seen.add(place)
    assert len(seen) >= wanted
    page.context.close()


def test_the_page_is_whole_with_scripts_off(browser: Browser, reports: dict[str, Written]) -> None:
    page = show(browser, reports["html"].index, java_script_enabled=False)
    assert page.locator("table.verdicts").is_visible()
    assert page.locator("figure svg").first.is_visible()
    page.context.close()


def test_what_is_folded_on_the_screen_is_not_printed_unless_the_reader_opens_it(
    browser: Browser, reports: dict[str, Written]
) -> None:
    page = show(browser, reports["html"].index)
    assert not page.locator(".on-paper").is_visible()
    page.emulate_media(media="print")
    heights = "[...document.querySelectorAll('main > section > details')].map(d => d.getBoundingClientRect().height)"
    assert page.evaluate(heights)
    assert set(page.evaluate(heights)) == {0}
    assert "not printed" in page.locator(".on-paper").inner_text()
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert min(page.evaluate(heights)) > 10
    page.context.close()


def test_tables_are_printed_in_letters_of_at_least_eight_points_and_nothing_is_shrunk(
    browser: Browser, reports: dict[str, Written]
) -> None:
    page = show(browser, reports["augmentations-quick"].index, width=690)  # the paper's, in px
    page.emulate_media(media="print")
    smallest = page.evaluate(
        """() => Math.min(...[...document.querySelectorAll('table *')].filter(
             e => e.checkVisibility() && [...e.childNodes].some(n => n.nodeType == 3 && n.textContent.trim())
           ).map(e => parseFloat(getComputedStyle(e).fontSize)))"""
    )
    assert smallest * 72 / 96 >= 8
    # a page wider than its paper is shrunk by the printer, letters and all
    assert page.evaluate("document.documentElement.scrollWidth") <= 690
    assert page.pdf(format="A4").count(b"/Type /Page\n") <= 8
    page.context.close()


def test_a_figure_that_is_wider_than_a_phone_says_so(
    browser: Browser, reports: dict[str, Written]
) -> None:
    phone, desk = (show(browser, reports["html"].index, width=width) for width in (375, 1280))
    assert phone.locator("figure .cue").first.is_visible()
    assert not desk.locator("figure .cue").first.is_visible()
    phone.context.close()
    desk.context.close()


def test_print_is_light_in_a_dark_browser_and_makes_pages(
    browser: Browser, reports: dict[str, Written]
) -> None:
    page = show(browser, reports["html"].index, scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.context.close()


@pytest.mark.parametrize("width", [1280, 375])
def test_the_numbers_of_the_verdict_table_equal_analysis_json(
    browser: Browser, reports: dict[str, Written], width: int
) -> None:
    written = reports["augmentations-quick"]
    page = show(browser, written.index, width=width)
    shown = page.evaluate(
        """Object.fromEntries(
             [...document.querySelectorAll('table.verdicts tbody tr:not(.group):not(.base)')].map(row => [
             row.querySelector('th').firstChild.textContent.trim(),
             [...row.querySelectorAll('td.num b data')].map(d => [Number(d.value), d.innerText])]))"""
    )
    content = json.loads((written.folder / "analysis.json").read_bytes())
    for effect in content["effects"]:
        if effect["kind"] == "arm" and effect["metric"] in ("accuracy", "gap"):
            value, text = shown[effect["term"]][effect["metric"] == "gap"]
            assert value == effect["estimate"]
            assert text == words.number(effect["estimate"], effect["unit"], signed=True)
    page.context.close()


def test_every_row_of_the_verdict_table_names_its_verdict(
    browser: Browser, reports: dict[str, Written]
) -> None:
    page = show(browser, reports["augmentations-quick"].index, width=375)
    marks = page.locator("table.verdicts .mark")
    assert marks.count() == 8
    assert all(
        text.split()[-1] in ("better", "worse", "equivalent", "unresolved")
        for text in marks.all_inner_texts()
    )
    page.context.close()
