"""How formulas are written: as text, as LaTeX, as MathML."""
