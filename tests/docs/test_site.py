"""The built site in headless Chromium: no errors, nothing too wide, all pictures."""

import functools
import http.server
import io
import shutil
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import REPOSITORY

SITE = REPOSITORY / "docs/_build/html"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTHS = (390, 1400)
PAGES = (
    "index.html",
    "quickstart.html",
    "which.html",
    "artifacts.html",
    "_generated/artifact/lpo/minatar.html",
    "_generated/artifact/minatar.html",
    "_generated/artifact/lpg/gridworld.html",
    "explorer.html",
    "board.html",
    "api/rules.html",
)

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="no playwright; run `make site-test`"
)
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
pytestmark = [
    pytest.mark.skipif(not BROWSER, reason="no Chromium on the PATH"),
    pytest.mark.skipif(
        not (SITE / "index.html").exists(), reason="no site; run `make docs` first"
    ),
]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    handler = functools.partial(Quiet, directory=SITE)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    options = ["--no-sandbox", "--disable-gpu"]
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=BROWSER, args=options)
        yield found
        found.close()


@pytest.fixture(params=WIDTHS)
def tab(request: pytest.FixtureRequest, browser: Any, address: str) -> Iterator[Any]:
    """A tab that fails the test if a page logs an error or asks another host."""
    context = browser.new_context(
        viewport={"width": request.param, "height": 900}, base_url=address
    )
    page, problems = context.new_page(), []
    page.on("console", lambda m: m.type == "error" and problems.append(m.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "request",
        lambda sent: (
            sent.url.startswith(address)
            or sent.url.startswith("data:")
            or problems.append(f"asks {sent.url}")
        ),
    )
    yield page
    context.close()
    assert problems == []


def visit(tab: Any, path: str) -> None:
    tab.goto(f"/{path}", wait_until="load")


@pytest.mark.parametrize("path", PAGES)
def test_a_page_fits_the_screen_and_has_its_pictures(tab: Any, path: str) -> None:
    visit(tab, path)
    assert tab.locator("h1").first.is_visible()
    width = tab.viewport_size["width"]
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    # Lazy pictures load when they are scrolled to.
    tab.evaluate("for (const i of document.images) i.loading = 'eager'")
    tab.wait_for_function("[...document.images].every(i => i.complete)")
    broken = "[...document.images].filter(i => !i.naturalWidth).map(i => i.src)"
    assert tab.evaluate(broken) == []


def test_a_wide_table_shows_that_it_scrolls(tab: Any) -> None:
    visit(tab, "which.html")
    table = tab.locator(".table-wrapper", has_text="Asterix").first
    assert table.evaluate("t => t.scrollWidth > t.clientWidth")
    edge = table.evaluate("t => { t.scrollIntoView(); return t.clientWidth - 3 }")

    def brightness(left: int) -> float:
        """Return that of the right edge, scrolled to the left or to the end."""
        table.evaluate("(t, left) => { t.scrollLeft = left }", left)
        picture = Image.open(io.BytesIO(table.screenshot())).convert("L")
        return float(np.median(np.asarray(picture)[:, edge]))

    # A shadow, until the end is reached.
    assert brightness(0) + 30 < brightness(10_000)


def test_the_home_page_leads_to_the_gallery_and_to_an_artifact(tab: Any) -> None:
    visit(tab, "index.html")
    tab.locator("article").get_by_role("link", name="gallery").click()
    tab.locator(".gallery-card", has_text="lpo/minatar").first.click()
    assert tab.locator("h1").inner_text().startswith("lpo/minatar")
    assert tab.locator("article img").count() >= 2
    tab.get_by_role("link", name="Explore it").click()
    sync_api.expect(tab.locator("#explorer-rule")).to_have_value("lpo/minatar")


def test_every_card_of_the_gallery_has_a_picture_and_a_page(tab: Any) -> None:
    visit(tab, "artifacts.html")
    cards = tab.locator(".gallery-card")
    assert cards.count() > 40
    assert tab.locator(".gallery-card img").count() == cards.count()
    targets = cards.evaluate_all("cards => cards.map(c => c.getAttribute('href'))")
    pages = [SITE / target for target in targets]
    assert [page for page in pages if not page.exists()] == []
    assert [p for p in pages if "<img" not in p.read_text("utf-8")] == []


def test_the_gallery_is_sorted_by_size(tab: Any) -> None:
    visit(tab, "artifacts.html")
    group = tab.locator(".gallery").nth(1)
    sizes = "cards => cards.map(c => Number(c.dataset.size))"
    before = group.locator("a").evaluate_all(sizes)
    tab.locator(".gallery-sort select").select_option("size")
    after = group.locator("a").evaluate_all(sizes)
    assert before != sorted(before) == after


@pytest.mark.parametrize(
    ("rule", "slider", "value"),
    [
        ("proposed/optimizer", "progress", "0.95"),
        ("proposed/optimizer", "gradient", "-0.01"),
        ("distilled/sign_mixture", "dormancy", "4"),
        ("lpo/minatar", "advantage", "-3"),
        ("discovered/dpo", "ratio", "1.9"),
    ],
)
def test_the_explorer_follows_a_slider(
    tab: Any, rule: str, slider: str, value: str
) -> None:
    visit(tab, "explorer.html")
    tab.locator("#explorer-rule").select_option(rule)
    root = tab.locator("#rule-explorer")
    text = root.locator("p")
    sync_api.expect(text).to_contain_text(rule)
    before, drawn = text.inner_text(), root.locator("svg").inner_html()
    root.locator(f"input[name={slider}]").fill(value)
    assert text.inner_text() != before
    assert root.locator("svg").inner_html() != drawn
    assert "not finite" not in text.inner_text()


def test_the_explorer_shows_ppo_flat_in_its_band_and_a_slope_past_it(tab: Any) -> None:
    visit(tab, "explorer.html")
    tab.locator("#explorer-rule").select_option("lpo/minatar")
    root = tab.locator("#rule-explorer")
    sync_api.expect(root.locator("p")).to_contain_text("lpo/minatar")
    for ratio, drift in ("1.1", 0.0), ("1.7", 0.5):  # (1.7 - 1.2) A
        root.locator("input[name=ratio]").fill(ratio)
        shown = root.locator("p").inner_text().rsplit(", ", 1)[1].rstrip(".")
        assert float(shown) == pytest.approx(drift, abs=0.02)


def test_formulas_are_mathml_with_a_size(tab: Any) -> None:
    visit(tab, "_generated/artifact/proposed/optimizer.html")
    formula = tab.locator("math").first
    assert formula.bounding_box()["height"] > 50
    assert tab.locator("math mtr").count() > 5
    assert "\\" not in formula.text_content()


def test_the_search_finds_the_horizon(tab: Any) -> None:
    visit(tab, "search.html?q=horizon")
    results = tab.locator("#search-results li a")
    results.first.wait_for()
    assert "concepts.html" in " ".join(
        results.evaluate_all("links => links.map(a => a.href)")
    )


def test_the_site_is_small() -> None:
    size = sum(path.stat().st_size for path in SITE.rglob("*") if path.is_file())
    assert size < 15e6
