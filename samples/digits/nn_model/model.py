"""The network, shared by training and service: 8x8 grey levels from 0 to 16 in, ten scores out."""

import torch
from torch import nn

SIDE = 8
LEVELS = 16.0


class Digits(nn.Module):
    """About 20,000 parameters. Input (n, 64) or (n, 8, 8), output (n, 10) scores before softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(32 * (SIDE // 2) ** 2, 10),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images.reshape(-1, 1, SIDE, SIDE) / LEVELS)
