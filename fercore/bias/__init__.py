"""Bias between perceived groups: tables, gaps and before-and-after comparisons, with support and intervals in each cell."""

from fercore.bias.compare import BeforeAfter, before_after
from fercore.bias.report import MINIMUM, BiasRow, BiasTable, Gap, bias_table
from fercore.bias.slices import ATTRIBUTES, Slice, slices

__all__ = ["ATTRIBUTES", "MINIMUM", "BeforeAfter", "BiasRow", "BiasTable", "Gap", "Slice", "before_after", "bias_table", "slices"]
