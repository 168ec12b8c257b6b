"""What TensorRT would say of a graph, said here: every node, type and shape against tables of its parser."""

from .linter import Finding, lint_file, lint_files, lint_model
from .table import RELEASES

__all__ = ["RELEASES", "Finding", "lint_file", "lint_files", "lint_model"]
