"""Reads handwritten digits: GET / tells how, POST /predict answers, GET /healthz says that the model is in memory."""

import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import torch
from model import LEVELS, SIDE, Digits

LARGEST_BODY = 64 * 1024  # bytes; 64 numbers need far less

USAGE = {
    "service": "digits",
    "predict": "POST /predict with a JSON list of 64 numbers from 0 (paper) to 16 (ink), or 8 lists of 8, row by row",
    "answer": {"digit": 3, "probabilities": ["ten numbers, for the digits 0 to 9"]},
    "example": "curl -d '[[0,0,5,13,9,1,0,0], ...]' $URL/predict",
}


class NotADigit(ValueError):
    """The request is not an image; the words go back to whoever sent it."""


def load() -> Digits:
    model = Digits()
    path = Path(__file__).with_name("digits.pt")
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model.eval()


def image_in(body: bytes) -> torch.Tensor:
    """A (1, 64) tensor.

    Raises:
        NotADigit: not JSON, not 64 numbers, or a number outside 0 to 16.
    """
    try:
        image = torch.tensor(json.loads(body), dtype=torch.float32)
    except (ValueError, TypeError, RuntimeError, RecursionError) as error:
        raise NotADigit(f"send a JSON list of {SIDE * SIDE} numbers, or {SIDE} lists of {SIDE}") from error
    if image.shape not in ((SIDE * SIDE,), (SIDE, SIDE)):
        raise NotADigit(
            f"send {SIDE * SIDE} numbers, or {SIDE} lists of {SIDE}; this has the shape {list(image.shape)}"
        )
    if not bool(((image >= 0) & (image <= LEVELS)).all()):  # false for NaN too
        raise NotADigit(f"each number is from 0 to {LEVELS:g}")
    return image.reshape(1, -1)


def predict(model: Digits, image: torch.Tensor) -> dict[str, object]:
    with torch.inference_mode():
        probabilities = model(image).softmax(dim=1)[0]
    return {
        "digit": int(probabilities.argmax()),
        "probabilities": [round(value, 4) for value in probabilities.tolist()],
    }


class Handler(BaseHTTPRequestHandler):
    model: Digits

    def do_GET(self):
        answers = {"/": USAGE, "/healthz": {"status": "ok"}}
        path = self.path.partition("?")[0]
        self.answer(200, answers[path]) if path in answers else self.answer(404, {"error": f"no {path}; see GET /"})

    def do_POST(self):
        if self.path.partition("?")[0] != "/predict":
            self.answer(404, {"error": "POST goes to /predict"})
            return
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > LARGEST_BODY:
            self.close_connection = True
            self.answer(413, {"error": f"send a Content-Length of at most {LARGEST_BODY} bytes"})
            return
        try:
            self.answer(200, predict(self.model, image_in(self.rfile.read(int(length)))))
        except NotADigit as error:
            self.answer(400, {"error": str(error)})

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    # A container's first process is not ended by SIGTERM unless it says how: it would be killed after ten seconds.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    torch.set_num_threads(1)
    Handler.model = load()
    port = int(os.environ.get("PORT", "8080"))
    print(f"digits: the model is in memory, listening on port {port}", flush=True)
    ThreadingHTTPServer(("", port), Handler).serve_forever()
