# %% [markdown]
# # The chain rule of a transformer block
#
# What does backpropagation compute in a transformer? The papers give the block,
# the frameworks its gradient, and hardly anybody writes down what happens in
# between. Here we let `explain` do it, for a pre-norm block with causal attention:
# the chain rule in symbols, the Jacobian of each part with indices, where its zeros
# are, in which order the parts are multiplied, and a NumPy program
# of the result that needs neither JAX nor this library. Every formula below
# was evaluated and compared with the Jacobian before it was printed as checked.
#
# ## The block, in named steps
#
# `blockjac.step` gives a function the name that formulas call it by. It changes
# nothing else. One head and small sizes are enough to see everything.

# %%
import types

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import blockjac
from blockjac import step

jax.config.update("jax_enable_x64", True)

tokens, width, hidden = 6, 4, 8
causal = jnp.tril(jnp.ones((tokens, tokens), bool))


@step("nu")
def normalize(X, gamma):
    """RMS norm: each token is scaled to the length of gamma."""
    return X * gamma / jnp.sqrt(jnp.mean(X**2, axis=1, keepdims=True) + 1e-6)


@step("sigma", result="S")
def compare(Z, W_Q, W_K):
    """The scores of all pairs of tokens."""
    return (Z @ W_Q) @ (Z @ W_K).T / jnp.sqrt(width)


@step("alpha", result="A")
def attend(S):
    """How much each token attends to those before it."""
    return jax.nn.softmax(jnp.where(causal, S, -jnp.inf), axis=1)


@step("mu")
def mix(A, Z, W_V, W_O):
    return A @ (Z @ W_V) @ W_O


@step("phi")
def feed_forward(Z, W_1, W_2):
    return jax.nn.silu(Z @ W_1) @ W_2


@step("rho")
def residual(X, Y):
    return X + Y


def block(X, gamma_1, W_Q, W_K, W_V, W_O, gamma_2, W_1, W_2):
    Z = normalize(X, gamma_1)
    X = residual(X, mix(attend(compare(Z, W_Q, W_K)), Z, W_V, W_O))
    return residual(X, feed_forward(normalize(X, gamma_2), W_1, W_2))


rng = np.random.default_rng(0)


def random(*shape):
    return jnp.asarray(rng.normal(size=shape) / np.sqrt(shape[0]))


attention = [2 * random(width, width) for _ in range(4)]
arguments = (
    jnp.asarray(rng.normal(size=(tokens, width))),
    *(jnp.ones(width), *attention),
    *(jnp.ones(width), random(width, hidden), random(hidden, width)),
)
everything = tuple(range(len(arguments)))
explanation = blockjac.explain(block, everything)(*arguments)
print(explanation.checked)
assert explanation.checked

# %% [markdown]
# ## The chain rule in symbols
#
# $D_x f$ is the Jacobian of $f$ by $x$, and $\star$ contracts two of them over the
# axes of the variable in between. A sum means that there are several paths.

# %%
explanation.chain_rule

# %% [markdown]
# Read the line for $X$ from right to left. The input reaches the output along the
# residual stream, and through everything else. The Jacobian of the first
# residual is shared by all parameters of the attention;
# `backpropagation` gives such products a name and computes them once. This is all
# there is to the algorithm:

# %%
explanation.backpropagation

# %% alt="The graph of the block: eight steps from X and the weights to the result."
figure = explanation.plot()

# %% [markdown]
# ## Attention, opened
#
# `inside` explains a step as a function of its own. In the attention, what matters
# is the softmax under the mask. Its Jacobian has a Kronecker delta over the
# tokens, because each row is normalized separately, and then a diagonal minus an outer
# product:

# %%
inside = explanation.inside("alpha")
inside.formulas

# %% [markdown]
# The scores are bilinear. By the queries' weights, the score of tokens $i$
# and $i'$ is the input of $i$ times the key of $i'$:

# %%
explanation.inside("sigma").formulas

# %% [markdown]
# ## Where the zeros are
#
# The elemental Jacobians are never written out. `block_jacobian` of a step
# shows what is stored instead. For the output weights it is a delta and the
# mixed values:

# %%
X, gamma_1, W_Q, W_K, W_V, W_O, gamma_2, W_1, W_2 = arguments
Z = normalize(X, gamma_1)
A = attend(compare(Z, W_Q, W_K))
blockjac.block_jacobian(mix, 3)(A, Z, W_V, W_O)

# %% [markdown]
# Here are the parts that $D_X$ is made of, as matrices of 24 x 24: rows are the
# outputs, token by token, columns the inputs.

# %% alt="Heat maps: the norm and feed-forward Jacobians are block diagonal, the others triangular."
Y = residual(X, mix(A, Z, W_V, W_O))


def attention_of(Z):
    return mix(attend(compare(Z, W_Q, W_K)), Z, W_V, W_O)


parts = {
    "norm": blockjac.block_jacobian(normalize)(X, gamma_1),
    "attention": blockjac.block_jacobian(attention_of)(Z),
    "feed-forward": blockjac.block_jacobian(feed_forward)(normalize(Y, gamma_2), W_1, W_2),
    "the whole block": blockjac.block_jacobian(block)(*arguments),
}
size = tokens * width
figure, axes = plt.subplots(2, 2, figsize=(6, 6), layout="constrained")
for axis, (name, part) in zip(axes.flat, parts.items(), strict=True):
    matrix = np.asarray(part.dense()).reshape(size, size)
    largest = abs(matrix).max()
    shown = np.where(matrix == 0, np.nan, matrix)  # zeros have no color
    image = axis.imshow(shown, cmap="RdBu", vmin=-largest, vmax=largest)
    ticks = np.arange(tokens) * width - 0.5
    axis.set(xticks=ticks, yticks=ticks, xticklabels=range(tokens), yticklabels=range(tokens))
    axis.set(title=name, xlabel="token of the input", ylabel="token of the output")
    figure.colorbar(image, ax=axis, shrink=0.7)
    print(f"{name:16} stores {part.stored:3} of {part.size} numbers")

# %% [markdown]
# Norm and feed-forward treat each token by itself, so their blocks have a
# delta over tokens and appear as 4 x 4 squares on the diagonal. Attention is the only
# part that mixes tokens, and the mask lets it look backwards only. Causality of the
# whole block is a statement about its Jacobian, and we can check it with JAX:

# %%
by_jax = jax.jacrev(block, everything)(*arguments)
D_X = np.asarray(by_jax[0])
later = ~np.asarray(causal)
assert np.all(D_X.transpose(0, 2, 1, 3)[later] == 0)
ours = blockjac.jacobian(block, everything)(*arguments)
print(max(float(jnp.max(jnp.abs(a - b))) for a, b in zip(ours, by_jax, strict=True)))
assert all(np.allclose(a, b, rtol=1e-10, atol=1e-12) for a, b in zip(ours, by_jax, strict=True))

# %% [markdown]
# ## The order of the products
#
# The products of the chain rule may be formed in any order with the same result and
# very different costs. The plan compares those that it knows, counted on
# the structure and not on dense matrices; the last two are what `jax.jacrev` and
# `jax.jacfwd` do.

# %%
explanation.plan

# %% alt="Bars: multiplications of this plan, reverse, greedy, forward and the two dense ways."
figure = explanation.plan.plot()

# %% [markdown]
# For the full Jacobian of a block with as many outputs as inputs going backwards is
# the best choice, but for the attention alone, or for a wider output, it need not be.
# With a scalar loss at the end, backwards always wins.
#
# ## Take the code home
#
# `code("numpy")` writes the derivative as a module. Names and comments
# are those of the formulas above, so that the program can be read beside them.

# %%
source = explanation.code("numpy")
begin = source.index("def D_block")
lines = source[begin:].splitlines()
first = next(i for i, line in enumerate(lines) if "Z₁ = " in line)
print("\n".join([*lines[first : first + 24], "    ...", *lines[-12:]]))

# %% [markdown]
# It runs with NumPy alone, and gives what `jax.jacrev` gives:

# %%
assert "jax" not in source
module = types.ModuleType("derived")
exec(source, module.__dict__)
results = module.D_block(*map(np.asarray, arguments))
for own, wanted in zip(results, by_jax, strict=True):
    np.testing.assert_allclose(own, wanted, rtol=1e-10, atol=1e-12)
differences = [abs(a - b).max() for a, b in zip(results, by_jax, strict=True)]
print(f"{len(source.splitlines())} lines, largest difference {max(differences):.1e}")

# %% [markdown]
# ## With a loss
#
# In training the block is followed by a loss. We put a softmax over a vocabulary
# and the cross-entropy with the next tokens behind it, and ask which simplifications
# there are. They are found by their numbers at random points, which is evidence and not
# a proof:

# %%
vocabulary = 5
W_U = random(width, vocabulary)
Y_next = jax.nn.one_hot(rng.integers(vocabulary, size=tokens), vocabulary)


@step("pi", result="P")
def predict(X, W_U):
    return jax.nn.softmax(X @ W_U, axis=1)


@step("ell")
def cross_entropy(P, Y_next):
    return -jnp.mean(jnp.sum(Y_next * jnp.log(P), axis=1))


@step("beta")
def whole_block(X):
    return block(X, *arguments[1:])


def loss(X, W_U):
    return cross_entropy(predict(whole_block(X), W_U), Y_next)


trained = blockjac.explain(loss, (0, 1))(X, W_U)
trained.chain_rule

# %%
trained.inside("pi").formulas

# %% [markdown]
# Related: [See the chain rule of a function](../how-to/explain-a-derivative.md) on the other
# renderings, among them an interactive page with the graph and the
# elimination; [thirty questions about derivatives](../learn/index.md) on the parts;
# [Backpropagation is a contraction
# order](../explanation/backpropagation-is-a-contraction-order.md) on why orders differ.
