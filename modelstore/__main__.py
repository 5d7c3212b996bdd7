"""``python -m modelstore`` is the same program as ``mstore``."""

from modelstore.cli import main

if __name__ == "__main__":
    main()
