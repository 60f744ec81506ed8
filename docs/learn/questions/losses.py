"""Losses and likelihoods."""

import jax
import jax.numpy as jnp
import numpy as np

import blockjac
from learn.question import Argument, Group, Question
from learn.questions.entries import shares, softmax


@blockjac.step("ell")
def cross_entropy(Y, P):
    return -jnp.sum(Y * jnp.log(P)) / Y.shape[0]


@blockjac.step("phi", result="Z")
def logits(X, W):
    return X @ W


LABELS = np.eye(3)[[0, 2, 1, 1]]


def softmax_cross_entropy(W, X):
    return cross_entropy(LABELS, softmax(logits(X, W)))


@blockjac.step("phi", result="z")
def scores(X, w):
    return X @ w


@blockjac.step("psi", result="p")
def sigmoid(z):
    return jax.nn.sigmoid(z)


@blockjac.step("ell")
def binary_cross_entropy(y, p):
    return -jnp.mean(y * jnp.log(p) + (1 - y) * jnp.log(1 - p))


def logistic_regression(w, X, y):
    return binary_cross_entropy(y, sigmoid(scores(X, w)))


@blockjac.step("psi", result="e")
def standardized(x, mean, scale):
    return (x - mean) / scale


@blockjac.step("ell")
def log_density(e, scale):
    return jnp.sum(-(e**2) / 2 - jnp.log(scale))


def gaussian_likelihood(x, mean, scale):
    return log_density(standardized(x, mean, scale), scale)


def divergence_from_the_prior(mean, log_variance):
    return jnp.sum(mean**2 + jnp.exp(log_variance) - log_variance - 1) / 2


GROUP = Group(
    "Losses",
    (
        Question(
            "Why is the gradient of softmax and cross-entropy P - Y?",
            "The Jacobian of softmax and the gradient of the logarithm are long; their product is "
            "short, because each row of labels Y sums to 1. Do not forget the division by the "
            "number of examples when the loss is a mean. From there it goes on to the weights, by "
            "the transpose of X.",
            softmax_cross_entropy,
            (Argument((2, 3)), Argument((4, 2))),
            (0,),
            lambda W, X: (X.T @ (shares(X @ W) - LABELS) / len(X),),
            (logits, softmax, cross_entropy),
        ),
        Question(
            "What is the gradient of logistic regression?",
            "X' (p - y) / N. The slope p (1 - p) of the sigmoid cancels against the denominators "
            "of the cross-entropy; with squared errors in place of the cross-entropy it would "
            "stay, and learning would stall where p is near 0 or 1.",
            logistic_regression,
            (Argument((3,)), Argument((6, 3)), Argument((6,), "bits")),
            (0,),
            lambda w, X, y: (X.T @ (1 / (1 + np.exp(-X @ w)) - y) / len(y),),
            (scores, sigmoid, binary_cross_entropy),
        ),
        Question(
            "What is the score of a Gaussian, by its mean and its scale?",
            "By the mean it is the standardized error divided by the scale; by the scale it is "
            "its square less 1, divided by the scale. Set to zero they give the mean and the "
            "standard deviation of the sample.",
            gaussian_likelihood,
            (Argument((5,)), Argument(()), Argument((), "positive")),
            (1, 2),
            lambda x, mean, scale: (
                np.sum(x - mean) / scale**2,
                np.sum((x - mean) ** 2) / scale**3 - x.size / scale,
            ),
            (standardized, log_density),
        ),
        Question(
            "What is the gradient of the KL divergence of a variational autoencoder?",
            "By the mean it is the mean, which pulls it to zero. By the logarithm of the variance "
            "it is half of the variance less 1: to learn the logarithm keeps the variance "
            "positive, and makes the gradient bounded where the variance becomes small.",
            divergence_from_the_prior,
            (Argument((4,)), Argument((4,))),
            (0, 1),
            lambda mean, log_variance: (mean, (np.exp(log_variance) - 1) / 2),
        ),
    ),
)
