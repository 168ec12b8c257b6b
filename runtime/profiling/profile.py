"""What a bundle costs on this device, measured: a cost model for the planner, stored in $SLIMPATH_CACHE.

    latency of a call = call (preprocessing, postprocessing, overhead) + encoder + heads

What was measured is looked up, the rest is interpolated (profile_model.py) and marked `measured=False`. A profile
holds for one bundle, device, backend, version of the backend, number of threads and tier; any other is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ..bundles.graph_spec import FULL_PRECISION, GraphSpec
from ..bundles.manifest import Manifest
from ..errors import ProfileError
from ..planning.costs import PartCost
from .profile_data import (
    CallPoint,
    Conditions,
    ProfileData,
    profile_folder,
    read_profile,
    write_profile,
)
from .profile_model import Spot
from .profile_spots import encoder_spot, head_spot, postprocess_spot, preprocess_spot
from .profile_surfaces import Surfaces, at, flat, surface_of

if TYPE_CHECKING:
    from ..backends.base import Backend
    from ..bundles.bundle import Bundle
    from ..planning.plan import Plan

TYPICAL_IMAGE_HW = (480, 640)  # a plan is made before the picture is seen; larger ones cost more to shrink


class Profile:
    """A measured cost model (see `CostModel`). Safe to use from several threads."""

    name = "profile"

    def __init__(self, data: ProfileData, manifest: Manifest) -> None:
        self.data = data
        self._manifest = manifest
        self.key = hashlib.sha256(msgspec.json.encode(data)).hexdigest()[:16]
        self.headroom = data.headroom
        self._channels = {task.name: task.channels for task in manifest.tasks}
        self._rows_per_task = manifest.rows_per_task
        self._graphs = {(g.size_hw, g.width, g.task, g.precision): g for g in manifest.graphs}
        graphs = {graph.file: graph for graph in manifest.graphs}
        points = [(graphs[point.graph], point) for point in data.graphs if point.graph in graphs]
        self._points = {(point.graph, point.images, point.rows, point.top_k): point for _, point in points}
        self._surfaces = {
            kind: Surfaces(
                [self._spot(graph, p.images, p.rows, p.top_k) for graph, p in points if graph.kind == kind],
                [point for graph, point in points if graph.kind == kind],
            )
            for kind in ("encoder", "head")
        }
        self._preprocess = surface_of(
            [preprocess_spot(p.image_hw, p.size_hw) for p in data.preprocessing],
            [p.latency_ms for p in data.preprocessing],
        )
        self._postprocess = surface_of(
            [postprocess_spot(p.task, p.size_hw, self._channels.get(p.task, 1)) for p in data.postprocessing],
            [p.latency_ms for p in data.postprocessing],
        )
        self._prices: dict[object, PartCost] = {}

    def of(self, manifest: Manifest) -> Profile:
        """The same measurements for a manifest with more tasks: their heads are priced like the measured ones."""
        return self if manifest is self._manifest else Profile(self.data, manifest)

    @classmethod
    def find(cls, manifest: Manifest, conditions: Conditions) -> Profile:
        """The stored profile that holds under `conditions`.

        Raises:
            ProfileError: there is none; if there is one of another device, backend, version of it, number of threads,
                tier or bundle, the message says which of these differ.
        """
        folder = profile_folder(conditions.bundle_digest)
        path = folder / f"{conditions.key}.json"
        if path.is_file():
            profile = cls(read_profile(path), manifest)
            profile.check(conditions)
            return profile
        raise ProfileError(_why_none(folder, conditions), hint=_CALIBRATE)

    @classmethod
    def load(cls, path: Path, manifest: Manifest, conditions: Conditions) -> Profile:
        """A profile from a file, such as one that was copied from an equal device.

        Raises:
            ProfileError: it cannot be read, or does not hold under `conditions`.
        """
        profile = cls(read_profile(path), manifest)
        profile.check(conditions)
        return profile

    def save(self) -> Path:
        """Store it where `find` looks.

        Raises:
            ProfileError: the cache cannot be written.
        """
        return write_profile(self.data)

    def with_parity(self, parity: Mapping[str, Any]) -> Profile:
        """The same with what a backend's parity check found added, by "backend/precision"."""
        merged = {**self.data.parity, **parity}
        return Profile(msgspec.structs.replace(self.data, parity=merged), self._manifest)

    def check(self, conditions: Conditions) -> None:
        """Refuse to hold where it was not measured.

        Raises:
            ProfileError: naming every difference.
        """
        differences = self.data.conditions.differences(conditions)
        if differences:
            raise ProfileError(f"the profile does not hold here: {'; '.join(differences)}", hint=_CALIBRATE)

    def encoder(self, graph: GraphSpec, *, images: int, rows: int, top_k: int) -> PartCost:
        """See `CostModel.encoder`."""
        cost = graph.cost
        flops = images * cost.flops_image + rows * (cost.flops_row + top_k * cost.flops_row_per_expert)
        return self._price(graph, images, rows, top_k, flops)

    def head(self, graph: GraphSpec, *, rows: int) -> PartCost:
        """See `CostModel.head`."""
        return self._price(graph, rows, rows, 0, rows * graph.cost.flops_row)

    def call(
        self, size_hw: tuple[int, int], tasks: Sequence[str], *, image_hw: tuple[int, int] = TYPICAL_IMAGE_HW
    ) -> PartCost:
        """Preprocessing a picture of `image_hw`, postprocessing, and what the engine adds. See `CostModel.call`."""
        key = ("call", size_hw, tuple(tasks), image_hw)
        if key not in self._prices:
            fit = self.data.fit
            parts_ms = 0.0 if self._preprocess is None else self._preprocess.at(preprocess_spot(image_hw, size_hw))
            if self._postprocess is not None:
                spots = [postprocess_spot(task, size_hw, self._channels.get(task, 1)) for task in tasks]
                parts_ms += sum(map(self._postprocess.at, spots))
            latency_ms = fit.call_ms + fit.task_ms * len(tasks) + fit.factor * parts_ms
            plane_mb = 12 * size_hw[0] * size_hw[1] / 1e6  # the picture as float32 [3, H, W]
            power_w = self.data.call_power_w
            energy_mj = None if power_w is None else power_w * latency_ms
            self._prices[key] = PartCost(0, latency_ms, 0.0, plane_mb, energy_mj, bool(self.data.calls))
        return self._prices[key]

    def predict_ms(self, plan: Plan, *, image_hw: tuple[int, int] = TYPICAL_IMAGE_HW) -> float:
        """Median latency of an `engine()` call with this plan, for a picture of another size than the typical one."""
        extra = self.call(plan.size_hw, list(plan.decoder_widths), image_hw=image_hw)
        usual = self.call(plan.size_hw, list(plan.decoder_widths))
        return (plan.latency_ms or 0.0) + (extra.latency_ms or 0.0) - (usual.latency_ms or 0.0)

    def configuration_ms(self, point: CallPoint) -> float:
        """Predicted latency of a measured call's configuration.

        Raises:
            KeyError: this bundle does not have it.
        """
        tasks = list(point.decoder_widths)
        encoder = self._graphs[point.size_hw, point.encoder_width, None, point.precision]
        rows = len(tasks) if self._rows_per_task else 1
        parts = [
            self.call(point.size_hw, tasks, image_hw=point.image_hw),
            self.encoder(encoder, images=1, rows=rows, top_k=point.top_k),
        ]
        for task, width in point.decoder_widths.items():
            where = (point.size_hw, width, task)
            graph = self._graphs.get((*where, point.precision)) or self._graphs[(*where, FULL_PRECISION)]
            parts.append(self.head(graph, rows=1))
        return sum(part.latency_ms or 0.0 for part in parts)

    def _price(self, graph: GraphSpec, images: int, rows: int, top_k: int, flops: int) -> PartCost:
        key = (graph.file, images, rows, top_k)
        if key not in self._prices:
            spot, point = self._spot(graph, images, rows, top_k), self._points.get(key)
            surfaces = self._surfaces[graph.kind]
            latency_ms = point.latency_ms if point is not None else at(surfaces.latency, spot)
            activations_mb = point.activations_mb if point is not None else None
            power_w = point.power_w if point is not None else None
            if latency_ms is not None:
                latency_ms *= self.data.fit.factor
            if activations_mb is None:
                activations_mb = at(surfaces.activations, spot)
            if power_w is None:
                power_w = at(surfaces.power, flat(spot))
            energy_mj = None if power_w is None or latency_ms is None else power_w * latency_ms
            self._prices[key] = PartCost(
                flops, latency_ms, graph.weight_bytes / 1e6, activations_mb, energy_mj, point is not None
            )
        return self._prices[key]

    def _spot(self, graph: GraphSpec, images: int, rows: int, top_k: int) -> Spot:
        if graph.kind == "encoder":
            return encoder_spot(graph, images=images, rows=rows, top_k=top_k)
        return head_spot(graph, rows=rows, channels=self._channels.get(graph.task or "", 1))


def conditions_of(bundle: Bundle, backend: Backend, tier: str) -> Conditions:
    """What a profile of this bundle on this device must hold for."""
    from .device import read_device
    from .energy_nvml import gpu_names

    gpus = gpu_names() if getattr(backend, "uses_gpu", False) else ()
    return Conditions(
        bundle_name=bundle.manifest.name,
        bundle_digest=bundle.digest,
        device=read_device(gpus=gpus),
        backend=backend.name,
        backend_version=backend.version,
        threads=backend.threads,
        tier=tier,
    )


def stored_profiles(bundle_digest: str) -> dict[Path, ProfileData]:
    """Every readable profile of a bundle, by file."""
    found: dict[Path, ProfileData] = {}
    for path in sorted(profile_folder(bundle_digest).glob("*.json")):
        try:
            found[path] = read_profile(path)
        except ProfileError:
            continue
    return found


def _why_none(folder: Path, conditions: Conditions) -> str:
    """The reason why no stored profile holds: how the one that comes nearest differs."""
    stored: Mapping[Path, ProfileData] = stored_profiles(folder.name)
    if not stored:
        others = [path.name for path in folder.parent.glob("*") if path.name != folder.name]
        for digest in sorted(others):
            stored = {
                path: data
                for path, data in stored_profiles(digest).items()
                if data.conditions.bundle_name == conditions.bundle_name
            }
            if stored:
                break
    if not stored:
        return f"{conditions.bundle_name} was not measured on this device yet"
    nearest = min((data.conditions.differences(conditions) for data in stored.values()), key=len)
    return f"no profile holds here; the nearest differs: {'; '.join(nearest)}"


_CALIBRATE = "measure with `slimpath calibrate BUNDLE`"
