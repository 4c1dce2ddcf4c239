"""The page in a real browser: the slider, the charts' points, colors, a phone, and a console without complaints."""

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

pytest.importorskip("plotly", reason="plotly is not installed: pip install 'dist_gan[report]'")

from tests.support.browser import browser, complaints, paint, resize, until
from tests.support.runs import SMALL, run

report = importlib.import_module("dist_gan.report")
pytestmark = pytest.mark.slow


class Pages(NamedTuple):
    run: Path
    one: Path
    two: Path
    """With another run beside it, of the same name."""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Pages:
    folder = tmp_path_factory.mktemp("pages")
    runs = [folder / "a/run", folder / "b/run"]
    for path, seed in zip(runs, (0, 1), strict=True):
        judged = "evaluate=[{name: fid, features: {name: pixels, side: 4}, images: 60, every: 640}]"
        more = (judged, "save.best=fid", "save.keep=9")
        assert run(path, 2560, f"seed={seed}", *more, small=[*SMALL, "networks.conditional=true"]) == 0
        note = {"images": 1280, "kind": "saturated", "text": "D is <b>right</b> & sure.", "advice": "Do less."}
        (path / "notes.jsonl").write_text(json.dumps(note))
    found = Pages(runs[0], folder / "one.html", folder / "two.html")
    assert report.main([str(runs[0]), f"out={found.one}"]) == 0
    assert report.main([*map(str, runs), f"out={found.two}"]) == 0
    return found


@pytest.fixture(scope="module")
def window() -> Iterator[Any]:
    with browser() as driver:
        yield driver


@pytest.fixture
def one(window: Any, pages: Pages) -> Any:
    return opened(window, pages.one)


def opened(window: Any, page: Path, width: int = 1280) -> Any:
    resize(window, width)
    paint(window, dark=False)
    complaints(window)  # of pages before
    window.get(page.as_uri())
    return window


def chart(window: Any, title: str) -> Any:
    """The chart of this title, scrolled into view and drawn."""
    find = (
        "[...document.querySelectorAll('[data-chart]')].find(c => c.querySelector('h3').textContent === arguments[0])"
    )
    found = window.execute_script(
        f"const c = {find}; c.scrollIntoView({{block: 'center', behavior: 'instant'}}); return c", title
    )
    until(
        window,
        f"document.querySelector('[data-chart=\"{found.get_attribute('data-chart')}\"]').classList.contains('drawn')",
    )
    return found


def lines(window: Any, title: str) -> list[tuple[list[float], list[float]]]:
    """The points of each line, as plotly has them."""
    script = "return arguments[0].querySelector('.plot')._fullData.map(t => [Array.from(t.x), Array.from(t.y)])"
    return window.execute_script(script, chart(window, title))


def color(window: Any, script: str) -> str:
    return window.execute_script(f"return {script}")


def test_the_slider_moves_through_time(one: Any, pages: Pages) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    slider, picture = one.find_element(By.ID, "scrub"), one.find_element(By.ID, "grid0")
    said = one.find_element(By.ID, "images")
    assert said.text == "2,560 images"
    last = picture.get_attribute("src")
    slider.send_keys(Keys.ARROW_LEFT)
    assert said.text == one.find_element(By.ID, "grid0-images").text == "1,280 images"
    assert slider.get_attribute("aria-valuetext") == "1,280 images"
    assert picture.get_attribute("src") != last
    slider.send_keys(Keys.HOME)
    assert said.text == "0 images"
    seen = {last, picture.get_attribute("src")}
    assert len(seen) == 2
    one.find_element(By.ID, "play").click()
    until(one, "document.getElementById('scrub').value === '2' && !document.querySelector('.playing')")
    assert picture.get_attribute("src") == last
    until(one, "[...document.images].every(i => i.complete && i.naturalWidth > 0)", 10)
    assert complaints(one) == []


def test_charts_have_the_points_of_metrics_jsonl(one: Any, pages: Pages) -> None:
    rows = [json.loads(line) for line in (pages.run / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if "D/loss" in row]  # others are of evaluations
    assert len(rows) >= 4
    for title, columns in {
        "Losses": ("D/loss", "G/loss"),
        "Accuracy of D": ("D/accuracy",),
        "Throughput": ("images_per_second",),
        "Learning rates": ("D/learning_rate", "G/learning_rate"),
    }.items():
        drawn = lines(one, title)
        assert len(drawn) == len(columns)
        for (x, y), column in zip(drawn, columns, strict=True):
            assert x == [row["images"] for row in rows]
            assert y == pytest.approx([row[column] for row in rows], rel=1e-6)
    assert complaints(one) == []


def test_a_chart_is_drawn_once_it_is_in_view(one: Any) -> None:
    until(one, "document.readyState === 'complete'")
    drawn = "[...document.querySelectorAll('.chart.drawn h3')].map(h => h.textContent)"
    chart(one, "Losses")
    assert "Peak memory" not in one.execute_script(f"return {drawn}")
    chart(one, "Peak memory")
    assert "Peak memory" in one.execute_script(f"return {drawn}")


def test_names_and_the_axis_are_switches(one: Any) -> None:
    from selenium.webdriver.common.by import By

    box = chart(one, "Losses")
    name, log = box.find_element(By.CSS_SELECTOR, "[data-line='1']"), box.find_element(By.CLASS_NAME, "log")
    visible = "return arguments[0].querySelector('.plot')._fullData.map(t => t.visible)"
    axis = "return arguments[0].querySelector('.plot')._fullLayout.yaxis.type"
    name.click()
    assert one.execute_script(visible, box) == [True, False]
    name.click()
    assert one.execute_script(visible, box) == [True, True]
    log.click()
    assert (one.execute_script(axis, box), log.get_attribute("aria-pressed")) == ("log", "true")
    log.click()
    assert one.execute_script(axis, box) == "linear"
    assert complaints(one) == []


def test_notes_are_marked_where_they_happened(one: Any) -> None:
    box = chart(one, "Losses")
    marks = one.execute_script("return arguments[0].querySelector('.plot')._fullLayout.shapes.map(s => s.x0)", box)
    assert marks == [1280]
    assert (
        one.execute_script("return document.querySelector('.notes').innerText").count("D is <b>right</b> & sure.") == 1
    )


def test_the_video_plays_once_it_is_in_view_unless_movement_is_unwelcome(window: Any, pages: Pages) -> None:
    pytest.importorskip("av", reason="PyAV is not installed: pip install 'dist_gan[video]'")
    opened(window, pages.one)
    until(window, "document.querySelector('video').readyState >= 2")
    show = "document.querySelector('video').scrollIntoView({block: 'center', behavior: 'instant'})"
    playing = "document.querySelector('video').currentTime > 0"
    window.execute_script(show)
    until(window, playing)
    assert complaints(window) == []
    still = [{"name": "prefers-reduced-motion", "value": "reduce"}]
    window.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": still})
    window.get(pages.one.as_uri())
    until(window, "document.querySelector('video').readyState >= 2")
    window.execute_script(show)
    window.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
    assert window.execute_script("return document.querySelector('video').paused")


def test_the_best_checkpoint_has_a_star(one: Any) -> None:
    box = chart(one, "FID")
    lines = one.execute_script(
        "return arguments[0].querySelector('.plot')._fullData.map(t => [t.mode, t.x.length])", box
    )
    assert lines == [["lines+markers", 4], ["markers", 1]]
    assert "★" in box.text
    assert complaints(one) == []


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("width", [360, 800])
def test_nothing_is_wider_than_a_phone(window: Any, pages: Pages, width: int, number: int) -> None:
    opened(window, pages[number], width)
    for title in ("Losses", "Throughput", "EMA/half_life_images"):
        box = chart(window, title)
        assert (
            0
            < window.execute_script("return arguments[0].querySelector('svg').getBoundingClientRect().right", box)
            <= width
        )
    window.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert window.execute_script("return document.documentElement.scrollWidth") == width
    inside = "[...document.querySelectorAll('main *:not(.scrolls *):not(pre)')]"
    wide = f"{inside}.filter(e => e.getBoundingClientRect().right > innerWidth + 1)"
    assert window.execute_script(f"return {wide}.map(e => e.outerHTML.slice(0, 200))") == []
    assert complaints(window) == []


def test_dark_and_light(one: Any) -> None:
    page, text = "getComputedStyle(document.body).backgroundColor", "getComputedStyle(document.body).color"
    box = chart(one, "Losses")
    stroke = "getComputedStyle(document.querySelector('.drawn .js-line')).stroke"
    tick = "getComputedStyle(document.querySelector('.drawn .xtick text')).fill"
    scripts = (page, text, stroke, tick)
    light = [color(one, script) for script in scripts]
    paint(one, dark=True)
    until(one, f"{stroke} !== '{light[2]}'")
    dark = [color(one, script) for script in scripts]
    assert all(a != b for a, b in zip(light, dark, strict=True)), (light, dark)
    assert brightness(light[0]) > brightness(dark[0]) + 150
    assert brightness(light[1]) < brightness(dark[1]) - 150
    assert box.is_displayed()
    assert complaints(one) == []


def brightness(css: str) -> float:
    return sum(map(float, css.partition("(")[2].rstrip(")").split(",")[:3])) / 3


def test_two_runs_side_by_side(window: Any, pages: Pages) -> None:
    opened(window, pages.two)
    assert len(lines(window, "Losses")) == 4
    names = window.execute_script(
        "return [...document.querySelectorAll('.run h2')].map(h => h.innerText.split('\\n')[0])"
    )
    assert [name.split("finished")[0].strip() for name in names] == ["a/run", "b/run"]
    grids = [window.execute_script(f"return document.getElementById('grid{i}').src") for i in (0, 1)]
    assert grids[0] != grids[1]
    assert all(grid.startswith("data:image/webp") for grid in grids)
    rows = window.execute_script(
        "return [...document.querySelectorAll('#configs tbody tr')].map(r => r.innerText.split('\\t'))"
    )
    assert rows == [["seed", "0", "1"]]
    assert complaints(window) == []


def test_nothing_is_asked_of_a_network_or_another_file(one: Any) -> None:
    chart(one, "Losses")
    asked = one.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert [name for name in asked if not name.startswith("data:")] == []
