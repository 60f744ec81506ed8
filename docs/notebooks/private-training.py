# %% [markdown]
# # Private training with clipped gradients
#
# Differentially private training (DP-SGD, Abadi et al., 2016) bounds what a
# model can reveal about any single example of its training data. Each step
# clips the gradient of every example to a norm $C$, adds the clipped gradients
# up, and adds Gaussian noise in proportion to $C$. The expensive part is the
# gradient of *every example*: written out, these take the memory of the
# parameters times the number of examples.
#
# Here we train a classifier of handwritten digits that way. We look at the
# gradients in the factored form in which backpropagation produces them, see
# whom clipping affects, compute the privacy guarantee exactly, and measure its
# price in accuracy.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from scipy import integrate, optimize, stats
from sklearn.datasets import load_digits

import blockjac

images, labels = load_digits(return_X_y=True)
images = (images / 16).astype(np.float32)  # pixels are known to go up to 16
mixed = np.random.default_rng(0).permutation(len(labels))
train, test = mixed[:1437], mixed[1437:]
X, y = jnp.asarray(images[train]), jnp.asarray(labels[train])
X_test, y_test = jnp.asarray(images[test]), jnp.asarray(labels[test])
n = len(X)


def initial(seed, hidden=32):
    """A network with one hidden layer; a softmax regression without."""
    last = {"V": jnp.zeros((hidden or 64, 10)), "c": jnp.zeros(10)}
    if not hidden:
        return last
    W = jax.random.normal(jax.random.key(seed), (64, hidden)) / 8
    return {"W": W, "b": jnp.zeros(hidden), **last}


def logits(params, X):
    if "W" in params:
        X = jnp.tanh(X @ params["W"] + params["b"])
    return X @ params["V"] + params["c"]


def losses(params, X, y):
    """The cross-entropy of each example."""
    log_p = jax.nn.log_softmax(logits(params, X))
    return -jnp.take_along_axis(log_p, y[:, None], axis=1)[:, 0]


def accuracy(params):
    return float(jnp.mean(jnp.argmax(logits(params, X_test), axis=1) == y_test))


# %% [markdown]
# ## Per-example gradients are thin
#
# To have realistic gradients to look at, we first train for a while without
# privacy.

# %%
mean_gradient = jax.jit(
    blockjac.grad(lambda params: jnp.mean(losses(params, X, y)))
)
fresh = initial(0)
trained = fresh
for _ in range(300):
    g = mean_gradient(trained)
    trained = jax.tree.map(lambda p, g: p - 0.5 * g, trained, g)
print(f"test accuracy without privacy: {accuracy(trained):.3f}")

gradients = blockjac.per_example_grad(losses)(trained, X, y)
gradients["W"]

# %% [markdown]
# For the first layer the gradient of example $n$ is an outer product,
# $X_{nk} Q_{nh}$: the input, and what backpropagation delivers at the layer.
# The block keeps those two arrays, 96 numbers for each example where the
# product has 2,048. Written out, it is what `vmap` of `grad` gives:

# %%


def loss_of_one(params, x, y):
    return losses(params, x[None], y[None])[0]


by_vmap = jax.vmap(jax.grad(loss_of_one), (None, 0, 0))(trained, X, y)
for name, block in gradients.items():
    assert np.allclose(block.dense(), by_vmap[name], atol=1e-5)
    print(f"{name}: stores {block.stored:>7,} of {block.size:>9,} numbers")

# %% [markdown]
# ## Whom clipping affects
#
# Norms come from the factors too, $\|X_n\| \, \|Q_n\|$ for this layer, so
# nothing is ever written out:

# %%
norms_of = jax.jit(blockjac.per_example_norms(losses))
at_start, later = norms_of(fresh, X, y), norms_of(trained, X, y)
squares = sum(jnp.sum(g.reshape(n, -1) ** 2, axis=1) for g in by_vmap.values())
assert np.allclose(later, jnp.sqrt(squares), rtol=1e-3, atol=1e-6)

C = 1.0
print(f"clipped at C = {C}: {np.mean(at_start > C):.0%} of the examples before")
print(f"training, {np.mean(later > C):.0%} after")

# %% alt="Histograms of gradient norms: all between 2 and 3 before training, most below 1 after."
figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
bins = np.geomspace(1e-3, 20, 60)
axes.hist(at_start, bins, alpha=0.7, label="before training")
axes.hist(later, bins, alpha=0.7, label="after training")
axes.axvline(C, color="gray", ls="--", label="$C$")
axes.set(xscale="log", xlabel="norm of a gradient", ylabel="examples")
axes.set_title("Training makes most gradients small and leaves a tail")
axes.legend()

# %% [markdown]
# At first clipping shortens every gradient by about the same factor, which only
# changes the step size. Later it acts on the tail alone, on the examples that
# the network finds hard:

# %% alt="Ten digits with the largest gradient norms; most are hard to read."
figure, axes = plt.subplots(2, 5, figsize=(6, 3.1), layout="constrained")
guesses = jnp.argmax(logits(trained, X), axis=1)
for axis, hard in zip(axes.flat, np.argsort(-later), strict=False):
    axis.imshow(X[hard].reshape(8, 8), cmap="gray_r")
    reading = f"{y[hard]}, read as {guesses[hard]}"
    axis.set_title(f"{reading}\nnorm {later[hard]:.1f}", size=9)
    axis.axis("off")

# %% [markdown]
# `clipped_grad` is the whole operation in one call: norms from the factors,
# then the sum as one product per layer,
# $X^\top \operatorname{diag}(\mathrm{scale})\, Q$. It first proves from the
# program that no example enters the loss of another, since otherwise the
# guarantee below would be void; it refuses batch norm, for instance.

# %%
scale = jnp.minimum(1.0, C / later)
clipped = blockjac.clipped_grad(losses, max_norm=C)(trained, X, y)
for name, g in by_vmap.items():
    wanted = jnp.tensordot(scale, g, 1)
    assert np.allclose(clipped[name], wanted, rtol=1e-3, atol=1e-3)


def flat(tree):
    return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)])


exact = flat(mean_gradient(trained))
for threshold in (10.0, 1.0, 0.1, 0.01):
    g = flat(blockjac.clipped_grad(losses, max_norm=threshold)(trained, X, y))
    cosine = g @ exact / jnp.linalg.norm(g) / jnp.linalg.norm(exact)
    print(f"C = {threshold:5}: cosine with the exact gradient {cosine:.2f}")

# %% [markdown]
# So clipping is not free of bias: at a small $C$ every example has an equal
# say, and the few hard ones no longer decide where the step goes. A large $C$
# keeps the direction, and needs more noise.
#
# ## What is guaranteed
#
# Two data sets are neighbors if one has an example that the other lacks.
# Between neighbors the sum of clipped gradients differs by at most $C$ in norm,
# so adding noise with the standard deviation $\sigma C$ to it is a Gaussian
# mechanism. Each of our $T$ steps uses the whole training set. Together they
# are, in the worst case, exactly as private as a single Gaussian mechanism with
# $\mu = \sqrt{T} / \sigma$ (Dong et al., 2022), for which the smallest $\delta$
# is known in closed form (Balle and Wang, 2018):
#
# $$ \delta(\varepsilon) = \Phi\!\left(\frac{\mu}{2} - \frac{\varepsilon}{\mu}\right)
#    - e^{\varepsilon}\, \Phi\!\left(-\frac{\mu}{2} - \frac{\varepsilon}{\mu}\right). $$
#
# We solve that for $\sigma$ and check the result against the definition of
# $\delta$, an integral. For comparison we print the simpler bound
# $\varepsilon = \rho + 2 \sqrt{\rho \log (1 / \delta)}$ with
# $\rho = \mu^2 / 2$, which composition in zCDP gives (Bun and Steinke, 2016).

# %%
delta = 1e-5
steps = 100


def delta_of(epsilon, mu):
    above = stats.norm.cdf(mu / 2 - epsilon / mu)
    return above - np.exp(epsilon + stats.norm.logcdf(-mu / 2 - epsilon / mu))


def noise_for(epsilon):
    """The sigma with which all steps together are (epsilon, delta)-private."""
    mu = optimize.brentq(lambda mu: delta_of(epsilon, mu) - delta, 1e-3, 50)
    return np.sqrt(steps) / mu


def delta_by_definition(epsilon, mu):
    """The integral of max(0, p - exp(epsilon) q); p = N(mu, 1), q = N(0, 1)."""

    def difference(t):
        return stats.norm.pdf(t, mu) - np.exp(epsilon) * stats.norm.pdf(t)

    equal = epsilon / mu + mu / 2  # beyond this p > exp(epsilon) q
    return integrate.quad(difference, equal, equal + 40, epsabs=1e-14)[0]


for epsilon in (0.5, 1.0, 2.0, 4.0, 8.0):
    sigma = noise_for(epsilon)
    mu = np.sqrt(steps) / sigma
    assert np.isclose(delta_by_definition(epsilon, mu), delta, rtol=1e-4)
    rho = mu**2 / 2
    bound = rho + 2 * np.sqrt(rho * np.log(1 / delta))
    assert bound > epsilon
    print(
        f"epsilon {epsilon}: sigma = {sigma:4.1f}, by zCDP epsilon {bound:.2f}"
    )

# %% [markdown]
# ## Training
#
# The loop is gradient descent with momentum. Whatever is computed from the
# noisy sums costs no further privacy. Gradients are measured in units of $C$,
# so that the learning rate need not change with it.


# %%
@jax.jit
def train_privately(params, sigma, key, rate=0.6, momentum=0.9):
    def step(state, key):
        params, velocity = state
        total = blockjac.clipped_grad(losses, max_norm=C)(params, X, y)
        keys = dict(zip(total, jax.random.split(key, len(total)), strict=True))
        noisy = {
            name: g / C + sigma * jax.random.normal(keys[name], g.shape)
            for name, g in total.items()
        }
        velocity = jax.tree.map(
            lambda v, g: momentum * v + g / n, velocity, noisy
        )
        params = jax.tree.map(lambda p, v: p - rate * v, params, velocity)
        return (params, velocity), None

    rest = jax.tree.map(jnp.zeros_like, params)
    keys = jax.random.split(key, steps)
    return jax.lax.scan(step, (params, rest), keys)[0][0]


epsilons, seeds = (0.5, 1.0, 2.0, 4.0, 8.0, np.inf), range(8)
results = {}
for name, hidden in (("network", 32), ("softmax regression", 0)):
    for epsilon in epsilons:
        sigma = noise_for(epsilon) if np.isfinite(epsilon) else 0.0
        scores = []
        for seed in seeds:
            start, key = initial(seed, hidden), jax.random.key(seed)
            scores.append(accuracy(train_privately(start, sigma, key)))
        mean, deviation = np.mean(scores), np.std(scores)
        results[name, epsilon] = mean, deviation
        print(f"{name:18}  epsilon {epsilon:4}: {mean:.3f} ± {deviation:.3f}")

assert results["network", 4.0][0] > 0.9
assert results["network", np.inf][0] > 0.97

# %% alt="Test accuracy rises with epsilon; softmax regression is ahead up to 2, the network from 4 on."
figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
for number, name in enumerate(("network", "softmax regression")):
    means, deviations = np.array(
        [results[name, own] for own in epsilons[:-1]]
    ).T
    line = axes.errorbar(
        epsilons[:-1], means, deviations, marker="o", capsize=3
    )
    line.set_label(f"{name}, private")
    without = results[name, np.inf][0]
    axes.axhline(
        without, color=f"C{number}", ls=":", label=f"{name}, without noise"
    )
axes.set(xscale="log", xticks=epsilons[:-1], xticklabels=epsilons[:-1])
axes.minorticks_off()
axes.set(xlabel=r"$\varepsilon$ at $\delta = 10^{-5}$", ylabel="test accuracy")
axes.set_title(
    f"The price of privacy (mean and deviation of {len(seeds)} runs)"
)
axes.legend()

# %% [markdown]
# Noise of the same size enters at every parameter, so that each of them has a
# price. Under a strict guarantee the small model wins; the network is ahead
# from about $\varepsilon = 4$.
#
# What these numbers do **not** cover:
#
# - The learning rate, $C$ and the number of steps were chosen by looking at
#   results. With private data that search uses up privacy as well.
# - The number of examples is taken to be public.
# - Large data sets are trained on random batches. Sampling amplifies privacy,
#   and needs another accountant than the formula above. More examples also make
#   privacy cheaper: the noise on the mean shrinks with their number, and 1,437
#   is small.
# - The noise comes from an ordinary random number generator, in float32.
#   Against an adversary who exploits that, use a library that is made for it.
#
# Related: [Per-example gradients](../how-to/per-example-gradients.md) has the
# other functions: Gram matrices, vectors for each example, several axes of
# examples.
