"""`python -m bench`: every measurement; one alone: `python -m bench cloud-run`, `python -m bench images [--help]`."""

import sys

from bench import cloud_run, status_request
from bench.images import main as images

if __name__ == "__main__":
    words = sys.argv[1:]
    if words[:1] == ["images"]:
        images.main(words[1:])
    elif words[:1] == ["cloud-run"]:
        cloud_run.main()
    else:
        status_request.main()
        cloud_run.main()
        images.main([])
