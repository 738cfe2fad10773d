from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from lampwork._core.errors import RecordError
from lampwork.diagnose.finding import Finding
from lampwork.view import report as module
from lampwork.view.figures import Illustration
from lampwork.view.report import LIMIT_BYTES, html, write_html

DEAD = Finding(
    "act-dead", "fail", "layers.3", 40, {"dead_share": 0.97, "units": 128},
    "Lower the learning rate.\noptimizer.param_groups[0]['lr'] *= 0.1",
)  # fmt: skip
STARVED = Finding("data-starved", "warn", None, 0, {"wait_share": 0.41}, "Use more workers.")
EVIL = "</script x</script><script>alert(1)</script><img src=x onerror=alert(1)> \" ' https://evil.example"
VOID = {"meta", "br", "img", "hr", "link", "input"}


class Page(HTMLParser):
    """The page as a tree that must be well-nested; gathers what the tests ask for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"<{tag}> repeats an attribute"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        for tag in self.open[-1:]:
            self.texts.setdefault(tag, []).append(data)

    def text(self, tag: str) -> list[str]:
        return [text.strip() for text in self.texts.get(tag, []) if text.strip()]

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_the_page_stands_alone(mlp):
    """No address, no link, no script to run, every reference within the page, ids unique."""
    text = html(mlp.add_pictures().read(), [DEAD])
    page = Page(text)
    assert "http://" not in text
    assert "https://" not in text
    assert [script["type"] for script in page.all("script")] == ["application/json"]
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        for name in ("href", "src"):
            target = attributes.get(name) or "data:"
            assert target.startswith("data:") or target.removeprefix("#") in ids
        assert not [name for name in attributes if name.startswith("on")]
    assert set(re.findall(r"url\(#([^)]*)\)", text)) <= set(ids)


def test_the_page_tells_the_verdict_first(mlp):
    """Verdict, findings in their order, facts, figures, loader and layers follow one another."""
    page = Page(html(mlp.add_pictures().read(), [DEAD, STARVED]))
    assert page.text("h1") == ["Fail"]
    assert page.text("h2") == [
        "What to mend, first things first", "The run", "Pictures of the run", "Data loading",
        "Layers",
    ]  # fmt: skip
    codes = page.text("code")
    assert codes[:4] == ["act-dead", "act-dead", "optimizer.param_groups[0]['lr'] *= 0.1",
                         "data-starved"]  # fmt: skip
    assert page.text("span")[:2] == ["Fail", "Warning"]
    assert {"97 %", "128", "41 %"} <= set(page.text("td"))
    assert "Lower the learning rate." in page.text("p")
    assert "Units that always put out zero, at layers.3 since step 40." in page.text("p")
    assert {"1,234", "25 %", "1.5 s", "arena"} <= set(page.text("dd"))
    assert "The loader is the limit." in " ".join(page.text("p"))


def test_every_figure_has_heading_picture_and_caption(mlp):
    """Ten figures, each with a title that wraps, a label for screen readers and a sentence."""
    page = Page(html(mlp.add_pictures().read(), []))
    assert len(page.all("figure")) == len(page.text("figcaption")) == 10
    titles = [title for title in page.text("h3") if ":" in title]
    assert len(titles) == 10
    assert "Gradient by depth: a line that falls to the left is a vanishing gradient" in titles
    drawn = [svg for svg in page.all("svg") if svg.get("role") == "img"]
    assert len(drawn) == 10
    assert all(svg["aria-label"] for svg in drawn)
    assert page.all("html") == [{"lang": "en"}]


@pytest.mark.parametrize(("findings", "word"), [([], "Pass"), ([STARVED], "Warning")])
def test_the_word_is_the_worst_severity(mlp, findings, word):
    """Without a finding a run passes; with a warning it is warned of, in words."""
    assert Page(html(mlp.read(), findings)).text("h1") == [word]


def test_what_a_record_says_is_only_text(build):
    """Markup in model, module, scalar, loader and finding comes out as text everywhere."""
    made = build("evil<b>", model=EVIL, optimizers=[EVIL], lampwork=EVIL, torch=EVIL, started=EVIL)
    made.add("output", f"a.{EVIL}", 0, np.ones((2, 2)), module=EVIL)
    for kind in ("weight", "grad", "update"):
        made.add(kind, f"a.{EVIL}.weight", 0, np.ones((2, 2)), module=EVIL)
    made.writer.scalar(0, f"loss {EVIL}", 1.0)
    made.writer.scalar(0, EVIL, 1.0)
    made.writer.picture(0, EVIL, "kernels", (1, 2, 2), b"\0\1\2\3")
    made.writer.loader(EVIL, {"bottleneck": EVIL, "engine": EVIL})
    finding = Finding(EVIL, "warn", EVIL, 0, {EVIL: EVIL, "x": [EVIL]}, f"{EVIL}\n{EVIL}")
    text = html(made.read(), [finding])
    page = Page(text)
    assert len(page.all("script")) == 1
    assert not page.all("img")
    assert "https://" not in text
    assert page.text("title") == ["warn: evil<b>"]
    assert page.text("dd")[0] == EVIL
    assert "<" not in page.text("script")[0]
    found = json.loads(page.text("script")[0])["findings"]
    assert found == [finding.as_json()]


def test_the_report_is_there_for_programs(mlp):
    """The JSON in the page is the report with the findings that the page shows."""
    infinite = Finding("loss-nonfinite", "fail", None, 3, {"value": np.inf, "all": [np.nan]})
    data = json.loads(Page(html(mlp.read(), [infinite])).text("script")[0])
    assert data["schema"] == 1
    assert data["run"] == "mlp"
    assert data["verdict"] == "fail"
    assert data["findings"] == [
        {**infinite.as_json(), "evidence": {"value": "Infinity", "all": ["NaN"]}}
    ]


def test_a_record_without_steps_makes_a_page(build):
    """A run that never stepped has a verdict and its facts, nothing else, and is well-formed."""
    page = Page(html(build().read(), []))
    assert page.text("p")[1] == "No optimizer step was recorded."
    assert page.text("h2") == ["The run"]


def test_a_record_with_nan_everywhere_makes_a_page(build):
    """NaN and infinity in statistics, scalars and loaders are told, not stumbled over."""
    made = build()
    for step in (0, 10):
        for kind in ("output", "weight", "grad", "update"):
            made.add(kind, "a.weight", step, np.array([[np.nan, np.inf], [-np.inf, np.nan]]))
        made.writer.scalar(step, "loss", np.nan)
        made.writer.scalar(step, "other", np.inf)
    made.writer.loader("D", {"wait_s": np.nan, "wait_share": np.nan, "epoch_s": None})
    page = Page(html(made.read(), []))
    assert "NaN" in page.text("dd")
    assert len(page.all("figure")) == 4


def test_a_large_record_stays_small(build):
    """500 tensors over 50 steps make a page under 2 MB, whose table ends at 200 layers."""
    made = build()
    for i in range(100):
        values = np.random.default_rng(i).normal(size=(3, 3))
        for step in range(50):
            made.add("output", f"layer{i}", step, values)
            made.add("grad_output", f"layer{i}", step, values)
            for kind in ("weight", "grad", "update"):
                made.add(kind, f"layer{i}.weight", step, values)
    for i in range(150):
        made.add("output", f"more{i}", 49, np.ones(3))
    for step in range(5000):
        made.writer.scalar(step, "loss", float(np.sin(step)))
    text = html(made.read(), [DEAD] * 150)
    assert len(text.encode()) < LIMIT_BYTES / 2
    page = Page(text)
    assert sum("scope" in th and th["scope"] == "row" for th in page.all("th")) == 200 + 100 * 2
    assert any(p.startswith("The first 200 of 250 layers.") for p in page.text("p"))
    assert "50 more findings are not shown here." in page.text("p")


def test_plan_and_check_have_a_table(build):
    """Each planned tensor has a row with what was planned and measured; 2,000 rows end at 200."""
    scheme = "orthogonal(gain=2.9360225210935855)"
    rows = [{"name": f"fc{i}.weight", "shape": [8, 4], "scheme": scheme, "std": 0.02,
             "reason": "because <b>"} for i in range(2000)]  # fmt: skip
    seen = {"name": "fc0.weight", "measured": 0.0199, "status": "WARN", "notes": ["init-zero"]}
    check = {"verdict": "WARN", "findings": [{}], "rows": [seen]}
    made = build(plan={"seed": 7, "rows": rows}, check=check)
    text = html(made.read(), [])
    assert len(text.encode()) < LIMIT_BYTES / 4
    page = Page(text)
    assert "First weights" in page.text("h2")
    told = " ".join(page.text("p"))
    assert "The first 200 of 2,000 tensors, written with seed 7." in told
    assert "The check before training: warn, 1 finding." in told
    first = page.text("td")[:6]
    assert first == [
        "8 × 4",
        "orthogonal(gain=2.936)",
        "0.02",
        "0.0199",
        "warn init-zero",
        "because <b>",
    ]


def test_pictures_go_first_when_the_page_is_too_large(mlp, monkeypatch):
    """Beyond the limit the pictures are left out, then all figures, and the page says so."""
    record = mlp.add_pictures().read()
    whole = len(html(record, []).encode())
    monkeypatch.setattr(module, "LIMIT_BYTES", whole - 1)
    page = Page(html(record, []))
    assert len(page.all("figure")) == 5
    assert page.text("p")[2].startswith("The pictures are left out to keep this page under 2 MB.")
    monkeypatch.setattr(module, "LIMIT_BYTES", whole // 3)
    page = Page(html(record, []))
    assert not page.all("figure")
    assert page.text("p")[2].startswith("All figures are left out")


def test_evidence_that_is_left_out_is_counted(mlp):
    """Of 15 numbers a finding shows twelve and says that three more are in the JSON."""
    finding = Finding("x", "warn", None, 0, {f"n{i}": i for i in range(15)})
    assert Page(html(mlp.read(), [finding])).text("td")[11:13] == ["11", "3 more in the JSON below"]


def test_no_list_of_findings_is_too_long(mlp):
    """120 findings with long texts still make a page within the limit."""
    finding = Finding("x" * 500, "warn", "<" * 5000, 0, {f"&{i}": "<" * 500 for i in range(50)},
                      "<" * 5000 + "\n" + "<" * 5000)  # fmt: skip
    text = html(mlp.read(), [finding] * 120)
    assert len(text.encode()) <= LIMIT_BYTES
    assert "100 more findings are not shown here." in Page(text).text("p")


def test_a_figure_that_fails_does_not_cost_the_verdict(mlp, monkeypatch):
    """The page says which figure cannot be drawn, and why, and shows the others."""

    def broken(record):
        raise ZeroDivisionError("<no>")

    monkeypatch.setattr(module, "ALL", (Illustration(broken, ""), *module.ALL))
    page = Page(html(mlp.read(), []))
    assert "The figure “broken” cannot be drawn: ZeroDivisionError('<no>')" in page.text("p")
    assert page.text("h1") == ["Pass"]
    assert len(page.all("figure")) == 5


def test_the_same_record_gives_the_same_page(mlp):
    """Neither time nor chance is in the page."""
    record = mlp.add_pictures().read()
    assert html(record, [DEAD]) == html(record, [DEAD])


def test_write_html_returns_the_path(mlp, tmp_path):
    """The file holds what `html` gives, in UTF-8."""
    record = mlp.read()
    path = write_html(record, [DEAD], str(tmp_path / "page.html"))
    assert path == tmp_path / "page.html"
    assert path.read_text(encoding="utf-8") == html(record, [DEAD])


def test_a_folder_that_does_not_exist_is_named(mlp, tmp_path):
    """Cause, value and cure when the page cannot be written."""
    path = tmp_path / "nowhere" / "page.html"
    with pytest.raises(RecordError, match=r"cannot write the report '.*nowhere.*': No such file"):
        write_html(mlp.read(), [], path)
