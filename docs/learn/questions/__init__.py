"""Thirty questions about derivatives, in groups."""

from learn.question import Group, Question
from learn.questions import entries, losses, matrices, networks, products

GROUPS: tuple[Group, ...] = (
    products.GROUP,
    matrices.GROUP,
    entries.GROUP,
    losses.GROUP,
    networks.GROUP,
)
QUESTIONS: tuple[Question, ...] = tuple(
    question for group in GROUPS for question in group.questions
)
