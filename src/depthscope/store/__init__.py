"""The run folder: atomic writes, tables with units, and a mapping from analysis to result.

Nothing here imports torch.
"""
