"""Which numbers a fine-tuning with adapters changes (Agiza et al. 2024, MTLoRA)."""

from torch import nn

from .layers import SlimAttention, SlimMlp
from .model import MultiTaskModel
from .moe import SlimExperts
from .swin_layers import PatchMerging, WindowAttention

_PRODUCTS: dict[type[nn.Module], tuple[str, ...]] = {
    WindowAttention: ("qkv", "qkv_bias", "proj", "proj_bias"),
    SlimAttention: ("qkv", "qkv_bias", "proj", "proj_bias"),
    SlimMlp: ("up", "up_bias", "down", "down_bias"),
    SlimExperts: ("up", "up_bias", "down", "down_bias"),
}


def freeze_pretrained_(model: MultiTaskModel) -> MultiTaskModel:
    """Leave trainable what MTLoRA trains: adapters, norms, bias tables, patch embedding, merging, decoders, routers.

    Weights and biases of the products beside which adapters stand are frozen; so is a reduction that carries one.
    """
    for layer in model.encoder.modules():
        for kind, names in _PRODUCTS.items():
            if isinstance(layer, kind):
                for name in names:
                    part = getattr(layer, name)
                    for parameter in [part] if isinstance(part, nn.Parameter) else part:
                        parameter.requires_grad_(False)
        if isinstance(layer, PatchMerging) and layer.shared is not None:
            layer.reduction.requires_grad_(False)
    return model


def trainable_parameters(model: nn.Module) -> int:
    """How many numbers a training may change."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
