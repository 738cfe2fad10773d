"""The page in a browser: every view, on a recorded run and on one that is being trained."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from tests.web.conftest import BROKEN, HOSTILE, LIVE, SOUND

SHOWS = {
    "overview": "Step time",
    "layers": "Heat map",
    "pictures": "Feature maps",
    "data": "Digits",
    "initialisation": "Signal at step 0",
    "compare": "Facts of the run",
}
COLOURS = """canvas => {
  const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  const found = new Set();
  for (let i = 0; i < data.length; i += 4) found.add(data[i] << 16 | data[i+1] << 8 | data[i+2]);
  return found.size;
}"""

CELLS = """(canvas, [rows, columns, rgb]) => {
  const context = canvas.getContext('2d'), axis = 22 * devicePixelRatio;
  const pixel = (x, y) => Array.from(context.getImageData(x, y, 1, 1).data).slice(0, 3).join();
  const found = [];
  for (let row = 0; row < rows; row++) for (let column = 0; column < columns; column++) {
    const x = canvas.width - (columns - column - 0.5) * (canvas.width - 60) / columns;
    const y = (row + 0.5) * (canvas.height - axis) / rows;
    if (pixel(Math.round(x), Math.round(y)) === rgb.join()) found.push([row, column]);
  }
  return found;
}"""


# Texts of which the contrast with what is painted behind them is below that of WCAG 2 for level AA.
# A colour of the style sheet may be half transparent or mixed, so the browser itself lays one over
# the other. Words on a scale of colours have a shadow in place of a contrast.
PALE = """() => {
  const paint = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const light = colours => {
    paint.clearRect(0, 0, 1, 1);
    for (const colour of colours) { paint.fillStyle = colour; paint.fillRect(0, 0, 1, 1); }
    const [r, g, b] = Array.from(paint.getImageData(0, 0, 1, 1).data)
      .map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  };
  const found = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some(one => one.nodeType === 3 && one.data.trim());
    const style = getComputedStyle(element), box = element.getBoundingClientRect();
    if (!own || box.width < 3 || style.textShadow !== 'none') continue;
    const behind = [];
    for (let at = element; at; at = at.parentElement)
      behind.unshift(getComputedStyle(at).backgroundColor);
    const back = light(behind), front = light([...behind, style.color]);
    const contrast = Math.max(back, front) / Math.min(back, front);
    if (contrast < 4.5) found.push([element.className, element.textContent.trim(), contrast]);
  }
  return found;
}"""


MOVES_WITHIN_MS = 60_000
"""A page that follows a run asks again every 10 s at the latest; answers take long on two cores."""


def where(run: str, view: str) -> str:
    """The address of a view."""
    return f"#/{quote(run, safe='')}/{view}"


def heading(page, text: str):
    """The heading of a panel."""
    return page.get_by_role("heading", name=text, exact=True).first


def drawn(page, test_id: str) -> int:
    """How many colours a canvas has, once it has any."""
    canvas = page.get_by_test_id(test_id).first
    canvas.wait_for()
    page.wait_for_function(f"canvas => ({COLOURS})(canvas) > 3", arg=canvas.element_handle())
    return canvas.evaluate(COLOURS)


@pytest.mark.parametrize("view", SHOWS)
def test_every_view_opens_on_a_recorded_run(open_page, view):
    """Each view shows its panel, and fits a screen of 360 pixels without scrolling sideways."""
    page = open_page(where(SOUND, view), width=360)
    heading(page, SHOWS[view]).wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", SHOWS)
def test_every_text_can_be_read_on_a_narrow_screen_in_chinese(open_page, view, scheme):
    """At 360 pixels nothing sticks out in Chinese, and no text is paler than WCAG's level AA."""
    path = where(BROKEN, view) + ("?layer=net.c" if view == "layers" else "")
    page = open_page(path, width=360, scheme=scheme, locale="zh-CN")
    page.locator("main h2").first.wait_for()
    if view == "layers":
        heading(page, "net.c").wait_for()
    assert page.locator("html").get_attribute("lang") == "zh"
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.evaluate(PALE) == []


def test_every_view_opens_on_a_run_that_is_being_trained(open_page):
    """While training writes, each view opens and the number of steps rises by itself."""
    page = open_page(where(LIVE, "overview"))
    page.locator(".state.live").wait_for()
    steps = page.locator(".facts dt", has_text="recorded steps").locator("xpath=../dd")
    before = int(steps.inner_text().replace(",", ""))
    page.wait_for_function(
        "([element, before]) => Number(element.textContent.replace(',', '')) > before",
        arg=[steps.element_handle(), before],
        timeout=MOVES_WITHIN_MS,
    )
    page.get_by_text("of the time waiting for data").wait_for()
    assert page.locator(".panel", has_text="Step time").locator(".u-wrap").count() == 3
    for view, text in SHOWS.items():
        if view == "data":
            text = "TensorDataset"
        page.get_by_role("navigation").get_by_role("link").nth(list(SHOWS).index(view)).click()
        page.locator("main").get_by_text(text).first.wait_for()


def test_a_clicked_row_shows_its_histogram(open_page):
    """A click on the heat map chooses a layer, and its histogram over time is drawn."""
    page = open_page(where(SOUND, "layers"))
    assert drawn(page, "heat") > 5
    page.get_by_role("application", name="Heat map").click(position={"x": 600, "y": 27})
    heading(page, "net.b").wait_for()
    assert drawn(page, "histogram") > 5
    page.get_by_role("button", name="gradient of output").click()
    page.get_by_text("net.b · 64 × 5").wait_for()
    page.get_by_role("button", name="output · call 2").click()
    page.get_by_text("net.b#2 · 64 × 5").wait_for()


def test_each_cell_has_the_colour_of_its_value(open_page):
    """Where NaN was, in the last column of the last two rows, and only there, is the mark of it."""
    page = open_page(where(BROKEN, "layers"))
    assert drawn(page, "heat") > 5
    marked = page.get_by_test_id("heat").evaluate(CELLS, [5, 4, [214, 39, 103]])
    assert marked == [[3, 3], [4, 3]]


def test_layers_can_be_reached_by_keys_alone(open_page):
    """Arrow keys walk the tree and the heat map, Enter opens, Escape undoes a zoom."""
    page = open_page(where(SOUND, "layers"))
    tree = page.get_by_role("tree")
    tree.get_by_role("treeitem").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    heading(page, "net.a").wait_for()
    over = page.get_by_role("application", name="Heat map")
    over.focus()
    for key in ("ArrowDown", "ArrowDown", "Home", "Enter"):
        page.keyboard.press(key)
    page.wait_for_function("document.querySelector('#detail h2').textContent !== 'net.a'")
    page.keyboard.press("+")
    page.get_by_role("button", name="All steps").first.wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="All steps").first.wait_for(state="detached")


def test_a_finding_leads_to_its_layer(open_page):
    """The verdict stands first with its evidence; its place is a link to that layer."""
    page = open_page(where(BROKEN, "overview"))
    heading(page, "fail").wait_for()
    card = page.locator(".finding", has_text="act-nonfinite")
    assert card.locator(".advice").inner_text()
    assert card.locator(".evidence dd").count() > 0
    card.get_by_role("link").click()
    heading(page, "net.c").wait_for()


def test_pictures_follow_the_slider(open_page):
    """Tiles are drawn, and the change of the kernels shows only after the first step."""
    page = open_page(where(SOUND, "pictures"))
    assert drawn(page, "tiles") > 20
    assert drawn(page, "change") > 20
    heads = page.get_by_role("img", name="Attention of a.conv at step 30")
    assert heads.evaluate(COLOURS) > 20
    page.get_by_role("slider").focus()
    page.keyboard.press("Home")
    page.get_by_test_id("change").wait_for(state="detached")


def test_maps_lie_over_the_examples(open_page):
    """Grad-CAM and saliency are drawn over the probe's images, in more colours than heat has."""
    page = open_page(where(SOUND, "pictures"))
    assert drawn(page, "input") > 20
    for map_ in ("grad_cam", "saliency"):
        assert drawn(page, map_) > 100
    figure = page.get_by_role("region", name="Where it looks").locator("figure").nth(1)
    assert "Grad-CAM" in figure.locator("figcaption").inner_text()


def test_plan_and_check_of_a_live_run_are_shown(open_page):
    """The Initialisation view has the rows that were planned and checked before the run."""
    page = open_page(where(LIVE, "initialisation"))
    plan = page.get_by_role("region", name="Plan").first
    plan.get_by_text("written with seed 5").wait_for()
    assert "0.weight" in plan.locator("tbody").inner_text()
    check = page.get_by_role("region", name="Check").first
    assert check.locator(".checked b").inner_text() in ("pass", "warn")
    assert "measured std" in check.locator("thead").inner_text()


def test_a_live_run_is_redrawn_without_losing_its_place(open_page):
    """While new steps come in, the chosen layer, the cursor and the zoom stay."""
    page = open_page(where(LIVE, "layers") + "?layer=0")
    canvas = page.get_by_test_id("heat")
    assert drawn(page, "histogram") > 3
    over = page.get_by_role("application", name="Heat map")
    over.focus()
    for key in ("Home", "ArrowDown"):
        page.keyboard.press(key)
    readout = page.locator(".readout").first
    told = readout.inner_text()
    assert "step 0" in told
    before = canvas.get_attribute("data-steps")
    page.wait_for_function(
        "([canvas, before]) => canvas.dataset.steps !== before",
        arg=[canvas.element_handle(), before],
        timeout=MOVES_WITHIN_MS,
    )
    assert readout.inner_text().split(" · ")[:2] == told.split(" · ")[:2]
    heading(page, "0").wait_for()


def test_two_runs_are_compared(open_page):
    """The other run's curve and the findings that only one of them has are shown."""
    page = open_page(where(SOUND, "compare") + f"?with={quote(BROKEN, safe='')}")
    heading(page, f"only in {BROKEN}").wait_for()
    page.locator(".difference").get_by_text("act-nonfinite").wait_for()
    legend = page.get_by_role("region", name="loss").locator(".legend")
    assert SOUND in legend.inner_text()
    assert BROKEN in legend.inner_text()
    canvas = page.get_by_role("region", name="loss").locator("canvas").first
    assert canvas.evaluate(COLOURS) > 10


def test_language_and_colours_are_switched_and_kept(open_page):
    """Chinese and dark hold at once and after a reload; findings stay readable in English."""
    page = open_page(where(BROKEN, "overview"))
    page.get_by_label("Language").select_option("zh")
    page.get_by_role("link", name="初始化").wait_for()
    assert page.locator("html").get_attribute("lang") == "zh"
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_label("配色").select_option("dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    page.reload()
    page.get_by_role("link", name="初始化").wait_for()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    assert "NaN" in page.locator(".finding .advice").first.inner_text()


def test_a_name_is_never_markup(open_page):
    """A module that calls itself like an element is shown by its letters."""
    page = open_page(where(SOUND, "layers"))
    page.get_by_role("treeitem").get_by_text(HOSTILE).wait_for()
    assert page.locator("img[src=x]").count() == 0


def test_the_bare_address_leads_to_the_newest_run(open_page):
    """Without a run in the address one is chosen, and the list has all of them."""
    page = open_page("")
    page.wait_for_url("**/overview")
    assert page.get_by_role("combobox", name="Run").locator("option").count() == 3
