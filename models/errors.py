"""Errors of `models/`.

ModelError (ValueError)
├── ConfigError       a configuration that describes no network
└── CheckpointError   a file that does not hold the network it names
"""


class ModelError(ValueError):
    """Something about a network, its configuration or its weights is wrong."""


class ConfigError(ModelError):
    """A configuration that describes no network."""


class CheckpointError(ModelError):
    """A checkpoint that is damaged, or that does not fit the network."""
