"""One file a plot.

`SUITS` names the analyses it reads, `READS` their measurements, `TITLE` is what it shows, and `plot(result)` returns a
Vega-Lite specification made of the pieces of `depthscope.charts`.
"""
