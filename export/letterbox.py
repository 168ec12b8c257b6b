"""Preprocessing as a network: any uint8 RGB image to the encoder's input, for the stand-alone file.

Resizing is linear, so it is two matrix products: rows [H, h] @ image [h, w] @ columns [w, W]. The matrices are built
from the image's size while the graph runs. Shrinking averages over the area of a target pixel, enlarging interpolates
linearly between pixel centres, as OpenCV's INTER_AREA and INTER_LINEAR do; rows and columns of the padding are zero.

Axes: h, w sides of the given image; H, W sides of the network's plane.
"""

import torch
from torch import Tensor, nn

from ..runtime.bundles.preprocessing import Preprocessing


def resize_matrix(given: Tensor, content: Tensor, offset: Tensor, target: int, count: int) -> Tensor:
    """Matrix [target, count] that resizes `given` pixels to `content` pixels, placed at `offset` of `target`.

    Args:
        given, content, offset: Scalars, float32: pixels of the image, of its resized copy, and before it.
        target: Pixels of the network's plane.
        count: The same number as `given`, as a size.
    """
    step = given / content
    place_T1 = torch.arange(target, dtype=torch.float32)[:, None] - offset
    source_1S = torch.arange(count, dtype=torch.float32)[None]
    start, end = place_T1 * step, (place_T1 + 1) * step
    overlap = torch.minimum(end, source_1S + 1) - torch.maximum(start, source_1S)
    area = overlap.clamp(min=0) / step
    centre = torch.minimum(((place_T1 + 0.5) * step - 0.5).clamp(min=0), given - 1)
    linear = (1 - (centre - source_1S).abs()).clamp(min=0)
    inside = (place_T1 >= 0) & (place_T1 < content)
    return torch.where(inside, torch.where(step > 1, area, linear), 0.0)


class Letterbox(nn.Module):
    """uint8 [h, w, 3] RGB to float32 [1, 3, H, W], and the content's box (top, left, height, width), int64 [4]."""

    mean: Tensor
    std: Tensor
    pad: Tensor

    def __init__(self, spec: Preprocessing, size_hw: tuple[int, int]) -> None:
        super().__init__()
        self.fit, self.size_hw = spec.fit, size_hw
        self.register_buffer("mean", torch.tensor(spec.mean).reshape(3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(spec.std).reshape(3, 1, 1) * 255)
        self.register_buffer("pad", torch.tensor(spec.pad_rgb, dtype=torch.float32).reshape(3, 1, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        height, width = image.shape[0], image.shape[1]
        given_hw = torch.stack([torch.tensor(height), torch.tensor(width)]).float()
        content_hw, offset_hw = self.place(given_hw)
        rows = resize_matrix(given_hw[0], content_hw[0], offset_hw[0], self.size_hw[0], height)
        columns = resize_matrix(given_hw[1], content_hw[1], offset_hw[1], self.size_hw[1], width)
        planes = image.permute(2, 0, 1).float()
        # OpenCV rounds the resized picture to whole levels; so does this.
        resized = torch.round(torch.matmul(torch.matmul(rows, planes), columns.transpose(0, 1)))
        covered = rows.sum(dim=1)[:, None] * columns.sum(dim=1)[None] > 0.5
        plane = torch.where(covered, resized, self.pad)
        box = torch.cat([offset_hw, content_hw]).to(torch.int64)
        return ((plane - self.mean) / self.std).unsqueeze(0), box

    def place(self, given_hw: Tensor) -> tuple[Tensor, Tensor]:
        """Size of the resized image and what lies before it, both (rows, columns), whole numbers as float32."""
        target_hw = torch.tensor(self.size_hw, dtype=torch.float64)
        if self.fit == "stretch":
            return target_hw.float(), torch.zeros(2)
        scale = (target_hw / given_hw.double()).min()
        content_hw = torch.minimum(torch.round(given_hw.double() * scale).clamp(min=1), target_hw)
        return content_hw.float(), torch.floor((target_hw - content_hw) / 2).float()
