"""Trains the model in a few seconds and writes nn_model/digits.pt; prints the accuracy on digits it has not seen.

The data (1797 images of 8x8) is inside the installed scikit-learn. `make demo SAMPLE=digits` runs this by itself.
By hand:

    uv venv .state/train && uv pip install --python .state/train --torch-backend cpu torch==2.13.0 scikit-learn
    .state/train/bin/python samples/digits/train.py
"""

import argparse
import sys
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

PROGRAM = Path(__file__).resolve().parent / "nn_model"
sys.path.insert(0, str(PROGRAM))

from model import Digits  # noqa: E402  the network lies beside the service

GOOD_ENOUGH = 0.95


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=PROGRAM / "digits.pt")
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)  # the model is so small that threads would only wait for each other
    train_x, test_x, train_y, test_y = held_out()
    model = Digits()
    fit(model, train_x, train_y, arguments.epochs)
    accuracy = share_right(model, test_x, test_y)
    print(f"accuracy on {len(test_y)} held-out digits: {accuracy:.1%}", flush=True)
    if accuracy < GOOD_ENOUGH:
        print(f"that is under {GOOD_ENOUGH:.0%}: nothing is written", file=sys.stderr)
        return 1
    write(model, arguments.out)
    return 0


def held_out() -> tuple[torch.Tensor, ...]:
    """Training and test images and their digits; a quarter is held out, each digit in proportion."""
    images, digits = load_digits(return_X_y=True)
    parts = train_test_split(images, digits, test_size=0.25, random_state=0, stratify=digits)
    train_x, test_x, train_y, test_y = (torch.from_numpy(part) for part in parts)
    return train_x.float(), test_x.float(), train_y.long(), test_y.long()


def fit(model: Digits, images: torch.Tensor, digits: torch.Tensor, epochs: int) -> None:
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(128):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), digits[batch]).backward()
            optimizer.step()


def share_right(model: Digits, images: torch.Tensor, digits: torch.Tensor) -> float:
    model.eval()
    with torch.inference_mode():
        return float((model(images).argmax(dim=1) == digits).float().mean())


def write(model: Digits, path: Path) -> None:
    """Whole or not at all, so that an interrupted training leaves no half file to be served."""
    part = path.with_suffix(".part")
    torch.save(model.state_dict(), part)
    part.replace(path)


if __name__ == "__main__":
    raise SystemExit(main())
