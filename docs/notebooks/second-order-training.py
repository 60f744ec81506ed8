# %% [markdown]
# # Second-order training of an autoencoder
#
# Deep autoencoders are the classic test of second-order methods: squeezing an
# image through a few numbers is a badly conditioned problem, on which gradient
# descent crawls (Martens, 2010; Martens and Grosse, 2015). Here an image of 64
# pixels goes through 4 numbers, and we compare
#
# - gradient descent with momentum, and Adam, both tuned by hand,
# - Gauss-Newton steps with the exact matrix, damped as Levenberg and Marquardt
#   do,
# - KFAC, which approximates that matrix by two small factors for each layer.
#
# All see all images in every step, so that the differences come from the
# directions alone.

# %%
import time

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import scipy.sparse.linalg
from jax.flatten_util import ravel_pytree
from sklearn.datasets import load_digits

import blockjac

jax.config.update("jax_enable_x64", True)

images, _ = load_digits(return_X_y=True)
X = jnp.asarray(
    images[np.random.default_rng(0).permutation(len(images))[:500]] / 16
)
sizes = {
    "encode": (64, 24),
    "squeeze": (24, 4),
    "expand": (4, 24),
    "decode": (24, 64),
}


def initial(seed):
    rng = np.random.default_rng(seed)
    return {
        name: {
            "W": jnp.asarray(rng.normal(size=size) / np.sqrt(size[0])),
            "b": jnp.zeros(size[1]),
        }
        for name, size in sizes.items()
    }


def affine(layer, Z):
    return Z @ layer["W"] + layer["b"]


def model(params, X):
    code = affine(params["squeeze"], jnp.tanh(affine(params["encode"], X)))
    return affine(params["decode"], jnp.tanh(affine(params["expand"], code)))


def squares(X, Z):
    return 0.5 * jnp.mean(jnp.sum((X - Z) ** 2, axis=1))


def loss(params):
    return squares(X, model(params, X))


start = initial(0)
print(f"{sum(leaf.size for leaf in jax.tree.leaves(start)):,} parameters")

# %% [markdown]
# A linear autoencoder can do no better than the first four principal
# components, which gives us a baseline that needs no training:

# %%
mean = X.mean(axis=0)
_, singular, components = jnp.linalg.svd(X - mean, full_matrices=False)
pca = mean + (X - mean) @ components[:4].T @ components[:4]
pca_loss = float(squares(X, pca))
assert np.isclose(pca_loss, 0.5 * jnp.sum(singular[4:] ** 2) / len(X))
print(f"loss of 4 principal components: {pca_loss:.3f}")

# %% [markdown]
# ## The curvature that gradient descent has to cope with
#
# The Gauss-Newton matrix is $G = J^\top H J$, with the Jacobian $J$ of all
# outputs by all parameters and the Hessian $H$ of the loss by the outputs.
# `ggn` keeps it in these factors. A product with a vector must be what JAX's
# `jvp` and `vjp` give:

# %%
G = blockjac.ggn(model, squares)(start, X, X)
print(f"{G.shape[0]:,} x {G.shape[1]:,}, kept in {G.nbytes / 2**20:.1f} MiB")

direction = initial(1)
outputs, pushed = jax.jvp(
    lambda params: model(params, X), (start,), (direction,)
)
_, pullback = jax.vjp(lambda params: model(params, X), start)
(by_jax,) = pullback(pushed / len(X))
for own, wanted in zip(
    jax.tree.leaves(G.matvec(direction)), jax.tree.leaves(by_jax), strict=True
):
    assert np.allclose(own, wanted, rtol=1e-10, atol=1e-12)

# %%
eigenvalues = np.linalg.eigvalsh(G.dense())[::-1]
for number in (1, 10, 100, 1000):
    print(f"eigenvalue {number:4}: {eigenvalues[number - 1]:.1e}")

# %% alt="Eigenvalues of the Gauss-Newton matrix fall over ten decades, the first few steeply."
figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
axes.semilogy(np.maximum(eigenvalues, 1e-12))
axes.set(xlabel="number", ylabel="eigenvalue", ylim=(1e-10, None))
axes.set_title("Spectrum of $G$ before training")

# %% [markdown]
# On a quadratic with these eigenvalues, descent with the longest stable step
# needs of the order of $\lambda_{\max} / \lambda$ iterations to make progress
# along a direction of eigenvalue $\lambda$: hundreds of thousands for the
# thousandth. A step $(G + \lambda I)^{-1} g$ divides by the eigenvalues
# instead, down to a damping $\lambda$, below which the quadratic model is not
# trusted.
#
# ## What KFAC approximates
#
# For a layer $Z = A W$ the block of $G$ that belongs to $W$ is an average of
# Kronecker products, $\frac{1}{N} \sum_n A_n A_n^\top \otimes B_n$. KFAC
# replaces it by the product of the averages, and drops the blocks between
# layers. In the middle layer, with its 24 x 4 weights, we can look at both:

# %%
K = blockjac.kfac(model, squares)(start, X, X)
print(K)
names = [f"{layer}.{leaf}" for layer in sorted(sizes) for leaf in ("W", "b")]
middle = names.index("squeeze.W")
for number, name in enumerate(names):
    exact, approximate = G[number, number].dense(), K[number, number].dense()
    difference = jnp.linalg.norm(approximate - exact) / jnp.linalg.norm(exact)
    print(f"{name:10} {K[number, number].structure:18} off by {difference:.0%}")

# %% alt="Two heat maps of the same 96 by 96 block, exact and by KFAC, hardly different."
figure, axes = plt.subplots(
    1, 2, figsize=(6, 3), layout="constrained", sharey=True
)
blocks = [matrix[middle, middle].dense().reshape(96, 96) for matrix in (G, K)]
largest = float(jnp.max(jnp.abs(blocks[0])))
for axis, block, title in zip(axes, blocks, ("exact", "KFAC"), strict=True):
    image = axis.imshow(block, cmap="RdBu", vmin=-largest, vmax=largest)
    axis.set(title=title, xticks=(0, 48, 95), yticks=(0, 48, 95))
figure.colorbar(image, ax=axes, label="curvature", shrink=0.8)
figure.suptitle("The block of the weights squeeze.W")

# %% [markdown]
# ## Solving with the exact matrix
#
# `G.solve(g, damping)` writes out and factorizes a matrix of 3,380 rows. That
# is exact, and too slow to do in every step. The alternative is conjugate
# gradients on products with $G$, known as Hessian-free optimization (Martens,
# 2010), perhaps with KFAC as a preconditioner:

# %% alt="Residuals of conjugate gradients: with KFAC they fall faster at first, and more slowly after about a hundred iterations."
damping = 0.01
g, unflatten = ravel_pytree(blockjac.grad(loss)(start))
direct, _ = ravel_pytree(G.solve(unflatten(g), damping))
factors = blockjac.factorize(K, damping)


@jax.jit
def damped_product(v):
    return ravel_pytree(G.matvec(unflatten(v)))[0] + damping * v


@jax.jit
def preconditioned(v):
    return ravel_pytree(factors.solve(unflatten(v)))[0]


def conjugate_gradients(preconditioner):
    """The solution, and the relative residual after each iteration."""
    shape, left = (g.size, g.size), []
    A = scipy.sparse.linalg.LinearOperator(shape, damped_product, dtype=float)
    M = preconditioner and scipy.sparse.linalg.LinearOperator(
        shape, preconditioner, dtype=float
    )

    def note(x):
        left.append(np.linalg.norm(A @ x - g) / np.linalg.norm(g))

    solution, failed = scipy.sparse.linalg.cg(
        A, g, rtol=1e-7, M=M, callback=note
    )
    assert not failed
    return solution, np.array(left)


figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
rough = {}
for label, preconditioner in (("alone", None), ("with KFAC", preconditioned)):
    solution, left = conjugate_gradients(preconditioner)
    difference = np.linalg.norm(solution - direct) / np.linalg.norm(direct)
    assert difference < 1e-4
    rough[label] = int(np.argmax(left < 0.01)) + 1
    print(
        f"{label:9}: {rough[label]} iterations to 1 %, {len(left)} to the end,"
    )
    print(f"{'':10} where the direct solution is {difference:.0e} away")
    axes.semilogy(left[:250], label=label)
axes.set(xlabel="iteration", ylabel="relative residual")
axes.set_title("Conjugate gradients for $(G + 0.01 I) x = g$")
axes.legend()
assert rough["with KFAC"] < rough["alone"]

# %% [markdown]
# To the rough accuracy that a training step needs, KFAC saves more than half of
# the iterations. For an accurate solution it is of no use: it knows nothing of
# the blocks between the layers.

# %% [markdown]
# ## First-order methods
#
# Each is one compiled loop, with the best rate of a coarse search.


# %%
def zeros():
    return jax.tree.map(jnp.zeros_like, start)


def momentum(state, number, rate=0.02, decay=0.9):
    params, velocity = state
    value, g = blockjac.value_and_grad(loss)(params)
    velocity = jax.tree.map(lambda v, g: decay * v - rate * g, velocity, g)
    return (jax.tree.map(jnp.add, params, velocity), velocity), value


def adam(state, number, rate=0.03):
    params, first, second = state
    value, g = blockjac.value_and_grad(loss)(params)
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, g)
    second = jax.tree.map(lambda m, g: 0.999 * m + 0.001 * g**2, second, g)

    def moved(p, m, s):
        mean, square = m / (1 - 0.9**number), s / (1 - 0.999**number)
        return p - rate * mean / (jnp.sqrt(square) + 1e-8)

    return (jax.tree.map(moved, params, first, second), first, second), value


def run(method, state, count):
    """The losses, the seconds since the start, and the parameters."""
    loop = jax.jit(
        lambda own: jax.lax.scan(method, own, jnp.arange(1.0, count + 1))
    )
    compiled = loop.lower(state).compile()
    began = time.perf_counter()
    (params, *_), values = jax.block_until_ready(compiled(state))
    took = time.perf_counter() - began
    return np.asarray(values), np.linspace(0, took, count), params


curves = {
    "momentum": run(momentum, (start, zeros()), 2000),
    "Adam": run(adam, (start, zeros(), zeros()), 2000),
}

# %% [markdown]
# ## Second-order methods
#
# Both solve with a damping $\lambda$ and judge it by the ratio of the actual
# decrease to the one that the quadratic model predicts: above 3/4 the damping
# shrinks, below 1/4 it grows. The factors of KFAC are estimated from one random
# vector for each example (`fisher_type="mc"`), which makes them about as cheap
# as a gradient.
#
# KFAC gives good directions and not their lengths, so Martens and Grosse take
# the best combination of the new direction and the last step under the *exact*
# quadratic model, which takes two products with $G$. The Gauss-Newton steps
# solve with $G$ itself, by conjugate gradients preconditioned with the same
# factors.


# %%
def dot(x, y):
    return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, x, y)))


def combined(weights, trees):
    return jax.tree.map(
        lambda *leaves: jnp.tensordot(weights, jnp.stack(leaves), 1), *trees
    )


def best_of(directions, G, g, damping):
    """The combination that minimizes the damped model; its predicted change."""
    images = [G.matvec(own) for own in directions]
    B = jnp.array([[dot(x, y) for y in images] for x in directions])
    damped = B + damping * jnp.array(
        [[dot(x, y) for y in directions] for x in directions]
    )
    slopes = jnp.array([dot(g, own) for own in directions])
    weights = -jnp.linalg.pinv(damped, hermitian=True) @ slopes
    predicted = weights @ slopes + weights @ B @ weights / 2
    return combined(weights, directions), predicted


def factors_and_matrix(params, damping, key):
    K = blockjac.kfac(model, squares, fisher_type="mc")(params, X, X, key=key)
    G = blockjac.ggn(model, squares)(params, X, X)
    return blockjac.factorize(K, damping), G


@jax.jit
def kfac_step(params, g, damping, last, key):
    factors, G = factors_and_matrix(params, damping, key)
    return best_of([factors.solve(g), last], G, g, damping)


@jax.jit
def gauss_newton_step(params, g, damping, last, key):
    factors, G = factors_and_matrix(params, damping, key)

    def product(v):
        return jax.tree.map(lambda a, b: a + damping * b, G.matvec(v), v)

    direction, _ = jax.scipy.sparse.linalg.cg(
        product, g, M=factors.solve, tol=0.01, maxiter=50
    )
    return best_of([direction], G, g, damping)


@jax.jit
def moved(params, change):
    params = jax.tree.map(jnp.add, params, change)
    return params, *blockjac.value_and_grad(loss)(params)


def damped(step, count, damping=0.1, factor=4.0, least=1e-4):
    """The same as `run` for a step that needs a damping."""
    params, value, g = moved(start, zeros())
    last, keys = zeros(), list(jax.random.split(jax.random.key(0), count))
    jax.block_until_ready(step(params, g, damping, last, keys[0]))  # compiles
    values, seconds, began = [float(value)], [0.0], time.perf_counter()
    for key in keys:
        change, predicted = step(params, g, damping, last, key)
        trial, value, trial_g = moved(params, change)
        decrease = float(value) - values[-1]
        if decrease < 0:
            params, g, last = trial, trial_g, change
        if decrease / float(predicted) > 0.75:
            damping = max(damping / factor, least)
        elif decrease / float(predicted) < 0.25:
            damping = damping * factor
        values.append(values[-1] + min(decrease, 0.0))
        seconds.append(time.perf_counter() - began)
    return np.array(values), np.array(seconds), params


curves["KFAC"] = damped(kfac_step, 200)
curves["Gauss-Newton"] = damped(gauss_newton_step, 50)

# %% [markdown]
# ## Who gets where, and when

# %%
reached = {
    name: int(np.argmax(values < 0.8)) for name, (values, *_) in curves.items()
}
print(f"{'':14}{'iterations':>12}{'ms each':>9}{'loss':>8}{'below 0.8 at':>14}")
for name, (values, seconds, _) in curves.items():
    each = 1000 * seconds[-1] / len(values)
    line = f"{name:14}{len(values):12,}{each:9.1f}{values[-1]:8.3f}"
    print(f"{line}{reached[name]:14,}")

assert max(reached["Gauss-Newton"], reached["KFAC"]) < reached["Adam"] / 5
assert all(values[-1] < pca_loss for values, *_ in curves.values())

# %% alt="Loss against iterations and against seconds for the four methods and the PCA baseline."
figure, axes = plt.subplots(
    2, 1, figsize=(6, 6.4), layout="constrained", sharey=True
)
for name, (values, seconds, _) in curves.items():
    axes[0].loglog(np.arange(1, len(values) + 1), values, label=name)
    axes[1].loglog(seconds[1:], values[1:], label=name)
for axis in axes:
    axis.axhline(pca_loss, color="gray", ls=":", label="4 principal components")
    axis.set(
        ylabel="loss", yticks=(0.6, 1, 2, 5, 10), yticklabels=(0.6, 1, 2, 5, 10)
    )
    axis.minorticks_off()
axes[0].set(xlabel="iterations", title="By iterations")
axes[1].set(xlabel="seconds, without compilation", title="By time, on a CPU")
axes[0].legend()

# %% [markdown]
# Seconds are those of the machine that built this page, so take them as an
# order of magnitude. By iterations both second-order methods win by far: they
# need a few dozen where Adam needs hundreds. By time the picture is closer,
# because an iteration of KFAC costs about ten gradients here, and one of
# Gauss-Newton several dozen: on a network as small as this, cheap iterations go
# a long way. What second-order methods save is iterations, and they pay where
# each is expensive for another reason, such as large batches or communication
# between machines.
#
# Can one see the difference? Each of these digits went through four numbers:

# %% alt="Rows of digits: originals, from 4 principal components blurred, by momentum, and by KFAC."
rows = {
    "original": X,
    "PCA": pca,
    "momentum": model(curves["momentum"][2], X),
    "KFAC": model(curves["KFAC"][2], X),
}
figure, axes = plt.subplots(4, 8, figsize=(6, 3.3), layout="constrained")
for line, (name, pictures) in zip(axes, rows.items(), strict=True):
    for axis, picture in zip(line, pictures, strict=False):
        axis.imshow(picture.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        axis.set(xticks=(), yticks=())
    line[0].set_ylabel(name, rotation=0, ha="right", va="center")

# %% [markdown]
# Related: [Precondition with KFAC](../how-to/kfac.md) on other choices of the
# factors, convolutions and loops; [Use second
# derivatives](../how-to/second-order.md) on Newton's method, natural gradients
# and conjugate gradients.
