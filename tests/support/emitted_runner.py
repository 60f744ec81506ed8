"""Runs emitted modules in a process that cannot import blockjac; started by `emitted.py`.

Reads a list of jobs from the pickle named first and writes the results to the one named second.
"""

import importlib.abc
import pickle
import sys
import traceback
import types
import warnings


class Refusal(importlib.abc.MetaPathFinder):
    """Makes `import blockjac` fail, wherever it is installed."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname.split(".")[0] == "blockjac":
            raise ImportError("emitted modules run without blockjac")
        return


def run(job):
    """The results of one module's functions, or the traceback."""
    source, name, calls, jitted = job
    try:
        module = types.ModuleType("emitted")
        exec(compile(source, f"<{name}>", "exec"), module.__dict__)
        results = []
        for function, arguments, options in calls:
            called = getattr(module, function)
            if jitted:
                import jax

                called = jax.jit(called)
            results.append(plain(called(*arguments, **options)))
        return results
    except Exception:
        return traceback.format_exc() + "\n" + source


def plain(tree):
    """A tree of results with NumPy's arrays as its leaves."""
    import numpy as np

    match tree:
        case None:
            return None
        case dict():
            return {key: plain(part) for key, part in tree.items()}
        case tuple() | list():
            parts = [plain(part) for part in tree]
            return parts if isinstance(tree, list) else tuple(parts)
        case _:
            return np.asarray(tree)


def main():
    sys.meta_path.insert(0, Refusal())
    warnings.simplefilter("ignore")
    with open(sys.argv[1], "rb") as file:
        wide, jobs = pickle.load(file)
    if any("jax" in job[0] for job in jobs):
        import jax

        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_enable_x64", wide)
    results = [run(job) for job in jobs]
    with open(sys.argv[2], "wb") as file:
        pickle.dump(results, file)


if __name__ == "__main__":
    main()
