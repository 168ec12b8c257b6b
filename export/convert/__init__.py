"""Checkpoints of other projects become ours: M3ViT, MTLoRA, HydraViT, and timm's ViTs and Swins."""

from .convert import FORMATS, ConvertReport, convert
from .source import ConvertOptions

__all__ = ["FORMATS", "ConvertOptions", "ConvertReport", "convert"]
