# %% [markdown]
# # The chain rule of a transformer block
#
# What does backpropagation compute in a transformer? The papers give the block,
# the frameworks its gradient, and hardly anybody writes down what happens in
# between. Here we let `explain` do it, for a pre-norm block with causal
# attention: the chain rule in symbols, the Jacobian of each part with indices,
# where its zeros are, in which order the parts are multiplied, and a NumPy
# program of the result that needs neither JAX nor this library. Every formula
# below was evaluated and compared with the Jacobian before it was printed as
# checked.
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
    return (Z @ W_Q) @ (Z @ W_K).T / np.sqrt(width)


@step("softmax")
def softmax(M):
    return jax.nn.softmax(M, axis=1)


@step("alpha", result="A")
def attend(S):
    """How much each token attends to itself and those before it."""
    return softmax(jnp.where(causal, S, -jnp.inf))


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
# $D_x f$ is the Jacobian of $f$ by $x$, and $\star$ contracts two of them over
# the axes of the variable in between. A sum means that there are several paths.

# %%
explanation.chain_rule

# %% [markdown]
# Read the line for $X$: a change of the input reaches the output along the
# residual stream, and through everything else. What arrives at the attention is
# the same product for $W_Q$, $W_K$, $W_V$ and $W_O$. `backpropagation` gives a
# name to every product that starts at the output and computes it once, which is
# all there is to that algorithm:

# %%
explanation.backpropagation

# %% alt="The graph of the block: nine variables go through eight named steps to the result."
explanation.plot()

# %% [markdown]
# ## Attention, opened
#
# `inside` explains a step as a function of its own. The attention weights are a
# softmax under a mask, and their Jacobian by the scores is that of a softmax
# for each token, a diagonal minus an outer product, times the mask $c$:

# %%
attention_weights = explanation.inside("alpha")
attention_weights.formulas

# %% [markdown]
# The first delta, $\delta_{ij}$, says that the weights of token $i$ depend on
# the scores of the same token only. The scores themselves are bilinear. Their
# Jacobian by $W_Q$ multiplies the input of one token with the key of the other,
# where $v_3$ is $(Z W_K)^\top$:

# %%
explanation.inside("sigma").formulas

# %% [markdown]
# ## Where the zeros are
#
# No elemental Jacobian has to be written out. `block_jacobian` shows what is
# stored instead. For the output weights it is a delta and the mixed values
# $A Z W_V$:

# %%
X, gamma_1, W_Q, W_K, W_V, W_O, gamma_2, W_1, W_2 = arguments
Z = normalize(X, gamma_1)
A = attend(compare(Z, W_Q, W_K))
blockjac.block_jacobian(mix, 3)(A, Z, W_V, W_O)

# %% [markdown]
# Now the parts that $D_X$ is made of, as matrices of 24 x 24: a row for each
# number of the output, token by token, and a column for each number of the
# input. Zeros are not drawn.

# %% alt="Heat maps: the norm and feed-forward Jacobians are block diagonal, the others triangular."
Y = residual(X, mix(A, Z, W_V, W_O))


def whole_attention(Z):
    return mix(attend(compare(Z, W_Q, W_K)), Z, W_V, W_O)


def whole_feed_forward(X):
    return feed_forward(normalize(X, gamma_2), W_1, W_2)


parts = {
    "norm": blockjac.block_jacobian(normalize)(X, gamma_1),
    "attention": blockjac.block_jacobian(whole_attention)(Z),
    "norm and feed-forward": blockjac.block_jacobian(whole_feed_forward)(Y),
    "the whole block": blockjac.block_jacobian(block)(*arguments),
}
figure, axes = plt.subplots(2, 2, figsize=(6, 5.4), layout="constrained")
for axis, (name, part) in zip(axes.flat, parts.items(), strict=True):
    matrix = np.asarray(part.dense()).reshape(tokens * width, tokens * width)
    largest = abs(matrix).max()
    shown = np.where(matrix == 0, np.nan, matrix)
    image = axis.imshow(shown, cmap="RdBu", vmin=-largest, vmax=largest)
    middles = np.arange(tokens) * width + (width - 1) / 2
    axis.set_xticks(middles, range(tokens))
    axis.set_yticks(middles, range(tokens))
    axis.set(title=name, xlabel="input token", ylabel="output token")
    figure.colorbar(image, ax=axis, shrink=0.8)
    axis.label_outer()
    print(f"{name:22} stores {part.stored:3} of {part.size} numbers")

# %% [markdown]
# Norm and feed-forward treat each token by itself, so their Jacobians have a
# delta over the tokens and are squares on the diagonal. Attention is the only
# part that mixes tokens, and the mask lets it look back only. The sum of both
# paths has hardly any zeros to save, and is stored whole. That the block as a
# whole is causal is a statement about its Jacobian, which JAX can confirm, as
# it can all the other numbers:

# %%
by_jax = jax.jacrev(block, everything)(*arguments)
D_X = np.asarray(by_jax[0])
later = ~np.asarray(causal)
assert np.all(D_X.transpose(0, 2, 1, 3)[later] == 0)

ours = blockjac.jacobian(block, everything)(*arguments)
for own, wanted in zip(ours, by_jax, strict=True):
    np.testing.assert_allclose(own, wanted, rtol=1e-10, atol=1e-12)

# %% [markdown]
# ## The order of the products
#
# The products of the chain rule may be formed in any order: the result is the
# same and the cost is not. The plan compares the orders that it knows, with
# every product counted on the structure. The two that are called dense are what
# `jax.jacrev` and `jax.jacfwd` do. First the whole block:

# %% alt="Bars of multiplications: reverse and this plan need the fewest, dense forward ten times as many. Below, the vertices of the plan with theirs."
explanation.plan.plot()

# %% [markdown]
# Then the attention weights alone. A plan shows itself with all its steps, in
# the order in which the vertices of the program are eliminated:

# %%
attention_weights.plan

# %% [markdown]
# ## Take the code home
#
# `code("numpy")` writes function and derivative as a module. Its names and
# comments are those of the formulas, so that the two can be read side by side.
# Here are its beginning and its end:

# %%
source = explanation.code("numpy")
begin = source.index("def D_block")
lines = source[begin:].splitlines()
first = next(i for i, line in enumerate(lines) if "Z₁ = " in line)
print("\n".join([*lines[first : first + 21], "    ...", *lines[-9:]]))

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
length = len(source.splitlines())
print(f"{length} lines, largest difference {max(differences):.1e}")

# %% [markdown]
# ## With a loss
#
# In training a loss follows: logits by a matrix $W_U$, a softmax over the
# vocabulary, and the cross-entropy with the tokens to come. Where products turn
# out simpler than their formulas, `explain` says so. It finds that by comparing
# numbers at the arguments and at points near them, which is evidence and not a
# proof:

# %%
vocabulary = 5
W_U = random(width, vocabulary)
Y = jax.nn.one_hot(rng.integers(vocabulary, size=tokens), vocabulary)


@step("beta")
def whole_block(X):
    return block(X, *arguments[1:])


@step("tau", result="L")
def logits(H, W_U):
    return H @ W_U


@step("pi", result="P")
def probabilities(L):
    return jax.nn.softmax(L, axis=1)


@step("ell")
def cross_entropy(P, Y):
    return -jnp.mean(jnp.sum(Y * jnp.log(P), axis=1))


def loss(X, W_U):
    return cross_entropy(probabilities(logits(whole_block(X), W_U)), Y)


trained = blockjac.explain(loss, (0, 1))(X, W_U)
for claim in trained.simplifications:
    print(claim)
assert any("(P - Y) / 6" in str(claim) for claim in trained.simplifications)

# %% [markdown]
# This is what enters the block from behind: predicted minus actual, divided by
# the number of tokens. From there on it is the chain rule of the block, as
# above:

# %%
trained.backpropagation

# %% [markdown]
# Related: [See the chain rule of a function](../how-to/explain-a-derivative.md)
# on the other renderings, among them an interactive page with the graph and the
# elimination; [thirty questions about derivatives](../learn/index.md) on the
# parts; [Backpropagation is a contraction
# order](../explanation/backpropagation-is-a-contraction-order.md) on why orders
# differ.
