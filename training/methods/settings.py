"""Which training methods a training uses; all are off by default, but for the model's own noise of routers."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ConfigError

__all__ = ["AGGREGATORS", "BALANCES", "SHARPNESS", "WEIGHTINGS", "MethodConfig"]

SHARPNESS = ("none", "samo", "flat")
AGGREGATORS = ("sum", "pcgrad", "cagrad", "upgrad", "mgda")
WEIGHTINGS = ("equal", "uncertainty")
BALANCES = ("joint", "per_task")


@dataclass(frozen=True)
class MethodConfig:
    """Settings of the methods.

    Attributes:
        ci_kd: weight of Configuration-Invariant Knowledge Distillation on the encoder's features (`ci_kd`).
        rep_tsr: weight of Rep-MTL's entropy of task saliencies (`rep_mtl`); the paper uses 0.7 to 1.5.
        rep_csa: weight of Rep-MTL's alignment of saliencies across tasks; the paper uses 0.7 to 1.5.
        rep_temperature: temperature of that alignment; the paper names none.
        sharpness: "none", "samo" (`samo`) or "flat" (task-based flat minima, `flat`).
        rho: how far the weights are moved, the Euclidean length of the move.
        samo_beta: share of the task's own direction in SAMO's move; the published code uses 0.1.
        samo_probe: step of SAMO's two forward passes; the published code uses 0.01.
        aggregate: how the tasks' gradients of shared weights become one (`aggregate`).
        cagrad_c: how far CAGrad's result may lie from the mean gradient, in lengths of that; 0 is the mean itself.
        weighting: "equal" (the weights of `loss_weights`), or "uncertainty" (learnt on top of them).
        router_noise: noise on router logits in training, in parts of 1 / experts; None: the model's own.
        balance: "joint" or "per_task", which routers the balance loss looks at together; None: the model's own.
    """

    ci_kd: float = 0.0
    rep_tsr: float = 0.0
    rep_csa: float = 0.0
    rep_temperature: float = 0.5
    sharpness: str = "none"
    rho: float = 0.003
    samo_beta: float = 0.1
    samo_probe: float = 0.01
    aggregate: str = "sum"
    cagrad_c: float = 0.4
    weighting: str = "equal"
    router_noise: float | None = None
    balance: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        for name, known in (("sharpness", SHARPNESS), ("aggregate", AGGREGATORS), ("weighting", WEIGHTINGS)):
            if getattr(self, name) not in known:
                raise ConfigError(f"methods.{name} must be one of {', '.join(known)}, got '{getattr(self, name)}'")
        if self.balance is not None and self.balance not in BALANCES:
            raise ConfigError(f"methods.balance must be one of {', '.join(BALANCES)}, got '{self.balance}'")
        for name in ("ci_kd", "rep_tsr", "rep_csa"):
            if getattr(self, name) < 0:
                raise ConfigError(f"methods.{name} must be 0 (off) or more, got {getattr(self, name)}")
        for name in ("rep_temperature", "rho", "samo_probe"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"methods.{name} must be above 0, got {getattr(self, name)}")
        if not 0 <= self.cagrad_c < 1:
            raise ConfigError(f"methods.cagrad_c must be from 0 to below 1, got {self.cagrad_c}")
        if not 0 <= self.samo_beta <= 1:
            raise ConfigError(f"methods.samo_beta must lie in 0..1, got {self.samo_beta}")
        if self.router_noise is not None and self.router_noise < 0:
            raise ConfigError(f"methods.router_noise must not be negative, got {self.router_noise}")

    @property
    def rep_mtl(self) -> bool:
        """True if saliencies are needed."""
        return self.rep_tsr > 0 or self.rep_csa > 0

    @property
    def per_task(self) -> bool:
        """True if every task's gradient is needed apart."""
        return self.sharpness != "none" or self.aggregate != "sum"
