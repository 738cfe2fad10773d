"""Feature maps and kernels of a convolution as one picture, and the gradients of a linear layer."""

import tempfile
from pathlib import Path

import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import nn

import lampwork as lw

digits = load_digits()
x = torch.tensor(digits.images[:64], dtype=torch.float32)[:, None] / 16  # (64, 1, 8, 8)
y = torch.tensor(digits.target[:64])

torch.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(1, 8, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(8 * 6 * 6, 10)
)
with lw.capture(model, "0", "3") as seen:  # by name: the convolution and the linear layer
    nn.functional.cross_entropy(model(x), y).backward()

# What the convolution made of the first digit, above the kernels that made it.
maps, kernels = seen["0"].output[0], seen["0"].weight[:, 0]
assert maps.shape == (8, 6, 6)
assert kernels.shape == (8, 3, 3)
figure = Figure(figsize=(8, 2.4), layout="constrained")
for row, images in enumerate((maps, kernels)):
    for column, image in enumerate(images):
        axes = figure.add_subplot(2, 8, 8 * row + column + 1)
        axes.imshow(image.numpy(), cmap="gray")
        axes.set_axis_off()
with tempfile.TemporaryDirectory() as folder:
    picture = Path(folder) / "feature_maps.png"
    figure.savefig(picture)
    assert picture.stat().st_size > 0
    print(f"8 feature maps and 8 kernels in {picture.name}")

# A linear layer is o = x Wᵀ + b. Its output gets one gradient g; from it follow three: those of
# the input, the weight and the bias.
linear = seen["3"]
g, weight = linear.grad_output, linear.weight
assert torch.allclose(linear.grad_input, g @ weight, atol=1e-6)
assert torch.allclose(linear.grad_weight, g.T @ linear.input, atol=1e-6)
assert torch.allclose(linear.grad_bias, g.sum(0), atol=1e-6)
names = ("grad_output", "grad_input", "grad_weight", "grad_bias")
print({name: tuple(getattr(linear, name).shape) for name in names})
