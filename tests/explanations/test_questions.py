"""The learning pages: formulas, modules and pictures of thirty questions, against textbooks."""

import html.parser
import re
import sys

import jax
import numpy as np
import pytest
from support.docs_modules import load
from support.emitted import Job, differences, host, run
from support.printed_jacobian import jacobian_as_printed

import blockjac

generate = load("learn.generate")
QUESTIONS = {question.address: question for question in generate.QUESTIONS}
every_question = pytest.mark.parametrize("name", QUESTIONS)


def assert_textbook(arrays, question, arguments):
    """Compare arrays with the textbook's answer, whatever computed them."""
    for position, own, wanted in zip(
        question.argnums, arrays, question.textbook(*arguments), strict=True
    ):
        assert np.shape(own) == np.shape(wanted), position
        np.testing.assert_allclose(own, wanted, rtol=1e-9, atol=1e-12, err_msg=f"by {position}")


def test_there_are_thirty_questions_with_pages_and_texts_of_their_own():
    assert len(QUESTIONS) == len(generate.QUESTIONS) == 30
    assert len({question.title for question in QUESTIONS.values()}) == 30
    assert all(question.title.endswith("?") for question in QUESTIONS.values())
    assert len({question.text for question in QUESTIONS.values()}) == 30


@every_question
def test_block_is_the_textbooks_at_random_arguments(name):
    question = QUESTIONS[name]
    for seed in (2, 3, 4):
        arguments = question.draw(seed)
        jacobian = blockjac.jacobian(question.function, question.argnums)(*arguments)
        assert_textbook(jacobian, question, arguments)


@pytest.mark.slow
@every_question
def test_printed_formulas_are_the_textbooks(name):
    question = QUESTIONS[name]
    arguments = question.draw(5)
    explanation = blockjac.explain(question.function, question.argnums)(*arguments)
    printed = [array for _, array in jacobian_as_printed(explanation)]
    assert_textbook(printed, question, arguments)


@pytest.mark.slow
def test_modules_give_the_textbooks_answers_without_the_library():
    jobs = []
    for question in QUESTIONS.values():
        arguments = list(map(host, question.draw(6)))
        explanation = blockjac.explain(question.function, question.argnums)(*arguments)
        source = explanation.code("numpy")
        head = re.search(r"^def (D_\w+)\(([^)]*)\)", source, re.MULTILINE)
        captured = {
            str(explanation.program.variables[number].name): host(array)
            for number, array in zip(
                explanation.program.graph.constants, explanation.program.graph.captured, strict=True
            )
        }
        names = re.findall(r"\w+", head[2])
        options = {name: captured[name] for name in names if name in captured}
        jobs.append(Job(question.address, source, [(head[1], tuple(arguments), options)]))
    wrong = []
    for job, question, results in zip(jobs, QUESTIONS.values(), run(jobs), strict=True):
        assert "blockjac" not in job.source
        wanted = tuple(map(np.asarray, question.textbook(*question.draw(6))))
        text = differences(results, [wanted], rtol=1e-9, atol=1e-12)
        wrong += [f"{job.name}: {text}"] if text else []
    assert not wrong, "\n\n".join(wrong)


# Pages


class Page(html.parser.HTMLParser):
    """Collects tags, and checks that they are closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.tags = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.slow
def test_every_page_says_what_was_checked_and_shows_everything():
    pages = generate.pages()
    assert set(pages) == {"index.md"} | {f"{name}.md" for name in QUESTIONS}
    for name, question in QUESTIONS.items():
        text = pages[f"{name}.md"]
        assert text.startswith(f"# {question.title}\n\n{question.text}\n")
        assert "gives the Jacobian that the library computes without them." in text, name
        assert "The Jacobian was checked against the textbook's answer." in text, name
        assert f"def {question.function.__name__}(" in text
        assert f"def D_{question.function.__name__}(" in text
        for title in ("The chain rule", "Elemental Jacobians", "Checked", "In NumPy"):
            assert text.count(f"\n## {title}\n") == 1, (name, title)
        page = Page()
        page.feed(re.sub(r"```.*?```", "", text, flags=re.DOTALL))
        assert not page.open
        assert page.tags.count("svg") == len(question.argnums)
        assert page.tags.count("math") >= 3
        assert not re.search(r"\.py:\d+", text)
        assert len(text) < 50_000


def test_index_and_navigation_have_every_question():
    links = re.findall(r"\]\(([\w-]+)\.md\)", generate.index())
    assert sorted(links) == sorted(QUESTIONS)
    in_navigation = re.findall(r"'learn/([\w-]+)\.md'", str(generate.navigation()))
    assert sorted(in_navigation) == sorted([*QUESTIONS, "index"])


def test_page_does_not_call_a_wrong_formula_checked(monkeypatch):
    from blockjac.explanations import numbers

    monkeypatch.setattr(numbers, "evaluated", lambda formula, arrays: np.ones(formula.shape))
    text = generate.page(QUESTIONS["least-squares"])
    assert "**The formulas above are wrong**" in text
    assert "gives the Jacobian" not in text


def test_page_does_not_call_another_textbooks_answer_checked():
    question = QUESTIONS["least-squares"]
    wrong = generate.Question(
        question.title,
        question.text,
        question.function,
        question.arguments,
        question.argnums,
        lambda w, X, y: (X.T @ (X @ w - y),),  # the factor 2 is missing
        question.steps,
    )
    text = generate.page(wrong)
    assert "**The Jacobian differs from the textbook's answer.**" in text
    assert "was checked against the textbook" not in text


def test_pages_are_written_in_double_precision():
    before = jax.config.jax_enable_x64
    try:
        jax.config.update("jax_enable_x64", False)
        text = generate.page(QUESTIONS["activation"])
    finally:
        jax.config.update("jax_enable_x64", before)
    assert "float64 of shape (3, 4)" in text


def test_function_on_the_page_is_what_is_explained():
    question = QUESTIONS["softmax-cross-entropy"]
    shown = re.search(r"```python\n(.*?)```", generate.page(question), re.DOTALL)[1]
    module = sys.modules[question.function.__module__]
    namespace = {key: getattr(module, key) for key in ("blockjac", "jnp", "LABELS")}
    exec(shown, namespace)
    arguments = question.draw(7)
    own = namespace["softmax_cross_entropy"](*arguments)
    np.testing.assert_allclose(own, question.function(*arguments), rtol=1e-12)
