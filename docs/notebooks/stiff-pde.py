# %% [markdown]
# # A stiff PDE: Turing patterns of the Brusselator
#
# Two chemicals react and diffuse. Stirring would keep them uniform; here one of
# them diffuses eight times faster than the other, and that alone is enough for
# stripes and spots to grow out of noise, as Turing predicted in 1952:
#
# $$ u_t = D_u \Delta u + a - (b + 1) u + u^2 v, \qquad
#    v_t = D_v \Delta v + b u - u^2 v. $$
#
# Patterns take tens of time units to form, while diffusion between neighboring
# grid cells equilibrates in a ten-thousandth of one. An explicit method has to
# resolve the faster of the two. An implicit one does not, but it must solve a
# linear system with the Jacobian in every step. This notebook builds such a
# method from `block_jacobian` and `factorize`, checks its order against an
# independent reference, and follows the pattern in one and two dimensions.

# %%
import time

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import scipy.integrate
import scipy.sparse.linalg

import blockjac

jax.config.update("jax_enable_x64", True)

a, b = 4.5, 7.5
diffusion = jnp.array([[2.0], [16.0]])  # D_u, D_v
cells, length = 1024, 64.0
dx = length / cells


def reaction(u, v):
    return jnp.stack([a - (b + 1) * u + u**2 * v, b * u - u**2 * v])


def rate(w):
    """The right-hand side on a line without flux at its ends; w = [u, v]."""
    sides = jnp.pad(w, ((0, 0), (1, 1)), mode="edge")
    laplacian = (sides[:, 2:] - 2 * w + sides[:, :-2]) / dx**2
    return diffusion * laplacian + reaction(*w)


uniform = jnp.broadcast_to(jnp.array([[a], [b / a]]), (2, cells))
noise = np.random.default_rng(0).normal(size=(2, cells))
start = uniform + 0.05 * noise

# %% [markdown]
# ## The Jacobian, and where its entries are
#
# Nothing is said about stencils: which rate depends on which concentration
# follows from the operations in `rate`.

# %%
J = blockjac.block_jacobian(rate)(start)
J

# %% [markdown]
# Each unknown meets itself, its two neighbors, and the other chemical in the
# same cell. `spy` draws that. We show the pattern of a coarse grid with 12
# cells, because with 1,024 all diagonals merge into one line.

# %% alt="A sparse 24 by 24 pattern: a tridiagonal block for each chemical, joined by diagonals."
_, axes = plt.subplots(figsize=(4, 4), layout="constrained")
blockjac.block_jacobian(rate)(start[:, :12]).spy(axes)

# %% [markdown]
# A product with a random direction should agree with JAX's own derivative:

# %%
direction = jnp.asarray(np.random.default_rng(1).normal(size=start.shape))
_, by_jax = jax.jvp(rate, (start,), (direction,))
error = jnp.max(jnp.abs(J @ direction - by_jax)) / jnp.max(jnp.abs(by_jax))
print(f"relative difference from jax.jvp: {error:.1e}")
assert error < 1e-13

# %% [markdown]
# ## Linear theory: what grows, and how stiff it is
#
# At the uniform state $(a, b/a)$ the linearized system splits into the cosine
# modes of the grid: for each wavenumber $k$ there remains the matrix
#
# $$ \begin{pmatrix} b - 1 & a^2 \\ -b & -a^2 \end{pmatrix}
#    - k^2 \begin{pmatrix} D_u & 0 \\ 0 & D_v \end{pmatrix}, $$
#
# whose eigenvalues we can write down. They had better be the eigenvalues of our
# sparse Jacobian, so we let ARPACK find those with the largest real parts.

# %%
modes = np.arange(cells)
k = 2 / dx * np.sin(np.pi * modes / (2 * cells))  # what the grid makes of k
local = np.array([[b - 1, a**2], [-b, -(a**2)]])
spread = k[:, None, None] ** 2 * np.diag(diffusion[:, 0])
theory = np.linalg.eigvals(local - spread)

matrix = blockjac.sparse_jacobian(rate, format="csc")(uniform)
found = scipy.sparse.linalg.eigs(
    matrix, k=10, sigma=1.0, return_eigenvectors=False
).real
wanted = np.sort(
    theory.ravel()[np.argsort(abs(theory.ravel() - 1.0))[:10]].real
)
assert np.allclose(np.sort(found), wanted, rtol=1e-8)

fastest = -theory.real.min()
explicit_limit = 2.785 / fastest  # the stability interval of classical RK4
growth = theory.real.max(axis=1)
print(f"{np.sum(growth > 0)} modes grow, at rates up to {growth.max():.2f},")
print(f"the fastest with the wavenumber {k[growth.argmax()]:.2f}")
print(f"fastest decay: {fastest:,.0f}, so RK4 needs h < {explicit_limit:.1e}")

# %% alt="Growth rate against wavenumber: positive between 0.7 and 1.1, negative elsewhere."
figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
axes.plot(k[k < 2], growth[k < 2], label="linear theory")
nearest = [abs(growth - own).argmin() for own in found]
axes.plot(k[nearest], found, "o", ms=4, label="from the sparse Jacobian")
axes.axhline(0, color="gray", lw=0.8)
axes.set(xlabel="wavenumber $k$", ylabel="growth rate")
axes.set_title("Wavelengths around seven grow out of noise")
axes.legend()

# %% [markdown]
# ## A Rosenbrock method
#
# Rodas3 (Sandu et al., 1997) is of third order, L-stable, and needs no Newton
# iteration. Its four stages solve with one and the same matrix,
#
# $$ \left( \tfrac{2}{h} I - J \right) k_i
#    = f\!\left(w + \sum_j a_{ij} k_j\right) + \frac{1}{h} \sum_j c_{ij} k_j , $$
#
# so each step factorizes once. The matrix is itself the Jacobian of a function,
# $w \mapsto 2 w / h - f(w)$. The last stage estimates the local error.


# %%
def rosenbrock(rate):
    """A step of Rodas3: the next state, and an estimate of its error."""

    @jax.jit
    def step(w, h):
        jacobian = blockjac.block_jacobian(lambda w: 2 / h * w - rate(w))(w)
        factors = blockjac.factorize(jacobian)
        f = rate(w)
        k1 = factors.solve(f)
        k2 = factors.solve(f + 4 / h * k1)
        k3 = factors.solve(rate(w + 2 * k1) + (k1 - k2) / h)
        f = rate(w + 2 * k1 + k3)
        k4 = factors.solve(f + (k1 - k2 - 8 / 3 * k3) / h)
        return w + 2 * k1 + k3 + k4, k4

    return step


step = rosenbrock(rate)
print(blockjac.factorize(J))

# %% [markdown]
# The unknowns are stored as all of $u$, then all of $v$. `factorize` saw that
# interleaving the two leaves five diagonals, and solves with LAPACK's banded
# solver; the cost of a step is linear in the number of cells.
#
# ## Does it have the order it should have?
#
# The reference is SciPy's DOP853, an explicit method of order eight at a tight
# tolerance. It never sees a Jacobian, so it shares no mistake with us. Its
# steps are limited by stability, which is why we ask for a short time only. And
# we start from a smooth state: white noise excites every stiff mode of the
# grid, and no method shows its classical order on those.


# %%
def integrate(w, h, count):
    for _ in range(count):
        w, _ = step(w, h)
    return w


x = (np.arange(cells) + 0.5) * dx
bumps = np.cos(2 * np.pi * 9 * x / length) + np.cos(2 * np.pi * 3 * x / length)
smooth = uniform + 0.5 * bumps

T = 0.5
right_side = jax.jit(lambda t, y: rate(y.reshape(2, -1)).ravel())
options = {"rtol": 1e-10, "atol": 1e-12, "first_step": 1e-5}
reference = scipy.integrate.solve_ivp(
    right_side, (0, T), np.ravel(smooth), "DOP853", **options
)
wanted = reference.y[:, -1].reshape(2, -1)

counts = 2 ** np.arange(3, 11)
errors = np.array(
    [jnp.max(jnp.abs(integrate(smooth, T / n, n) - wanted)) for n in counts]
)
orders = np.log2(errors[:-1] / errors[1:])
print(f"DOP853: {reference.nfev:,} evaluations of the right-hand side")
print("observed orders:", *orders.round(2))
assert abs(orders[-2:] - 3).max() < 0.2

# %% alt="Error against step on logarithmic axes: it falls along a line of slope three."
figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
axes.loglog(T / counts, errors, "o-", label="Rodas3")
cubic = errors[-1] * (counts[-1] / counts) ** 3
axes.loglog(T / counts, cubic, "--", label="slope 3")
axes.axvline(explicit_limit, color="gray", ls=":", label="limit of RK4")
axes.set(xlabel="step $h$", ylabel=f"largest error at t = {T}")
axes.set_title("Third order, at steps far beyond the explicit limit")
axes.legend()

# %% [markdown]
# ## From noise to pattern
#
# With the error estimate we choose the step: accept where the estimate is
# within the tolerance, and aim at it with the cube root of their ratio.


# %%
def adaptive(step, w, end, h=1e-4, tolerance=2e-4):
    """All accepted times and states up to the time `end`."""
    times, states, refused = [0.0], [w], 0
    while times[-1] < end:
        h = min(h, end - times[-1])
        trial, estimate = step(w, h)
        scaled = estimate / (tolerance * (1 + abs(w)))
        ratio = float(jnp.sqrt(jnp.mean(scaled**2)))
        if ratio <= 1:
            w = trial
            times.append(times[-1] + h)
            states.append(w)
        else:
            refused += 1
        h *= min(5.0, max(0.2, 0.9 * max(ratio, 1e-10) ** (-1 / 3)))
    return np.array(times), states, refused


began = time.perf_counter()
times, states, refused = adaptive(step, start, 100.0)
took = time.perf_counter() - began
print(f"{len(times) - 1} steps, {refused} refused, in {took:.1f} s")
print(f"RK4 would need {100 / explicit_limit:,.0f} steps")

# %% alt="Above, u over space and time: stripes form between t = 10 and 20. Below, the steps grow from 0.0001 to above 1."
figure, (above, below) = plt.subplots(
    2, 1, figsize=(6, 5.5), layout="constrained"
)
u = np.stack([w[0] for w in states])
image = above.pcolormesh(x[::4], times, u[:, ::4], rasterized=True)
above.set(xlabel="position $x$", ylabel="time $t$", ylim=(0, 60))
above.set_title("Concentration $u$")
figure.colorbar(image, ax=above, label="$u$")
below.loglog(times[1:], np.diff(times), label="steps taken")
below.axhline(explicit_limit, color="gray", ls=":", label="limit of RK4")
below.set(xlabel="time $t$", ylabel="step $h$", title="Step size")
below.legend()

# %% [markdown]
# The steps grow as the noise is smoothed, shrink while the stripes form, and
# grow again once they stand. RK4 would have to stay below the dotted line all
# the time. Is this the pattern that linear theory announced? The spectrum of
# $u$ has its peak at the wavelength of the stripes:

# %%
final = np.asarray(states[-1][0])
spectrum = abs(np.fft.rfft(np.concatenate([final, final[::-1]]) - final.mean()))
wavelength = 2 * length / spectrum.argmax()
predicted = 2 * np.pi / np.sqrt(a / np.sqrt(2.0 * 16.0))
print(f"wavelength {wavelength:.2f}, linear theory {predicted:.2f}")
assert abs(wavelength / predicted - 1) < 0.2

# %% [markdown]
# ## Two dimensions
#
# Only the right-hand side changes. On a square with periodic boundaries the
# matrix is no longer banded in any useful order, and `factorize` hands its
# known entries to SuperLU.


# %%
def rate_on_square(w):
    neighbors = sum(jnp.roll(w, s, axis) for s in (-1, 1) for axis in (1, 2))
    return diffusion[:, :, None] * (neighbors - 4 * w) / 0.5**2 + reaction(*w)


noise = np.random.default_rng(2).normal(size=(2, 64, 64))
square = jnp.array([a, b / a])[:, None, None] + 0.05 * noise
print(blockjac.factorize(blockjac.block_jacobian(rate_on_square)(square)))

began = time.perf_counter()
times, states, refused = adaptive(rosenbrock(rate_on_square), square, 100.0)
print(f"{len(times) - 1} steps, {refused} refused, ", end="")
print(f"{time.perf_counter() - began:.0f} s")

# %% alt="Four snapshots of u on the square: noise turns into a labyrinth of stripes and spots."
figure, axes = plt.subplots(2, 2, figsize=(6, 5.4), layout="constrained")
for axis, moment in zip(axes.flat, (1, 10, 20, 100), strict=True):
    index = np.searchsorted(times, moment).clip(max=len(times) - 1)
    image = axis.imshow(
        states[index][0], extent=(0, 32, 0, 32), origin="lower", vmin=1, vmax=8
    )
    axis.set(title=f"$t$ = {times[index]:.0f}", xticks=(0, 32), yticks=(0, 32))
figure.colorbar(image, ax=axes, label="$u$", shrink=0.8)

# %% [markdown]
# When does this pay? On the line, with its fine grid, there is no contest: the
# explicit limit falls with the square of the cell size, while a banded
# factorization costs next to nothing. The square has a coarse grid, on which
# the fastest mode decays at a rate of about 500, and there an explicit method
# with its cheap steps would take about as long as we did. Halve the cells, and
# it needs four times the steps.
#
# Related: [Solve with structure](../how-to/solve-with-structure.md) lists which
# structure is factorized how, and [Hand a sparse Jacobian to a
# solver](../how-to/sparse-jacobians.md) shows the other way, `solve_ivp` with
# our Jacobian.
