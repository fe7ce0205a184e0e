"""`python -m bench`: every measurement there is."""

from bench.status_request import main

if __name__ == "__main__":
    main()
