"""What the folder gives away, and what it does not touch."""

import ast
from pathlib import Path

import slimpath.models as models


def test_public_names() -> None:
    assert sorted(models.__all__) == [
        "CheckpointError",
        "ConfigError",
        "HeadConfig",
        "ModelConfig",
        "ModelError",
        "ModelOutput",
        "MultiTaskModel",
        "PRESETS",
        "SwinConfig",
        "activate",
        "build_preset",
        "folded",
        "freeze_pretrained_",
        "load_checkpoint",
        "preset_config",
        "save_checkpoint",
        "trainable_parameters",
    ]
    assert all(hasattr(models, name) for name in models.__all__)


def test_models_import_no_other_folder() -> None:
    for path in Path(models.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level <= 1 and not (node.module or "").startswith("slimpath"), f"{path.name}: {node.module}"
            if isinstance(node, ast.Import):
                assert not any(alias.name.startswith("slimpath") for alias in node.names), path.name
