"""`python -m bench`: every measurement; one alone: `python -m bench pages`, `… cloud-run`, `… images [--help]`."""

import sys

from bench import cloud_run, pages, status_request
from bench.images import main as images

if __name__ == "__main__":
    words = sys.argv[1:]
    if words[:1] == ["images"]:
        images.main(words[1:])
    elif words[:1] == ["cloud-run"]:
        cloud_run.main()
    elif words[:1] == ["pages"]:
        pages.main()
    else:
        status_request.main()
        pages.main()
        cloud_run.main()
        images.main([])
