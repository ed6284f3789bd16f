"""The page of a sweep: whole in one file, true to sweep.json, safe, and readable in a browser."""

import base64
import io
import json
import math
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support import runs, sweeps
from tfp_smvi.core.estimates import Estimate
from tfp_smvi.report import figures
from tfp_smvi.report.cells import format_estimate
from tfp_smvi.report.differences import crossed_mean, format_difference
from tfp_smvi.report.divergence_names import divergence_in_math, divergence_in_words
from tfp_smvi.report.page import render_report, write_report
from tfp_smvi.sweeps.results import read_sweep

EVIL = "<script>alert(1)</script> & \"'"


class Page(HTMLParser):
    """A page's elements in order, its text, and its tables as rows of cells."""

    VOID = frozenset({"img", "source", "meta", "link", "br"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "sub":
            self.handle_data("_")  # as in D_SM
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag == "td":
            self.tables[-1][-1][-1] = self.tables[-1][-1][-1].strip()

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.text += data
        if {"td", "th"} & {*self.open}:
            self.tables[-1][-1][-1] += data

    def find(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A sweep with all that can be in one, and what its sweep.json holds."""
    path = tmp_path_factory.mktemp("sweep") / "grid"
    lams, states = (-0.1, 0.0, 0.5, math.inf), {(0.5, 1): "failed"}
    return path, sweeps.write_sweep(path, lams, (0, 1, 2), latent_dim=2, states=states)


@pytest.fixture(scope="module")
def html(written: tuple[Path, dict[str, Any]]) -> str:
    return render_report(read_sweep(written[0]))


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_images_are_inside_and_have_alternative_texts(page: Page) -> None:
    """Each is there for a wide screen and for a narrow one."""
    images, narrow = page.find("img"), page.find("source")
    assert len(images) == len(narrow) == 12
    for image in images:
        assert "λ = \N{MINUS SIGN}0.1, 0, 0.5, ∞" in (image["alt"] or "")
    for image, other in zip(images, narrow, strict=True):
        assert int(other["width"] or 0) == 448 < int(image["width"] or 0)
        assert "max-width" in (other["media"] or "")
    for image in images + narrow:
        kind, _, data = (image.get("src") or image["srcset"] or "").partition(",")
        assert kind == "data:image/png;base64"
        with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as picture:
            picture.load()
            shape = picture.width / picture.height
        assert int(image["width"] or 0) / int(image["height"] or 1) == pytest.approx(
            shape, rel=0.01
        )


def test_captions_are_above_what_they_describe(page: Page) -> None:
    tags = [tag for tag, _ in page.elements if tag != "sub"]  # as in D_SM
    inside = [
        tuple(tags[start + 1 : start + 3]) for start, tag in enumerate(tags) if tag == "figure"
    ]
    assert {*inside} <= {("figcaption", "strong"), ("figcaption", "div")}
    assert len(inside) == 12 + len(
        [tag for tag in page.elements if tag[1].get("class") == "scroll"]
    )


def test_nothing_outside_the_page_is_referred_to(page: Page, html: str) -> None:
    for tag, attributes in page.elements:
        assert tag not in ("script", "iframe", "object", "embed", "base", "form")
        for name in ("src", "href", "srcset", "data", "action"):
            assert (attributes.get(name) or "#").startswith(("data:", "#")), (tag, name)
        assert not [name for name in attributes if name.startswith("on")]
    assert "@import" not in html
    assert "url(" not in html


def test_page_has_a_language_a_title_headings_and_table_headers(page: Page) -> None:
    assert page.find("html")[0]["lang"] == "en"
    assert len(page.find("title")) == len(page.find("h1")) == 1
    assert all(header["scope"] in ("col", "row") for header in page.find("th"))
    assert {len(row) for table in page.tables for row in table[1:]} <= {
        len(table[0]) for table in page.tables
    }
    targets = {attributes.get("id") for _, attributes in page.elements}
    assert {(link["href"] or "")[1:] for link in page.find("a")} <= targets
    assert {table["aria-labelledby"] for table in page.find("table")} <= targets


def test_tables_hold_the_numbers_of_the_json_with_their_errors(
    page: Page, written: tuple[Path, dict[str, Any]]
) -> None:
    gap = sweeps.find_run(written[1], 0.0, 1)["evaluation"]["splits"]["test"]["gap"]
    evaluation = page.tables[0]
    (row,) = [row for row in evaluation if row[:3] == ["0", "1", "test"]]
    assert row[evaluation[0].index("gap")] == f"{gap['mean']:.3f} ± {gap['standard_error']:.3f}"
    result = sweeps.find_run(written[1], math.inf, 0)["classification"]["results"][0]
    accuracy = next(table for table in page.tables if table[-1][0] == "PCA")
    (row,) = [row for row in accuracy if row[:2] == ["∞", "0"]]
    assert row[2] == f"{100 * result['mean']:.2f} ± {100 * result['standard_error']:.2f}"
    assert [row[0] for row in accuracy[-2:]] == ["raw pixels", "PCA"]


def test_means_are_over_the_seeds_that_every_lam_has(
    page: Page, written: tuple[Path, dict[str, Any]]
) -> None:
    """Seed 1 failed at one lam: elsewhere it has a row, and is in the mean of differences only."""

    def accuracies(lam: float, seed: int) -> np.ndarray:
        return 100 * np.array(
            sweeps.find_run(written[1], lam, seed)["classification"]["results"][0]["values"]
        )

    differences = np.stack([accuracies(-0.1, seed) - accuracies(0.0, seed) for seed in (0, 1, 2)])
    mean = crossed_mean(differences / 100)
    tables = [
        table
        for table in page.tables
        if ["\N{MINUS SIGN}0.1", "mean"] in [row[:2] for row in table]
    ]
    evaluation, _, accuracy, _, difference, _ = (
        next(row for row in table if row[:2] == ["\N{MINUS SIGN}0.1", "mean"]) for table in tables
    )
    assert difference[2] == format_difference(mean)
    one, other = sorted(accuracies(-0.1, seed).mean() for seed in (0, 2))
    assert accuracy[2] == f"{(one + other) / 2:.2f} ({one:.2f} to {other:.2f})"
    gaps = [
        sweeps.find_run(written[1], -0.1, seed)["evaluation"]["splits"]["test"]["gap"]["mean"]
        for seed in (0, 2)
    ]
    assert evaluation[2] == "test"
    assert evaluation[3] == f"{np.mean(gaps):.3f} ({min(gaps):.3f} to {max(gaps):.3f})"
    assert ["\N{MINUS SIGN}0.1", "1"] in [row[:2] for row in tables[0]]
    assert "all λ have 0, 2." in page.text


def test_differences_are_told_epoch_by_epoch(
    page: Page, written: tuple[Path, dict[str, Any]]
) -> None:
    table = next(table for table in page.tables if table[0][:3] == ["λ", "labels", "epoch 25"])
    values = []
    for lam in (0.5, 0.0):
        for seed in (0, 2):
            report = sweeps.find_run(written[1], lam, seed)["classification_by_epoch"]["25"]
            values.append(100 * np.array(report["results"][0]["values"]))
    paired = crossed_mean((np.stack(values[:2]) - np.stack(values[2:])) / 100)
    (row,) = [row for row in table if row[:2] == ["0.5", "600"]]
    assert row[2] == format_difference(paired)


def test_failed_runs_warnings_command_and_settings_are_told(
    page: Page, written: tuple[Path, dict[str, Any]]
) -> None:
    assert "lam 0.5, seed 1: failed (the objective is not finite at step 412)" in page.text
    for run in written[1]["runs"]:
        for warning in (run["evaluation"] or {"warnings": []})["warnings"]:
            assert warning in page.text
    assert "have an effective sample size under 2" in page.text
    assert "tfp-smvi sweep --lams -0.1,0.0,0.5,inf --sweep-dir 'a sweep'" in page.text
    assert "Runs and commands" not in page.text
    settings = [row for table in page.tables for row in table]
    for row in (
        [
            "hidden sizesUnits of the encoder's fully connected hidden layers; the decoder mirrors "
            "them.",
            "1024, 1024",
        ],
        ["number of chainsAnnealed chains per example.", "16"],
        ["labelled subsetsLabelled subsets of each size.", "10"],
        [
            "epochs between classificationsClassify also after every N-th epoch, and keep its "
            "checkpoint.",
            "only the last",
        ],
        ["Python", "3.11.7"],
        ["CPU threads", "2"],
    ):
        assert row in settings


@pytest.mark.usefixtures("no_figures")
def test_a_sweep_whose_lam_did_not_grow_is_not_certified(tmp_path: Path) -> None:
    """Also if its sweep.json was written before there were warnings of the training."""
    summary = sweeps.write_sweep(tmp_path, (0.0, 10.0), galleries=False)
    for run in summary["runs"]:
        run["evaluation"]["warnings"] = []
    summary["config"]["train"]["train"]["lam_warmup_steps"] = 93_600  # twice the steps
    (tmp_path / "sweep.json").write_text(json.dumps(summary))
    text = Page(render_report(read_sweep(tmp_path))).text
    assert "lam grows to 2.5 of 10 only: the training has 46800 steps" in text
    assert "no warning" not in text


def test_no_setting_has_the_name_of_a_field(page: Page) -> None:
    names = {row[0] for table in page.tables for row in table if table[0][0] == "setting"}
    assert len(names) > 30
    values = ("D_SM", "D_w", "negative_binomial")
    for value in values:
        names = {name.replace(value, "") for name in names}
    assert not [name for name in names if "_" in name]


@pytest.mark.usefixtures("no_figures")
def test_table_says_what_lam_has_reached(tmp_path: Path) -> None:
    """The warm-up is twice as long as the training, and quadratic; inf has none."""
    summary = sweeps.write_sweep(tmp_path, (0.0, 0.5, math.inf), galleries=False)
    summary["config"]["train"]["train"]["lam_warmup_steps"] = 2 * 468 * sweeps.EPOCHS
    (tmp_path / "sweep.json").write_text(json.dumps(summary))
    header, *rows = Page(render_report(read_sweep(tmp_path))).tables[0]
    reached = {row[0]: row[header.index("λ reached")] for row in rows}
    assert reached == {"0": "0", "0.5": "0.125", "∞": "∞"}
    assert "divergence D_SM" in header
    assert "divergence D_w" in header


@pytest.mark.usefixtures("no_figures")
def test_a_sweep_with_the_weighted_divergence_says_so(tmp_path: Path) -> None:
    summary = sweeps.write_sweep(tmp_path, (0.0, 0.5), galleries=False)
    summary["config"]["train"]["train"]["divergence"] = "weighted"
    for run in summary["runs"]:
        for split in run["evaluation"]["splits"].values():
            del split["weighted_divergence"]  # as of version 0.1
    (tmp_path / "sweep.json").write_text(json.dumps(summary))
    sweep = read_sweep(tmp_path)
    page = Page(render_report(sweep))
    assert "λ · D_w(q(z|x), p(z|x))" in page.text
    assert divergence_in_words(sweep) == (
        "weighted divergence D_w(q(z|x), p(z|x)), in squared nats"
    )
    assert divergence_in_math(sweep).startswith("$D_{w}(")
    assert "divergence D_w" not in page.tables[0][0]


def test_every_divergence_has_its_subscript(html: str) -> None:
    assert "score-matching divergence D<sub>SM</sub>(q(z|x), p(z|x))" in html  # a caption
    assert "D<sub>w</sub>" in html  # a column
    assert "D_SM" not in html
    assert "D_w" not in html


@pytest.mark.usefixtures("no_figures")
def test_all_commands_that_made_a_grid_are_told(tmp_path: Path) -> None:
    first, last = ["tfp-smvi", "sweep", "--lams", "0"], ["tfp-smvi", "sweep", "--lams", "0.5"]
    sweeps.write_sweep(
        tmp_path, (0.0, 0.5), galleries=False, earlier_commands=[first], command=last
    )
    page = Page(render_report(read_sweep(tmp_path)))
    assert "Runs and commands" in page.text
    assert page.text.index(" ".join(first)) < page.text.index(" ".join(last))


@pytest.mark.usefixtures("no_figures")
def test_commands_break_between_options_only(tmp_path: Path) -> None:
    command = ["tfp-smvi", "sweep", "--lams", "-0.1,0", "--sweep-dir", "a sweep", "--redo"]
    sweeps.write_sweep(tmp_path, (0.0,), galleries=False, command=command)
    parts = ("tfp-smvi sweep", "--lams -0.1,0", "--sweep-dir &#39;a sweep&#39;", "--redo")
    spans = " ".join(f"<span>{part}</span>" for part in parts)
    assert f"<code>{spans}</code>" in render_report(read_sweep(tmp_path))


@pytest.mark.usefixtures("no_figures")
def test_text_from_files_is_escaped(tmp_path: Path) -> None:
    summary = sweeps.write_sweep(tmp_path, (0.0, 0.5), states={(0.5, 0): "failed"}, galleries=False)
    summary["command"].append(EVIL)
    summary["config"]["train"]["data"]["dataset"] = EVIL
    summary["environment"]["versions"][EVIL] = EVIL
    summary["runs"][0]["evaluation"]["warnings"] = [EVIL]
    summary["runs"][0]["classification"]["warnings"] = [EVIL]  # which is reported once
    summary["runs"][1]["error"] = EVIL
    (tmp_path / "sweep.json").write_text(json.dumps(summary))
    page = Page(render_report(read_sweep(tmp_path)))
    assert page.find("script") == []
    assert page.text.count("<script>alert(1)</script>") == 7


@pytest.mark.parametrize(
    ("lams", "options", "words"),
    [
        ((0.5,), {}, "Accuracy compared with λ = 0: it takes classified runs at lam = 0"),
        (
            (0.0, 0.5),
            {"classify": False},
            "Classification from few labels: no finished run has been classified.",
        ),
        ((0.0,), {"galleries": False}, "Samples: no finished run has a gallery.npz with images."),
    ],
)
@pytest.mark.usefixtures("no_figures")
def test_what_is_missing_is_told(
    lams: tuple[float, ...], options: dict[str, Any], words: str, tmp_path: Path
) -> None:
    sweeps.write_sweep(tmp_path, lams, **options)
    assert words in Page(render_report(read_sweep(tmp_path))).text


def test_a_failed_write_leaves_the_page_that_was_there(
    written: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.html"
    path.write_text("the page that was there")

    def fail(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    monkeypatch.setattr("tfp_smvi.report.page.render_report", lambda sweep: "a new page")
    with pytest.raises(
        Exception, match=r"cannot write .*report.html \(No space left on device\); make room"
    ):
        write_report(read_sweep(written[0]), path)
    assert [entry.read_text() for entry in tmp_path.iterdir()] == ["the page that was there"]


def test_command_writes_the_same_page_each_time_and_prints_its_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "FIGURES", {"accuracy": figures.FIGURES["accuracy"]})
    sweeps.write_sweep(tmp_path, (0.0,), galleries=False)
    for output in ((), ("--output", str(tmp_path / "new" / "page.html"))):
        assert runs.call("report", str(tmp_path), *output) == 0
    printed = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert printed == [tmp_path / "report.html", tmp_path / "new" / "page.html"]
    assert printed[0].read_bytes() == printed[1].read_bytes()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    """A headless Chromium that logs what its console says and what it asks the network for."""
    binary = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("there is no chromium with its chromedriver on the PATH")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in (
        *(
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
        ),
        *(
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ),
        f"--user-data-dir={tmp_path / 'browser'}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()


def requested(chrome: Any) -> set[str]:
    """The addresses that the page asked for, those of data inside it aside."""
    messages = [json.loads(entry["message"])["message"] for entry in chrome.get_log("performance")]
    requests = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    # The page that a new browser shows is not ours.
    urls = {
        request["request"]["url"]
        for request in requests
        if request["documentURL"] == chrome.current_url
    }
    return {url for url in urls if not url.startswith("data:")}


# What a page shows: each element that is wider than the screen and does not scroll, the width of
# each image's file, and by how many pixels each table is wider than its place.
SEEN = """
const screen = document.documentElement.clientWidth;
const cut = [...document.querySelectorAll(
  'p, li, h1, h2, h3, figcaption, img, pre, .scroll, .settings')]
  .filter(element => element.getBoundingClientRect().right > screen + 1);
const images = [...document.images].map(image => image.naturalWidth);
const wider = [...document.querySelectorAll('.scroll')].map(e => e.scrollWidth - e.clientWidth);
return [cut.map(element => element.outerHTML.slice(0, 80)), images, wider];
"""


def set_width(chrome: Any, width: int) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def edge_of_a_table(chrome: Any, end: int) -> float:
    """The brightness of the right edge of the first table, scrolled to its start or end."""
    table = chrome.find_element("css selector", ".scroll")
    chrome.execute_script(f"arguments[0].scrollLeft = {end}", table)
    with Image.open(io.BytesIO(table.screenshot_as_png)) as image:
        pixels = np.asarray(image.convert("L"), float)
    return float(np.median(pixels[:, -4:]))


def test_browser_shows_all_on_a_phone_and_on_a_desk_and_finds_no_error(
    browser: Any, html: str, tmp_path: Path
) -> None:
    """A table that goes on beyond its place has a shadow there; at its end it has none."""
    path = tmp_path / "report.html"
    path.write_text(html, encoding="utf-8")
    for width, shown in ((390, 700), (768, 1440), (1280, 1440)):
        set_width(browser, width)
        browser.get(path.as_uri())
        cut, images, wider = browser.execute_script(SEEN)
        assert cut == []
        assert len(images) == 12
        assert max(images) == shown
        assert (wider[0] > 0) == (width < 1000)
        if width == 390:
            assert edge_of_a_table(browser, 0) < edge_of_a_table(browser, 10000) - 20
    assert browser.get_log("browser") == []
    assert requested(browser) == {path.as_uri()}


def test_browser_notices_what_a_page_must_not_do(browser: Any, tmp_path: Path) -> None:
    """The same checks fail on a page with a broken image, an error and a request."""
    path = tmp_path / "bad.html"
    path.write_text("<img src='missing.png'><script>console.error('no')</script>", encoding="utf-8")
    browser.get(path.as_uri())
    assert browser.execute_script("return document.images[0].naturalWidth") == 0
    assert any("no" in entry["message"] for entry in browser.get_log("browser"))
    assert requested(browser) == {path.as_uri(), (tmp_path / "missing.png").as_uri()}


def test_what_rounds_to_zero_has_no_minus_sign() -> None:
    assert format_estimate(Estimate(-1e-17, 0.0), 2) == "0.00 ± 0.00"
    assert format_estimate(Estimate(-1e-17, 0.0), 2, "+") == "+0.00 ± 0.00"
    assert format_estimate(Estimate(-0.006, 0.1), 2, "+") == "\N{MINUS SIGN}0.01 ± 0.10"
