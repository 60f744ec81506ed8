"""The page in a real browser: clicks, keys, elimination, no errors and no requests."""

import random

import jax.numpy as jnp
import pytest
from support import browser
from support.explained_functions import FUNCTIONS, explained, many_steps
from support.page_model.elimination import cheapest, spent

import blockjac

pytestmark = [
    pytest.mark.skipif(browser.program() is None, reason="Chromium is not installed"),
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def chromium():
    own = browser.Browser()
    yield own
    own.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    made = {}

    def file_of(name, explanation=None):
        if name not in made:
            path = folder / f"{len(made)}.html"
            path.write_text((explanation or explained(name)).html())
            made[name] = path
        return made[name]

    return file_of


def quiet(chromium, path):
    """No message in the console, and nothing asked for but the page itself."""
    assert not chromium.errors()
    assert chromium.requests() == [path.resolve().as_uri()]


def status(chromium):
    return chromium.run("element('status').textContent")


def chosen(chromium):
    return chromium.run("element('panel').textContent")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_script_counts_what_python_counts(name, chromium, files):
    path = files(name)
    chromium.open(path)
    game = explained(name).page_parts.game
    orders = [list(game.inner), list(game.inner)[::-1], cheapest(game)]
    for seed in range(4):
        orders.append(random.Random(seed).sample(game.inner, len(game.inner)))
    for order in orders:
        assert chromium.run(f"spentOn(DATA.game, {order})") == spent(game, order)
    assert chromium.run("cheapestOrder(DATA.game)") == orders[2]
    quiet(chromium, path)


def test_vertices_and_lines_are_chosen_by_mouse(chromium, files):
    path = files("lecture")
    chromium.open(path)
    chromium.click("#vertex-4 rect")
    assert "computed by φ₁" in chosen(chromium)
    assert "The Jacobian by Z₁" in chosen(chromium)
    assert chromium.run("element('vertex-4').getAttribute('aria-pressed')") == "true"
    chromium.click("[data-label='2']")  # the line below its label
    assert chromium.run("element('edge-2').getAttribute('aria-pressed')") == "true"
    assert chromium.run("element('vertex-4').getAttribute('aria-pressed')") == "false"
    text = chosen(chromium)
    assert "20 numbers of 400 dense (5.0\u00a0%)" in text
    assert "20 rows (X₂) by 20 columns (Z₁)" in text
    assert chromium.run("document.querySelector('#panel math') !== null")
    quiet(chromium, path)  # reading a canvas back, as below, is warned of
    colors = chromium.run(
        "(() => { const c = document.querySelector('#panel canvas'), x = c.getContext('2d'),"
        "s = c.width / 20; return [[3, 3], [3, 4]].map(([i, j]) =>"
        "x.getImageData((j + .5) * s, (i + .5) * s, 1, 1).data[3]); })()"
    )
    assert colors[0] > 0
    assert colors[1] == 0


def test_the_keyboard_reaches_everything(chromium, files):
    path = files("residual network")
    chromium.open(path)
    seen = []
    for _ in range(12):
        chromium.press("Tab", 9)
        seen.append(chromium.run("document.activeElement.id"))
        if seen[-1].startswith("vertex"):
            break
    enabled = ["order", "next", "play", "slider"]
    assert [name for name in seen if name in enabled] == enabled
    focus = "document.activeElement.id"
    assert chromium.run(focus) == "vertex-0"
    assert (
        chromium.run(
            "getComputedStyle(document.activeElement.firstElementChild.nextSibling).strokeWidth"
        )
        == "4px"
    )
    chromium.press("ArrowDown", 40)
    line = chromium.run(focus)
    assert line.startswith("edge-")
    chromium.press("Enter", 13)
    assert "maps" in chosen(chromium)
    chromium.press("ArrowRight", 39)
    assert chromium.run(focus) not in ("", line)
    chromium.press("ArrowDown", 40)
    assert chromium.run(focus).startswith("vertex-")
    visited = set()
    for _ in range(40):
        chromium.press("ArrowRight", 39)
        visited.add(chromium.run(focus))
    for _ in range(40):
        chromium.press("ArrowLeft", 37)
        visited.add(chromium.run(focus))
    count = len(explained("residual network").page_parts.graph.vertices)
    assert visited == {f"vertex-{n}" for n in range(count)}
    quiet(chromium, path)


def test_everything_that_is_chosen_has_a_role_and_a_name(chromium, files):
    path = files("attention")
    chromium.open(path)
    unnamed = chromium.run(
        "[...document.querySelectorAll('button, select, input, [role=button]')].filter(e =>"
        "!(e.getAttribute('aria-label') || e.textContent.trim() || (e.labels && e.labels.length)))"
        ".map(e => e.outerHTML)"
    )
    assert unnamed == []
    assert chromium.run("document.querySelectorAll('svg [role=button]').length") > 30
    assert chromium.run("document.querySelectorAll('svg [tabindex=\"0\"]').length") == 1


@pytest.mark.parametrize("order", ["reverse", "forward", "cheapest"])
def test_an_elimination_is_played_with_its_running_cost(order, chromium, files):
    path = files("lecture")
    chromium.open(path)
    game = explained("lecture").page_parts.game
    vertices = {
        "reverse": list(game.inner)[::-1],
        "forward": list(game.inner),
        "cheapest": cheapest(game),
    }[order]
    costs = spent(game, vertices)
    chromium.run(
        f"element('order').value = '{order}'; element('order').dispatchEvent(new Event('change'))"
    )
    for step in range(len(vertices)):
        chromium.click("#next")
        own = f"eliminated by {costs[step]:,} multiplications; {sum(costs[: step + 1]):,} so far"
        assert own in status(chromium)
        gone = chromium.run("boxes.flatMap((b, n) => b.classList.contains('gone') ? [n] : [])")
        assert gone == sorted(vertices[: step + 1])
    # What is left are the four blocks of the Jacobian, each a line that was added.
    assert chromium.run("document.querySelectorAll('.fills .edge').length") == 4
    assert chromium.run("lines.filter(l => !l.classList.contains('gone')).length") == 0
    chromium.run("boxes[0].focus()")
    chromium.press("ArrowDown", 40)
    chromium.press("Enter", 13)
    assert "Jacobian of lecture by W₁" in chosen(chromium)
    assert "12 of 12" in chosen(chromium).replace("numbers ", "").replace(" dense", "")
    chromium.click("#next")
    assert f"{sum(costs):,} in all" in status(chromium)
    assert chromium.run("element('next').disabled")
    chromium.click("#back")
    chromium.run("element('slider').value = 1; element('slider').dispatchEvent(new Event('input'))")
    assert status(chromium).startswith("1 of 4")
    assert f"{sum(costs):,}" in chromium.run("element('totals').textContent")
    quiet(chromium, path)


def test_any_order_is_chosen_by_hand_and_another_way_from_the_middle(chromium, files):
    path = files("lecture")
    chromium.open(path)
    game = explained("lecture").page_parts.game
    chromium.run(
        "element('order').value = 'own'; element('order').dispatchEvent(new Event('change'))"
    )
    first, second, third, fourth = game.inner
    for vertex in (second, fourth, first, third):
        chromium.click(f"#vertex-{vertex} rect")
    chromium.click("#next")
    wanted = sum(spent(game, [second, fourth, first, third]))
    assert f"{wanted:,} in all" in status(chromium)
    for _ in range(4):
        chromium.click("#back")
    for vertex in (third, fourth, first):
        chromium.click(f"#vertex-{vertex} rect")
    chromium.click("#next")
    assert f"{sum(spent(game, [second, third, fourth, first])):,} in all" in status(chromium)
    chromium.click("#start")
    assert "Choose vertices" in status(chromium)
    quiet(chromium, path)


def test_playing_goes_to_the_end_by_itself(chromium, files):
    path = files("lecture")
    chromium.open(path)
    chromium.click("#play")
    assert chromium.run("element('play').textContent") == "Pause"
    ended = chromium.run(
        "new Promise(done => { const look = () => timer ? setTimeout(look, 50) : done(true);"
        "look(); })"
    )
    assert ended
    assert "in all" in status(chromium)
    assert chromium.run("element('play').textContent") == "Play"
    quiet(chromium, path)


@pytest.mark.parametrize("order", ["forward", "reverse"])
def test_lines_that_an_elimination_adds_stay_in_the_picture_and_off_the_boxes(
    order, chromium, files
):
    path = files("lecture")
    chromium.open(path)
    chromium.run(
        f"element('order').value = '{order}'; element('order').dispatchEvent(new Event('change'))"
    )
    for _ in range(4):
        chromium.click("#next")
        outside, crossing = chromium.run(
            "(() => { const view = svg.viewBox.baseVal; let outside = 0, crossing = 0;"
            "for (const g of svg.querySelectorAll('.fills .edge')) { const p = g.lastChild;"
            "for (let t = 0; t <= 1; t += .02) {"
            "const q = p.getPointAtLength(t * p.getTotalLength());"
            "outside += q.x < view.x || q.x > view.x + view.width;"
            "crossing += rects.some((r, n) => n !== +g.dataset.tail && n !== +g.dataset.head &&"
            "!boxes[n].classList.contains('gone') && q.x > r.x && q.x < r.x + r.width &&"
            "q.y > r.y && q.y < r.y + r.height); } } return [outside, crossing]; })()"
        )
        assert outside == 0
        assert crossing == 0
    quiet(chromium, path)


@pytest.mark.slow
@pytest.mark.parametrize("width", [1200, 400])
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("name", ["lecture", "residual network"])
def test_nothing_overlaps_or_sticks_out(name, dark, width, chromium, files):
    chromium.open(files(name), width, 900, dark)
    chromium.run("lines[0].dispatchEvent(new MouseEvent('click'))")
    assert chromium.run("document.documentElement.scrollWidth") == width
    overlapping = chromium.run(
        "(() => { const r = [...document.querySelectorAll('.controls > *, .pane, .panel, #totals,"
        " #status')].map(e => [e.id || e.className || e.tagName, e.getBoundingClientRect()]);"
        "return r.flatMap(([a, p], i) => r.slice(i + 1).filter(([b, q]) => p.left < q.right - 1 &&"
        "q.left < p.right - 1 && p.top < q.bottom - 1 && q.top < p.bottom - 1)"
        ".map(([b]) => a + ' ' + b)); })()"
    )
    assert overlapping == []
    outside = chromium.run(
        "boxes.filter(b => { const r = b.querySelector('rect').getBBox();"
        "return [...b.querySelectorAll('text')].some(t => { const s = t.getBBox();"
        "return s.x < r.x || s.x + s.width > r.x + r.width; }); }).map(b => b.id)"
    )
    assert outside == []
    back = chromium.run("getComputedStyle(document.body).backgroundColor")
    assert back == ("rgb(21, 24, 28)" if dark else "rgb(255, 255, 255)")


def test_print_unfolds_every_block_and_hides_the_controls(chromium, files):
    path = files("lecture")
    chromium.open(path)
    chromium.run("dispatchEvent(new Event('beforeprint'))")
    chromium.call("Emulation.setEmulatedMedia", media="print", features=[])
    assert chromium.run("document.querySelectorAll('#all article canvas').length") == 8
    hidden = (
        "['.controls', '.panel', '#status'].every(s => !document.querySelector(s).offsetParent)"
    )
    assert chromium.run(hidden)
    chromium.run("dispatchEvent(new Event('afterprint'))")
    assert chromium.run("document.querySelectorAll('#all article').length") == 0
    quiet(chromium, path)


def test_a_thousand_steps_are_played(chromium, files):
    explanation = blockjac.explain(many_steps)(jnp.ones(5))
    path = files("many steps", explanation)
    chromium.open(path)
    game = explanation.page_parts.game
    total = sum(spent(game, game.inner[::-1]))
    chromium.run("go(1001)")
    assert f"{total:,} in all" in status(chromium)
    assert chromium.run("boxes.filter(b => !b.classList.contains('gone')).length") == 2
    chromium.click("#vertex-5 rect")
    assert "tensors, folded" in chosen(chromium)
    quiet(chromium, path)
