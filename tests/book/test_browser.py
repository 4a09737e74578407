"""The site in a browser: nothing is asked of strangers, nothing is missing, nothing is wider than a phone, widgets live.

Two sites: this project's book with sample notebooks that show everything a demo may show, built here; and the real one,
if `_build/html` is there. Each is served on loopback below a sub-path, as static hosts do. Requests to other hosts are
recorded and refused, so a passing test also says that the pages work offline.
"""

from __future__ import annotations

import functools
import http.server
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bookmaker import REPOSITORY, code, copy_of_this_book, markdown

# one group: with several workers, the sample site is still built once
pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("browser")]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
ARGUMENTS += ["--disable-component-update", "--disable-sync"]
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1400, "height": 900}

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="900" height="9"><path d="M0 0h9" stroke="currentColor"/></svg>'

TOO_WIDE = """() => [...document.querySelectorAll('body *')]
  .filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('pre, table, .cell_output, .math, dialog'))
  .slice(0, 5).map(e => `${e.tagName}.${e.className}`)"""

# The contrast that WCAG asks of text (4.5:1), for every element that has text of its own; what shines through counts.
FAINT = """() => {
  const rgb = c => { const m = c.match(/[\\d.]+/g).map(Number); return m.length < 4 ? [...m, 1] : m; };
  const light = c => [0, 1, 2].map(i => c[i] / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const over = (a, b) => [0, 1, 2].map(i => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
  const ground = e => {
    const layers = [];
    for (; e; e = e.parentElement) layers.push(rgb(getComputedStyle(e).backgroundColor));
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255, 1]);
  };
  const faint = [];
  for (const e of document.querySelectorAll('article *, .bd-sidebar-primary *, .bd-sidebar-secondary *, footer *')) {
    if (e.closest('svg, mjx-container, .widget-subarea, kbd')) continue;
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.replaceAll('\u200b', '').trim());
    if (!own || !e.checkVisibility({checkVisibilityCSS: true, checkOpacity: true})) continue;
    const back = ground(e), front = over(rgb(getComputedStyle(e).color), back);
    const [a, b] = [light(front), light(back)].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < 4.5) faint.push(`${ratio.toFixed(2)} ${e.tagName}.${e.className} ${e.textContent.trim().slice(0, 30)}`);
  }
  return faint.slice(0, 8);
}"""


def build_sample(target: Path) -> Path:
    """This book with notebooks of our own; the folder of its pages."""
    book = copy_of_this_book(target)
    table = "<table class='durable-journal'><tr><th>#</th></tr><tr><td>" + "wide " * 80 + "</td></tr></table>"
    book.notebook(
        "01-sample",
        markdown("# What does a demo look like?\n\nProse, `code`, and $e^{i\\pi}$:\n\n$$\\sum_{i=0}^{n} x_i$$\n\n## A part"),
        code("import ipywidgets as w\nfrom IPython.display import HTML, SVG\nprint('x' * 300)  # " + "long " * 40),
        code(f"HTML({table!r})", "hide-input"),
        code(f"SVG({SVG!r})"),
        code("import matplotlib.pyplot as plt\nplt.plot([1, 4, 9]);"),
        code("play, slider = w.Play(min=0, max=1000, interval=20), w.IntSlider(min=0, max=1000)"),
        code("w.jslink((play, 'value'), (slider, 'value'))\nw.HBox([play, slider, w.HTMLMath('$x^2$')])"),
    )
    for page in (book.root / "book" / "chapters").glob("*.md"):  # their demonstrations are not here
        page.write_text(re.sub(r"^<!-- @demo:.*-->$", "", page.read_text("utf8"), flags=re.MULTILINE), "utf8")
    chapter = (book.root / "book/chapters/07-demonstrations.md").read_text("utf8")
    linked = re.findall(r"^\(demo-[\w-]+\)=$", chapter, re.MULTILINE)  # other chapters lead to these
    book.page(
        "book/chapters/07-demonstrations",
        "# 7. Demonstrations\n\n" + "".join(f"{target}\n## A section\n\n" for target in linked)
        + '<!-- @demo:num="1" -->\n\n:::{warning}\nCareful.\n:::\n\n| a | b |\n|---|---|\n| '
        + "`a_long_name` " * 30
        + "| x |\n",
    )
    built = book.build("-W", "-n", "--keep-going", "--all")
    assert built.status == 0, built.text
    return book.root / "_build" / "html"


@pytest.fixture(scope="module", params=["sample", "real"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[str]]]:
    """Address of a served site and the paths of its pages."""
    pytest.importorskip("playwright", reason="the package playwright is not installed")
    pytest.importorskip("jupyter_book", reason="the extra `book` is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine (Debian: apt-get install chromium)")
    top = tmp_path_factory.mktemp("served")
    real = REPOSITORY / "_build" / "html"
    if request.param == "real" and not (real / "search.html").exists():
        pytest.skip("the real book is not built (_build/html); nox -s book builds it")
    html = real if request.param == "real" else build_sample(top / "source")
    (top / "web").mkdir()
    (top / "web" / "some-project").symlink_to(html)
    handler = functools.partial(Quiet, directory=str(top / "web"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        pages = sorted(p.relative_to(html).as_posix() for p in html.rglob("*.html") if "_static" not in p.parts)
        pages.remove("index.html")  # it only leads on to the first page
        yield f"http://127.0.0.1:{server.server_port}/some-project/", pages
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine (Debian: apt-get install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


class Watched:
    """A page whose every request, failure and complaint is written down."""

    def __init__(self, browser: Any, home: str, **options: Any) -> None:
        self.home = home
        self.faults: list[str] = []
        # no transitions: what is measured is where they end
        self.context = browser.new_context(reduced_motion="reduce", **options)
        self.context.route("**/*", self.decide)
        self.page = self.context.new_page()
        self.page.on("console", lambda m: m.type == "error" and self.faults.append(f"console: {m.text}"))
        self.page.on("pageerror", lambda e: self.faults.append(f"exception: {e}"))
        self.page.on("response", lambda r: r.status >= 400 and self.faults.append(f"{r.status}: {r.url}"))

    def decide(self, route: Any) -> None:
        if route.request.url.startswith((self.home, "data:", "blob:")):
            route.continue_()
        else:
            self.faults.append(f"asked of others: {route.request.url}")
            route.abort()

    def open(self, path: str, until: str = "networkidle") -> Any:
        self.page.goto(self.home + path, wait_until=until)
        return self.page


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_whole_and_fits_a_phone(browser: Any, site: tuple[str, list[str]], scheme: str) -> None:
    home, pages = site
    watched = Watched(browser, home, viewport=PHONE, color_scheme=scheme)
    for path in pages:
        page = watched.open(path)
        page.evaluate("document.fonts.ready")
        if page.evaluate("document.documentElement.scrollWidth") > PHONE["width"]:
            watched.faults.append(f"{path} scrolls sideways: {page.evaluate(TOO_WIDE)}")
    watched.context.close()
    assert watched.faults == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(browser: Any, site: tuple[str, list[str]], scheme: str) -> None:
    home, pages = site
    watched = Watched(browser, home, viewport=DESK, color_scheme=scheme)
    faint = {path: found for path in pages if (found := watched.open(path, "load").evaluate(FAINT))}
    watched.context.close()
    assert faint == {}


def test_the_site_s_address_leads_to_the_first_page(browser: Any, site: tuple[str, list[str]]) -> None:
    home, _ = site
    watched = Watched(browser, home, viewport=DESK)
    watched.page.goto(home)
    watched.page.wait_for_url("**/book/chapters/index.html")
    watched.context.close()
    assert watched.faults == []


def test_widgets_live_without_a_kernel(browser: Any, site: tuple[str, list[str]]) -> None:
    home, pages = site
    if "book/chapters/07-demonstrations.html" not in pages:
        pytest.skip("this site has no chapter of demonstrations")
    watched = Watched(browser, home, viewport=DESK)
    page = watched.open("book/chapters/07-demonstrations.html")
    if not page.locator(".widget-play, .jupyter-widget-play").count():
        watched.context.close()
        pytest.skip("no demo of this site has a Play button")
    # the button drives the slider through jslink, all in the page
    page.locator(".widget-play button, .jupyter-widget-play button").first.click()
    readout = page.locator(".widget-readout").first
    page.wait_for_function("e => parseInt(e.textContent) > 5", arg=readout.element_handle(), timeout=15_000)
    handle = page.locator(".noUi-handle").first
    before = int(readout.text_content())
    page.locator(".widget-play button, .jupyter-widget-play button").nth(1).click()
    handle.press("ArrowRight")
    assert watched.faults == []
    assert before > 5
    watched.context.close()


def test_the_keyboard_shows_where_it_is(browser: Any, site: tuple[str, list[str]]) -> None:
    home, _ = site
    watched = Watched(browser, home, viewport=DESK)
    page = watched.open("book/chapters/index.html")
    unmarked = []
    for _ in range(12):
        page.keyboard.press("Tab")
        outline, name = page.evaluate(
            "(e => [getComputedStyle(e).outlineStyle, e.outerHTML.slice(0, 80)])(document.activeElement)"
        )
        if outline != "solid":
            unmarked.append(name)
    watched.context.close()
    assert unmarked == []
