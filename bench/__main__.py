"""`python -m bench`: every measurement there is; `python -m bench images [REQUIREMENT...]`: one of them."""

import sys

from bench import images, status_request

if __name__ == "__main__":
    words = sys.argv[1:]
    if words[:1] == ["images"]:
        images.main(words[1:] or ("flask",))
    else:
        status_request.main()
        images.main()
