"""The page in a real browser: maps, sliders, keyboard, names for screen readers, narrow and dark screens."""

import re
from dataclasses import replace

import pytest

from rwpm_fast.metrics import PixelMetrics
from rwpm_fast.ops.maps import Walk
from rwpm_fast.ops.settings import WalkSettings
from rwpm_fast.scenes import render_holdout_scene

from .browser import MISSING, browser
from .serving import MANY, encoded, picture, scorer, serving

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)

SIZE = (96, 192)
CONTROLS = "button, input, select, textarea, a[href], [tabindex='0']"
RESTS = "return document.querySelector('#times').textContent !== '' && document.querySelector('#busy').hidden"
SEEN = f"""return [...document.querySelectorAll(`{CONTROLS}`)].filter((e) => e.checkVisibility()).length"""


@pytest.fixture(scope="module")
def served():
    with serving(replace(MANY, upload_bytes=300_000), sample_size=SIZE) as client:
        yield client


@pytest.fixture(scope="module")
def window(served, tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as window:
        yield window


@pytest.fixture
def page(served, window):
    """The page as it begins: street 0, scored."""
    window.screen(1280, 900)
    window.open(f"http://127.0.0.1:{served.port}/")
    window.wait(RESTS)
    return window


def move(page, name, value):
    """Move a slider to a position, as a hand would, and wait for the map."""
    before = page.text("#command")
    page.run(
        "const s = document.getElementById(arguments[0]); s.value = arguments[1]; s.dispatchEvent(new Event('input'))",
        name,
        value,
    )
    page.wait("return document.querySelector('#command').textContent !== arguments[0]", before)
    page.wait(RESTS)


def requests(page, word):
    script = "return performance.getEntriesByType('resource').filter((e) => e.name.includes(arguments[0])).length"
    return page.run(script, word)


def figures(page):
    """AP and FPR95 in percent, without and with the walk, as the page shows them."""
    cells = page.run("return [...document.querySelectorAll('#metrics td')].slice(0, 4).map((e) => e.textContent)")
    return [float(cell.removesuffix(" %")) for cell in cells]


def expected_figures(settings):
    photo, labels = render_holdout_scene(0, SIZE)
    found = []
    for walk in (None, Walk(**vars(settings))):
        metrics = PixelMetrics()
        metrics.update(scorer().with_walk(walk)(photo).score, labels)
        result = metrics.compute()
        found += [100 * result.ap, 100 * result.fpr95]
    return [found[0], found[2], found[1], found[3]]


def test_the_metrics_are_those_of_the_package(page):
    defaults = scorer().walk.settings
    assert figures(page) == pytest.approx(expected_figures(defaults), abs=0.06)
    move(page, "steps", 30)
    assert figures(page) == pytest.approx(expected_figures(replace(defaults, steps=30)), abs=0.06)
    move(page, "temperature", 40)
    assert figures(page) == pytest.approx(expected_figures(replace(defaults, steps=30, temperature=0.1)), abs=0.06)
    assert not page.complaints()


def test_the_command_has_the_settings(page):
    move(page, "alpha", 50)
    move(page, "parts", 1)
    assert page.text("#command").startswith("rwpm-fast demo --seed 0 --out out --alpha 0.5 --steps 3 ")
    assert "--parts 2" in page.text("#command")
    page.click("#reset")
    page.wait("return document.querySelector('#command').textContent.includes('--alpha 0.99')")
    given = re.findall(r"--([a-z-]+) ([0-9.e-]+)", page.text("#command").partition("--out out")[2])
    settings = {name.replace("-", "_"): float(value) for name, value in given}
    whole = {name: int(settings[name]) for name in ("steps", "parts")}
    assert WalkSettings(**settings | whole) == scorer().walk.settings


def test_a_threshold_asks_the_server_for_nothing(page):
    before = requests(page, "/api/")
    told, above = page.text("#threshold-value"), page.text("#metrics")
    page.run("document.querySelector('#threshold').focus()")
    page.press(*["Right"] * 30)
    page.wait("return document.querySelector('#threshold-value').textContent !== arguments[0]", told)
    page.wait("return document.querySelector('#metrics').textContent !== arguments[0]", above)
    page.run("document.querySelector('input[value=score]').click()")
    assert requests(page, "/api/") == before


def drawn(page, pane):
    """How many pixels of a pane's marks are drawn on."""
    return page.run(
        "const c = document.querySelector(arguments[0] + ' .marks');"
        "const { data } = c.getContext('2d').getImageData(0, 0, c.width, c.height);"
        "return data.filter((v, k) => k % 4 === 3 && v).length",
        pane,
    )


def test_neighbors_by_the_pointer(page):
    page.point("#walked", 0.1, 0.2)
    page.wait("return document.querySelectorAll('.bar').length > 0")
    assert drawn(page, "#plain") > 100 and drawn(page, "#walked") > 100
    rows, columns = SIZE[0] / 8, SIZE[1] / 8
    place = page.run("return document.querySelector('#pixel dd').textContent")
    row, column = map(int, place.split(", "))
    assert abs(row + 0.5 - 0.7 * rows) <= 1 and abs(column + 0.5 - 0.6 * columns) <= 1
    page.point("h1", 0, 0)
    page.wait("return document.querySelectorAll('.bar').length === 0")
    assert drawn(page, "#walked") == 0
    page.point("#plain", 0, 0, click=True)  # held
    page.point("h1", 0, 0)
    page.wait("return document.querySelectorAll('.bar').length > 0")


def test_neighbors_by_the_keyboard(page):
    page.run("document.querySelector('#stage').focus()")
    page.press("Down")
    page.wait("return document.querySelector('#live').textContent.startsWith('Row 6, column 12: ')")
    page.press("Down", "Right", "Right")
    said = page.wait(
        "const t = document.querySelector('#live').textContent; return t.startsWith('Row 7, column 14') && t"
    )
    assert re.search(
        r": [a-z ]+, score −?\d+\.\d\d without, −?\d+\.\d\d with the walk\. Neighbors: [a-z ]+ \d+ %", said
    )
    for _ in range(12):
        page.press("Down")
    page.wait("return document.querySelector('#pixel dd').textContent === '11, 14'")  # the border
    page.press("Escape")
    page.wait("return document.querySelectorAll('.bar').length === 0")


def test_everything_is_reached_by_tab_and_has_a_name(page):
    page.run("document.body.focus()")
    names = []
    for _ in range(40):
        page.press("Tab")
        focused = page.command("GET", "/element/active")
        element = next(iter(focused.values()))
        if page.run("return document.activeElement === document.body"):
            break
        ring = page.run(
            "const e = document.activeElement; const s = getComputedStyle(e.type === 'radio' ? e.nextSibling : e);"
            "return [s.outlineStyle, parseFloat(s.outlineWidth)]"
        )
        assert ring[0] == "solid" and ring[1] >= 3, names
        names.append((page.role(element), page.label(element)))
    roles = [role for role, _ in names]
    assert all(label for _, label in names), names
    assert len(set(names)) == len(names)
    assert roles.count("slider") == 7
    assert ("application", "Street 0: photo and anomaly maps, 12 by 24 pixels") in names
    assert ("slider", "Continuing probability α") in names and ("slider", "Threshold") in names
    assert ("button", "Open a photo") in names and ("button", "Next street") in names
    # Of radio buttons one is in the order of Tab.
    assert page.run(SEEN) == len(names) + 2 - page.run(
        "return document.querySelector('.skip').checkVisibility() ? 0 : 0"
    )


def test_an_address_names_a_street(page, served):
    page.open("about:blank")
    page.open(f"http://127.0.0.1:{served.port}/#2")
    page.wait("return document.querySelector('#command')?.textContent.startsWith('rwpm-fast demo --seed 2 ')")
    assert page.text("#street") == "Street 2"


def test_sliders_by_the_keyboard(page):
    page.run("document.querySelector('#steps').focus()")
    page.press("Right", "Right")
    page.wait("return document.querySelector('#command').textContent.includes('--steps 5')")
    assert page.run("return document.querySelector('#steps').getAttribute('aria-valuetext')") == "5"
    page.wait("return document.querySelector('#live').textContent.includes('new map. AP ')")


def test_a_photo_is_opened(page, tmp_path):
    (tmp_path / "photo.png").write_bytes(encoded(picture((120, 80))))
    page.send("#file", str(tmp_path / "photo.png"))
    page.wait("return document.querySelector('#command').textContent.startsWith('rwpm-fast score')")
    page.wait(RESTS)
    assert "80 × 120; 10 × 15 pixels walk" in page.text("#times")
    assert page.run("return document.querySelector('#truth-choice').hidden")
    assert "Above threshold" in page.text("#metrics") and not page.complaints()


@pytest.mark.parametrize(
    ("name", "data", "text"),
    [("a.png", b"text", "not a picture"), ("large.png", b"x" * 300_001, "at most 0.286102294921875 MiB")],
)
def test_a_file_that_is_refused_says_why(page, tmp_path, name, data, text):
    (tmp_path / name).write_bytes(data)
    page.send("#file", str(tmp_path / name))
    page.wait("return !document.querySelector('#error').hidden")
    assert text in page.text("#error-text")
    assert page.role(page.find("#error")) == "alert"
    page.click("#error-close")
    assert page.run("return document.querySelector('#error').hidden")
    move(page, "steps", 7)  # the street is still there
    page.complaints()  # the browser's own line on the refusal


@pytest.mark.parametrize(("width", "height"), [(320, 640), (390, 844), (820, 1180)])
def test_narrow_screens(page, width, height):
    page.screen(width, height, phone=True)
    page.wait("return document.documentElement.clientWidth === arguments[0]", width)
    assert page.run("return document.documentElement.scrollWidth") <= width
    small = page.run(
        f"return [...document.querySelectorAll(`{CONTROLS}`)]"
        ".filter((e) => e.checkVisibility() && !e.closest('.skip, pre'))"
        ".map((e) => [e.id, e.closest('label')?.getBoundingClientRect() ?? e.getBoundingClientRect()])"
        ".filter(([, b]) => b.height < 24 || b.width < 24).map(([id]) => id)"
    )
    assert not small
    page.run("document.querySelector('#tolerance').scrollIntoView({ block: 'center' })")
    page.wait("return document.querySelector('#stage').classList.contains('pinned')")
    bottom = page.run("return document.querySelector('#stage').getBoundingClientRect().bottom")
    assert 0 < bottom < page.run("return document.querySelector('#tolerance').getBoundingClientRect().top")
    page.run("scrollTo(0, 0)")
    page.wait("return !document.querySelector('#stage').classList.contains('pinned')")


CONTRAST = """
const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
const rgba = (color) => {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = color;
  canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
  .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
  .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
const background = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const color = rgba(getComputedStyle(e).backgroundColor);
    if (color[3] === 255) return color;
  }
  return [255, 255, 255];
};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const found = [];
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.textContent.trim() || !element.checkVisibility()) continue;
  if (element.closest(".unseen, noscript")) continue;
  const [a, b] = [light(rgba(getComputedStyle(element).color)), light(background(element))];
  found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), walker.currentNode.textContent.trim()]);
}
return found;
"""


@pytest.mark.parametrize("dark", [False, True])
def test_texts_stand_out(page, dark):
    page.screen(1280, 900, dark=dark)
    page.point("#plain", 0, 0, click=True)
    page.wait("return document.querySelectorAll('.bar').length > 0")
    paper = page.run("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", paper))) < 150) == dark
    contrasts = page.run(CONTRAST)
    assert len(contrasts) > 50
    assert not [(round(ratio, 2), text) for ratio, text in contrasts if ratio < 4.5]


def test_motion_is_reduced_where_wanted(page):
    moving = "return [getComputedStyle(document.querySelector('.dots')).animationName, "
    moving += "getComputedStyle(document.querySelector('.base')).transitionDuration]"
    assert page.run(moving) == ["none", "0s"]
    page.screen(1280, 900, still=False)
    assert page.run(moving) == ["pulse", "0.15s"]
