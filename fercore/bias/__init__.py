"""Bias between perceived groups: tables, gaps and before-and-after comparisons, with support and intervals in each cell."""

from fercore.bias.association import Association
from fercore.bias.compare import BeforeAfter, before_after
from fercore.bias.examine import Examination, Scope, examine
from fercore.bias.inference import parse_contrast
from fercore.bias.report import MINIMUM, BiasRow, BiasTable, Gap, bias_table
from fercore.bias.slices import Slice, offered, said, slices

__all__ = ["MINIMUM", "Association", "BeforeAfter", "BiasRow", "BiasTable", "Examination", "Gap", "Scope", "Slice", "before_after", "bias_table",
           "examine", "offered", "parse_contrast", "said", "slices"]
