"""A service of a few lines: it listens where PORT says and answers GET / with a greeting in JSON."""

import json
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import humanize

STARTED = time.time()


class Hello(BaseHTTPRequestHandler):
    def do_GET(self):
        answer = {
            "greeting": os.environ.get("GREETING", "Hello"),
            "running_for": humanize.precisedelta(time.time() - STARTED, minimum_unit="milliseconds"),
        }
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    # A container's first process is not ended by SIGTERM unless it says how: it would be killed after ten seconds.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    port = int(os.environ.get("PORT", "8080"))
    print(f"hello: listening on port {port}", flush=True)
    ThreadingHTTPServer(("", port), Hello).serve_forever()
