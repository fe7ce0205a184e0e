"""`python -m bench`: every measurement there is; `python -m bench images [--help]`: one of them."""

import sys

from bench import status_request
from bench.images import main as images

if __name__ == "__main__":
    words = sys.argv[1:]
    if words[:1] == ["images"]:
        images.main(words[1:])
    else:
        status_request.main()
        images.main([])
