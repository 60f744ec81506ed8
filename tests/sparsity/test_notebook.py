"""What notebooks show of Blocks, matrices of Blocks, and plans."""

import html.parser
import re

import jax
import jax.numpy as jnp

import blockjac


class Reader(html.parser.HTMLParser):
    """Reads a fragment, and checks that its tags are closed in order."""

    def __init__(self, fragment):
        super().__init__()
        self.open, self.words = [], ""
        self.feed(fragment)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        if tag not in ("rect", "path"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert tag in ("rect", "path") or self.open.pop() == tag

    def handle_data(self, data):
        self.words += data + " "


def test_block():
    fragment = blockjac.block_jacobian(lambda x: x[1:] - x[:-1])(jnp.ones(5))._repr_html_()
    words = Reader(fragment).words
    for fact in (
        "Block",
        "4 × 5",
        "(4,)",
        "(5,)",
        "[wrt0=i+1]",
        "dense 160 bytes",
        "8 of 20 entries",
    ):
        assert fact in words
    assert fragment.count("<rect") == 8


def test_structure_is_escaped():
    block = blockjac.block_jacobian(lambda x: jnp.pad(x, (0, 2)))(jnp.ones(3))
    fragment = block._repr_html_()
    assert "[i<3]" in Reader(fragment).words
    assert "[i<3]" not in fragment


def test_matrix_of_blocks_has_lines_between_them():
    def loss(params):
        return jnp.sum(jnp.sin(params["a"]) * params["b"])

    matrix = blockjac.block_hessian(loss)({"a": jnp.ones(3), "b": jnp.ones(3)})
    fragment = matrix._repr_html_()
    words = Reader(fragment).words
    for fact in ("BlockMatrix", "6 × 6", "block 1, 2", "dense 288 bytes"):
        assert fact in words
    assert fragment.count("<path") == 2


def test_large_batched_and_traced_blocks_say_why_they_have_no_picture():
    large = blockjac.block_jacobian(lambda x, W: x @ W)(jnp.ones((2000, 30)), jnp.ones((30, 40)))
    assert "2,400,000 entries: too many for a picture" in large._repr_html_()
    batch = jax.vmap(blockjac.block_jacobian(jnp.sin))(jnp.ones((2, 3)))
    assert batch._repr_html_().startswith("<pre>Block(")
    product = blockjac.ggn(lambda w, X: X @ w, lambda Y, Q: jnp.sum((Q - Y) ** 2))(
        jnp.ones(3), jnp.ones((4, 3)), jnp.ones(4)
    )
    assert product._repr_html_().startswith("<pre>")


def test_plan():
    def layer(x, W):
        return jnp.tanh(x @ W)

    plan = blockjac.plan(layer)(jnp.ones((3, 2)), jnp.ones((2, 4)))
    fragment = plan._repr_html_()
    words = Reader(fragment).words
    assert fragment.count("<table>") == 2
    for fact in (
        "Plan of layer",
        "dot_general",
        "dense, a pass a row (jacrev)",
        "structure is lost",
    ):
        assert fact in words
    assert not re.search(r"<(script|link)", fragment)
