"""The page is one whole file: balanced, self-contained, labeled, readable in its colors."""

import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.explained_functions import FUNCTIONS, explained, long_chain, many_steps

import blockjac
from blockjac.explanations.page.page import asset
from blockjac.explanations.page.stages import stages_of
from blockjac.explanations.page.svg import STYLE
from blockjac.explanations.styles.text import TEXT

VOID = {"meta", "input", "img", "br", "link"}


class Page(HTMLParser):
    """What a page holds: elements with their attributes, and its text by element."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.scripts, self.labels, self.mistakes = [], [], [], set(), []
        self.words = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "label":
            self.labels.add(dict(attrs).get("for"))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.mistakes.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif self.open and self.open[-1] != "style":
            self.words += data


def data_of(text):
    """The data that the page's script reads."""
    (script,) = Page(text).scripts
    return json.loads(re.search(r"const DATA = (.*);\n", script)[1])


def check(text):
    page = Page(text)
    assert not page.mistakes
    assert not page.open
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    for tag, attrs in page.elements:
        for name in ("src", "href", "action", "data", "srcset"):
            assert attrs.get(name, "data:").startswith(("data:", "#")), (tag, attrs)
        if tag == "input" or tag == "select":
            assert attrs["id"] in page.labels
        if tag == "img":
            assert attrs["alt"]
    assert not [tag for tag, _ in page.elements if tag in ("link", "iframe", "object", "base")]
    without_names = text.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"https?://|//[a-z]+\.[a-z]|@import|url\((?!#)", without_names)
    assert len(page.scripts) == 1
    assert "fetch(" not in page.scripts[0]
    assert "XMLHttpRequest" not in page.scripts[0]
    assert len(text.encode()) < 1_000_000
    return page


@pytest.mark.parametrize("name", FUNCTIONS)
def test_pages_are_whole_files(name):
    explanation = explained(name)
    text = explanation.html()
    page = check(text)
    data = data_of(text)
    blocks = explanation.page_parts.blocks
    assert [edge["stored"] for edge in data["edges"]] == [own.block.stored for own in blocks]
    assert "Elemental Jacobians" in page.words
    assert all("heat" in edge or "like" in edge for edge in data["edges"])


@pytest.mark.slow
@pytest.mark.parametrize("function", [many_steps, long_chain])
def test_pages_of_a_thousand_steps_are_small_and_folded(function):
    explanation = blockjac.explain(function)(jnp.ones(5))
    text = explanation.html()
    page = check(text)
    assert "steps that follow one another are folded" in page.words
    assert sum(attrs.get("id", "").startswith("vertex-") for _, attrs in page.elements) <= 240
    data = data_of(text)
    assert sorted(vertex for box in data["boxes"] for vertex in box) == list(range(1002))
    assert len(data["game"]["inner"]) == 1000


def test_a_result_that_does_not_depend_has_a_page_without_a_graph():
    text = blockjac.explain(lambda x: jnp.ones(2) + 0 * jnp.floor(x))(jnp.ones(2)).html()
    assert "<svg" in text or "does not depend" in text
    text = blockjac.explain(lambda x: jnp.ones(2))(1.0).html()
    page = Page(text)
    assert not page.mistakes
    assert "does not depend" in page.words or page.scripts


def test_names_cannot_break_out_of_the_page():
    name = 'x</script><script>alert("1")</script>&"'
    bad = blockjac.step(name)(jnp.sin)
    explanation = blockjac.explain(lambda x: jnp.sum(bad(x)))(jnp.ones(3))
    page = Page(explanation.html())
    assert not page.mistakes
    assert len(page.scripts) == 1
    root = ElementTree.fromstring(explanation.svg())
    assert any(name.replace("_", "") in "".join(root.itertext()).replace("_", "") for _ in [0])
    quoted = explanation.dot()
    assert '\\"1\\"' in quoted
    for row in quoted.splitlines():
        assert len(re.findall(r'(?<!\\)"', row)) % 2 == 0


def test_svg_is_well_formed_and_says_what_it_shows():
    for name in FUNCTIONS:
        explanation = explained(name)
        root = ElementTree.fromstring(explanation.svg())
        space = {"svg": "http://www.w3.org/2000/svg"}
        assert "Jacobian" in root.find("svg:title", space).text
        assert "elemental Jacobian" in root.find("svg:desc", space).text
        graph = explanation.page_parts.graph
        assert len(root.findall("svg:g/svg:rect", space)) == len(graph.vertices)
        assert explanation.dot().count(" -> ") == len(graph.edges)


def test_stage_matrices_multiply_to_the_jacobian():
    explanation = explained("lecture")
    function, _, *arguments = FUNCTIONS["lecture"]
    graph, blocks = explanation.page_parts.graph, explanation.page_parts.blocks
    dense = {}
    for edge, own in zip(graph.edges, blocks, strict=True):
        rows = int(np.prod(own.block.out_shape))
        dense[edge.derivative] = np.asarray(own.block.dense()).reshape(rows, -1)
    size = {
        vertex.variable.name: int(np.prod(vertex.variable.shape, dtype=int))
        for vertex in graph.vertices
    }
    product = None
    stages = stages_of(graph)
    assert [TEXT.name(stage.name) for stage in stages] == ["φ₁", "ψ₁", "φ₂", "ψ₂", "ℓ"]
    for stage in stages:
        rows = []
        for name, cells in zip(stage.gives, stage.blocks, strict=True):
            row = []
            for read, cell in zip(stage.reads, cells, strict=True):
                if cell is None:
                    row.append(np.zeros((size[name], size[read])))
                else:
                    row.append(np.eye(size[name]) if cell is True else dense[cell])
            rows.append(row)
        matrix = np.block(rows)
        product = matrix if product is None else matrix @ product
    exact = jax.jacrev(function, (0, 1, 2, 3))(*arguments)
    wanted = np.concatenate([np.ravel(own) for own in exact])
    np.testing.assert_allclose(product.ravel(), wanted, rtol=1e-9, atol=1e-12)


def test_only_chains_with_parameters_have_stages():
    names = [name for name in FUNCTIONS if stages_of(explained(name).page_parts.graph)]
    assert "lecture" in names
    assert not {"residual network", "attention", "several results"} & set(names)


def luminance(color):
    digits = color[1:] if len(color) == 7 else "".join(2 * digit for digit in color[1:])
    parts = [int(digits[n : n + 2], 16) / 255 for n in (0, 2, 4)]
    linear = [
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first, second):
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def colors_of(style):
    """The variables of a style by name, in the light and in the dark."""
    light, _, dark = style.partition("prefers-color-scheme: dark")
    found = [dict(re.findall(r"(--[\w-]+): (#[0-9a-f]{3,6})", part)) for part in (light, dark)]
    return found[0], {**found[0], **found[1]}


@pytest.mark.parametrize("is_dark", [False, True])
def test_text_and_lines_stand_out_from_the_background(is_dark):
    page = colors_of(asset("page.css"))[is_dark]
    for name in ("--text", "--soft", "--mark", "--new"):
        for behind in ("--back", "--field"):
            assert contrast(page[name], page[behind]) >= 4.5, (name, behind)
    for name in ("--plus", "--minus"):
        assert contrast(page[name], page["--back"]) >= 3
    picture = colors_of(STYLE)[is_dark]
    assert contrast(picture["--bj-text"], picture["--bj-fill"]) >= 7
    for name in ("--bj-line", "--bj-mark"):
        assert contrast(picture[name], picture["--bj-halo"]) >= 3
